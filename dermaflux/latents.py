"""Where drawing starts: the noise of a seed, alone or mixed with an image, in the packed shape (B, T, D) of FLUX.1."""

from collections.abc import Sequence

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux_img2img import retrieve_latents
from PIL import Image

from dermaflux.models import SamplingOptions


class Noise:
    """Of each seed a source of its own, drawn from in the packed shape; see SamplingOptions.

    The demo of the method's authors (github.com/dermaflux/dermaflux, gradio_app.py) draws in that shape too, but at 16
    bits by the generator of the card, whose numbers are others.
    """

    def __init__(self, pipe: FluxPipeline, seeds: Sequence[int], options: SamplingOptions, device: torch.device):
        side = options.size // (pipe.vae_scale_factor * 2)
        self._shape = (1, side**2, pipe.transformer.config.in_channels)
        self._to = dict(device=device, dtype=pipe.transformer.dtype)
        authors = options.noise == "authors"
        self._where, self._dtype = (device, torch.bfloat16) if authors else (torch.device("cpu"), torch.float32)
        self._sources = [torch.Generator(self._where).manual_seed(seed) for seed in seeds]

    def draw(self) -> torch.Tensor:
        """The next noise (B, T, D) of each seed."""
        kind = dict(device=self._where, dtype=self._dtype)
        drawn = [torch.randn(self._shape, generator=source, **kind) for source in self._sources]
        return torch.cat(drawn).to(**self._to)


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
