"""The outer layers of the embedded autoencoder's encoder: principal components.

Each of four stages halves the side of the image: it stacks 2 x 2 neighbours and keeps their leading principal
components, so that what comes out of the last are the components of a block of 16 x 16 pixels, whitened (the best
linear code: Baldi & Hornik, Neural Networks 2, 1989). `place` writes them into the weights of an AutoencoderKL, whose
inner layers, at a sixteenth of the side, are left to learn what lies between components and latents.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

Stage = tuple[torch.Tensor, torch.Tensor]
"""Weight (K, C, 2, 2) and bias (K,) of a convolution with stride 2."""


@torch.no_grad()
def fit(pixels: torch.Tensor, widths: Sequence[int]) -> list[Stage]:
    """The stages for images like `pixels` (N, 3, H, W) in [-1, 1]; widths: the most components kept after each."""
    x, stages = pixels, []
    for width in widths:
        samples = F.pixel_unshuffle(x, 2).movedim(1, -1).flatten(0, 2).double()  # (N H/2 W/2, C 2 2)
        last = len(stages) == len(widths) - 1
        centre = samples.mean(0) if last else torch.zeros(samples.shape[1], dtype=torch.double)
        moment = (samples - centre).T @ (samples - centre) / len(samples)
        values, vectors = torch.linalg.eigh(moment)
        kept = min(width, len(values))
        basis, spread = vectors[:, -kept:].flip(1).T, values[-kept:].flip(0)  # (K, 4 C), (K,)
        if last:
            basis = basis / spread.clamp(min=1e-12).sqrt()[:, None]
        stages.append((basis.unflatten(1, (-1, 2, 2)).float(), -(basis @ centre).float()))
        x = F.conv2d(x, *stages[-1], stride=2)
    return stages


def encode(x: torch.Tensor, stages: Sequence[Stage]) -> list[torch.Tensor]:
    """`x` (N, 3, H, W) in [-1, 1] and what each stage makes of it; the last are whitened (N, K, H / 16, W / 16)."""
    maps = [x]
    for stage in stages:
        maps.append(F.conv2d(maps[-1], *stage, stride=2))
    return maps


@torch.no_grad()
def block_inverse(stages: Sequence[Stage]) -> tuple[torch.Tensor, torch.Tensor]:
    """What `decode` takes: the least-squares inverse (3 P P, K) of all stages as one, over blocks of P x P pixels, and
    the components (K,) of a block of zeros."""
    side = 2 ** len(stages)
    pixels = torch.eye(3 * side * side).unflatten(1, (3, side, side))
    zero = encode(torch.zeros(1, 3, side, side), stages)[-1][0, :, 0, 0]
    kernel = (encode(pixels, stages)[-1][..., 0, 0] - zero).T  # (K, 3 P P)
    return torch.linalg.pinv(kernel), zero


def decode(components: torch.Tensor, inverse: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Images (N, 3, H, W) from the whitened components of their blocks, each block by itself."""
    matrix, zero = inverse
    patches = torch.einsum("nkhw,pk->nphw", components - zero[:, None, None], matrix)
    return F.pixel_shuffle(patches, int((len(matrix) // 3) ** 0.5))


@torch.no_grad()
def place(encoder: nn.Module, stages: Sequence[Stage]) -> None:
    """Write `stages` into the layers of `encoder` above a sixteenth of the side; their residual branches add nothing.

    The layers must be wide enough for the stages.
    """
    _pass_on(encoder.conv_in)
    for block, (weight, bias) in zip(encoder.down_blocks[:-1], stages, strict=True):
        for resnet in block.resnets:
            nn.init.zeros_(resnet.conv2.weight)
            nn.init.zeros_(resnet.conv2.bias)
            if resnet.conv_shortcut is not None:
                _pass_on(resnet.conv_shortcut)
        conv = block.downsamplers[0].conv
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
        conv.weight[: weight.shape[0], : weight.shape[1], :2, :2] = weight
        conv.bias[: len(bias)] = bias


def _pass_on(conv: nn.Conv2d) -> None:
    """Make `conv` hand on its first channels unchanged, and nothing else."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    n, middle = min(conv.in_channels, conv.out_channels), conv.kernel_size[0] // 2
    conv.weight[:n, :n, middle, middle] = torch.eye(n)
