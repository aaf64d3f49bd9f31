"""Classifiers asked about the images of a manifest, and the parts of it that are looked at by themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image
from tqdm import tqdm

from dermaflux import appearance
from dermaflux.classifier import BATCH, Classifier
from dermaflux.data import manifest
from dermaflux.data.curate import groups_of
from dermaflux.data.pixels import open_rgb
from dermaflux.errors import InputError
from dermaflux.evaluation.scores import Answers
from dermaflux.evaluation.zero_shot import ZeroShot

AGES = {30: "under 30", 45: "30 to 44", 60: "45 to 59", 75: "60 to 74", 150: "75 and over"}
"""Age groups by the years below which they end."""
UNKNOWN = "not recorded"
COLUMNS = {"diagnosis": "diagnosis", "skin_tone": "skin tone", "sex": "sex", "site": "site", "source": "source"}


@dataclass(frozen=True)
class Asked:
    """A classifier's answers to the images of `rows`; lesion_like, outlined: (N,) bool, whether the gate lets an image
    pass and whether a lesion was found on it; tones: apparent skin tone of each."""

    rows: Sequence[manifest.Row]
    answers: Answers
    lesion_like: np.ndarray
    outlined: np.ndarray
    tones: Sequence[str]


@dataclass(frozen=True)
class Part:
    """The images (N,) bool of one value of one kind of subgroup."""

    kind: str
    value: str
    chosen: np.ndarray


def ask(classifier: Classifier, rows: Sequence[manifest.Row]) -> Asked:
    """The classifier's answers to the images of `rows`, read a few at a time. Raises DataError, naming a file that is
    no image."""
    found, seen = [], []
    for images in _batches(rows):
        found += classifier.predict(images)
        seen += map(_look, images)
    answers = Answers(
        np.array([row.label == "malignant" for row in rows]),
        np.array([one.p_malignant for one in found]),
        classifier.card.operating_point.threshold,
        groups_of(rows),
    )
    outlined, tones = zip(*seen, strict=True)
    return Asked(rows, answers, np.array([one.lesion_like for one in found]), np.array(outlined), tones)


def ask_peer(peer: Classifier | ZeroShot, rows: Sequence[manifest.Row]) -> np.ndarray:
    """Another model's probabilities of malignancy, (N,)."""
    if isinstance(peer, ZeroShot):
        return np.concatenate([peer.p_malignant(images) for images in _batches(rows)])
    return np.array([one.p_malignant for images in _batches(rows) for one in peer.predict(images)])


def parts(asked: Asked) -> list[Part]:
    """Every subgroup by diagnosis, recorded and apparent skin tone, age, sex, site and source, where they are known of
    some image and are not the same for all."""
    kinds = {title: [row.values.get(name) or UNKNOWN for row in asked.rows] for name, title in COLUMNS.items()}
    kinds["apparent skin tone"] = list(asked.tones)
    kinds["age"] = [_age_group(row.values.get("age")) for row in asked.rows]
    found = []
    for kind, values in kinds.items():
        names = sorted(set(values), key=lambda value: (value == UNKNOWN, _order(value)))
        if len(names) > 1:
            found += [Part(kind, name, np.array([value == name for value in values])) for name in names]
    return found


def absent(asked: Asked) -> list[str]:
    """Kinds of subgroup that the manifest records of no image."""
    names = COLUMNS | {"age": "age"}
    return [title for name, title in names.items() if not any(row.values.get(name) for row in asked.rows)]


def _batches(rows: Sequence[manifest.Row]) -> Iterator[list[Image.Image]]:
    images = (open_rgb(row) for row in tqdm(rows, desc="asking", unit="image", disable=None))
    while batch := list(islice(images, BATCH)):
        yield batch


def _look(image: Image.Image) -> tuple[bool, str]:
    """Whether a lesion is found on `image`, and its apparent skin tone."""
    try:
        seen = appearance.measure(image)
    except InputError:
        return False, "not measurable"
    return seen.found, seen.tone_name


def _order(value: str) -> tuple[int, str]:
    """Tones from light to dark and ages from young to old, all else by name."""
    known = [*appearance.TONE_NAMES.values(), *AGES.values()]
    return (known.index(value) if value in known else 0, value)


def _age_group(age: str | None) -> str:
    try:
        years = float(age or "")
    except ValueError:
        return UNKNOWN
    return next((name for end, name in AGES.items() if 0 <= years < end), UNKNOWN)
