"""Asymmetry, border and colours of a segmented lesion, after the ABCD rule of dermoscopy (Stolz et al. 1994)."""

import cv2
import numpy as np

from dermaflux.background import to_lab
from dermaflux.lesion import COLOURS

OCTANTS = 8
_AXES, _RADII = 120, 24
SHAPE_LIMIT, COLOUR_LIMIT = 0.12, 8.0
"""Above either, an axis counts as asymmetric: share of the area that does not fold onto itself, mean Lab difference."""
SHARP_WIDTH = 2.5
"""An abruptly cut border falls from 90 % to 10 % within about this many working pixels; any other within 5 to 14."""
_PROFILE_NOISE = 30.0
WHITE_LIMIT = 4.0
"""How much lighter than the skin, or less coloured, in CIELAB units, white must be."""
COLOUR_SHARES = {
    "white": 0.025,
    "red": 0.05,
    "light brown": 0.09,
    "dark brown": 0.14,
    "blue-grey": 0.055,
    "black": 0.06,
}
"""Share of the lesion's area from which a colour counts as present: more for browns, which blends resemble."""


def asymmetry(mask: np.ndarray, lab: np.ndarray) -> tuple[int, float]:
    """Number of asymmetric axes (0-2), and the angle of the first axis in degrees clockwise from the right.

    mask: (h, w) bool. lab: (h, w, 3) float32. Of all perpendicular pairs of axes through the centroid, the pair about
    which the lesion folds best is judged.
    """
    shape, colour = fold_differences(mask, lab)
    worst = np.maximum(shape / SHAPE_LIMIT, colour / COLOUR_LIMIT)
    half = len(worst) // 2
    first = int((worst[:half] + worst[half:]).argmin())
    return int((worst[[first, first + half]] > 1).sum()), first * 180 / len(worst)


def fold_differences(mask: np.ndarray, lab: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How badly the lesion folds about axes at 0, 1.5, ... 178.5 degrees through its centroid: two (120,) arrays.

    The first is the share of the folded outline's union that is not overlap, 0-1; the second the mean difference of
    Lab colour where the halves overlap.
    """
    rows, columns = np.nonzero(mask)
    centre = columns.mean(), rows.mean()
    reach = np.hypot(columns - centre[0], rows - centre[1]).max() + 2
    size = (_RADII, _AXES)
    inside = cv2.warpPolar(mask.astype(np.float32), size, centre, reach, cv2.WARP_FILL_OUTLIERS)
    softened = cv2.GaussianBlur(lab, (0, 0), 0.04 * reach)
    colour = cv2.warpPolar(softened, size, centre, reach, cv2.WARP_FILL_OUTLIERS)
    axis, angle = np.ogrid[:_AXES, :_AXES]
    mirror = (axis - angle) % _AXES
    weight = np.arange(_RADII, dtype=np.float32) + 0.5
    folded = inside[mirror]
    overlap = np.minimum(folded, inside) @ weight
    shape = 1 - overlap.sum(1) / (np.maximum(folded, inside) @ weight).sum(1)
    gap = np.sqrt(((colour[mirror] - colour) ** 2).sum(-1))
    both = np.minimum(folded, inside) * weight
    return shape, (gap * both).sum((1, 2)) / np.maximum(both.sum((1, 2)), 1e-6)


def cut_segments(mask: np.ndarray, outline: np.ndarray, lab: np.ndarray, hair: np.ndarray) -> tuple[bool, ...]:
    """Whether the border is abruptly cut in each of eight octants about the centroid, clockwise from the right.

    outline: (N, 2) float xy. lab: (h, w, 3) float32. hair: (h, w) bool. Along each normal of the outline the colour is
    fitted by a sharp step and by a fading one; the octant goes to the hypothesis of greater mean log-likelihood.
    """
    radius = float(np.sqrt(mask.sum() / np.pi))
    reach = float(np.clip(0.3 * radius, 6, 15))
    offsets = np.linspace(-reach, reach, 41, dtype=np.float32)
    centre = np.argwhere(mask).mean(axis=0)[::-1]
    points = (outline[:, None, :] + _normals(outline, centre)[:, None, :] * offsets[:, None]).astype(np.float32)
    profile = cv2.remap(lab, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    covered = cv2.remap(hair.astype(np.float32), points[..., 0], points[..., 1], cv2.INTER_LINEAR).mean(1)
    fading = float(np.clip(0.22 * radius, 5, 14))
    evidence = _fit(profile, offsets, SHARP_WIDTH) - _fit(profile, offsets, fading)
    around = np.degrees(np.arctan2(outline[:, 1] - centre[1], outline[:, 0] - centre[0])) % 360
    octant, within = np.divmod(around, 360 / OCTANTS)
    clear = (np.abs(within - 180 / OCTANTS) < 18) & (covered < 0.05)
    return tuple(_mean(evidence, octant == i, clear) > 0 for i in range(OCTANTS))


def _normals(outline: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Outward unit normals (N, 2) of a closed outline."""
    tangent = np.roll(outline, -3, axis=0) - np.roll(outline, 3, axis=0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    return normal * (np.sign(((outline - centre) * normal).sum()) or 1.0)


def _fit(profile: np.ndarray, offsets: np.ndarray, width: float) -> np.ndarray:
    """Log-likelihood (N,) of colour profiles (N, n, 3) as a logistic step of `width` px near the outline.

    Pigment may also change steadily further inside; that ramp is fitted along and judged as part of the step.
    """
    reach = offsets[-1]
    distance = offsets - np.linspace(-0.2, 0.2, 13, dtype=np.float32)[:, None] * reach
    step = _unit(1 / (1 + np.exp(4.4 * distance / width)))
    ramp = _unit(np.maximum(0, -distance - 0.2 * reach))
    step = _unit(step - (step * ramp).sum(1, keepdims=True) * ramp)
    centred = profile - profile.mean(1, keepdims=True)
    explained = sum((np.einsum("so,noc->nsc", part, centred, optimize=True) ** 2).sum(-1) for part in (step, ramp))
    return -np.log((centred**2).sum((1, 2)) - explained.max(1) + _PROFILE_NOISE)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(1, keepdims=True)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _mean(values: np.ndarray, where: np.ndarray, preferred: np.ndarray) -> float:
    chosen = where & preferred if (where & preferred).sum() >= 5 else where
    return float(values[chosen].mean()) if chosen.any() else 0.0


def colour_shares(mask: np.ndarray, lab: np.ndarray, skin: np.ndarray) -> dict[str, float]:
    """Share of the lesion's area in each dermoscopic colour that is present, in the vocabulary's order.

    skin: (3,) Lab of the skin beside the lesion: white counts only where lighter than it.
    """
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    pixels = lab[inner if inner.sum() > 30 else mask]
    names = tuple(COLOURS)
    swatches = np.array([[tuple(bytes.fromhex(COLOURS[name].swatch[1:])) for name in names]], np.uint8)
    prototypes = to_lab(swatches)[0]
    gap = ((pixels[:, None, :] - prototypes[None]) * np.array([0.8, 1.0, 1.0], np.float32)) ** 2
    gap = gap.sum(-1)
    paler = pixels[:, 0] - skin[0] - (np.hypot(pixels[:, 1], pixels[:, 2]) - np.hypot(skin[1], skin[2]))
    gap[(pixels[:, 0] < skin[0] - 5) | (paler < WHITE_LIMIT), names.index("white")] = np.inf
    share = np.bincount(gap.argmin(1), minlength=len(names)) / len(pixels)
    return {name: float(value) for name, value in zip(names, share, strict=True) if value >= COLOUR_SHARES[name]}


def smooth_outline(mask: np.ndarray, count: int = 256) -> np.ndarray:
    """The mask's longest outline as `count` evenly spaced xy points, (count, 2) float64, closed and smoothed."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = max(contours, key=len)[:, 0, :].astype(np.float64)
    closed = np.vstack([points, points[:1]])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    at = np.linspace(0, along[-1], count, endpoint=False)
    even = np.stack([np.interp(at, along, closed[:, i]) for i in (0, 1)], axis=1)
    kernel = np.array([1, 2, 3, 2, 1]) / 9
    return sum(weight * np.roll(even, shift, axis=0) for shift, weight in zip(range(-2, 3), kernel, strict=True))


def enlarge(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The working mask at an image's own (H, W), with a smooth edge."""
    return cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
