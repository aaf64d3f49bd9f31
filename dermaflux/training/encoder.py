"""Teach the embedded encoder to find the latents from which its decoder draws an image best.

Near the latents of TAEF2, which the encoder learned first, lie others from which the same decoder draws the image with
half the error: a critic has taught it to add detail, and not every latent adds the image's own. The decoder is frozen,
so that all that a flow draws through it stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderTiny
from diffusers.training_utils import EMAModel

from dermaflux.data.curate import rows_of
from dermaflux.data.pixels import read_pixels
from dermaflux.errors import InputError, first_line
from dermaflux.files import weights_of
from dermaflux.model_files import NATIVE
from dermaflux.training.autoencoder import CONFIG, augment, decibels, optimizer_of, save
from dermaflux.training.loop import checked, digest, fit, settings, update
from dermaflux.training.phantoms import draw_phantoms
from dermaflux.training.precision import mixed_precision
from dermaflux.training.taef2 import Taef2


@dataclass(frozen=True)
class EncoderOptions:
    """How the encoder is trained. held: the weight of the latents' mean squared distance from the teacher's beside the
    picture's mean squared error in [-1, 1]. phantoms: how many drawn images join the real ones."""

    steps: int = 1500
    batch: int = 8
    learning_rate: float = 1e-4
    warmup: int = 50
    held: float = 0.01
    phantoms: int = 600
    ema: float = 0.998
    save_every: int = 200
    seed: int = 0

    def __post_init__(self):
        checked(self)


def train(
    model: AutoencoderTiny,
    pixels: torch.Tensor,
    encode: Callable[[torch.Tensor], torch.Tensor],
    out: Path,
    options: EncoderOptions,
    made_of: dict[str, object],
) -> AutoencoderTiny:
    """Train the encoder of `model` on images `pixels` (N, 3, H, W) uint8, checkpointing to `out`; returns `model` in
    eval mode. encode: the teacher's latents of images (B, 3, H, W) in [-1, 1]. made_of: see `fit`."""
    accelerator = Accelerator(mixed_precision=mixed_precision())
    model = model.to(memory_format=torch.channels_last).requires_grad_(False)
    parameters = list(model.encoder.requires_grad_(True).parameters())
    optimizer, schedule = optimizer_of(parameters, options.learning_rate, options.steps, options.warmup)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)

    def step(_: int) -> dict[str, float]:
        x = augment(pixels, options.batch).to(accelerator.device)
        known = encode(x)
        with accelerator.autocast():
            z = model.encoder(x)
            y = model.decoder(z)
        moved = F.mse_loss(z.float(), known)
        update(accelerator, F.mse_loss(y.float(), x) + options.held * moved, optimizer, schedule, parameters, average)
        return {"psnr": decibels(y.float(), x), "moved": moved.item()}

    fit(
        accelerator,
        step,
        steps=options.steps,
        out=out,
        seed=options.seed,
        save_every=options.save_every,
        made_of=made_of | settings(options) | digest(pixels),
    )
    average.copy_to(parameters)
    return model.eval()


def main(manifests: list[Path], vae: Path, teacher: Path, out: Path, options: EncoderOptions) -> None:
    """Train the encoder of the autoencoder in the folder `vae` on the manifests' train split and on phantoms; writes
    `out/vae`. Raises InputError for a folder that holds no autoencoder of that shape."""
    try:
        model = AutoencoderTiny.from_pretrained(vae)
    except (OSError, ValueError) as error:
        raise InputError(f"{vae} holds no AutoencoderTiny: {first_line(error)}") from error
    if model.config.latent_channels != CONFIG["latent_channels"]:
        raise InputError(
            f"{vae} has {model.config.latent_channels} latent channels; those of TAEF2 are {CONFIG['latent_channels']}."
        )
    known, real = Taef2.load(teacher), read_pixels(rows_of(manifests, "train"), NATIVE)
    pixels = torch.cat([real, draw_phantoms(options.phantoms, NATIVE, seed=0)])
    made_of = {"autoencoder": weights_of(vae), "teacher": weights_of(teacher)}
    save(train(model, pixels, known.encode, out, options, made_of), out / "vae")
