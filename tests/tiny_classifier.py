"""A classifier of the product's own class, small enough to be trained within a test, and images to train it on."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dermaflux.data import manifest
from dermaflux.training import classifier as training

TINY = training.ClassifierOptions(
    arch="vit_tiny_patch16_224",
    model=(("patch_size", 8), ("embed_dim", 48), ("depth", 2), ("num_heads", 2)),
    image_size=32,
    steps=12,
    batch=8,
    gate_layers=(0,),
    save_every=4,
)


def lesion(seed: int, size: tuple[int, int] = (64, 48), dark: bool = True) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.normal((215, 170, 150), 6, (size[1], size[0], 3)).clip(0, 255).astype(np.uint8))
    centre, reach = rng.uniform(0.35, 0.65, 2), rng.uniform(0.12, 0.28, 2)  # no two look alike
    low, high = ((at * np.array(size)).astype(int) for at in (centre - reach, centre + reach))
    colour = (60, 35, 30) if dark else (170, 110, 80)
    ImageDraw.Draw(image).ellipse((*low.tolist(), *high.tolist()), fill=colour)
    return image


def write_manifest(folder: Path, rows: list[dict]) -> Path:
    for i, row in enumerate(rows):
        row["file"] = f"{i}.png"
        lesion(i, dark=row["label"] == "malignant").save(folder / row["file"])
    manifest.write(folder / "manifest.csv", rows)
    return folder / "manifest.csv"


def rows() -> list[dict]:
    return [{"label": label, "split": "train"} for label in ["benign"] * 30 + ["malignant"] * 20]


def trained(folder: Path) -> Path:
    """What a brief run of the repository's own training writes."""
    training.train([write_manifest(folder, rows())], folder / "run", TINY)
    return folder
