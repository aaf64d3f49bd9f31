"""A network that predicts the noise and answers with a velocity, so that all that draws by a flow draws by it too.

A noisy image sqrt(a) x + sqrt(1 - a) noise of diffusion (Ho et al., arXiv 2006.11239) is, but for its scale, the point
(1 - t) x + t noise of the rectified path where t / (1 - t) = sqrt((1 - a) / a). The network is shown that point and t.
Its noise gives the velocity (noise - x_t) / (1 - t), along which an Euler step is a step of DDIM (Song et al., arXiv
2010.02502).
"""

import torch
from diffusers import DDPMScheduler, FluxTransformer2DModel, ModelMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput

__all__ = ["LEAST_SIGNAL", "ModelMixin", "NoisePredictor", "ddpm_times", "signal"]
"""With ModelMixin, which diffusers looks for beside a network of another library, to know how it is loaded."""


def ddpm_times() -> torch.Tensor:
    """The places on the rectified path of the method's 1,000 steps, rising: (1000,), from 0.01 to 0.994."""
    alphas = DDPMScheduler(num_train_timesteps=1000).alphas_cumprod
    noise = (1 - alphas).sqrt()
    return noise / (noise + alphas.sqrt())


LEAST_SIGNAL = 1 - float(ddpm_times()[-1])
"""1 - t at the last of the steps; nearer to pure noise the network was not trained."""


def signal(t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """1 - t of t (N,), at least LEAST_SIGNAL, in the type of `like`: (N, 1, 1)."""
    return (1 - t).clamp(min=LEAST_SIGNAL).to(like.dtype)[:, None, None]


class NoisePredictor(FluxTransformer2DModel):
    """A FluxTransformer2DModel that predicts the noise, and answers with the velocity that follows from it."""

    def forward(self, hidden_states: torch.Tensor, *, timestep: torch.Tensor, return_dict: bool = True, **conditions):
        """As the base class. hidden_states: x_t, (N, T, D); timestep: t, (N,) or (1,), 0 to 1."""
        noise = super().forward(hidden_states, timestep=timestep, return_dict=False, **conditions)[0]
        velocity = (noise - hidden_states) / signal(timestep, hidden_states)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)
