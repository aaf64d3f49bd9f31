"""TAEF2, the tiny autoencoder of FLUX.2's latents (github.com/madebyollin/taesd, MIT): the teacher of the embedded one.

Its latents were made to keep what the eye sees, which principal components are not, and its pictures are crisp. It is
used in training only and sees images at half their size.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dermaflux.errors import InputError
from dermaflux.training.precision import dtype

WIDTH, LATENTS, GROUPS = 64, 32, 4
BOUND = 3.0


class Taef2(nn.Module):
    """Frozen encoder and decoder, at the precision of the machine."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = _encoder(), _decoder()

    @classmethod
    def load(cls, path: Path) -> "Taef2":
        """From a safetensors file of both parts, `encoder.` and `decoder.` before the names in TAESD's own files.

        Raises InputError if it is another file.
        """
        teacher = cls()
        try:
            teacher.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError) as error:
            raise InputError(f"{path} does not hold TAEF2's encoder and decoder.") from error
        return teacher.frozen()

    def frozen(self) -> "Taef2":
        """Itself, ready to teach."""
        return self.requires_grad_(False).eval().to(dtype(), memory_format=torch.channels_last)

    def taken(self, x: torch.Tensor) -> torch.Tensor:
        """`x` (N, C, H, W) as its layers take it."""
        return x.to(next(self.parameters()).dtype, memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) in [-1, 1] to latents (N, 32, H / 16, W / 16), float32."""
        small = F.avg_pool2d(x, 2) / 2 + 0.5
        return self.encoder(self.taken(small)).float()

    @torch.no_grad()
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Latents (N, 32, h, w) to images (N, 3, 8 h, 8 w) about in [-1, 1], float32."""
        bounded = BOUND * torch.tanh(z / BOUND)
        return self.decoder(self.taken(bounded)).float() * 2 - 1


class _Block(nn.Module):
    """Three convolutions around a skip; before them, where `pooled`, a branch that normalises over the whole image."""

    def __init__(self, pooled: bool):
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv())
        self.pool = _pool() if pooled else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(self.conv(x) + x)


def _encoder() -> nn.Sequential:
    halved = lambda: _conv(stride=2, bias=False)
    return nn.Sequential(
        *(_conv(3), _Block(False)),
        *(halved(), *_blocks(False)),
        *(halved(), *_blocks(False)),
        *(halved(), *_blocks(True)),
        _conv(out=LATENTS),
    )


def _decoder() -> nn.Sequential:
    doubled = lambda: (nn.Upsample(scale_factor=2), _conv(bias=False))
    return nn.Sequential(
        *(nn.Identity(), _conv(LATENTS), nn.ReLU(), *_blocks(True)),
        *(*doubled(), *_blocks(False)),
        *(*doubled(), *_blocks(False)),
        *(*doubled(), _Block(False)),
        _conv(out=3),
    )


def _blocks(pooled: bool) -> list[_Block]:
    return [_Block(pooled) for _ in range(3)]


def _conv(channels: int = WIDTH, out: int = WIDTH, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1, stride=stride, bias=bias)


def _pool() -> nn.Sequential:
    wide = GROUPS * WIDTH
    first, last = nn.Conv2d(WIDTH, wide, 1, bias=False), nn.Conv2d(wide, WIDTH, 1, bias=False)
    return nn.Sequential(first, nn.GroupNorm(GROUPS, wide), nn.ReLU(), last)
