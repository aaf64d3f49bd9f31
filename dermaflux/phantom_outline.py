"""Outlines of drawn lesions: random closed curves of zero, one or two axes of symmetry, and the pixel grid as seen
from one of them."""

from dataclasses import dataclass

import numpy as np

ANGLES = 360
"""Angles, in equal steps from the lesion's first axis, at which an outline's radius is kept."""


@dataclass(frozen=True)
class Frame:
    """The pixel grid as the lesion sees it; all maps (H, W) float32, lengths in px.

    u, v: coordinates along the lesion's axes. x, y: the same, folded along its axes of symmetry. rho: distance from
    the centroid as a share of the outline's. edge: signed distance to the outline, negative inside. octant: image
    angle in octants, 0..8. radii: the outline at ANGLES angles from the u axis.
    """

    u: np.ndarray
    v: np.ndarray
    x: np.ndarray
    y: np.ndarray
    rho: np.ndarray
    edge: np.ndarray
    octant: np.ndarray
    radii: np.ndarray
    centre: np.ndarray
    axis: float
    unit: float

    @property
    def mask(self) -> np.ndarray:
        return self.edge < 0

    @property
    def radius(self) -> float:
        return float(np.sqrt(np.mean(self.radii**2)))

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the lesion's frame as image x, y."""
        c, s = np.cos(self.axis), np.sin(self.axis)
        return self.centre + points @ np.array(((c, s), (-s, c)))


def _outline(rng: np.random.Generator, asymmetry: int) -> np.ndarray:
    """Radii about the area's centroid at ANGLES angles from the first axis of symmetry, largest diameter 1."""
    while True:
        k = np.arange(1, 13)
        decay = rng.uniform(0.6, 1.0) * 0.34 / k**1.6
        cosine, sine = rng.normal(0, 1, (2, len(k))) * decay
        cosine[1] = rng.uniform(-0.26, 0.26)
        if asymmetry == 0:
            cosine[k % 2 == 1] = 0
            cosine[3:] *= 0.7
        if asymmetry < 2:
            sine[:] = 0
        theta = np.arange(ANGLES) * (2 * np.pi / ANGLES)
        r = np.exp(np.cos(np.outer(theta, k)) @ cosine + np.sin(np.outer(theta, k)) @ sine)
        radii = _centred(theta, r)
        if radii is None:
            continue
        overlap = _mirror_overlap(radii[::3])
        axes = np.arange(len(overlap)) * (180 / len(overlap))
        worst = (0.0, overlap[np.minimum(axes, 180 - axes) > 18].max(), overlap.max())[asymmetry]
        if worst < 0.88 and radii.min() > 0.4 * radii.max():
            points = radii * np.exp(1j * theta)
            return radii / np.abs(points[:, None] - points[::2]).max()


def _centred(theta: np.ndarray, r: np.ndarray) -> np.ndarray | None:
    """The same outline about its centroid; None where a ray would cross it twice."""
    x, y = r * np.cos(theta), r * np.sin(theta)
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    x, y = (w - ((w + np.roll(w, -1)) * cross).sum() / (3 * cross.sum()) for w in (x, y))
    angles = np.unwrap(np.arctan2(y, x))
    if np.any(np.diff(angles) <= 0) or angles[-1] - angles[0] >= 2 * np.pi:
        return None
    return np.interp(theta, angles, np.hypot(x, y), period=2 * np.pi)


def _mirror_overlap(radii: np.ndarray) -> np.ndarray:
    """Intersection over union of a star-shaped outline and its mirror images, for axes from 0 to 180 degrees."""
    count = len(radii)
    mirrored = radii[(np.arange(count)[:, None] - np.arange(count)) % count]
    return (np.minimum(mirrored, radii) ** 2).sum(1) / (np.maximum(mirrored, radii) ** 2).sum(1)


def make_frame(rng: np.random.Generator, asymmetry: int, diameter: float, size: int) -> Frame:
    radii = _outline(rng, asymmetry) * diameter
    axis = rng.uniform(0, 2 * np.pi)
    theta = np.arange(ANGLES) * (2 * np.pi / ANGLES) + axis
    outline = np.stack((radii * np.cos(theta), radii * np.sin(theta)), 1)
    low, high = -outline.min(0), size - 1 - outline.max(0)
    middle = np.clip((size - 1) / 2 + rng.normal(0, 0.045, 2) * size, np.minimum(low, high), np.maximum(low, high))
    span = np.arange(size, dtype=np.float32)
    dx, dy = np.meshgrid(span - np.float32(middle[0]), span - np.float32(middle[1]))
    c, s = np.float32(np.cos(axis)), np.float32(np.sin(axis))
    u, v = c * dx + s * dy, c * dy - s * dx
    angle = np.arctan2(v, u) % np.float32(2 * np.pi)
    bend = np.gradient(np.r_[radii[-1], radii, radii[0]])[1:-1] * (ANGLES / (2 * np.pi))
    place = angle * np.float32(ANGLES / (2 * np.pi))
    reach = np.interp(place, np.arange(ANGLES), radii, period=ANGLES).astype(np.float32)
    lean = (1 / np.sqrt(1 + (bend / radii) ** 2)).astype(np.float32)[np.minimum(place.astype(int), ANGLES - 1)]
    distance = np.hypot(u, v)
    return Frame(
        u=u,
        v=v,
        x=np.abs(u) if asymmetry == 0 else u,
        y=np.abs(v) if asymmetry < 2 else v,
        rho=distance / reach,
        edge=(distance - reach) * lean,
        octant=((angle + np.float32(axis)) * np.float32(4 / np.pi)) % 8,
        radii=radii,
        centre=middle,
        axis=float(axis),
        unit=size / 256,
    )
