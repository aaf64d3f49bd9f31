"""Where drawing starts: the noise of a seed, alone or mixed with an image, in the packed shape (B, T, D) of FLUX.1."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux_img2img import retrieve_latents
from PIL import Image

from dermaflux.models import SamplingOptions


def noise(pipe: FluxPipeline, seeds: tuple[int, ...], options: SamplingOptions, device: torch.device) -> torch.Tensor:
    """Noise (B, T, D), each seed's from a generator of its own, drawn in the packed shape; see SamplingOptions.

    The demo of the method's authors (github.com/dermaflux/dermaflux, gradio_app.py) draws in that shape too, but at 16
    bits by the generator of the card, whose numbers are others.
    """
    side = options.size // (pipe.vae_scale_factor * 2)
    shape = (1, side**2, pipe.transformer.config.in_channels)
    authors = options.noise == "authors"
    where, dtype = (device, torch.bfloat16) if authors else (torch.device("cpu"), torch.float32)
    drawn = [
        torch.randn(shape, generator=torch.Generator(where).manual_seed(seed), device=where, dtype=dtype)
        for seed in seeds
    ]
    return torch.cat(drawn).to(device, pipe.transformer.dtype)


@torch.inference_mode()
def blend(
    pipe: FluxPipeline,
    scheduler: FlowMatchEulerDiscreteScheduler,
    noise: torch.Tensor,
    image: Image.Image,
    options: SamplingOptions,
) -> torch.Tensor:
    """Noise mixed with the latents of `image` as far as `options.strength` goes; moves the schedule's begin."""
    scheduler.set_begin_index(int(max(options.steps - options.steps * options.strength, 0)))
    pixels = pipe.image_processor.preprocess(image, height=options.size, width=options.size)
    latents = encode(pipe, pixels.to(noise.device, pipe.vae.dtype))
    packed = pipe._pack_latents(latents, *latents.shape).to(noise.dtype).expand_as(noise)
    t = scheduler.timesteps[scheduler.begin_index].repeat(len(noise))
    return scheduler.scale_noise(packed, t, noise)


def encode(pipe: FluxPipeline, pixels: torch.Tensor) -> torch.Tensor:
    """The latents (B, C, h, w), as the transformer sees them, of `pixels` (B, 3, H, W) in [-1, 1]."""
    latents = retrieve_latents(pipe.vae.encode(pixels), sample_mode="argmax")
    return (latents - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor


def unpack(pipe: FluxPipeline, packed: torch.Tensor, size: int) -> torch.Tensor:
    """The latents (B, C, h, w) of images of `size` px that are `packed` (B, T, D)."""
    return pipe._unpack_latents(packed, size, size, pipe.vae_scale_factor)
