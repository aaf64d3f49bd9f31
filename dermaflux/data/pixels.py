"""The images of manifests, opened one by one or as one uint8 tensor."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dermaflux.data import manifest
from dermaflux.errors import DataError


def open_rgb(row: manifest.Row) -> Image.Image:
    """The image of a manifest's row. Raises DataError, naming the file."""
    try:
        with Image.open(row.path) as image:
            return image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{row.path} cannot be read as an image: {error}.") from error


def read_pixels(rows: Sequence[manifest.Row], size: int) -> torch.Tensor:
    """The images of `rows` squeezed to a square, antialiased: (N, 3, size, size) uint8 RGB."""
    pixels = np.empty((len(rows), size, size, 3), np.uint8)
    for i, row in enumerate(tqdm(rows, desc="reading images", mininterval=5)):
        pixels[i] = np.asarray(open_rgb(row).resize((size, size), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
