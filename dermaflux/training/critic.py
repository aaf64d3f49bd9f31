"""What the finest detail of photographs looks like: a critic that sees windows through TAEF2's encoder at full size.

Frozen features with small trained heads (projected GANs: Sauer et al., arXiv 2111.01007) need few images. The critic
says only what is seen at the image's own size; where things are, the teacher's picture says.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from dermaflux.training.taef2 import WIDTH, Taef2

STAGES = ((0, 2), (2, 6), (6, 10))
"""Layers of the teacher's encoder up to which features are taken: at a side of 1, 1/2 and 1/4."""


class Critic(nn.Module):
    """A hinge critic (Lim & Ye, arXiv 1705.02894): its heads learn, the teacher's layers do not."""

    def __init__(self, teacher: Taef2):
        super().__init__()
        self.heads = nn.ModuleList(_head() for _ in STAGES)
        self.register_buffer("scale", torch.zeros(len(STAGES), WIDTH))
        self._taken = teacher.taken
        self._stages = [teacher.encoder[first:last] for first, last in STAGES]  # not parameters of the critic

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Of images (N, 3, H, W) in [-1, 1], each (N, 64, h, w) at about unit mean square."""
        h, found = self._taken(x / 2 + 0.5), []
        for stage in self._stages:
            h = stage(h)
            found.append(h.float())
        if not self.scale.any():
            self.scale.copy_(torch.stack([one.detach().square().mean((0, 2, 3)).sqrt() + 1e-3 for one in found]))
        return [one / scale[:, None, None] for one, scale in zip(found, self.scale, strict=True)]

    def learn(self, real: list[torch.Tensor], drawn: list[torch.Tensor]) -> torch.Tensor:
        """The loss of the heads on features of photographs and of drawn windows."""
        pairs = zip(self.heads, real, drawn, strict=True)
        return sum(F.relu(1 - head(r)).mean() + F.relu(1 + head(d.detach())).mean() for head, r, d in pairs)

    def judge(self, drawn: list[torch.Tensor]) -> torch.Tensor:
        """The loss of who drew."""
        return -sum(head(d).mean() for head, d in zip(self.heads, drawn, strict=True))


def _head() -> nn.Sequential:
    first, then = nn.Conv2d(WIDTH, WIDTH // 2, 1), nn.Conv2d(WIDTH // 2, WIDTH, 3, stride=2)
    parts = spectral_norm(first), nn.LeakyReLU(0.2), spectral_norm(then), nn.LeakyReLU(0.2)
    return nn.Sequential(*parts, spectral_norm(nn.Conv2d(WIDTH, 1, 1)))
