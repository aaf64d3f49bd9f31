"""Textures of the drawn lesions: skin, differential structures and artefacts. A texture is a map of optical density
or of coverage, (H, W) float32; lengths named `unit` are pixels of a 256 px frame."""

import cv2
import numpy as np

from dermaflux.lesion import FIELD_MM

MELANIN = np.float32((0.55, 0.85, 1.15))
"""Absorption of melanin in R, G, B, relative to its mean (the slope of its spectrum from 600 to 450 nm)."""
HAEMOGLOBIN = np.float32((0.15, 1.6, 1.25))
"""Absorption of haemoglobin in R, G, B, relative to its mean."""


def noise(rng: np.random.Generator, size: int, cells: int | tuple[int, int]) -> np.ndarray:
    """Smooth noise of zero mean and unit variance with about `cells` (rows, columns) bumps: (size, size) float32."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    grid = rng.standard_normal((max(rows, 2), max(columns, 2)), dtype=np.float32)
    field = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return (field - field.mean()) / (field.std() + 1e-6)


def noise_at(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, wavelength: float) -> np.ndarray:
    """Smooth noise sampled at the coordinates x, y: equal coordinates give equal noise, (H, W) float32."""
    reach = float(max(np.abs(x).max(), np.abs(y).max())) / wavelength
    grid = rng.standard_normal((2 * int(reach) + 8,) * 2, dtype=np.float32)
    middle = np.float32(int(reach) + 4)
    return 1.2 * cv2.remap(grid, x / wavelength + middle, y / wavelength + middle, cv2.INTER_CUBIC)


def _furrows(rng: np.random.Generator, size: int) -> np.ndarray:
    """Skin furrows: thin wandering lines along two crossing directions, (size, size) float32 of zero mean."""
    total = np.zeros((size, size), np.float32)
    first = rng.uniform(0, 180)
    for angle in (first, first + rng.uniform(50, 80)):
        sheet = noise(rng, size, (int(rng.integers(26, 38)), int(rng.integers(6, 11))))
        turn = cv2.getRotationMatrix2D((size / 2, size / 2), angle, 1.0)
        turned = cv2.warpAffine(sheet, turn, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        total += np.exp(-((turned / 0.28) ** 2))
    return total - total.mean()


def _vessels(rng: np.random.Generator, size: int) -> np.ndarray:
    """Faint dermal vessels as coverage, (size, size) float32 in 0..1."""
    canvas = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(0, 5))):
        steps = rng.normal(rng.normal(0, 1, 2), 0.6, (14, 2)) * size * 0.02
        path = rng.uniform(0, size, 2) + np.cumsum(steps, axis=0)
        cv2.polylines(canvas, [_fixed(path)], False, 255, 1, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(canvas, (0, 0), 1.1 * size / 256).astype(np.float32) / 255


def skin_density(rng: np.random.Generator, size: int) -> np.ndarray:
    """Variation of the skin's optical density about its tone: (size, size, 3) float32, median near zero."""
    melanin = 0.022 * noise(rng, size, 5) + 0.016 * noise(rng, size, 17) + 0.01 * noise(rng, size, 60)
    melanin += rng.uniform(0.006, 0.02) * noise(rng, size, 120)
    melanin += rng.uniform(0.012, 0.05) * _furrows(rng, size)
    blush = rng.uniform(0.006, 0.02) * noise(rng, size, 3) + rng.uniform(0.003, 0.011) * noise(rng, size, 20)
    blush += 0.12 * _vessels(rng, size)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    tilt = rng.uniform(-0.035, 0.035, 2).astype(np.float32)
    light = tilt[0] * ramp[:, None] + tilt[1] * ramp + 0.05 * (ramp[:, None] ** 2 + ramp**2 - 0.5)
    return melanin[..., None] * MELANIN + blush[..., None] * HAEMOGLOBIN + light[..., None]


def _fixed(points: np.ndarray) -> np.ndarray:
    """Points as OpenCV's fixed-point integers with 4 fractional bits, (N, 2) int32."""
    return np.round(np.asarray(points) * 16).astype(np.int32)


def discs(size: int, points: np.ndarray, radii: np.ndarray, blur: float) -> np.ndarray:
    """Discs of the given radii (px) at points (N, 2) x, y as coverage, (size, size) float32 in 0..1."""
    canvas = np.zeros((size, size), np.uint8)
    for point, radius in zip(_fixed(points), radii, strict=True):
        cv2.circle(canvas, point.tolist(), max(round(16 * float(radius)), 8), 255, -1, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(canvas, (0, 0), blur).astype(np.float32) / 255


def strokes(size: int, paths: list[np.ndarray], widths: list[int], blur: float) -> np.ndarray:
    """Open curves, each (N, 2) x, y, as coverage, (size, size) float32 in 0..1."""
    canvas = np.zeros((size, size), np.uint8)
    for path, width in zip(paths, widths, strict=True):
        cv2.polylines(canvas, [_fixed(path)], False, 255, width, cv2.LINE_AA, 4)
    return (cv2.GaussianBlur(canvas, (0, 0), blur) if blur else canvas).astype(np.float32) / 255


def _cover(image: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return image + coverage[..., None] * (np.float32(colour) - image)


def hair(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Dark curved strands laid over the (H, W, 3) float32 image, each with a faint reflection along it."""
    size = len(image)
    unit = size / 256
    steps = np.linspace(0, 1, 24)[:, None]
    main = rng.uniform(0, np.pi)
    paths, widths = [], []
    for _ in range(int(rng.integers(5, 16))):
        angle = main + rng.normal(0, 0.5)
        along, across = np.array((np.cos(angle), np.sin(angle))), np.array((-np.sin(angle), np.cos(angle)))
        middle = rng.uniform(0.1, 0.9, 2) * size
        half = rng.uniform(0.12, 0.5) * size
        bend = rng.normal(0, 0.25) * size
        ends = middle - half * along, middle + bend * across, middle + half * along
        paths.append((1 - steps) ** 2 * ends[0] + 2 * steps * (1 - steps) * ends[1] + steps**2 * ends[2])
        widths.append(max(1, round(rng.choice((1, 1, 1, 2)) * unit)))
    strand = strokes(size, paths, widths, 0.45 * unit)
    shine = strokes(size, [path + 0.8 * unit for path in paths], [max(1, round(0.6 * unit))] * len(paths), 0.6 * unit)
    colour = rng.uniform(0.6, 1.5) * np.array((52, 33, 24))
    image = _cover(image, 0.14 * shine, np.array((215, 205, 195)))
    return _cover(
        image, np.minimum(rng.uniform(0.9, 1.3) * strand, 0.92), np.minimum(colour, 0.45 * image.mean((0, 1)))
    )


def ruler(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Tick marks one millimetre apart along one edge of the (H, W, 3) float32 image, every fifth longer."""
    size = len(image)
    unit = size / 256
    inset, millimetre = rng.uniform(7, 20) * unit, size / FIELD_MM
    start = rng.uniform(0.02, 0.3) * size
    count = int(rng.integers(7, 14))
    slant = rng.normal(0, 0.02)
    paths = []
    for tick in range(count):
        along = start + tick * millimetre
        base = inset + slant * (along - start)
        paths.append(np.array(((along, base), (along, base - unit * (7 if tick % 5 == 0 else 4)))))
    if rng.random() < 0.7:
        paths.append(np.array((paths[0][0], paths[-1][0])))
    canvas = strokes(size, paths, [max(1, round(unit))] * len(paths), 0.4 * unit)
    canvas = np.rot90(canvas[::-1], int(rng.integers(0, 4)))
    ink = (24, 24, 28) if image.mean() > 70 else (225, 222, 215)
    return _cover(image, np.minimum(1.4 * canvas, 0.9), np.array(ink))


def dark_corners(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The black surround of a round field of view laid over the (H, W, 3) float32 image."""
    size = len(image)
    radius = rng.uniform(0.525, 0.62) * size
    cx, cy = np.float32(size / 2 + rng.normal(0, 0.012, 2) * size)
    span = np.arange(size, dtype=np.float32)
    distance = np.hypot(span - cx, span[:, None] - cy)
    softness = rng.uniform(0.8, 5) * size / 256
    surround = 1 / (1 + np.exp(np.clip((radius - distance) / softness, -30, 30)))
    return _cover(image, surround, np.array((9, 7, 8)))
