"""The vocabulary of skin lesions as data, the attributes of one lesion, and the total dermoscopy score.

The dermoscopic attributes are those of the ABCD rule (Stolz et al. 1994): asymmetry, border, colours and
differential structures. Skin tones are the ten swatches of the Monk Skin Tone scale.
"""

import random
from dataclasses import dataclass, fields

from dermaflux.errors import InputError, shown
from dermaflux.ranges import whole

LABELS = ("benign", "malignant")
CAPTURES = ("dermoscopic", "clinical")
SITES = ("head and neck", "trunk", "upper extremity", "lower extremity", "anogenital")
STRUCTURES = ("network", "structureless areas", "branched streaks", "dots", "globules")
ARTEFACTS = ("hair", "ruler", "dark corners")
MONK_TONES = (
    "#f6ede4",
    "#f3e7db",
    "#f7ead0",
    "#eadaba",
    "#d7bd96",
    "#a07e56",
    "#825c43",
    "#604134",
    "#3a312a",
    "#292420",
)
MAX_ASYMMETRY, MAX_BORDER = 2, 8
MIN_SIZE_MM, MAX_SIZE_MM = 2, 20
FIELD_MM = 20.0
"""Width of the field of view, in mm, that the embedded models' images stand for; sizes are shares of it."""


@dataclass(frozen=True)
class Colour:
    """A dermoscopic colour and the sRGB swatch that stands for it."""

    name: str
    swatch: str


COLOURS = {
    colour.name: colour
    for colour in (
        Colour("white", "#f4f1ec"),
        Colour("red", "#c2504a"),
        Colour("light brown", "#b98a5e"),
        Colour("dark brown", "#5e3a24"),
        Colour("blue-grey", "#6c7b8b"),
        Colour("black", "#1c1714"),
    )
}


@dataclass(frozen=True)
class Diagnosis:
    """A diagnosis, the label it implies, and whether the lesion is melanocytic (the ABCD rule holds for those only)."""

    name: str
    label: str
    melanocytic: bool


DIAGNOSES = {
    diagnosis.name: diagnosis
    for diagnosis in (
        Diagnosis("melanoma", "malignant", True),
        Diagnosis("basal cell carcinoma", "malignant", False),
        Diagnosis("squamous cell carcinoma", "malignant", False),
        Diagnosis("nevus", "benign", True),
        Diagnosis("seborrheic keratosis", "benign", False),
        Diagnosis("solar lentigo", "benign", False),
        Diagnosis("dermatofibroma", "benign", False),
        Diagnosis("vascular lesion", "benign", False),
    )
}


@dataclass(frozen=True)
class LesionAttributes:
    """What is asked of, or known about, one lesion. None or an empty tuple: not specified.

    label: benign | malignant. diagnosis: a key of DIAGNOSES. asymmetry: 0-2 axes. border: 0-8 abruptly cut segments.
    colours, structures, artefacts: names from COLOURS, STRUCTURES, ARTEFACTS, kept in the vocabulary's order.
    size_mm: largest diameter, 2-20 mm. site: one of SITES. tone: apparent skin tone, Monk scale 1-10.
    capture: dermoscopic | clinical.

    Raises InputError for a value outside the vocabulary.
    """

    label: str | None = None
    diagnosis: str | None = None
    asymmetry: int | None = None
    border: int | None = None
    colours: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    size_mm: int | None = None
    site: str | None = None
    tone: int | None = None
    capture: str | None = None
    artefacts: tuple[str, ...] = ()

    def __post_init__(self):
        for name, values in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in values:
                raise InputError(f"“{shown(value)}” is not a known {name}; choose one of: {', '.join(values)}.")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None:
                whole(name, value, low, high)
        for name, values in _SETS.items():
            given = tuple(getattr(self, name))
            for value in given:
                if value not in values:
                    raise InputError(f"“{shown(value)}” is not one of the {name}: {', '.join(values)}.")
            object.__setattr__(self, name, tuple(value for value in values if value in given))

    def specified(self) -> dict[str, object]:
        """The specified attributes by name, in the order of the fields."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in pairs if value is not None and value != ()}


_CHOICES = {"label": LABELS, "diagnosis": tuple(DIAGNOSES), "site": SITES, "capture": CAPTURES}
RANGES = {
    "asymmetry": (0, MAX_ASYMMETRY),
    "border": (0, MAX_BORDER),
    "size_mm": (MIN_SIZE_MM, MAX_SIZE_MM),
    "tone": (1, len(MONK_TONES)),
}
_SETS = {"colours": tuple(COLOURS), "structures": STRUCTURES, "artefacts": ARTEFACTS}


@dataclass(frozen=True)
class Band:
    """A band of the total dermoscopy score, up to and including `upto`."""

    name: str
    upto: float


BANDS = (Band("benign", 4.74), Band("suspicious", 5.45), Band("highly suspicious of melanoma", 8.9))
WEIGHTS = {"asymmetry": 13, "border": 1, "colours": 5, "structures": 5}
"""Weights of the ABCD rule in tenths, which keeps the score exact."""


def total_dermoscopy_score(attributes: LesionAttributes) -> float:
    """TDS = 1.3 A + 0.1 B + 0.5 C + 0.5 D, from 1.0 to 8.9 (Stolz et al. 1994).

    A is the number of asymmetric axes, B of abruptly cut segments, C of colours, D of structures.
    Raises InputError, naming what is missing, unless all four are specified.
    """
    missing = [name for name in WEIGHTS if name not in attributes.specified()]
    if missing:
        raise InputError(f"The total dermoscopy score also needs: {', '.join(missing)}.")
    return sum(weight * _count(getattr(attributes, name)) for name, weight in WEIGHTS.items()) / 10


def band(score: float) -> Band:
    """The band of a total dermoscopy score: below 4.75 benign, to 5.45 suspicious, above highly suspicious."""
    return next(band for band in BANDS if score <= band.upto)


def _count(value: int | tuple[str, ...]) -> int:
    return value if isinstance(value, int) else len(value)


def plausible(seed: int, label: str | None = None) -> LesionAttributes:
    """A lesion drawn at random whose attributes agree with its label, the same for the same seed.

    Benign lesions get few colours, structures and cut segments, malignant ones many; the dermoscopy score of a
    benign lesion stays below 4.75, that of a malignant one above 5.45.
    """
    rng = random.Random(seed)
    label = label or rng.choice(LABELS)
    while True:
        attributes = _draw(rng, label)
        score = total_dermoscopy_score(attributes)
        if score < 4.75 if label == "benign" else score > 5.45:
            return attributes


def _draw(rng: random.Random, label: str) -> LesionAttributes:
    benign = label == "benign"
    required = rng.choice(("light brown", "dark brown"))
    others = [name for name in COLOURS if name != required]
    extra = rng.randint(0, 1) if benign else rng.randint(1, 4)
    return LesionAttributes(
        label=label,
        diagnosis=rng.choice(("nevus", "nevus", "nevus", "seborrheic keratosis")) if benign else "melanoma",
        asymmetry=rng.choice((0, 0, 1)) if benign else rng.choice((1, 2, 2)),
        border=rng.randint(0, 3) if benign else rng.randint(3, 8),
        colours=(required, *rng.sample(others[2:3] if benign and rng.random() < 0.7 else others, extra)),
        structures=tuple(rng.sample(STRUCTURES, rng.randint(1, 2) if benign else rng.randint(2, 4))),
        size_mm=rng.randint(4, 9) if benign else rng.randint(7, 14),
        site=rng.choice(SITES[:4]),
        tone=rng.choices(range(1, 11), (3, 4, 4, 4, 3, 2, 2, 1, 1, 1))[0],
        capture="dermoscopic",
        artefacts=tuple(name for name in ARTEFACTS if rng.random() < 0.12),
    )


EXAMPLES = {
    "Small round nevus": LesionAttributes("benign", "nevus", 0, 0, ("light brown",), ("network",), 4, "trunk", 3),
    "Two-tone nevus": LesionAttributes(
        "benign", "nevus", 0, 1, ("light brown", "dark brown"), ("network", "dots"), 6, "trunk", 4
    ),
    "Globular nevus": LesionAttributes(
        "benign", "nevus", 0, 0, ("dark brown",), ("globules",), 5, "upper extremity", 2
    ),
    "Nevus on brown skin": LesionAttributes(
        "benign", "nevus", 0, 1, ("dark brown",), ("network", "structureless areas"), 6, "lower extremity", 7
    ),
    "Seborrheic keratosis": LesionAttributes(
        "benign",
        "seborrheic keratosis",
        1,
        2,
        ("light brown", "dark brown"),
        ("structureless areas", "globules"),
        9,
        "trunk",
        4,
    ),
    "Early melanoma": LesionAttributes(
        "malignant",
        "melanoma",
        2,
        4,
        ("light brown", "dark brown", "black"),
        ("network", "dots", "structureless areas"),
        7,
        "lower extremity",
        2,
    ),
    "Superficial spreading melanoma": LesionAttributes(
        "malignant",
        "melanoma",
        2,
        6,
        ("red", "light brown", "dark brown", "blue-grey"),
        ("network", "branched streaks", "dots", "structureless areas"),
        12,
        "trunk",
        3,
    ),
    "Regressing melanoma": LesionAttributes(
        "malignant",
        "melanoma",
        2,
        5,
        ("white", "light brown", "dark brown", "blue-grey"),
        ("structureless areas", "dots", "network"),
        10,
        "trunk",
        3,
    ),
    "Symmetric melanoma, discordant look": LesionAttributes(
        "malignant", "melanoma", 0, 1, ("dark brown", "black"), ("globules",), 6, "upper extremity", 3
    ),
    "Atypical nevus, discordant look": LesionAttributes(
        "benign",
        "nevus",
        2,
        6,
        ("red", "light brown", "dark brown", "black"),
        ("network", "branched streaks", "dots", "globules"),
        11,
        "trunk",
        4,
    ),
}
"""Named lesions to start from."""
