"""What readers may say: vocabularies, and answers from untrusted dictionaries."""

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from dermaflux.errors import InputError
from dermaflux.lesion import COLOURS, DIAGNOSES, LABELS, RANGES, STRUCTURES, LesionAttributes
from dermaflux.study.protocol import Questions
from dermaflux.study.readings import MATCHES

ARTEFACTS = (
    "hair",
    "ruler or ink",
    "vignette",
    "texture repetition",
    "implausible border",
    "implausible colour",
    "duplicated structure",
    "blur",
    "other",
)
ROLES = ("dermatologist", "dermatology resident", "general practitioner", "nurse", "student", "researcher", "other")
SAID_DIAGNOSES = (*DIAGNOSES, "other", "cannot tell")
MAX_COMMENT, MAX_BOXES, MAX_YEARS = 2000, 20, 80
STEPS = (1, 5)
MATCHED = {"asymmetry": "asymmetry", "border": "border", "colours": "colours", "structures": "structures"}
MATCHED |= {"size": "size_mm", "tone": "tone"}
"""The attribute of a lesion that each question of stage 2 is about."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Background:
    """Who reads. role: one of ROLES. years: of experience, 0 to 80. trained: in dermoscopy."""

    role: str
    years: float
    trained: bool


@dataclass(frozen=True)
class First:
    """An answer of stage 1; None, empty text and empty tuples stand for what was not asked or not answered.

    Names and ranges are those of `readings.COLUMNS`. marked: boxes x0, y0, x1, y1 in shares of the picture's side from
    its upper left; a point is a box without size.
    """

    said_synthetic: bool | None = None
    confidence: int | None = None
    realism: int | None = None
    said_diagnosis: str = ""
    said_label: str = ""
    seen_asymmetry: int | None = None
    seen_border: int | None = None
    seen_colours: tuple[str, ...] = ()
    seen_structures: tuple[str, ...] = ()
    artefacts: tuple[str, ...] = ()
    comment: str = ""
    marked: tuple[Box, ...] = ()

    def record(self) -> dict[str, object]:
        """The answer as what JSON gives back."""
        return _plain(asdict(self))


@dataclass(frozen=True)
class Second:
    """An answer of stage 2: one of MATCHES for each attribute asked about, and the match as a whole from 1 to 5."""

    match: int
    match_asymmetry: str = ""
    match_border: str = ""
    match_colours: str = ""
    match_structures: str = ""
    match_size: str = ""
    match_tone: str = ""

    def record(self) -> dict[str, object]:
        """The answer as what JSON gives back."""
        return _plain(asdict(self))


FIELDS = {
    "source": ("said_synthetic", "confidence"),
    "realism": ("realism",),
    "diagnosis": ("said_diagnosis", "said_label"),
    "attributes": ("seen_asymmetry", "seen_border", "seen_colours", "seen_structures"),
    "artefacts": ("artefacts", "comment", "marked"),
}
"""The fields of stage 1 by the question that asks for them. Those of the last two may be left empty."""
REQUIRED = ("said_synthetic", "confidence", "realism", "said_diagnosis", "said_label")


def background(values: object) -> Background:
    """A reader's background from a dictionary with role, years and trained, and `consent`, which must be true.

    Raises InputError, naming the field.
    """
    values = _dictionary(values, ("consent", *(one.name for one in fields(Background))))
    if values.get("consent") is not True:
        raise InputError("consent: the study can begin once you agree to take part.")
    years = values.get("years")
    if type(years) not in (int, float) or not 0 <= years <= MAX_YEARS:
        raise InputError(f"years: give your years of experience, from 0 to {MAX_YEARS}.")
    return Background(_choice("role", values.get("role"), ROLES), float(years), _flag("trained", values.get("trained")))


def first(values: object, questions: Questions) -> First:
    """An answer of stage 1 from a dictionary, for the questions that are on. Raises InputError, naming the field."""
    names = [name for question, of in FIELDS.items() if getattr(questions, question) for name in of]
    values = _dictionary(values, names)
    found = {}
    for name in names:
        value = values.get(name)
        if value is None or value == "":
            if name in REQUIRED:
                raise InputError(f"{name}: this question is not answered yet.")
            continue
        found[name] = _READ[name](name, value)
    return First(**found)


def asked(attributes: LesionAttributes) -> tuple[str, ...]:
    """The attributes that stage 2 asks about: those that a caption of `attributes` specifies, as in MATCHED."""
    return tuple(name for name, attribute in MATCHED.items() if attribute in attributes.specified())


def second(values: object, names: tuple[str, ...]) -> Second:
    """An answer of stage 2 from a dictionary, about the attributes `names`. Raises InputError, naming the field."""
    asked_for = [f"match_{name}" for name in names]
    values = _dictionary(values, ("match", *asked_for))
    said = {name: _choice(name, values.get(name), MATCHES) for name in asked_for}
    return Second(_whole("match", values.get("match"), *STEPS), **said)


def clean(text: str) -> str:
    """`text` in Unicode's composed form, without control characters other than line breaks, and trimmed."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs")).strip()


def _dictionary(values: object, names: object) -> Mapping[str, object]:
    if not isinstance(values, Mapping):
        raise InputError("The answer is not in the form that the page sends; reload the page.")
    for name in values:
        if name not in names:
            raise InputError(f"{str(name)[:40]}: this is not asked here.")
    return values


def _flag(name: str, value: object) -> bool:
    if type(value) is not bool:
        raise InputError(f"{name}: choose yes or no.")
    return value


def _whole(name: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise InputError(f"{name}: choose a whole number from {low} to {high}.")
    return value


def _choice(name: str, value: object, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise InputError(f"{name}: choose one of {', '.join(known)}.")
    return value


def _set(name: str, value: object, known: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{name}: choose among {', '.join(known)}.")
    given = {_choice(name, one, known) for one in value}
    return tuple(one for one in known if one in given)


def _comment(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_COMMENT:
        raise InputError(f"{name}: write at most {MAX_COMMENT} characters.")
    return clean(value)


def boxes(name: str, value: object) -> tuple[Box, ...]:
    """Marked places from a list of lists of numbers. Raises InputError, naming the field `name`."""
    if not isinstance(value, (list, tuple)) or len(value) > MAX_BOXES:
        raise InputError(f"{name}: mark at most {MAX_BOXES} places.")
    return tuple(_box(name, box) for box in value)


def _box(name: str, box: object) -> Box:
    wrong = InputError(f"{name}: a place is marked by four shares of the picture's side, from 0 to 1.")
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        raise wrong
    if any(type(one) not in (int, float) or not 0 <= one <= 1 or not math.isfinite(one) for one in box):
        raise wrong
    x0, y0, x1, y1 = (round(float(one), 4) for one in box)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


_READ = {
    "said_synthetic": _flag,
    "confidence": lambda name, value: _whole(name, value, *STEPS),
    "realism": lambda name, value: _whole(name, value, *STEPS),
    "said_diagnosis": lambda name, value: _choice(name, value, SAID_DIAGNOSES),
    "said_label": lambda name, value: _choice(name, value, LABELS),
    "seen_asymmetry": lambda name, value: _whole(name, value, *RANGES["asymmetry"]),
    "seen_border": lambda name, value: _whole(name, value, *RANGES["border"]),
    "seen_colours": lambda name, value: _set(name, value, tuple(COLOURS)),
    "seen_structures": lambda name, value: _set(name, value, STRUCTURES),
    "artefacts": lambda name, value: _set(name, value, ARTEFACTS),
    "comment": _comment,
    "marked": boxes,
}


def _plain(value: object) -> object:
    """`value` with tuples as lists."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
