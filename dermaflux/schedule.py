"""The schedule of FLUX.1, Euler steps of a rectified flow, shifted towards noise with the number of tokens; at which
noise levels guidance counts; and steps that renew a share of the noise."""

import math
from collections.abc import Callable

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from dermaflux.models import FINEST


def flux_schedule(
    like: FlowMatchEulerDiscreteScheduler, steps: int, tokens: int, device: torch.device | str = "cpu"
) -> FlowMatchEulerDiscreteScheduler:
    """A scheduler with the config of `like`, set for `steps` steps and images of `tokens` tokens."""
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(like.config)
    config = scheduler.config
    mu = calculate_shift(
        tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
    )
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), device=device, mu=mu)
    scheduler.set_begin_index(0)
    return scheduler


def guidance_at(level: float, guidance: float, early: float, below: float) -> float:
    """The distilled guidance scale at a noise `level`, 0 to 1 (noise alone): `guidance` up to the level `below`, else
    `early`, where 1 is none. Images that are guided from noise on are alike; guided later, they vary more (Kynkäänniemi
    et al., arXiv 2404.07724)."""
    return early if below < 1 and level > below else guidance


def ancestral(sigma: float, following: float, eta: float, below: float = 1.0) -> tuple[float, float, float]:
    """How to go from noise level `sigma` to the `following` and renew noise on the way: the level to which Euler goes,
    what to scale the image there by, and how much fresh noise to add.

    eta: 0 renews nothing, 1 as much as ancestral sampling does (Song et al., arXiv 2010.02502, equation 16, whose noise
    over signal is s = sigma / (1 - sigma) of a rectified flow), more goes on from there until all is renewed:
    s_down^2 = s'^2 max(0, 1 - eta^2 (1 - s'^2 / s^2)). What steps err is in part forgotten with the noise that is
    renewed, and not carried to the end. Nothing is where the step ends above the level `below` or under FINEST.
    """
    if not FINEST <= following <= below or following >= 1 or eta <= 0:
        return following, 1.0, 0.0
    ahead = following / (1 - following)
    ratio = 0.0 if sigma >= 1 else ahead * (1 - sigma) / sigma
    down = ahead * math.sqrt(max(0.0, 1 - eta**2 * (1 - ratio**2)))
    level = down / (1 + down)
    scale = (1 - following) / (1 - level)
    return level, scale, math.sqrt(max(0.0, following**2 - (scale * level) ** 2))


def renewed(
    x: torch.Tensor,
    velocity: torch.Tensor,
    sigma: float,
    following: float,
    eta: float,
    below: float,
    draw: Callable[[], torch.Tensor],
) -> torch.Tensor:
    """`x` a step further along `velocity`, from noise level `sigma` to the `following`, by `ancestral`. draw: fresh
    noise in the shape of `x`."""
    level, scale, amount = ancestral(sigma, following, eta, below)
    x = scale * (x.float() + (level - sigma) * velocity.float())
    return (x + amount * draw().float() if amount else x).to(velocity.dtype)
