"""The diffusion baseline: the same network and data, trained to predict the noise (Ho et al., arXiv 2006.11239).

What differs from the flow is what the network predicts, how its errors are weighed, and which times it is trained at.
"""

import torch
from torch import nn

from dermaflux.noise_predictor import NoisePredictor, ddpm_times, signal
from dermaflux.training.flow import Flow


class Diffusion(Flow):
    """The method's loss, the mean squared error of the noise at a random one of its steps."""

    def times(self, count: int) -> torch.Tensor:
        return ddpm_times().to(self.device)[torch.randint(1000, (count,))]

    def error(self, velocity: torch.Tensor, target: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        length = signal(t, target)
        return super().error(length * velocity, length * target, t)


def losses_of(transformer: nn.Module) -> type[Flow]:
    """The losses by which `transformer` learns."""
    return Diffusion if isinstance(transformer, NoisePredictor) else Flow
