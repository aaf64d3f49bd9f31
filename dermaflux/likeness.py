"""How like a photograph an image is, told from its latents: of candidates as near to a caption, which to keep.

What an autoencoder makes of drawn images differs from what it makes of photographs, a little in the mean and the spread
of every channel. Logistic regression weighs these (`training/likeness.py`).
"""

from pathlib import Path

import torch
from diffusers import FluxPipeline
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from dermaflux.errors import ModelUnavailable, first_line
from dermaflux.latents import encode

NAME = "likeness.safetensors"
"""The file in a model's folder."""


class Likeness:
    """The log odds that latents are those of a photograph, so scaled that of drawn images they have the mean 0 and the
    standard deviation 1. weight: (2C,), of the C channels' means and then of their standard deviations; bias: ()."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        self.weight, self.bias = weight.float(), bias.float()

    @classmethod
    def beside(cls, model: str | Path, channels: int) -> "Likeness | None":
        """What was learned for the `model` in a folder, with latents of so many channels; None where nothing was.
        Raises ModelUnavailable if it is damaged or was learned of other latents."""
        path = Path(model) / NAME
        if not path.is_file():
            return None
        try:
            tensors = load_file(path)
            found = cls(tensors["weight"], tensors["bias"])
        except (OSError, KeyError, SafetensorError) as error:
            raise ModelUnavailable(f"{path} cannot be loaded: {first_line(error)}") from error
        if found.weight.shape != (2 * channels,) or found.bias.shape != ():
            raise ModelUnavailable(f"{path} was learned of other latents than the model's, of {channels} channels.")
        return found

    @torch.inference_mode()
    def of_image(self, pipe: FluxPipeline, image: Image.Image) -> float:
        """Of an RGB `image` by the autoencoder of `pipe`."""
        pixels = pipe.image_processor.preprocess(image)
        return float(self(encode(pipe, pixels.to(pipe._execution_device, pipe.vae.dtype))))

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Of latents (B, C, h, w), as the transformer sees them: (B,)."""
        return statistics(latents).cpu() @ self.weight + self.bias


def statistics(latents: torch.Tensor) -> torch.Tensor:
    """The mean and then the standard deviation of each channel of latents (B, C, h, w): (B, 2C) float32."""
    flat = latents.float().flatten(2)
    return torch.cat([flat.mean(2), flat.std(2)], 1)
