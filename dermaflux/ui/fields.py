"""LesionAttributes and Provenance to and from the values of the form's controls."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from dermaflux.caption import caption, clean, read
from dermaflux.errors import InputError, shown
from dermaflux.images import Provenance
from dermaflux.lesion import DIAGNOSES, LesionAttributes
from dermaflux.models import MAX_IMAGES, MAX_SEED, ModelSpec, SamplingOptions

ATTRIBUTES = tuple(field.name for field in fields(LesionAttributes))
SETTINGS = (
    "count",
    "seed",
    "randomise",
    "candidates",
    "steps",
    "guidance",
    "guidance_below",
    "early_guidance",
    "negative",
    "true_cfg",
    "lora_strength",
    "size",
    "strength",
    "noise",
    "first_block_cache",
    "eta",
    "eta_below",
    "contrast",
    "postfilter",
)
_EMPTY = {"diagnosis": "", "site": "", "capture": "", "size_mm": 0, "tone": 0}
_CHECKED = ("count", "seed", "randomise", "candidates", "steps", "negative", "size")
"""Settings that are read in a way of their own; the others are taken as they stand."""
_AS_GIVEN = tuple(name for name in SETTINGS if name not in _CHECKED)
_ZERO_COUNTS = ("asymmetry", "border")
_HUGE = 10**40


@dataclass(frozen=True)
class Request:
    """A run as the form asks for it. randomise: the seeds are to be drawn anew. source: recipe of an image to vary."""

    text: str
    attributes: LesionAttributes
    options: SamplingOptions
    randomise: bool = False
    source: Provenance | None = None


def to_values(attributes: LesionAttributes) -> list:
    """The values of the attribute controls, in the order of ATTRIBUTES."""
    values = ((name, getattr(attributes, name)) for name in ATTRIBUTES)
    return [
        list(value) if isinstance(value, tuple) else _EMPTY.get(name) if value is None else value
        for name, value in values
    ]


def to_attributes(values: Sequence) -> LesionAttributes:
    """The attributes that the controls' `values`, in the order of ATTRIBUTES, stand for. Raises InputError."""
    given = {}
    for name, value in zip(ATTRIBUTES, values, strict=True):
        if isinstance(value, (list, tuple)):
            given[name] = tuple(value)
        elif value not in ("", None) and (value != 0 or name in _ZERO_COUNTS):
            given[name] = value
    return LesionAttributes(**given)


def agree(attributes: LesionAttributes, noted: str) -> LesionAttributes:
    """`attributes` without contradiction: a diagnosis changed since `noted` sets its label, else the label wins."""
    diagnosis = DIAGNOSES.get(attributes.diagnosis or "")
    if diagnosis is None or attributes.label == diagnosis.label:
        return attributes
    before = dict(zip(ATTRIBUTES, json.loads(noted)[1], strict=True))
    if attributes.diagnosis != before["diagnosis"]:
        return replace(attributes, label=diagnosis.label)
    return replace(attributes, diagnosis=None)


def whole(name: str, value: object) -> int:
    """`value` as a whole number. Raises InputError for text, NaN, fractions and what has over 40 digits."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _HUGE
    if not number or value != int(value):
        raise InputError(f"{name} must be a whole number, not {'empty' if value in ('', None) else shown(value)}.")
    return int(value)


def seeds(first: object, count: object) -> tuple[int, ...]:
    """The seeds of a run of `count` images: consecutive from `first`, 0 follows the highest. Raises InputError."""
    first, count = whole("The seed", first), whole("The number of images", count)
    if not 0 <= first <= MAX_SEED:
        raise InputError(f"The seed must be a whole number from 0 to {MAX_SEED}, not {first}.")
    if not 1 <= count <= MAX_IMAGES:
        raise InputError(f"A run draws 1 to {MAX_IMAGES} images, not {count}.")
    return tuple((first + step) % (MAX_SEED + 1) for step in range(count))


def agreed(text: str, attributes: LesionAttributes) -> str:
    """A note that the caption `text` and the controls are in step, to tell later which of them was changed."""
    return json.dumps([text, to_values(attributes)])


def request(spec: ModelSpec, values: Sequence) -> Request:
    """The run that the form asks for; `values`: attributes, caption, wording seed, `agreed`, settings, source.

    A caption edited since the two were in step counts more than the controls, and changed controls more than a caption
    that has not yet followed. Raises InputError.
    """
    attributes = to_attributes(values[: len(ATTRIBUTES)])
    text, wording, noted, *rest = values[len(ATTRIBUTES) :]
    given, source = dict(zip(SETTINGS, rest[:-1], strict=True)), rest[-1]
    text = clean(text)
    last_text, last_values = json.loads(noted)
    if text != clean(last_text):
        attributes = read(text).attributes
    elif to_values(attributes) != last_values:
        attributes = agree(attributes, noted)
        text = caption(attributes, wording)
    options = SamplingOptions.defaults(
        spec,
        seeds=seeds(given["seed"], given["count"]),
        steps=whole("The number of steps", given["steps"]),
        size=whole("The size in pixels", given["size"]),
        negative=clean(given["negative"]) if given["negative"].strip() else "",
        candidates=whole("The number of candidates", given["candidates"]) if given["randomise"] else 1,
        **{name: given[name] for name in _AS_GIVEN},
    )
    return Request(text, attributes, options, given["randomise"], source)


def to_settings(provenance: Provenance) -> list:
    """The values of the settings controls, in the order of SETTINGS, that draw `provenance` again."""
    values = {name: getattr(provenance, name, None) for name in SETTINGS}
    values |= dict(count=1, randomise=False, strength=provenance.strength or SamplingOptions.strength)
    return [values[name] for name in SETTINGS]
