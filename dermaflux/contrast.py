"""Lead images away from captions of another lesion than the one asked for.

Most lesions are lopsided and of few colours, and so is most of what is drawn, whatever was asked for. What would be
drawn by the same caption with another asymmetry, or with other colours and another border, says which way such lesions
lie. So the difference to it is added to the velocity, as classifier-free guidance (Ho and Salimans, arXiv 2207.12598)
adds that to what no caption would draw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dermaflux.conditioning import Prompt, joined
from dermaflux.rewording import lopsided, recoloured_and_recut

AWAY_FROM = ((lopsided, 6.0, 0.0), (recoloured_and_recut, 1.0, 0.5))
"""The captions to lead away from, how far at a contrast of 1, and from which noise level on: colours are settled above
0.5; asymmetry changes few pixels, and does so at every level."""


@dataclass(frozen=True)
class Lead:
    """Of the images of a batch those in `rows`, led away from the captions of `prompt` by `weight`, from the noise
    level `above` on."""

    name: str
    rows: torch.Tensor
    prompt: Prompt
    weight: float
    above: float

    def added(self, difference: torch.Tensor) -> torch.Tensor:
        """What is added to velocities, by their `difference` (B, T, D) from those of the other captions: where it is
        largest in full, elsewhere less, so that the skin around a lesion keeps its colour."""
        length = difference.norm(dim=2, keepdim=True)
        largest = length.amax(1, keepdim=True).clamp_min(torch.finfo(length.dtype).tiny)
        return self.weight * difference * (length / largest)


def leads(
    captions: Sequence[str], seeds: Sequence[int], contrast: float, encode: Callable[[str], Prompt]
) -> list[Lead]:
    """How images of `captions` and `seeds` are led; nowhere at a contrast of 0, and where a caption says nothing in
    the published form that could be contrary."""
    found = []
    for change, weight, above in AWAY_FROM if contrast else ():
        others = [change(text, seed) for text, seed in zip(captions, seeds, strict=True)]
        rows = [row for row, (text, other) in enumerate(zip(captions, others, strict=True)) if other != text]
        if rows:
            prompt = joined([encode(others[row]) for row in rows])
            at = torch.tensor(rows, device=prompt[0].device)
            found.append(Lead(change.__name__, at, prompt, contrast * weight, above))
    return found


def leading(level: float, led: Sequence[Lead]) -> list[Lead]:
    """Those of `led` that lead a step from the noise `level`."""
    return [lead for lead in led if level >= lead.above]


def led_share(level: float, led: Sequence[Lead], images: int) -> float:
    """Passes through the transformer that `led` adds to a step at the noise `level`, for each of so many images."""
    return sum(len(lead.rows) for lead in leading(level, led)) / images
