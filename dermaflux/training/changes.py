"""Photographs changed so that what is seldom among them is seen as well: dark skin, close looks, symmetry, cut borders.

Each takes an image (H, W, 3) uint8 RGB and a random generator and gives an image of the same shape; what it then shows
is measured anew for its caption.
"""

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt

from dermaflux import appearance
from dermaflux.lesion import MAX_BORDER, MONK_TONES
from dermaflux.phantom import border_widths


def darkened(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As if behind more melanin: skin of a random Monk tone darker than its own, 4 to 10.

    Melanin adds optical density, so every pixel is scaled by what takes the image's skin to that tone's swatch.
    """
    skin = np.median(rgb.reshape(-1, 3).astype(np.float32), axis=0)
    measured = appearance.measure(rgb)
    if measured.found and not measured.mask.all():
        skin = np.median(rgb[~measured.mask].astype(np.float32), axis=0)
    tone = int(rng.integers(min(max(measured.tone + 1, 4), len(MONK_TONES)), len(MONK_TONES) + 1))
    swatch = np.array(tuple(bytes.fromhex(MONK_TONES[tone - 1][1:])), np.float32)
    return np.clip(rgb * np.minimum(swatch / np.maximum(skin, 1), 1.3) + 0.5, 0, 255).astype(np.uint8)


def magnified(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random part of the same shape, 55 to 95 % of each side, enlarged to the whole."""
    share, sides = rng.uniform(0.55, 0.95), rgb.shape[:2]
    height, width = (round(side * share) for side in sides)
    y, x = (int(rng.integers(0, side - part + 1)) for side, part in zip(sides, (height, width), strict=True))
    part = Image.fromarray(rgb[y : y + height, x : x + width])
    return np.asarray(part.resize(sides[::-1], Image.Resampling.LANCZOS))


def mirrored(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One half shown on both sides of a random axis through the lesion, or a quarter four times about two axes.

    An image without a lesion stays as it is.
    """
    measured = appearance.measure(rgb)
    if not measured.found:
        return rgb
    centre = np.argwhere(measured.mask).mean(0)
    turn = np.exp(1j * rng.uniform(0, 2 * np.pi))
    y, x = np.indices(rgb.shape[:2], np.float32)
    along = ((x - centre[1]) + 1j * (y - centre[0])) / turn
    folded = (np.abs(along.real) if rng.random() < 0.5 else along.real) + 1j * np.abs(along.imag)
    source = folded * turn + (centre[1] + 1j * centre[0])
    return cv2.remap(
        rgb,
        source.real.astype(np.float32),
        source.imag.astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )


def edged(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random number of the lesion's eight border segments cut abruptly, the others fading into the skin.

    The colours inside are prolonged outwards, those outside inwards, and both are laid over each other. An image
    without a lesion stays as it is.
    """
    measured = appearance.measure(rgb)
    mask = measured.mask
    if not measured.found or mask.all():
        return rgb
    unit, radius = mask.size**0.5 / 256, float(np.sqrt(mask.sum() / np.pi))
    sharp, soft = border_widths(radius, unit)
    edge = (distance_transform_edt(~mask) - distance_transform_edt(mask)).astype(np.float32)  # negative inside
    inner, outer = edge < -min(0.25 * soft, 0.3 * radius), edge > 0.5 * soft
    if not inner.any() or not outer.any():
        return rgb
    centre = np.argwhere(mask).mean(0)
    y, x = np.indices(mask.shape, np.float32)
    octant = (np.degrees(np.arctan2(y - centre[0], x - centre[1])) % 360 // 45).astype(int) % MAX_BORDER
    cut = np.zeros(MAX_BORDER, bool)
    cut[rng.permutation(MAX_BORDER)[: int(rng.integers(MAX_BORDER + 1))]] = True
    width = np.where(cut[octant], sharp, soft).astype(np.float32)
    cover = 1 / (1 + np.exp(np.clip(4.4 * edge / width, -30, 30)))[..., None]
    laid = cover * _prolonged(rgb, inner) + (1 - cover) * _prolonged(rgb, outer)
    return np.clip(laid + 0.5, 0, 255).astype(np.uint8)


def _prolonged(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`rgb` where `known`; elsewhere the nearest known colours, a little blurred: (H, W, 3) float32."""
    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = rgb[rows, columns].astype(np.float32)
    return np.where(known[..., None], filled, cv2.GaussianBlur(filled, (0, 0), 2.5))


CHANGES = (mirrored, edged, mirrored, darkened, mirrored, edged, mirrored, magnified)
"""In this order, by turns: what the photographs themselves show least, symmetry, is made most often."""
