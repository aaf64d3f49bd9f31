"""How like a photograph an image is, told from its latents: one thing by which candidates are chosen.

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
MOST = 3.0
"""The bound of likeness either way: what lies farther out says no more."""


class Likeness:
    """The log odds that latents are those of a photograph, scaled so that the drawn images it was learned from have the
    mean 0 and the standard deviation 1. weight: (2C,), of the C channels' means and then of their standard deviations;
    bias: ()."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        self.weight, self.bias = weight.float(), bias.float()

    @classmethod
    def beside(cls, model: str | Path, pipe: FluxPipeline) -> "Likeness | None":
        """What was learned for the model in the folder `model`, whose pipeline is `pipe`; None where nothing was.
        Raises ModelUnavailable if it is damaged or was learned of other latents."""
        path = Path(model) / NAME
        if not path.is_file():
            return None
        mend = "Delete it, or make it anew with `train likeness`."
        try:
            tensors = load_file(path)
            found = cls(tensors["weight"], tensors["bias"])
        except (OSError, KeyError, SafetensorError) as error:
            raise ModelUnavailable(f"{path} cannot be loaded: {first_line(error).rstrip('.')}. {mend}") from error
        if found.weight.shape != (2 * pipe.vae.config.latent_channels,) or found.bias.shape != ():
            raise ModelUnavailable(f"{path} was learned of other latents than the model's. {mend}")
        if not (found.weight.isfinite().all() and found.bias.isfinite()):
            raise ModelUnavailable(f"{path} holds what is no number. {mend}")
        return found

    @torch.inference_mode()
    def of_image(self, pipe: FluxPipeline, image: Image.Image) -> float:
        """Of an RGB `image` by the autoencoder of `pipe`: -MOST to MOST, in standard deviations."""
        pixels = pipe.image_processor.preprocess(image)
        return float(self(encode(pipe, pixels.to(pipe._execution_device, pipe.vae.dtype))))

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Of latents (B, C, h, w), as the transformer sees them: (B,), -MOST to MOST, in standard deviations."""
        return (statistics(latents).cpu() @ self.weight + self.bias).clamp(-MOST, MOST)


def statistics(latents: torch.Tensor) -> torch.Tensor:
    """The mean and then the standard deviation of each channel of latents (B, C, h, w): (B, 2C) float32."""
    flat = latents.float().flatten(2)
    return torch.cat([flat.mean(2), flat.std(2)], 1)
