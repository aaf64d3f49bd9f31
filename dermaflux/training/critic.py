"""The critic that keeps a decoder from smoothing texture away: it tells patches of real images from decoded ones.

A fully convolutional network whose every answer sees about 50 x 50 pixels (PatchGAN: Isola et al., arXiv 1611.07004),
trained with the hinge loss and kept Lipschitz by spectral normalisation but for its last layer (Miyato et al., arXiv
1802.05957). The decoder learns from its answers and from its features (feature matching: Wang et al., arXiv
1711.11585).
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

WIDTHS = (32, 64, 128)
EMPHASIS, NEAR = 10.0, 5
"""The texture of skin is faint beside its colours: the critic is also shown what an image has beyond its mean over NEAR
pixels, so many times stronger. Without that it learned nothing in 300 steps."""


class Critic(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] -> the features of each layer; the last are answers (N, 1, H / 8, W / 8), high
    where a patch looks real."""

    def __init__(self):
        super().__init__()
        channels = (6, *WIDTHS)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in zip(channels, WIDTHS, strict=False)
        )
        self.layers.append(spectral_norm(nn.Conv2d(WIDTHS[-1], WIDTHS[-1], 3, padding=1)))
        self.answer = nn.Conv2d(WIDTHS[-1], 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        around = F.pad(x, (NEAR // 2,) * 4, mode="reflect")
        x = torch.cat([x, EMPHASIS * (x - F.avg_pool2d(around, NEAR, stride=1))], 1)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [*features, self.answer(x)]


def critic_loss(real: list[torch.Tensor], decoded: list[torch.Tensor]) -> torch.Tensor:
    """The hinge loss of the critic's answers."""
    return (F.relu(1 - real[-1]) + F.relu(1 + decoded[-1])).float().mean()


def decoder_loss(real: list[torch.Tensor], decoded: list[torch.Tensor], matching: float) -> torch.Tensor:
    """How far the critic is from taking `decoded` for real, and `matching` times the distance of the features."""
    apart = sum(F.l1_loss(a.float(), b.float()) for a, b in zip(decoded[:-1], real[:-1], strict=True))
    return -decoded[-1].float().mean() + matching * apart
