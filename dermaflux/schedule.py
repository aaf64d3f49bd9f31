"""The schedule of FLUX.1: Euler steps of a rectified flow, shifted towards noise with the number of tokens."""

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift


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
