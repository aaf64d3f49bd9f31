"""Images made to fit a model: squares of its size, or of about as many pixels in a shape near their own."""

import math

import numpy as np
from PIL import Image, ImageOps

CROP, SQUEEZE, BUCKET = FITS = "crop", "squeeze", "bucket"
"""The middle square; all of it, squeezed to a square; or nearly all of it, in the nearest of `shapes`."""
LONGEST = 2.0
"""Of a shape, the longer side over the shorter."""
PARTS = 8
"""Sides of shapes are about a multiple of this part of the square's."""


def shapes(size: int, multiple: int) -> list[tuple[int, int]]:
    """Widths and heights in px, multiples of `multiple`, whose area is at most that of the square of `size` px and for
    their width the largest."""
    step = max(multiple, size // PARTS // multiple * multiple)
    found = {(size, size)}
    for width in range(size + step, math.ceil(size * LONGEST**0.5) + 1, step):
        height = size * size // width // multiple * multiple
        if height and width / height <= LONGEST:
            found |= {(width, height), (height, width)}
    return sorted(found)


def fitted(image: Image.Image, size: int, fit: str = CROP, multiple: int = 1) -> np.ndarray:
    """`image` as (H, W, 3) uint8, by one of FITS; of buckets alone H and W may differ. multiple: of their sides."""
    if fit == SQUEEZE:
        return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))
    aspect = math.log(image.width / image.height)
    away = lambda shape: abs(math.log(shape[0] / shape[1]) - aspect)
    shape = min(shapes(size, multiple), key=away) if fit == BUCKET else (size, size)
    return np.asarray(ImageOps.fit(image, shape, Image.Resampling.LANCZOS))
