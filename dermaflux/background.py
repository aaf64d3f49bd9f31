"""What surrounds a lesion on an image: hair, dark corners, stickers, and the skin with its uneven light."""

import cv2
import numpy as np
from scipy import ndimage


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 sRGB -> float32 CIELAB (L 0-100, a and b about -128..127)."""
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def disk(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def find_hair(lightness: np.ndarray) -> np.ndarray:
    """Thin dark lines (hair, ruler ticks, ink strokes): black-hat, kept where long and narrow (DullRazor's idea)."""
    dark = (cv2.morphologyEx(lightness, cv2.MORPH_BLACKHAT, disk(5)) > 6).astype(np.uint8)
    thick = cv2.morphologyEx(dark, cv2.MORPH_OPEN, disk(3))
    thin = dark & ~cv2.dilate(thick, disk(1))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(thin, connectivity=8)
    length = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    long = length > 22
    long[0] = False
    return cv2.dilate(long[labels].astype(np.uint8), disk(1)) > 0


def fill(lab: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """`lab` with `holes` filled by the weighted mean of the pixels about them."""
    if not holes.any() or holes.all():
        return lab
    weight = (~holes).astype(np.float32)
    filled = lab.copy()
    for sigma in (12.0, 3.0):
        blurred = cv2.GaussianBlur(lab * weight[..., None], (0, 0), sigma)
        total = cv2.GaussianBlur(weight, (0, 0), sigma)
        known = holes & (total > 0.05)
        filled[known] = blurred[known] / total[known][:, None]
    return filled


def frame_radius(shape: tuple[int, int]) -> np.ndarray:
    """Distance to the frame's centre: 1 at the middle of each side, 1.41 in the corners."""
    height, width = shape
    rows = (np.arange(height, dtype=np.float32) + 0.5) / height * 2 - 1
    columns = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1
    return np.hypot(rows[:, None], columns[None, :])


def find_dark_corners(lightness: np.ndarray) -> np.ndarray:
    """The dark surround of the dermoscope's round field, grown over its penumbra."""
    bright = np.percentile(lightness, 75)
    dark = (cv2.GaussianBlur(lightness, (0, 0), 1.5) < 0.45 * bright).astype(np.uint8)
    _, labels = cv2.connectedComponents(dark)
    corners = {int(labels[i, j]) for i in (1, -2) for j in (1, -2)} - {0}
    found = np.isin(labels, list(corners)) & (frame_radius(lightness.shape) > 0.9)
    return cv2.dilate(found.astype(np.uint8), disk(7)) > 0 if found.any() else found


def find_patches(lab: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Coloured stickers that reach into the frame: hues that neither skin nor lesions have."""
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    usual = np.median(chroma[field]) if field.any() else 0
    odd = (chroma > 13) & ((hue < -40) | (hue > 105))
    odd |= chroma > max(50, usual + 22)
    odd = cv2.morphologyEx((odd & field).astype(np.uint8), cv2.MORPH_OPEN, disk(2))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(odd)
    height, width = field.shape
    found = np.zeros(field.shape, np.uint8)
    for i in range(1, count):
        x, y, w, h, area = stats[i]
        at_frame = x <= 2 or y <= 2 or x + w >= width - 2 or y + h >= height - 2
        if at_frame and 0.004 * field.size < area < 0.4 * field.size:
            hull = cv2.convexHull(np.argwhere(labels == i)[:, ::-1].astype(np.int32))
            if area > 0.75 * cv2.contourArea(hull):
                cv2.fillConvexPoly(found, hull, 1)
            else:
                found[labels == i] = 1
    return cv2.dilate(found, disk(4)) > 0


def illumination(lab: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The skin's colour at each pixel: a quadratic surface fitted to the periphery's lightest common colour.

    Cells that fit are taken in, from the rim inwards, so that vignetting is followed and lesions are not.
    """
    height, width = field.shape
    step = 8
    cells = cv2.resize(lab, (max(1, width // step), max(1, height // step)), interpolation=cv2.INTER_AREA)
    usable = cv2.resize(field.astype(np.float32), cells.shape[1::-1], interpolation=cv2.INTER_AREA) > 0.95
    if usable.sum() < 20:
        usable[:] = True
    depth = cv2.distanceTransform(np.pad(usable.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    rim = usable & (depth <= 3.5)
    start = _common_light(cells[rim])
    basis = _quadratic(cells.shape[:2])
    difference = cells - start
    inlier = rim & (np.abs(difference[..., 0]) < 9) & (np.hypot(difference[..., 1], difference[..., 2]) < 12)
    surface = np.broadcast_to(start, cells.shape)
    for _ in range(4):
        if inlier.sum() < 15:
            break
        design = basis[inlier]
        ridge = np.diag([0, 0.02, 0.02, 0.15, 0.15, 0.15]).astype(np.float32) * inlier.sum()
        fit = np.linalg.solve(design.T @ design + ridge, design.T @ (cells[inlier] - start))
        surface = start + np.clip(basis @ fit, -22, 22)
        residual = cells - surface
        error = np.sqrt((residual**2).sum(-1))
        spread = 1.5 * np.median(error[inlier]) + 1.0
        inlier = usable & (error < 2.2 * spread) & (residual[..., 0] > -1.6 * spread)
    return cv2.resize(surface.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


def _quadratic(shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    terms = (np.ones_like(rows), rows, columns, rows**2 - 0.5, columns**2 - 0.5, rows * columns)
    return np.stack(terms, axis=-1)


def _common_light(colours: np.ndarray) -> np.ndarray:
    """The lightest of the common Lab colours among (n, 3)."""
    density, edges = np.histogram(colours[:, 0], bins=50, range=(0, 100))
    density = ndimage.gaussian_filter1d(density.astype(float), 1.5)
    peaks = np.flatnonzero((density >= 0.45 * density.max()) & (density == ndimage.maximum_filter1d(density, 5)))
    lightness = edges[peaks[-1]] + 1
    near = np.abs(colours[:, 0] - lightness) < 5
    return np.median(colours[near], axis=0).astype(np.float32)
