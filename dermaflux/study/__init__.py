"""A blinded reader study: who sees which picture when, what they answer, and what follows from it."""
