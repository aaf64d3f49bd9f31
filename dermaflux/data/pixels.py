"""The images of manifests, opened one by one or as one uint8 tensor."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dermaflux import appearance
from dermaflux.data import manifest
from dermaflux.errors import DataError, InputError
from dermaflux.images import open_file


def open_rgb(row: manifest.Row) -> Image.Image:
    """The image of a manifest's row, see `images.open_file`. Raises DataError, naming manifest, line and file."""
    if not os.path.exists(row.path):  # which, unlike Path.exists, takes any name
        raise DataError(f"{row.place}: there is no such file.")
    try:
        return open_file(row.path)
    except InputError as error:
        raise DataError(f"{row.place} cannot be read as an image: {error}") from error


def measured(row: manifest.Row, image: Image.Image | np.ndarray) -> appearance.Appearance:
    """The appearance of `image`, that of a manifest's row. Raises DataError, naming the row, where it is too small."""
    try:
        return appearance.measure(image)
    except InputError as error:
        raise DataError(f"{row.place} cannot be measured: {error}") from error


def read_pixels(rows: Sequence[manifest.Row], size: int) -> torch.Tensor:
    """The images of `rows` squeezed to a square, antialiased: (N, 3, size, size) uint8 RGB."""
    return Shelf(0).read(rows, size)


class Shelf:
    """Reads images as `read_pixels` does, and keeps up to `limit` bytes of them for the next time."""

    def __init__(self, limit: int):
        self.left, self._kept = limit, {}

    def read(self, rows: Sequence[manifest.Row], size: int) -> torch.Tensor:
        """The images of `rows` (N, 3, size, size) uint8 RGB. Raises DataError, see `open_rgb`."""
        pixels = np.empty((len(rows), size, size, 3), np.uint8)
        for i, row in enumerate(tqdm(rows, desc="reading images", mininterval=5)):
            pixels[i] = self._image(row, size)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def _image(self, row: manifest.Row, size: int) -> np.ndarray:
        key = row.path, size
        if key in self._kept:
            return self._kept[key]
        image = np.asarray(open_rgb(row).resize((size, size), Image.Resampling.BICUBIC))
        if image.nbytes <= self.left:
            self._kept[key] = image
            self.left -= image.nbytes
        return image
