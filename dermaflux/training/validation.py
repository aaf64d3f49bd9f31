"""Validation images during a run: a sheet of the same captions and seeds every so many steps."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import FluxPipeline
from PIL import Image

from dermaflux.caption import caption, clean
from dermaflux.errors import InputError
from dermaflux.grid import save_marked
from dermaflux.lesion import plausible

MOST = 64
COLUMNS = 4


@dataclass(frozen=True)
class Validation:
    """What is drawn: one image for each caption, the first with the seed `seed`, the others with those that follow.
    guidance: the distilled scale, 1 being that at which the velocity is learned."""

    captions: tuple[str, ...]
    seed: int = 0
    steps: int = 20
    guidance: float = 1.0

    @classmethod
    def plausible(cls, seed: int, count: int = 16) -> "Validation":
        """Captions of `count` lesions with plausible attributes."""
        return cls(tuple(caption(plausible(seed + i), i) for i in range(count)))


def read_captions(path: Path) -> tuple[str, ...]:
    """The captions in a text file, one a line. Raises InputError if there are none, too many, or one is too long."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a text file of captions, one a line.") from error
    if not 1 <= len(lines) <= MOST:
        raise InputError(f"{path} must hold 1 to {MOST} captions, one a line; it has {len(lines)}.")
    return tuple(clean(line) for line in lines)


@torch.no_grad()
def sheets(pipe: FluxPipeline, shown: Validation, size: int, length: int, folder: Path) -> Callable[[int], None]:
    """What draws the sheet of `shown` to `folder`/<step>.png, given the number of steps done.

    The captions are encoded now, by `pipe`'s encoders, which are not needed afterwards. size: px of an image's side;
    length: tokens of a caption.
    """
    where = dict(device=pipe.text_encoder.device, max_sequence_length=length)
    embedded = [pipe.encode_prompt(text, **where)[:2] for text in shown.captions]
    pipe.set_progress_bar_config(disable=True)

    def draw(step: int) -> None:
        columns = min(COLUMNS, len(embedded))
        sheet = Image.new("RGB", (columns * size, -(-len(embedded) // columns) * size))
        device = pipe.transformer.device
        for i, (tokens, pooled) in enumerate(embedded):
            image = pipe(
                prompt_embeds=tokens.to(device, torch.float32),
                pooled_prompt_embeds=pooled.to(device, torch.float32),
                num_inference_steps=shown.steps,
                guidance_scale=shown.guidance,
                height=size,
                width=size,
                generator=torch.Generator().manual_seed(shown.seed + i),
            ).images[0]
            sheet.paste(image, (i % columns * size, i // columns * size))
        save_marked(sheet, f"Lesions drawn after {step} steps of training.", (), folder / f"{step:06d}.png")

    return draw
