"""A cheap look at latents while an image is being drawn: by a tiny decoder where there is one, or a linear map."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, FluxPipeline
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from dermaflux import latents, phantom
from dermaflux.models import ModelSpec

Look = Callable[[torch.Tensor, int], tuple[Image.Image, ...]]
"""Latents (B, C, h, w), as the transformer sees them, and a side in px to images of that size."""
SAMPLES, SIDE, RIDGE = 24, 128, 1e-3

log = logging.getLogger("dermaflux")


class LinearPreview:
    """Each latent pixel and its eight neighbours to a p x p patch of RGB in [0, 1] by a linear map.

    weight: (3pp, C, 3, 3); bias: (3pp,).
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        self.weight, self.bias = weight, bias

    @classmethod
    def read(cls, path: str) -> "LinearPreview":
        """The map in the safetensors file at `path`. Raises OSError, KeyError or SafetensorError."""
        tensors = load_file(path)
        return cls(tensors["weight"], tensors["bias"])

    def __call__(self, latents: torch.Tensor, size: int) -> tuple[Image.Image, ...]:
        patch = int((len(self.bias) // 3) ** 0.5)
        padded = F.pad(latents.float().cpu(), (1,) * 4, mode="replicate")
        rgb = F.pixel_shuffle(F.conv2d(padded, self.weight, self.bias), patch)
        rgb = rgb.clamp(0, 1).mul(255).byte().permute(0, 2, 3, 1).numpy()
        return tuple(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC) for one in rgb)


class TinyPreview:
    """The images that an AutoencoderTiny decodes, such as taef1 for the latents of FLUX.1."""

    def __init__(self, vae: AutoencoderTiny, pipe: FluxPipeline):
        self._vae, self._processor = vae, pipe.image_processor

    def __call__(self, latents: torch.Tensor, size: int) -> tuple[Image.Image, ...]:
        latents = latents.to(self._vae.device, self._vae.dtype)
        decoded = self._vae.decode(latents / self._vae.config.scaling_factor + self._vae.config.shift_factor)
        images = self._processor.postprocess(decoded.sample.float().nan_to_num(), output_type="pil")
        return tuple(image if image.width == size else image.resize((size, size)) for image in images)


def choose(spec: ModelSpec, pipe: FluxPipeline, device: torch.device) -> Look:
    """The best look that there is: the map that was fitted for `spec`; its tiny decoder, where the folder of the model
    or the Hub's cache has it; else a map that is fitted now.

    Raises OSError, ValueError, KeyError or SafetensorError for a damaged map of `spec`.
    """
    if spec.previews:
        return LinearPreview.read(spec.previews)
    folder = _decoder(spec)
    try:
        if folder:
            vae = AutoencoderTiny.from_pretrained(folder, torch_dtype=pipe.vae.dtype, local_files_only=True)
            if vae.config.latent_channels == pipe.vae.config.latent_channels:
                return TinyPreview(vae.to(device).requires_grad_(False), pipe)
            log.warning("The previews in %s are for other latents than those of %s.", folder, spec.title)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        log.warning("The previews in %s cannot be loaded, so coarser ones are shown: %s", folder, error)
    return fitted(pipe, device)


@torch.inference_mode()
def fitted(pipe: FluxPipeline, device: torch.device) -> LinearPreview:
    """The linear map from a latent pixel and its neighbours to RGB, by ridge regression, that best undoes what the
    encoder of `pipe` does to drawn lesions."""
    drawn = [phantom.draw(phantom.random_attributes(seed), seed, SIDE).image for seed in range(SAMPLES)]
    rgb = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 255  # (N, 3, H, W)
    encoded = latents.encode(pipe, (2 * rgb - 1).to(device, pipe.vae.dtype)).float().cpu()  # (N, C, h, w)
    near = F.unfold(F.pad(encoded.nan_to_num(), (1,) * 4, mode="replicate"), 3)  # (N, 9C, hw)
    seen = near.transpose(1, 2).flatten(0, 1)
    seen = torch.cat([seen, torch.ones(len(seen), 1)], 1).double()  # (P, 9C + 1)
    wanted = F.adaptive_avg_pool2d(rgb, encoded.shape[-2:]).permute(0, 2, 3, 1).flatten(0, 2).double()  # (P, 3)
    gram = seen.T @ seen
    gram += RIDGE * gram.trace() / len(gram) * torch.eye(len(gram))
    solved = torch.linalg.solve(gram, seen.T @ wanted).float()  # (9C + 1, 3)
    return LinearPreview(solved[:-1].T.reshape(3, -1, 3, 3).contiguous(), solved[-1])


def _decoder(spec: ModelSpec) -> Path | None:
    """The folder of the tiny decoder of `spec`, where it is already on this machine."""
    if not spec.tiny_decoder:
        return None
    beside = Path(spec.source) / Path(spec.tiny_decoder).name
    if beside.is_dir():
        return beside
    try:
        return Path(snapshot_download(spec.tiny_decoder, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return Path(spec.tiny_decoder) if Path(spec.tiny_decoder).is_dir() else None
