"""The pieces of the embedded autoencoder, each beside the layers of TAEF2 that it learns to replace.

A piece learns from what the teacher's layers take and give, alone and at once with all others (the hints of Romero et
al., arXiv 1412.6550, at every block). Outer pieces look at small neighbourhoods, so windows of the teacher's features
are enough; the inner ones, at a sixteenth of the side, stand in for branches that normalise over the whole image, so
they see all of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import nn

from dermaflux.training.taef2 import BOUND, Taef2

SIDE, EDGE = 24, 4
"""Side of the windows that an outer piece gives, and what of it is too near the cut to count."""


@dataclass
class Piece:
    """Layers `student` that shall do what `known` do; scale: the side of what they give over that of what they take.

    spread: the mean square of what is wanted, about its mean, set by `lessons`.
    """

    name: str
    student: nn.Module
    known: nn.Module
    scale: float = 1.0
    whole: bool = False
    spread: float = 1.0

    def inside(self, x: torch.Tensor) -> torch.Tensor:
        """The part (N, C, h, w) of what is given that no cut of a window has touched."""
        return x if self.whole else x[..., EDGE:-EDGE, EDGE:-EDGE]

    def windows(self, given: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same random window of what the teacher's layers take and give, float16."""
        if self.whole:
            return given.half(), wanted.half()
        side, last = round(SIDE / self.scale), given.shape[-1]
        top, left = (2 * int(torch.randint((last - side) // 2 + 1, ())) for _ in range(2))
        cut = lambda x, k, n: x[..., round(top * k) :, round(left * k) :][..., :n, :n].half()
        return cut(given, 1, side), cut(wanted, self.scale, SIDE)


def pieces(model: AutoencoderTiny, teacher: Taef2) -> list[Piece]:
    """In the order in which an image, then its latents, pass through them."""
    e, te, td = model.encoder.layers, teacher.encoder, teacher.decoder
    first, rest = inner_decoder(model)
    halved = nn.Sequential(nn.AvgPool2d(2), te[:2])
    encoder = [
        Piece("encoder 128", e[:3], halved, 0.5),
        *_blocks("encoder 64", e[3:7], te[2:6], 0.5, 2),
        *_blocks("encoder 32", e[7:11], te[6:10], 0.5, 2),
        Piece("encoder 16", e[11:], te[10:], whole=True),
    ]
    decoder = [
        Piece("decoder 16", first, nn.Sequential(Bounded(), td[1:6]), whole=True),
        *_blocks("decoder 32", rest[:5], td[6:11], 2, 3),
        *_blocks("decoder 64", rest[5:10], td[11:16], 2, 3),
        Piece("decoder 128", rest[10:13], td[16:19], 2),
        Piece("decoder 256", rest[13:], nn.Sequential(td[19], Doubled()), 2),
    ]
    return encoder + decoder


def inner_decoder(model: AutoencoderTiny) -> tuple[nn.Sequential, nn.Sequential]:
    """The decoder at a sixteenth of the side, from latents on, and its other layers."""
    layers = model.decoder.layers
    first = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Upsample))
    return nn.Sequential(Bounded(), *layers[:first]), layers[first:]


@torch.no_grad()
def lessons(learned: list[Piece], teacher: Taef2, views: Iterable[torch.Tensor]) -> list[tuple[torch.Tensor, ...]]:
    """What each piece shall take and give, of all `views`, batches of images (B, 3, H, W) in [-1, 1]."""
    found: list[list] = [[] for _ in learned]
    for x in views:
        h = teacher.taken(x / 2 + 0.5)
        for piece, parts in zip(learned, found, strict=True):
            given, h = h, piece.known(h)
            parts.append(piece.windows(given, h))
    together = []
    while found:  # a piece at a time, not to hold all of them twice
        together.append(tuple(torch.cat(side) for side in zip(*found.pop(0), strict=True)))
    for piece, (_, wanted) in zip(learned, together, strict=True):
        piece.spread = float(wanted[:500].float().var())
    return together


class Bounded(nn.Module):
    """The bound that TAESD's decoders put on latents."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return BOUND * torch.tanh(z / BOUND)


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x.float(), scale_factor=2.0, mode="bicubic").to(x.dtype)


def _blocks(name: str, student: nn.Sequential, known: nn.Sequential, scale: float, first: int) -> list[Piece]:
    """The `first` layers as one piece, then each block alone."""
    alone = enumerate(range(first, len(known)), start=2)
    rest = [Piece(f"{name}, {i}", student[k : k + 1], known[k : k + 1]) for i, k in alone]
    return [Piece(f"{name}, 1", student[:first], known[:first], scale), *rest]
