"""Measure a lesion from pixels alone: outline, asymmetry, border, colours, size and apparent skin tone."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dermaflux.errors import InputError
from dermaflux.lesion import COLOURS, FIELD_MM, MAX_SIZE_MM, MIN_SIZE_MM, MONK_TONES, RANGES, LesionAttributes

if TYPE_CHECKING:
    from PIL import Image

MIN_SIDE, MAX_ASPECT = 32, 6
"""Smallest side in pixels, and greatest ratio of the sides, of an image that can be measured."""
NO_LESION = 10.0
"""The misfit of an image without a lesion: more than all else together."""
TONE_NAMES = {55: "very light", 41: "light", 28: "intermediate", 10: "tan", -30: "brown", -91: "dark"}
"""Apparent skin tone by the individual typology angle: the name of the first limit, in degrees, that is exceeded."""


@dataclass(frozen=True)
class Appearance:
    """What was measured on one image of (H, W) pixels.

    found: whether there is a lesion-like region; without one, only tone, tone_name and ita mean anything.
    mask: (H, W) bool. outline: (N, 2) float xy pixels. asymmetry: 0-2 axes. border: 0-8 abruptly cut segments.
    colours: share of the lesion's area, 0-1, of each colour present. size_mm: largest diameter if the frame is
    FIELD_MM wide. ita: individual typology angle, degrees. tone: nearest Monk tone, 1-10. lesion_share: share of the
    frame, 0-1. contrast: mean CIELAB distance of the lesion's pixels from the skin. axes: the two axes, each
    ((x, y), (x, y)). cut_segments: eight octants, clockwise from the right.
    """

    found: bool
    mask: np.ndarray
    outline: np.ndarray
    asymmetry: int
    border: int
    colours: dict[str, float]
    size_mm: float
    ita: float
    tone: int
    tone_name: str
    lesion_share: float
    contrast: float
    axes: tuple[tuple[tuple[float, float], tuple[float, float]], ...]
    cut_segments: tuple[bool, ...]

    def attributes(self) -> LesionAttributes:
        """The measured attributes in the vocabulary's terms; those of a lesion only where one was found."""
        if not self.found:
            return LesionAttributes(tone=self.tone)
        return LesionAttributes(
            asymmetry=self.asymmetry,
            border=self.border,
            colours=tuple(self.colours),
            size_mm=min(MAX_SIZE_MM, max(MIN_SIZE_MM, round(self.size_mm))),
            tone=self.tone,
        )


@dataclass(frozen=True)
class Comparison:
    """One attribute as requested and as measured; agrees is None where pixels cannot tell."""

    attribute: str
    requested: str
    measured: str
    agrees: bool | None


def measure(image: "Image.Image | np.ndarray") -> Appearance:
    """Measure the lesion on a PIL image or an (H, W, 3) uint8 RGB array of any size from MIN_SIDE pixels.

    Raises InputError for anything else, and for sides further apart than MAX_ASPECT. The individual typology angle is
    atan2(L* - 50, b*) of the skin around the lesion (Chardon et al. 1991), with bluish skin's b* taken as yellowish.
    """
    from dermaflux import abcd
    from dermaflux.segmentation import segment

    rgb = _pixels(image)
    height, width = rgb.shape[:2]
    region = segment(rgb)
    lightness, _, yellow = (float(value) for value in region.skin)
    ita = math.degrees(math.atan2(lightness - 50, abs(yellow)))
    skin = {"ita": ita, "tone": _nearest_tone(region.skin), "tone_name": _tone_name(ita)}
    mask = abcd.enlarge(region.mask, (height, width))
    if not mask.any():
        return Appearance(
            False, mask, np.zeros((0, 2)), 0, 0, {}, 0.0,
            **skin, lesion_share=0.0, contrast=0.0, axes=(), cut_segments=(False,) * abcd.OCTANTS,
        )  # fmt: skip
    outline = abcd.smooth_outline(region.mask)
    asymmetry, angle = abcd.asymmetry(region.mask, region.lab)
    cuts = abcd.cut_segments(region.mask, outline, region.lab, region.hair)
    scale = np.array([width / region.mask.shape[1], height / region.mask.shape[0]])
    full = (outline + 0.5) * scale - 0.5
    return Appearance(
        found=True,
        mask=mask,
        outline=full,
        asymmetry=asymmetry,
        border=sum(cuts),
        colours=abcd.colour_shares(region.mask, region.lab, region.skin),
        size_mm=_largest_diameter(full) / width * FIELD_MM,
        **skin,
        lesion_share=float(mask.mean()),
        contrast=float(np.linalg.norm(region.lab[region.mask] - region.skin, axis=-1).mean()),
        axes=tuple(_axis(region.mask, outline, angle + turn, scale) for turn in (0, 90)),
        cut_segments=cuts,
    )


def _pixels(image: "Image.Image | np.ndarray") -> np.ndarray:
    if hasattr(image, "convert"):
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError("Appearance is measured on a colour image: a PIL image or an (H, W, 3) array of bytes.")
    if min(image.shape[:2]) < MIN_SIDE:
        height, width = image.shape[:2]
        raise InputError(
            f"The image is {width} x {height} pixels, too small to measure; "
            f"give one of at least {MIN_SIDE} x {MIN_SIDE}."
        )
    if max(image.shape[:2]) > MAX_ASPECT * min(image.shape[:2]):
        raise InputError(f"The image is too narrow to measure; crop it to at most {MAX_ASPECT} times as long as wide.")
    return image


def _tone_name(ita: float) -> str:
    return next(name for limit, name in TONE_NAMES.items() if ita > limit)


def _nearest_tone(skin: np.ndarray) -> int:
    from dermaflux.background import to_lab

    swatches = np.array([[tuple(bytes.fromhex(swatch[1:])) for swatch in MONK_TONES]], np.uint8)
    return 1 + int(((to_lab(swatches)[0] - skin) ** 2).sum(-1).argmin())


def _largest_diameter(outline: np.ndarray) -> float:
    gaps = outline[:, None, :] - outline[None, :, :]
    return float(np.sqrt((gaps**2).sum(-1)).max())


def _axis(mask: np.ndarray, outline: np.ndarray, angle: float, scale: np.ndarray):
    """The chord of the lesion along `angle` degrees clockwise from the right, prolonged a little: two xy points."""
    centre = np.argwhere(mask).mean(axis=0)[::-1]
    direction = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    along = (outline - centre) @ direction
    ends = (centre + direction * (reach * 1.08) for reach in (along.min(), along.max()))
    return tuple(tuple(float(v) for v in (end + 0.5) * scale - 0.5) for end in ends)


def annotate(image: "Image.Image | np.ndarray", appearance: Appearance) -> "Image.Image":
    """The image with the outline, the two axes (dashed) and the abruptly cut segments (orange) drawn on it."""
    import cv2
    from PIL import Image

    canvas = _pixels(image).copy()
    if not appearance.found:
        return Image.fromarray(canvas)
    unit = max(1, round(max(canvas.shape[:2]) / 256))
    strokes = [(part, (255, 255, 255), unit) for axis in appearance.axes for part in _dashes(axis, 6 * unit)]
    strokes.append((np.vstack([appearance.outline, appearance.outline[:1]]), (64, 224, 208), unit))
    strokes += [(arc, (255, 150, 30), 2 * unit) for arc in _cut_arcs(appearance)]
    for extra in (2 * unit, 0):
        for points, colour, thickness in strokes:
            fixed = np.round(points * 16).astype(np.int32)[:, None, :]
            shade = (20, 20, 20) if extra else colour
            cv2.polylines(canvas, [fixed], False, shade, thickness + extra, cv2.LINE_AA, shift=4)
    return Image.fromarray(canvas)


def _dashes(axis, length: float) -> list[np.ndarray]:
    start, end = (np.array(point) for point in axis)
    count = max(1, int(np.linalg.norm(end - start) / length))
    marks = start + (end - start) * np.linspace(0, 1, count + 1)[:, None]
    return [marks[i : i + 2] for i in range(0, count, 2)]


def _cut_arcs(appearance: Appearance) -> list[np.ndarray]:
    """The parts of the outline in abruptly cut octants, each an (n, 2) array."""
    rows, columns = np.nonzero(appearance.mask)
    x, y = appearance.outline[:, 0] - columns.mean(), appearance.outline[:, 1] - rows.mean()
    octant = (np.degrees(np.arctan2(y, x)) % 360 // 45).astype(int) % 8
    cut = np.array(appearance.cut_segments)[octant]
    parts = np.split(np.arange(len(cut)), np.flatnonzero(np.diff(cut.astype(int))) + 1)
    return [appearance.outline[part] for part in parts if cut[part[0]] and len(part) > 1]


def compare(requested: LesionAttributes, measured: Appearance) -> list[Comparison]:
    """Each specified attribute of `requested` against what was measured, in the order of the fields.

    Asymmetry and the set of colours must be equal, border and tone within 1, size within 25 %.
    """
    found = measured.attributes()
    lines = []
    for name, wanted in requested.specified().items():
        if name not in _AGREES_WITHIN:
            lines.append(Comparison(name, _words(wanted), "not measured", None))
        elif name not in found.specified():
            lines.append(Comparison(name, _words(wanted), "no lesion found" if not measured.found else "none", False))
        else:
            value = getattr(found, name)
            lines.append(
                Comparison(name, _words(wanted), _words(value), _distance(name, wanted, value) <= _AGREES_WITHIN[name])
            )
    return lines


def _words(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def misfit(requested: LesionAttributes, measured: Appearance) -> float:
    """How far the measured lesion is from the one requested: 0 where all that can be measured agrees, as in `compare`;
    else the weighed sum over the attributes of what differs, each from 0 to 1; NO_LESION where there is none."""
    if not measured.found:
        return NO_LESION
    found = measured.attributes()
    apart = {
        name: _distance(name, wanted, getattr(found, name))
        for name, wanted in requested.specified().items()
        if name in _AGREES_WITHIN
    }
    if all(far <= _AGREES_WITHIN[name] for name, far in apart.items()):
        return 0.0
    return sum(_WEIGHTS.get(name, 1.0) * far for name, far in apart.items())


def _distance(name: str, wanted: Any, value: Any) -> float:
    """From 0 to 1: of numbers over their range, of sizes over the one wanted, of colours 1 less the F1 of the sets."""
    if name == "colours":
        return 1 - 2 * len({*wanted} & {*value}) / (len(wanted) + len(value))
    if name == "size_mm":
        return min(1.0, abs(wanted - value) / wanted)
    low, high = RANGES[name]
    return abs(wanted - value) / (high - low)


_AGREES_WITHIN = {"asymmetry": 0, "border": 1 / 8, "colours": 0, "size_mm": 0.25, "tone": 1 / 9}
"""The distance up to which each attribute that can be measured agrees."""
_WEIGHTS = {"colours": 1.5}
"""What counts for more than 1 in the misfit: a colour missing of two then counts as an axis of asymmetry does."""


def row(appearance: Appearance) -> dict[str, object]:
    """One line of the `measure` command's table; empty where there is no lesion."""
    found = appearance.found
    return {
        "asymmetry": appearance.asymmetry if found else "",
        "border": appearance.border if found else "",
        "colours": ";".join(name for name in COLOURS if name in appearance.colours),
        "size": round(appearance.size_mm, 1) if found else "",
        "ita": round(appearance.ita, 1),
        "lesion_share": round(appearance.lesion_share, 4),
    }
