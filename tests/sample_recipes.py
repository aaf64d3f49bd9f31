"""A recipe, images that carry it, and images that carry something else."""

import io
from dataclasses import replace

import numpy as np
from PIL import Image
from sample_files import chunk

from dermaflux.images import Provenance
from dermaflux.lesion import plausible

RECIPE = Provenance(
    caption="This photo depicts a benign lesion. Überall <b>hell</b> & “rund”.\nOverall, 痣.",
    attributes=plausible(3),
    seed=2**32 - 1,
    steps=20,
    guidance=3.5,
    negative="hair",
    true_cfg=1.5,
    lora_strength=0.8,
    size=256,
    model="nano",
    model_hash="0123456789abcdef",
    lora="nano-dermoscopy",
    lora_hash="fedcba9876543210",
    version="0.1.0",
)


def image(size: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))


def varied(times: int) -> Provenance:
    recipe = RECIPE
    for seed in range(times):
        recipe = replace(RECIPE, seed=seed, strength=0.4, source=recipe)
    return recipe


def with_chunk(kind: bytes, payload: bytes, png: bytes | None = None) -> bytes:
    png = foreign("PNG") if png is None else png
    return png[:33] + chunk(kind, payload) + png[33:]


def with_recipe(recipe: str | bytes) -> bytes:
    text = recipe.encode() if isinstance(recipe, str) else recipe
    return with_chunk(b"iTXt", b"dermaflux\0\0\0\0\0" + text)


def foreign(form: str) -> bytes:
    buffer = io.BytesIO()
    image().save(buffer, form)
    return buffer.getvalue()
