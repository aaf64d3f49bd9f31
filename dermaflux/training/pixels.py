"""Images of manifests as one uint8 tensor."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dermaflux.data import manifest


def load_pixels(manifests: list[Path], split: str | None, size: int) -> torch.Tensor:
    """The images of one split of `manifests`, each squeezed to `size` px square: (N, 3, size, size) uint8 RGB."""
    rows = [row for path in manifests for row in manifest.read(path, split)]
    return torch.stack([_pixels(row.path, size) for row in tqdm(rows, desc="reading images", mininterval=5)])


def _pixels(path: Path, size: int) -> torch.Tensor:
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)
