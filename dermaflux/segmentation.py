"""Find the lesion in an image: hair and dark corners removed, skin modelled from the periphery, the rest judged.

Classical image processing only (OpenCV, NumPy, SciPy): no weights, about 40 ms an image.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from dermaflux.background import (
    disk,
    fill,
    find_dark_corners,
    find_hair,
    find_patches,
    frame_radius,
    illumination,
    to_lab,
)

WORK_SIDE = 256
"""Longest side, in pixels, at which an image is analysed."""

SATURATION = 18.0
"""Lab distance from the skin about which a pixel is lesion for certain: further differences count no more."""
LIGHTER = 0.6
"""Weight of a pixel's being lighter than the skin, against 1 for darker."""
MAX_GRAIN = 2.5
"""Median fine variation of L* above which an image is noise or print, not skin; real images stay below 1.5."""

INK, INKED = (15.0, -8.0), 0.15
"""Beyond these a* and b* a pixel may be a surgical marker's ink. A region with more than this share of it is a lesion
only where nothing else is: a few lesions are as violet."""


@dataclass(frozen=True)
class Region:
    """The working image and what was found on it; all arrays share (h, w), the longest side WORK_SIDE.

    lab: (h, w, 3) float32 CIELAB without hair. mask: bool, the lesion (all False where there is none). hair: bool.
    skin: (3,) median Lab of the skin around the lesion.
    """

    lab: np.ndarray
    mask: np.ndarray
    hair: np.ndarray
    skin: np.ndarray


def segment(rgb: np.ndarray) -> Region:
    """The lesion on an (H, W, 3) uint8 RGB image, at working size."""
    small = _working_size(rgb)
    lab = to_lab(small)
    hair = find_hair(lab[..., 0])
    fine = np.abs(lab[..., 0] - cv2.GaussianBlur(lab[..., 0], (0, 0), 1.2))
    lab = fill(lab, hair)
    field = ~find_dark_corners(lab[..., 0])
    field &= ~find_patches(lab, field)
    grain = float(np.median(fine[field])) if field.any() else np.inf
    distance = cv2.GaussianBlur(_distance(lab, illumination(lab, field)), (0, 0), 1.2)
    distance[~field] = 0
    best = _best(distance, field) if grain < MAX_GRAIN else None
    ink = (lab[..., 1] > INK[0]) & (lab[..., 2] < INK[1])
    if best is not None and ink[best].mean() > INKED:
        bare = field & ~cv2.dilate(ink.astype(np.uint8), disk(4)).astype(bool)
        other = _best(np.where(bare, distance, 0), bare)
        best, field = (best, field) if other is None else (other, bare)
    mask = np.zeros(field.shape, bool) if best is None else _refined(best, distance, field)
    skin_pixels = _skin_pixels(mask, field, hair, distance)
    return Region(lab, mask, hair, np.median(lab[skin_pixels], axis=0))


def _best(distance: np.ndarray, field: np.ndarray) -> np.ndarray | None:
    """The best candidate that looks like a lesion."""
    regions = _regions(SATURATION * np.tanh(distance / SATURATION), field)
    return next((region for region in regions if _lesion_like(region, distance, field)), None)


def _working_size(rgb: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    scale = WORK_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _distance(lab: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Colour distance to the skin: darker, redder and browner count in full, lighter less."""
    lightness, red, yellow = (lab - skin)[..., 0], (lab - skin)[..., 1], (lab - skin)[..., 2]
    lightness = np.where(lightness < 0, lightness, LIGHTER * lightness)
    red = np.where(red > 0, red, 0.5 * red)
    return np.sqrt(lightness**2 + red**2 + (0.55 * yellow) ** 2).astype(np.float32)


def _regions(distance: np.ndarray, field: np.ndarray) -> list[np.ndarray]:
    """Candidate lesions at several thresholds about Otsu's, best first."""
    values = distance[field]
    top = float(np.percentile(values, 99.5)) + 1e-3
    scaled = np.clip(values * (255 / top), 0, 255).astype(np.uint8)
    otsu = cv2.threshold(scaled[None], 0, 255, cv2.THRESH_OTSU)[0] * top / 255
    near = values[values < otsu]
    noise = float(np.median(near)) if near.size else 0.0
    levels = {max(factor * otsu, 1.6 * noise, 2.5) for factor in (0.55, 0.75, 1.0, 1.5)}
    weight = distance * _centrality(field.shape)
    masks = [mask for level in levels for mask in _candidates(distance > level, weight)]
    excess = weight * (distance > max(1.6 * noise, 2.5))
    scored = [(_score(mask, distance, field) * excess[mask].sum() ** 0.5, mask) for mask in masks]
    return [mask for score, mask in sorted(scored, key=lambda pair: -pair[0]) if score > 0]


def _centrality(shape: tuple[int, int]) -> np.ndarray:
    """How much a pixel counts: 1 in the middle of the frame, little at its corners; (h, w)."""
    return np.exp(-((frame_radius(shape) / 0.7) ** 2))


def _refined(mask: np.ndarray, distance: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The mask with its outline moved to half height between the lesion and the skin on either side of it."""
    signed = cv2.distanceTransform(np.pad(mask, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    signed -= cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    reach = float(np.clip(0.35 * signed.max(), 3, 8))
    core, outside = signed >= min(reach, 0.8 * signed.max()), (signed < -reach) & (signed > -4 * reach) & field
    if not core.any() or not outside.any():
        return mask
    level = (_spread(distance, core, 1.5 * reach) + _spread(distance, outside, 1.5 * reach)) / 2
    moved = np.where(np.abs(signed) <= 1.2 * reach, distance > level, mask) & field
    return next(_candidates(moved, distance, 1), mask)


def _spread(values: np.ndarray, where: np.ndarray, sigma: float) -> np.ndarray:
    """Mean of `values` over `where`, weighted by nearness: (h, w) float32."""
    weight = where.astype(np.float32)
    total = cv2.GaussianBlur(weight, (0, 0), sigma) + 1e-4
    return (cv2.GaussianBlur(values * weight, (0, 0), sigma) + 1e-4 * values[where].mean()) / total


def _candidates(binary: np.ndarray, weight: np.ndarray, most: int = 2):
    """The connected parts of a binary image with most `weight` in them, each closed, filled and smoothed."""
    opened = cv2.morphologyEx(binary.astype(np.uint8), cv2.MORPH_OPEN, disk(2))
    joined = cv2.morphologyEx(np.pad(opened, 8), cv2.MORPH_CLOSE, disk(4))[8:-8, 8:-8]
    count, labels = cv2.connectedComponents(joined, connectivity=4)
    total = np.bincount(labels.ravel(), weight.ravel(), count)
    for i in 1 + np.argsort(-total[1:])[:most]:
        outlines, _ = cv2.findContours((labels == i).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        area = sum(map(cv2.contourArea, outlines))
        if area < 40:
            continue
        part = cv2.drawContours(np.zeros(binary.shape, np.float32), outlines, -1, 1.0, cv2.FILLED)
        sigma = min(3.0, 0.5 + 0.025 * area**0.5)
        smooth = cv2.GaussianBlur(part, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) > 0.5
        if smooth.any():
            yield smooth


def _ring(mask: np.ndarray, field: np.ndarray, inner: int, outer: int) -> np.ndarray:
    """Field pixels between `inner` and `outer` pixels outside the mask."""
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    return (away > inner) & (away <= outer) & field


def _touch(mask: np.ndarray, field: np.ndarray) -> float:
    """Share of the mask's perimeter that lies on the frame or at the edge of the field."""
    padded = np.pad(mask, 1)
    edge = cv2.dilate(padded.astype(np.uint8), disk(1)).astype(bool) & ~padded
    outside = np.pad(
        ~cv2.erode(np.pad(field, 1).astype(np.uint8), disk(2))[1:-1, 1:-1].astype(bool), 1, constant_values=True
    )
    return float((edge & outside).sum() / max(1, edge.sum()))


def _score(mask: np.ndarray, distance: np.ndarray, field: np.ndarray) -> float:
    """How much a region looks like the lesion: step at its edge, size, centrality, freedom from the frame."""
    ring = _ring(mask, field, 1, 7)
    if not ring.any():
        return 0.0
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    rim = mask & (depth <= 7)
    step = float(distance[rim].mean() - distance[ring].mean())
    share = mask.sum() / field.sum()
    rows, columns = np.nonzero(mask)
    offset = np.hypot(rows.mean() / mask.shape[0] * 2 - 1, columns.mean() / mask.shape[1] * 2 - 1)
    mass = float(distance[mask].mean())
    size = min(1.0, (share / 0.02)) ** 0.5
    return (
        max(step, 0) ** 0.5
        * mass**0.5
        * size
        * _solidity(mask) ** 0.5
        * np.exp(-((offset / 0.7) ** 2))
        * max(0.0, 1 - 1.3 * _touch(mask, field))
    )


def _solidity(mask: np.ndarray) -> float:
    """Share of the convex hull that the mask fills."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return float(mask.sum() / max(1.0, cv2.contourArea(cv2.convexHull(np.vstack(outlines)))))


def _lesion_like(mask: np.ndarray, distance: np.ndarray, field: np.ndarray) -> bool:
    """Whether a region stands out, is whole and compact, lies in the frame and has few rivals in it."""
    ring = _ring(mask, field, 3, 14)
    if not ring.any() or mask.sum() < 0.0012 * mask.size:
        return False
    inside, outside = float(np.median(distance[mask])), float(np.median(distance[ring]))
    filled = distance[mask] > outside + 0.4 * (min(inside, SATURATION) - outside)
    rivals = (
        (distance > outside + 0.4 * (inside - outside))
        & field
        & ~cv2.dilate(mask.astype(np.uint8), disk(6)).astype(bool)
    )
    weight = _centrality(mask.shape)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    sides = cv2.minAreaRect(np.vstack(outlines))[1]
    touch, solidity = _touch(mask, field), _solidity(mask)
    fills_frame = mask.mean() > 0.4 and inside - outside > 2 * SATURATION and solidity > 0.85
    return (
        inside - outside > 3.3
        and filled.mean() > 0.82
        and weight[rivals].sum() < 7 * weight[mask].sum()
        and max(sides) < 4.5 * max(1.0, min(sides))
        and (touch < 0.4 or fills_frame)
        and solidity > (0.75 if touch > 0.25 else 0.48)
    )


def _skin_pixels(mask: np.ndarray, field: np.ndarray, hair: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Skin around the lesion, away from its edge, the field's edge and hair."""
    inner = cv2.erode(np.pad(field, 1).astype(np.uint8), disk(4))[1:-1, 1:-1] > 0
    free = inner & ~cv2.dilate(mask.astype(np.uint8), disk(8)).astype(bool) & ~hair
    for choice in (free & (distance < 8), free, field & ~mask, np.ones_like(mask)):
        if choice.sum() > 50:
            return choice
    return np.ones_like(mask)
