"""How like a photograph an image is: one thing by which candidates are chosen.

What the encoder of an AutoencoderTiny sees in drawn images differs from what it sees in photographs, a little in the
mean and the spread of every feature. Logistic regression weighs these (`training/likeness.py`).
"""

from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FluxPipeline
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from dermaflux.errors import ModelUnavailable, first_line

NAME = "likeness.safetensors"
"""The file in a model's folder."""
MOST = 3.0
"""The bound of likeness either way: what lies farther out says no more."""


class Likeness:
    """The log odds that an image is a photograph, scaled so that the drawn images it was learned from have a mean of 0
    and a standard deviation of 1. weight: (S,), of an image's `statistics`; bias: ()."""

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
        if not isinstance(pipe.vae, AutoencoderTiny) or found.weight.shape != (size(pipe.vae),) or found.bias.shape:
            raise ModelUnavailable(f"{path} was learned of another autoencoder than the model's. {mend}")
        if not (found.weight.isfinite().all() and found.bias.isfinite()):
            raise ModelUnavailable(f"{path} holds what is no number. {mend}")
        return found

    @torch.inference_mode()
    def of_image(self, pipe: FluxPipeline, image: Image.Image) -> float:
        """Of an RGB `image` by the autoencoder of `pipe`: -MOST to MOST, in standard deviations."""
        pixels = pipe.image_processor.preprocess(image).to(pipe._execution_device, pipe.vae.dtype)
        found = statistics(pipe.vae, pixels)[0].cpu() @ self.weight + self.bias
        return float(found.clamp(-MOST, MOST))


def size(vae: AutoencoderTiny) -> int:
    """How many statistics there are of an image."""
    widths = vae.config.encoder_block_out_channels
    blocks = zip(vae.config.num_encoder_blocks, widths, strict=True)
    return 2 * (sum(count * width for count, width in blocks) + vae.config.latent_channels)


def statistics(vae: AutoencoderTiny, pixels: torch.Tensor) -> torch.Tensor:
    """What the encoder sees in images (B, 3, H, W) in [-1, 1]: the mean and the standard deviation of each channel
    after each of its blocks, and of the latents, (B, S) float32."""
    seen: list[torch.Tensor] = []
    blocks = (layer for layer in vae.encoder.layers if isinstance(layer, AutoencoderTinyBlock))
    hooks = [block.register_forward_hook(lambda *told: seen.append(told[-1])) for block in blocks]
    try:
        seen.append(vae.encode(pixels).latents)  # last, as it returns last
    finally:
        for hook in hooks:
            hook.remove()
    flat = [one.float().flatten(2) for one in seen]
    return torch.cat([found for one in flat for found in (one.mean(2), one.std(2))], 1)
