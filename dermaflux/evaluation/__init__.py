"""What the embedded models and measures are worth, as tables with intervals."""
