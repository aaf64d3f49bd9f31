"""Lead images away from captions of another lesion than the one asked for.

Most lesions are lopsided and of few colours, and so is most of what is drawn, whatever was asked for. What would be
drawn by the same caption with another asymmetry, or with other colours, says which way such lesions lie. So the
difference to it is added to the velocity, as classifier-free guidance (Ho and Salimans, arXiv 2207.12598) adds that to
what no caption would draw; and where much noise is left alone, as guidance limited to an interval does (Kynkäänniemi
et al., arXiv 2404.07724), since asymmetry and colours are settled below.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dermaflux.conditioning import Prompt, joined
from dermaflux.rewording import lopsided, recoloured

LED_ABOVE = 0.4
"""The noise level from which on velocities are led."""
AWAY_FROM = ((lopsided, 4.0), (recoloured, 1.0))
"""The captions to lead away from, and how far at a contrast of 1."""


@dataclass(frozen=True)
class Lead:
    """Of the images of a batch those in `rows`, led away from the captions of `prompt` by `weight`."""

    rows: torch.Tensor
    prompt: Prompt
    weight: float


def leads(
    captions: Sequence[str], seeds: Sequence[int], contrast: float, encode: Callable[[str], Prompt]
) -> list[Lead]:
    """How images of `captions` and `seeds` are led; nowhere at a contrast of 0, and where a caption says nothing in
    the published form that could be contrary."""
    found = []
    for change, weight in AWAY_FROM if contrast else ():
        others = [change(text, seed) for text, seed in zip(captions, seeds, strict=True)]
        rows = [row for row, (text, other) in enumerate(zip(captions, others, strict=True)) if other != text]
        if rows:
            prompt = joined([encode(others[row]) for row in rows])
            found.append(Lead(torch.tensor(rows, device=prompt[0].device), prompt, contrast * weight))
    return found
