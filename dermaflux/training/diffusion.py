"""The diffusion baseline: the same network and data, trained to predict the noise (Ho et al., arXiv 2006.11239).

A noisy image sqrt(a) x + sqrt(1 - a) noise of that method is, but for its scale, the point (1 - t) x + t noise of the
rectified path where t / (1 - t) = sqrt((1 - a) / a). The network is shown that point and t, so that what differs from
the flow is what it predicts, how its errors are weighed, and which times it is trained at. Its noise then gives a
velocity, (noise - x_t) / (1 - t), along which an Euler step is a step of DDIM (Song et al., arXiv 2010.02502).
"""

import torch
from diffusers import DDPMScheduler, FluxTransformer2DModel, ModelMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import nn

from dermaflux.training.flow import Flow

__all__ = ["Diffusion", "ModelMixin", "NoisePredictor", "ddpm_times", "losses_of"]
"""With ModelMixin, which diffusers looks for beside a network of another library, to know how it is loaded."""


def ddpm_times() -> torch.Tensor:
    """The places on the rectified path of the method's 1,000 steps, rising: (1000,), from 0.01 to 0.994."""
    alphas = DDPMScheduler(num_train_timesteps=1000).alphas_cumprod
    noise = (1 - alphas).sqrt()
    return noise / (noise + alphas.sqrt())


LEAST_SIGNAL = 1 - float(ddpm_times()[-1])
"""1 - t at the last of the steps; nearer to pure noise the network was not trained."""


class NoisePredictor(FluxTransformer2DModel):
    """A FluxTransformer2DModel that predicts the noise, and answers with the velocity that follows from it."""

    def forward(self, hidden_states: torch.Tensor, *, timestep: torch.Tensor, return_dict: bool = True, **conditions):
        """As the base class. hidden_states: x_t, (N, T, D); timestep: t, (N,) or (1,), 0 to 1."""
        noise = super().forward(hidden_states, timestep=timestep, return_dict=False, **conditions)[0]
        velocity = (noise - hidden_states) / _signal(timestep, hidden_states)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)


class Diffusion(Flow):
    """The method's loss, the mean squared error of the noise at a random one of its steps."""

    def times(self, count: int) -> torch.Tensor:
        return ddpm_times().to(self.device)[torch.randint(1000, (count,))]

    def error(self, velocity: torch.Tensor, target: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        signal = _signal(t, target)
        return super().error(signal * velocity, signal * target, t)


def losses_of(transformer: nn.Module) -> type[Flow]:
    """The losses by which `transformer` learns."""
    return Diffusion if isinstance(transformer, NoisePredictor) else Flow


def _signal(t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """1 - t, (N, 1, 1), in the type of `like`."""
    return (1 - t).clamp(min=LEAST_SIGNAL).to(like.dtype)[:, None, None]
