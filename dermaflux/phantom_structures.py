"""Differential structures of the drawn lesions: network, branched streaks, dots and globules, as coverage by an ink."""

import numpy as np

from dermaflux.lesion import LesionAttributes
from dermaflux.phantom_outline import ANGLES, Frame
from dermaflux.phantom_texture import discs, noise_at, strokes


def structures(rng: np.random.Generator, frame: Frame, attributes: LesionAttributes) -> np.ndarray:
    """Coverage by the ink of network, streaks, dots and globules, (H, W) float32 in 0..1."""
    unit, size, asymmetry = frame.unit, len(frame.u), attributes.asymmetry
    net, lines, specks, clods = rng.spawn(4)
    ink = np.zeros_like(frame.u)
    share = min(1.0, frame.radius / (40 * unit))
    if "network" in attributes.structures:
        extent = 0.85 + 0.25 * noise_at(net, frame.x, frame.y, 0.5 * frame.radius)
        ink = 0.62 * np.clip(extent, 0.35, 1) * _network(net, frame.u, frame.v, unit)
    if "branched streaks" in attributes.structures:
        paths, widths = _streaks(lines, frame, asymmetry)
        ink = np.maximum(ink, 0.85 * strokes(size, paths, widths, 0.5 * unit))
    if "dots" in attributes.structures:
        points = _scattered(specks, frame, int(specks.integers(22, 46) * share) + 4, asymmetry, 4 * unit)
        ink = np.maximum(ink, discs(size, points, specks.uniform(0.9, 1.5, len(points)) * unit, 0.5 * unit))
    if "globules" in attributes.structures:
        points = _scattered(clods, frame, int(clods.integers(16, 32) * share) + 3, asymmetry, 9 * unit)
        ink = np.maximum(ink, 0.8 * discs(size, points, clods.uniform(2.4, 4.0, len(points)) * unit, 0.8 * unit))
    return ink


def _streaks(rng: np.random.Generator, frame: Frame, asymmetry: int) -> tuple[list[np.ndarray], list[int]]:
    """Branched streaks: radial lines at the lesion's periphery that fork once or twice, as image x, y and widths."""
    paths, widths = [], []
    count = max(3, int(rng.integers(14, 26) * (0.25, 0.5, 1.0)[asymmetry]))
    sector = (np.pi / 2, np.pi, 2 * np.pi)[asymmetry]
    for angle in (np.arange(count) + rng.uniform(0.2, 0.8, count)) * sector / count:
        start, end, sway = rng.uniform(0.5, 0.68), rng.uniform(0.92, 1.0), rng.normal(0, 0.08)
        fork = start + rng.uniform(0.3, 0.6) * (end - start)
        legs = [(start, end, 0.0, sway)]
        legs += [(fork, end - 0.04, sway / 2, sway / 2 + side * rng.uniform(0.1, 0.2)) for side in (-1, 1)]
        for near, far, turn, turn_end in legs:
            reach, turns = np.linspace(near, far, 6), angle + np.linspace(turn, turn_end, 6)
            reach = reach * np.interp(turns * ANGLES / (2 * np.pi), np.arange(ANGLES), frame.radii, period=ANGLES)
            path = np.stack((reach * np.cos(turns), reach * np.sin(turns)), 1)
            mirrors = [(1, 1), (1, -1), (-1, 1), (-1, -1)][: (4, 2, 1)[asymmetry]]
            paths += [frame.pixels(path * mirror) for mirror in mirrors]
            widths += [max(1, round((1.6 if turn_end == sway and near == start else 1.0) * frame.unit))] * len(mirrors)
    return paths, widths


def _network(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, unit: float) -> np.ndarray:
    """Pigment network: the lines of an irregular honeycomb, (H, W) float32 in 0..1."""
    cell = rng.uniform(6.5, 9.0) * unit
    x = u / cell + 0.3 * noise_at(rng, u, v, 2.2 * cell)
    y = v / cell + 0.3 * noise_at(rng, u, v, 2.2 * cell)
    tall = np.float32(3**0.5)
    best = None
    for shift in (0.0, 0.5):
        a = np.abs((x + shift) % 1 - 0.5)
        b = np.abs((y + shift * tall) % tall - tall / 2)
        reach = np.maximum(a, 0.5 * a + tall / 2 * b)
        best = reach if best is None else np.minimum(best, reach)
    thickness = 0.1 * (1 + 0.35 * noise_at(rng, u, v, 3 * cell))
    return np.exp(-(((0.5 - best) / np.clip(thickness, 0.05, 0.2)) ** 2))


def _mirrored(points: np.ndarray, asymmetry: int) -> np.ndarray:
    """Points (N, 2) of the lesion's frame with their mirror images."""
    if asymmetry < 2:
        points = np.concatenate((points, points * (1, -1)))
    return np.concatenate((points, points * (-1, 1))) if asymmetry == 0 else points


def _scattered(rng: np.random.Generator, frame: Frame, count: int, asymmetry: int, spacing: float) -> np.ndarray:
    """About `count` points (N, 2), at least `spacing` px apart, inside the lesion and symmetric as it is, as x, y."""
    kept = np.empty((0, 2))
    orbit = (4, 2, 1)[asymmetry]
    for _ in range(4 * count // orbit):
        angle, far = rng.uniform(0, 2 * np.pi), 0.9 * np.sqrt(rng.uniform(0.01, 1))
        reach = far * frame.radii[int(angle * ANGLES / (2 * np.pi)) % ANGLES]
        orbit_points = _mirrored(reach * np.array([[np.cos(angle), np.sin(angle)]]), asymmetry)
        gaps = np.linalg.norm(orbit_points[:, None] - np.concatenate((kept, orbit_points[1:])), axis=-1)
        if gaps.size == 0 or gaps[0].min() >= spacing:
            kept = np.concatenate((kept, orbit_points))
        if len(kept) >= count:
            break
    return frame.pixels(kept + rng.normal(0, 0.25 * frame.unit, kept.shape))
