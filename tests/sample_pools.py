"""Folders of real and synthetic images for the tests of studies."""

from dataclasses import replace
from pathlib import Path

from PIL import Image
from sample_recipes import RECIPE

from dermaflux import phantom
from dermaflux.caption import caption
from dermaflux.data import manifest
from dermaflux.images import save_synthetic
from dermaflux.lesion import LABELS, plausible


def lesion(seed: int, size: int = 128) -> Image.Image:
    return Image.fromarray(phantom.draw(phantom.random_attributes(seed), seed, size).image)


def synthetic(root: Path, count: int = 8, size: int = 128) -> Path:
    """A folder of PNGs with recipes."""
    root.mkdir()
    for seed in range(count):
        attributes = plausible(seed, LABELS[seed % 2])
        recipe = replace(RECIPE, attributes=attributes, caption=caption(attributes, seed), seed=seed)
        save_synthetic(lesion(seed, size), recipe, root / f"{seed:02d}.png")
    return root


def real(root: Path, count: int = 8, **columns: str) -> Path:
    """A manifest of photographs: JPEGs of several sizes and qualities, with metadata and a patient's name."""
    root.mkdir()
    rows = []
    for seed in range(count):
        image = lesion(100 + seed, 160).resize((200 + 8 * seed, 180))
        exif = Image.Exif()
        exif[0x010E] = "Jane Doe"
        image.save(root / f"jane-doe-{seed}.jpg", quality=60 + 4 * seed, exif=exif, comment=b"Jane Doe")
        rows.append({"file": f"jane-doe-{seed}.jpg", "label": LABELS[seed % 2], "diagnosis": "nevus"} | columns)
    manifest.write(root / "manifest.csv", rows)
    return root / "manifest.csv"
