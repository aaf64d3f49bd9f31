"""Draw dermoscopy-like lesions of exactly known attributes: ground truth without patients.

A lesion is a smooth closed outline about its centroid, given in a frame turned by a random angle. Everything coarse
(outline, colour regions, mottling) is a function of coordinates folded along the lesion's axes of symmetry, so the
symmetry holds by construction; fine grain and lines are not folded. Pigment and skin mix as optical densities.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from dermaflux import phantom_texture as texture
from dermaflux.errors import InputError
from dermaflux.lesion import (
    ARTEFACTS,
    COLOURS,
    DIAGNOSES,
    FIELD_MM,
    LABELS,
    MAX_ASYMMETRY,
    MAX_BORDER,
    MONK_TONES,
    SITES,
    STRUCTURES,
    LesionAttributes,
)
from dermaflux.phantom_outline import ANGLES, Frame, make_frame
from dermaflux.phantom_structures import structures

MIN_SIZE, MAX_SIZE = 64, 1024
"""Side of a drawn image, in px."""
_REGION_SHARE = 0.1


@dataclass(frozen=True)
class Phantom:
    """A drawn lesion and what is known about it.

    image: (H, W, 3) uint8 RGB. mask: (H, W) bool, the lesion. colour_map: (H, W) int8 index into tuple(COLOURS), -1
    outside the lesion. centre: the lesion's centroid x, y in px. axis: angle in radians, from the image's x axis
    towards its y axis, of the first axis of symmetry (of asymmetry 0 and 1). cut_segments: whether each of the eight
    octants about the centroid, octant k spanning the image angles [45k, 45k + 45) degrees from the x axis towards the
    y axis (clockwise on screen), is abruptly cut. skin: the skin's mean colour, sRGB 0-255.
    """

    image: np.ndarray
    mask: np.ndarray
    colour_map: np.ndarray
    attributes: LesionAttributes
    centre: tuple[float, float]
    axis: float
    cut_segments: tuple[bool, ...]
    skin: tuple[float, float, float]


def draw(attributes: LesionAttributes, seed: int, size: int = 256) -> Phantom:
    """Draw a dermoscopy-like lesion of the given attributes, the same for the same seed: a Phantom of size x size px.

    Asymmetry, border, colours, structures, size and tone left unspecified are drawn at random and returned specified;
    no artefacts means none. Label, diagnosis and site have no look of their own and are returned as they came, and
    every phantom is dermoscopic. The frame is lesion.FIELD_MM wide. With one attribute changed the same seed leaves the
    rest as it can. seed: 0 or more. Raises InputError for a size outside 64-1024.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not MIN_SIZE <= size <= MAX_SIZE:
        raise InputError(f"The size of a drawn lesion must be a whole number from {MIN_SIZE} to {MAX_SIZE} pixels.")
    outline, border, colours, paint, film, noise = np.random.default_rng((seed, 1)).spawn(6)
    attributes = _completed(attributes, seed)
    frame = make_frame(outline, attributes.asymmetry, attributes.size_mm / FIELD_MM * size, int(size))
    cuts = np.zeros(MAX_BORDER, bool)
    cuts[border.permutation(MAX_BORDER)[: attributes.border]] = True
    regions = _regions(colours, frame, attributes)
    swatch = np.float32(_rgb(MONK_TONES[attributes.tone - 1]))
    skin = swatch * np.float32(paint.normal(1, 0.008)) * np.exp(-paint.uniform(0, 0.018) * texture.HAEMOGLOBIN)
    image = _compose(paint, frame, attributes, cuts, regions, skin)
    for (name, lay), rng in zip(_ARTEFACTS.items(), film.spawn(len(_ARTEFACTS)), strict=True):
        if name in attributes.artefacts:
            image = lay(rng, image)
    image += noise.uniform(0.8, 2.2) * noise.standard_normal(image.shape, dtype=np.float32)
    names = tuple(COLOURS)
    index = np.array([names.index(name) for name in attributes.colours], np.int8)
    return Phantom(
        image=np.clip(image + 0.5, 0, 255).astype(np.uint8),
        mask=frame.mask,
        colour_map=np.where(frame.mask, index[regions], np.int8(-1)),
        attributes=attributes,
        centre=tuple(frame.centre.tolist()),
        axis=frame.axis,
        cut_segments=tuple(cuts.tolist()),
        skin=tuple(skin.tolist()),
    )


def random_attributes(seed: int) -> LesionAttributes:
    """A lesion with every field specified, each drawn uniformly by itself, the same for the same seed.

    Only the diagnosis depends on another field: it is one that implies the label. One to four colours are drawn,
    seldom five or six, one to four structures, each artefact with probability 0.15, and a size of 4 to 16 mm.
    """
    rng = np.random.default_rng((seed, 0))
    label = str(rng.choice(LABELS))
    colours = rng.choice(6, p=(0.24, 0.26, 0.24, 0.16, 0.06, 0.04)) + 1
    structures = rng.choice(4, p=(0.3, 0.3, 0.3, 0.1)) + 1
    return LesionAttributes(
        label=label,
        diagnosis=str(rng.choice([name for name, diagnosis in DIAGNOSES.items() if diagnosis.label == label])),
        asymmetry=int(rng.integers(MAX_ASYMMETRY + 1)),
        border=int(rng.integers(MAX_BORDER + 1)),
        colours=tuple(rng.permutation(list(COLOURS))[:colours].tolist()),
        structures=tuple(rng.permutation(STRUCTURES)[:structures].tolist()),
        size_mm=int(rng.integers(4, 17)),
        site=str(rng.choice(SITES)),
        tone=int(rng.integers(1, len(MONK_TONES) + 1)),
        capture="dermoscopic",
        artefacts=tuple(name for name in ARTEFACTS if rng.random() < 0.15),
    )


_DRAWN = ("asymmetry", "border", "colours", "structures", "size_mm", "tone")


def _completed(attributes: LesionAttributes, seed: int) -> LesionAttributes:
    default = random_attributes(seed)
    missing = {name: getattr(default, name) for name in _DRAWN if getattr(attributes, name) in (None, ())}
    return replace(attributes, capture="dermoscopic", **missing)


def _rgb(swatch: str) -> tuple[int, int, int]:
    return tuple(bytes.fromhex(swatch[1:]))


def _lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (..., 3) of sRGB 0-255 (..., 3)."""
    flat = np.float32(rgb).reshape(-1, 1, 3) / 255
    return cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).reshape(np.shape(rgb))


@lru_cache(maxsize=len(MONK_TONES))
def palette(tone: int) -> np.ndarray:
    """The lesion colours as drawn on skin of a Monk tone 1-10: (6, 3) float32 sRGB 0-255, in the order of COLOURS.

    Each is the colour nearest to its swatch, its lightness lowered by up to a quarter from tone 6 to 10, that stands
    out from the skin by 20 CIELAB units (white: 10, and lighter; brown: rather darker) and is nearer
    to its own swatch than to any other by 6, as far as sRGB allows.
    """
    swatches = np.float32([_rgb(colour.swatch) for colour in COLOURS.values()])
    labs = _lab(swatches)
    skin = _lab(np.float32(_rgb(MONK_TONES[tone - 1])))
    steps = np.stack(np.meshgrid(*[np.arange(-80, 81, 8)] * 3, indexing="ij"), -1).reshape(-1, 3)
    chosen = []
    for own, (rgb, lab) in enumerate(zip(swatches, labs, strict=True)):
        candidates = np.clip(rgb + steps, 2, 253).astype(np.float32)
        found = _lab(candidates)
        distances = np.linalg.norm(found[:, None] - labs, axis=-1)
        margin = np.delete(distances, own, axis=1).min(1) - distances[:, own]
        target = lab * np.float32((1 - 0.05 * max(0, tone - 5), 1, 1))
        cost = np.sum(((found - target) * np.float32((1, 2, 2))) ** 2, -1)
        lighter = np.clip((found[:, 0] - skin[0]) / 5, 0, 1)
        liking = {"white": 2000, "light brown": -800, "dark brown": -800}.get(tuple(COLOURS)[own], 0) * lighter
        apart = 10 if tuple(COLOURS)[own] == "white" else 20
        cost += 6 * np.maximum(0, apart - np.linalg.norm(found - skin, axis=-1)) ** 2 - liking
        cost += 6 * np.maximum(0, 6 - margin) ** 2
        chosen.append(candidates[cost.argmin()])
    return np.stack(chosen)


_LAYOUTS = {0: (0.45, 0.3, 0.15, 0.1), 1: (0.15, 0.15, 0.6, 0.1), 2: (0.05, 0.1, 0.65, 0.2)}
"""How likely a colour lies in the core, at the rim, in an eccentric blob or in blotches, for each asymmetry."""


def _field(rng: np.random.Generator, frame: Frame, asymmetry: int) -> np.ndarray:
    """A random map, symmetric as the lesion is, that is high where a colour or a patch shall lie."""
    radius = frame.radius
    kind = rng.choice(4, p=_LAYOUTS[asymmetry])
    rough = texture.noise_at(rng, frame.x, frame.y, radius * rng.uniform(0.35, 0.55))
    rough += 0.45 * texture.noise_at(rng, frame.x, frame.y, radius * 0.16)
    if kind < 2:
        return (-1, 1)[kind] * frame.rho + 0.14 * rough
    if kind == 3:
        return rough
    angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.8)
    px, py = (
        far
        * np.interp(angle * ANGLES / (2 * np.pi), np.arange(ANGLES), frame.radii)
        * np.exp(1j * np.array((angle, angle - np.pi / 2))).real
    )
    if asymmetry == 0:
        px = abs(px)
    if asymmetry < 2:
        py = abs(py)
    return 0.16 * rough - np.hypot(frame.x - np.float32(px), frame.y - np.float32(py)) / radius


def _regions(rng: np.random.Generator, frame: Frame, attributes: LesionAttributes) -> np.ndarray:
    """Index into the lesion's colours for every pixel of the frame: (H, W) int."""
    count = len(attributes.colours)
    shares = _REGION_SHARE + (1 - _REGION_SHARE * count) * rng.dirichlet([2.0] * count)
    browns = [i for i, name in enumerate(attributes.colours) if "brown" in name]
    base = int(rng.choice(browns)) if browns else int(rng.integers(count))
    shares[[base, shares.argmax()]] = shares[[shares.argmax(), base]]
    regions = np.full(frame.mask.shape, base)
    free = np.ones(frame.mask.shape, bool)
    area = frame.mask.sum()
    for i in rng.permutation([i for i in range(count) if i != base]):
        field = _field(rng, frame, attributes.asymmetry)
        inside = field[frame.mask & free]
        level = np.partition(inside, -int(shares[i] * area))[-int(shares[i] * area)]
        taken = free & (field >= level)
        regions[taken] = i
        free &= ~taken
    return regions


def border_widths(radius: float, unit: float) -> tuple[float, float]:
    """How far, px, a lesion of `radius` px fades into the skin where its border is cut, and where it is not.

    unit: side of the image in px / 256.
    """
    return 1.3 * unit, float(np.clip(0.22 * radius, 5 * unit, 14 * unit))


def _coverage(rng: np.random.Generator, frame: Frame, cuts: np.ndarray) -> np.ndarray:
    """How much the lesion covers the skin: one half on its outline, (H, W) float32 in 0..1.

    It rises from 0.1 to 0.9 within the widths of `border_widths`.
    """
    sharp = cv2.GaussianBlur(np.repeat(cuts, 45).astype(np.float32)[None].repeat(3, 0), (0, 0), 0.1)[0]
    kernel = np.exp(-0.5 * (np.arange(-9, 10) / 3.0) ** 2)
    sharp = np.convolve(np.r_[sharp[-9:], sharp, sharp[:9]], kernel / kernel.sum(), "valid").astype(np.float32)
    sharp = sharp[np.minimum((frame.octant * 45).astype(int), 359)]
    cut, soft = border_widths(frame.radius, frame.unit)
    soft *= rng.uniform(0.85, 1.15)
    width = soft * np.exp(sharp * float(np.log(cut / soft)))
    ragged = 0.07 * texture.noise_at(rng, frame.u, frame.v, 4 * frame.unit)
    ragged += 0.14 * texture.noise_at(rng, frame.x, frame.y, 14 * frame.unit)
    edge = frame.edge + soft * (1 - sharp) * ragged
    return 1 / (1 + np.exp(np.clip(4.4 * edge / width, -30, 30)))


_MOTTLE = np.float32(
    ((0.35, 0.4, 0.45), (0.5, 1.1, 1.0), (0.5, 0.95, 1.4), (0.65, 1.05, 1.3), (1.0, 0.85, 0.75), (1.3, 1.3, 1.3))
)
"""How the mottling of a lesion changes the density in R, G, B of each of COLOURS."""
_PALE_INK = np.float32((1.15, 0.75, 0.5))
"""Density that structures take away, in R, G, B, where the pigment is too dark for a darker line."""


def _compose(
    rng: np.random.Generator,
    frame: Frame,
    attributes: LesionAttributes,
    cuts: np.ndarray,
    regions: np.ndarray,
    skin: np.ndarray,
) -> np.ndarray:
    """The lesion on its skin, before artefacts: (H, W, 3) float32 sRGB 0-255."""
    names = tuple(COLOURS)
    rng, inner, smoothing, rim, surroundings = rng.spawn(5)
    unit, size = frame.unit, len(frame.u)
    colours = palette(attributes.tone)[[names.index(name) for name in attributes.colours]]
    colours = np.clip(colours * rng.normal(1, 0.04, (len(colours), 1)), 2, 253).astype(np.float32)
    blend = float(np.clip(0.06 * frame.radius, 0.7 * unit, 4 * unit))
    paint = cv2.GaussianBlur(colours[regions], (0, 0), blend)
    absorption = cv2.GaussianBlur(_MOTTLE[[names.index(name) for name in attributes.colours]][regions], (0, 0), blend)
    mottle = 0.1 * texture.noise_at(rng, frame.x, frame.y, 0.34 * frame.radius)
    mottle += 0.08 * texture.noise_at(rng, frame.x, frame.y, max(0.13 * frame.radius, 4 * unit))
    mottle += rng.uniform(0.04, 0.08) * texture.noise(rng, size, 56) + 0.06 * texture.noise(rng, size, 110)
    ink = structures(inner, frame, attributes)
    if "structureless areas" in attributes.structures:
        smooth = _patch(smoothing, frame, attributes.asymmetry)
        mottle, ink = mottle * (1 - 0.8 * smooth), ink * (1 - smooth)
    density = -np.log(paint / 255)
    lightness = paint.mean(-1)
    light = np.clip((lightness - 23) / 9, 0, 1)
    density += mottle[..., None] * absorption + (0.75 * ink * light)[..., None] * texture.MELANIN
    density -= (0.5 * ink * (1 - light))[..., None] * _PALE_INK
    cover = _coverage(rim, frame, cuts)[..., None]
    surface = texture.skin_density(surroundings, size)
    overexposed = np.maximum(0, -surface[..., 0] - float(np.log(252 / skin[0])))
    surface += overexposed[..., None]
    density = -np.log(skin / 255) * (1 - cover) + density * cover + surface * (1 - 0.5 * cover)
    return cv2.GaussianBlur(255 * np.exp(-density), (0, 0), surroundings.uniform(0.45, 0.7) * unit)


def _patch(rng: np.random.Generator, frame: Frame, asymmetry: int) -> np.ndarray:
    """A smooth patch over 15 to 30 % of the lesion, (H, W) float32 in 0..1."""
    field = _field(rng, frame, asymmetry)
    level = np.quantile(field[frame.mask], 1 - rng.uniform(0.15, 0.3))
    return cv2.GaussianBlur((field >= level).astype(np.float32), (0, 0), 1.5 * frame.unit)


_ARTEFACTS = {"hair": texture.hair, "ruler": texture.ruler, "dark corners": texture.dark_corners}
