"""A linear start for the embedded autoencoder: principal components in, least squares out.

Each of four stages of the encoder halves the side of the image: it stacks 2 x 2 neighbours and keeps their leading
principal components, so that a latent holds the components of a block of 16 x 16 pixels (the best linear code: Baldi &
Hornik, Neural Networks 2, 1989). The decoder starts from the least-squares way back. `place` writes both into the
weights of an AutoencoderKL; its residual branches add nothing until they are trained.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

SPREAD = 0.25
"""Latents have a standard deviation proportional to their variance in pixels to this power: 0.5 leaves the components
as they are and 0 whitens them. Between, broad shapes outweigh texture without drowning it."""
LOGVAR = -20.0
ENCODER_CONSTANT, DECODER_CONSTANT = 1e4, 30.0
"""Two channels of this size and either sign keep the last GroupNorm from rescaling the channels beside them."""
RIDGE = 1e-5

Stage = tuple[torch.Tensor, torch.Tensor]
"""Weight (K, C, 2, 2) and bias (K,) of a convolution with stride 2."""


@torch.no_grad()
def fit(pixels: torch.Tensor, widths: Sequence[int], latents: int) -> list[Stage]:
    """The stages for images like `pixels` (N, 3, H, W) in [-1, 1].

    widths: the most components kept after each stage but the last, which keeps `latents`.
    """
    x, stages = pixels, []
    for width in (*widths, latents):
        samples = F.pixel_unshuffle(x, 2).movedim(1, -1).flatten(0, 2).double()  # (N H/2 W/2, C 2 2)
        last = len(stages) == len(widths)
        centre = samples.mean(0) if last else torch.zeros(samples.shape[1], dtype=torch.double)
        moment = (samples - centre).T @ (samples - centre) / len(samples)
        values, vectors = torch.linalg.eigh(moment)
        kept = min(width, len(values))
        basis, spread = vectors[:, -kept:].flip(1).T, values[-kept:].flip(0)  # (K, 4 C), (K,)
        if last:
            scale = spread.clamp(min=1e-12) ** (SPREAD - 0.5)
            basis = basis * (scale / (spread * scale**2).mean().sqrt())[:, None]
        stages.append((basis.unflatten(1, (-1, 2, 2)).float(), -(basis @ centre).float()))
        x = F.conv2d(x, *stages[-1], stride=2)
    return stages


def encode(x: torch.Tensor, stages: Sequence[Stage]) -> list[torch.Tensor]:
    """`x` (N, 3, H, W) in [-1, 1] and what each stage makes of it; the last are the latents (N, K, H / 16, W / 16)."""
    maps = [x]
    for stage in stages:
        maps.append(F.conv2d(maps[-1], *stage, stride=2))
    return maps


def read(model: AutoencoderKL) -> list[Stage]:
    """The stages that `place` wrote into `model`: the same latents as its encoder's, many times faster."""
    convs = [block.downsamplers[0].conv for block in model.encoder.down_blocks[:-1]]
    counts = [*(conv.out_channels for conv in convs[:-1]), model.config.latent_channels]
    stages, channels = [], 3
    for conv, count in zip(convs, counts, strict=True):
        stages.append((conv.weight[:count, :channels, :2, :2].detach(), conv.bias[:count].detach()))
        channels = count
    return stages


@torch.no_grad()
def place(model: AutoencoderKL, stages: Sequence[Stage], pixels: torch.Tensor) -> None:
    """Write `stages` into the encoder of `model` and the way back, fitted to `pixels`, into its decoder.

    pixels: (N, 3, H, W) in [-1, 1]. `model` must be wide enough for the stages and normalise in one group.
    """
    for part in (model.encoder, model.decoder):
        for name, module in part.named_modules():
            if isinstance(module, nn.Conv2d) and not name.endswith("conv1"):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
            if name.endswith(("conv_shortcut", "conv_in")):
                _pass_on(module)
    _place_encoder(model.encoder, stages, model.config.latent_channels)
    _place_decoder(model.decoder, encode(pixels, stages))


def _place_encoder(encoder: nn.Module, stages: Sequence[Stage], latents: int) -> None:
    *blocks, last = encoder.down_blocks
    for block, (weight, bias) in zip(blocks, stages, strict=True):
        if block is blocks[-1]:
            weight, bias = torch.cat([weight, -weight]), torch.cat([bias, -bias])
        conv = block.downsamplers[0].conv
        conv.weight[: weight.shape[0], : weight.shape[1], :2, :2] = weight
        conv.bias[: len(bias)] = bias
    _read_signed(encoder, last.resnets[-1], latents, ENCODER_CONSTANT)
    encoder.conv_out.bias[latents:] = LOGVAR


def _place_decoder(decoder: nn.Module, maps: Sequence[torch.Tensor]) -> None:
    h = maps[-1]
    *blocks, last = decoder.up_blocks
    for block, wanted in zip(blocks, reversed(maps[:-1]), strict=True):
        weight, bias = _regress(F.interpolate(h, scale_factor=2.0, mode="nearest"), wanted)
        if block is blocks[-1]:
            weight, bias = torch.cat([weight, -weight]), torch.cat([bias, -bias])
        conv = block.upsamplers[0].conv
        conv.weight[: weight.shape[0], : weight.shape[1]] = weight
        conv.bias[: len(bias)] = bias
        h = F.conv2d(F.interpolate(h, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)
    _read_signed(decoder, last.resnets[-1], maps[0].shape[1], DECODER_CONSTANT)


def _read_signed(part: nn.Module, resnet: nn.Module, count: int, constant: float) -> None:
    """Make the end of `part` give its first `count` channels, whose negatives follow them: SiLU(x) - SiLU(-x) = x."""
    resnet.conv2.bias[-2], resnet.conv2.bias[-1] = constant, -constant
    norm, weight = part.conv_norm_out, part.conv_out.weight
    norm.weight.fill_(constant * (2 / norm.num_channels) ** 0.5)
    norm.bias.zero_()
    weight[:count, :count, 1, 1] = torch.eye(count)
    weight[:count, count : 2 * count, 1, 1] = -torch.eye(count)


def _regress(x: torch.Tensor, y: torch.Tensor) -> Stage:
    """The 3 x 3 convolution of `x` (N, C, H, W) nearest to `y` (N, K, H, W): weight (K, C, 3, 3) and bias (K,)."""
    size = 9 * x.shape[1] + 1
    moment, mixed = torch.zeros(size, size, dtype=torch.double), torch.zeros(size, y.shape[1], dtype=torch.double)
    for one, wanted in zip(x, y, strict=True):
        columns = F.pad(F.unfold(one[None], 3, padding=1)[0].T, (0, 1), value=1.0).double()  # (H W, 9 C + 1)
        moment += columns.T @ columns
        mixed += columns.T @ wanted.flatten(1).T.double()
    moment.diagonal().add_(RIDGE * moment.diagonal().mean())
    solution = torch.linalg.solve(moment, mixed)
    return solution[:-1].T.unflatten(1, (-1, 3, 3)).float(), solution[-1].float()


def _pass_on(conv: nn.Conv2d) -> None:
    """Make `conv` hand on its first channels unchanged."""
    n, middle = min(conv.in_channels, conv.out_channels), conv.kernel_size[0] // 2
    conv.weight[:n, :n, middle, middle] = torch.eye(n)
