"""Attributes of a lesion <-> caption in the published form (DermaFlux, arXiv 2603.16392)."""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dermaflux import phrases
from dermaflux.description import Claim, Description
from dermaflux.errors import InputError
from dermaflux.lesion import LesionAttributes

MAX_CHARACTERS = 2000


def caption(attributes: LesionAttributes, seed: int = 0) -> str:
    """Word `attributes` in the published form: label, a sentence for each specified attribute, an overall sentence.

    The seed picks among the phrasings of each sentence; a sentence stays as it is when another attribute changes.
    """
    label = f"{attributes.label} " if attributes.label else ""
    sentences = [phrases.OPENING.format(label=label)]
    for name, word in _SENTENCES.items():
        if name in attributes.specified():
            sentences.append(word(getattr(attributes, name), seed))
    sentences.append(_overall(attributes, seed))
    return " ".join(sentences)


def _pick(options: Sequence[str], seed: int, name: str) -> str:
    digest = hashlib.sha256(f"{name} {seed}".encode()).digest()
    return options[int.from_bytes(digest[:4], "big") % len(options)]


def listed(names: Iterable[str]) -> str:
    """Names as a sentence lists them: a, b and c."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _colours(colours: tuple[str, ...], seed: int) -> str:
    options = phrases.COLOUR if len(colours) == 1 else phrases.COLOURS
    return _pick(options, seed, "colours").format(list=listed(colours))


def _structures(structures: tuple[str, ...], seed: int) -> str:
    names = listed(_pick(phrases.STRUCTURE_NAMES[name], seed, name) for name in structures)
    return _pick(phrases.STRUCTURES, seed, "structures").format(list=names)


def _tone(tone: int, seed: int) -> str:
    word = _pick(phrases.TONE_WORDS[tone], seed, "tone word")
    return _pick(phrases.TONE, seed, "tone").format(word=word, Word=word.capitalize(), tone=tone)


def _overall(attributes: LesionAttributes, seed: int) -> str:
    options = phrases.DIAGNOSIS if attributes.diagnosis else phrases.LABEL if attributes.label else phrases.NEITHER
    return _pick(options, seed, "overall").format(diagnosis=attributes.diagnosis, label=attributes.label)


_SENTENCES = {
    "asymmetry": lambda axes, seed: _pick(phrases.ASYMMETRY[axes], seed, "asymmetry"),
    "border": lambda segments, seed: _pick(phrases.BORDER[segments], seed, "border"),
    "colours": _colours,
    "structures": _structures,
    "size_mm": lambda mm, seed: _pick(phrases.SIZE, seed, "size").format(mm=mm),
    "site": lambda site, seed: _pick(phrases.SITE, seed, "site").format(site=phrases.SITE_NAMES.get(site, site)),
    "tone": _tone,
    "capture": lambda capture, seed: _pick(phrases.CAPTURE, seed, "capture").format(
        capture=capture, Capture=capture.capitalize()
    ),
    "artefacts": lambda names, seed: _pick(phrases.ARTEFACTS, seed, "artefacts").format(
        list=listed(phrases.ARTEFACT_NAMES[name] for name in names)
    ),
}


def clean(text: str) -> str:
    """Free text for a model: one line, NFC, without control characters and direction overrides.

    Other scripts and markup stay as they are, as literal text. Raises InputError for an empty text and for one of
    over MAX_CHARACTERS characters.
    """
    if not isinstance(text, str):
        raise InputError("The description must be text; write what the lesion looks like.")
    text = " ".join("".join(c for c in text if c.isspace() or not _hidden(c)).split())
    if len(text) <= MAX_CHARACTERS:
        text = unicodedata.normalize("NFC", text)
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"The description has {len(text)} characters; shorten it to {MAX_CHARACTERS} or fewer.")
    if not text:
        raise InputError("The description is empty; write what the lesion looks like.")
    return text


_HIDDEN = frozenset("\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def _hidden(character: str) -> bool:
    return character in _HIDDEN or unicodedata.category(character) in ("Cc", "Cs")


@dataclass(frozen=True)
class Reading:
    """What a description says of a lesion, and its clauses that could not be read, in order."""

    attributes: LesionAttributes
    unread: tuple[str, ...]


def parse(text: str) -> LesionAttributes:
    """The attributes that `text` names; what it leaves out, or does not say clearly, stays unspecified."""
    return read(text).attributes


def read(text: str) -> Reading:
    """Read a caption or a free description; parse(caption(a, seed)) == a and nothing of it is unread.

    Only what is said outright counts: "asymmetrical" without a number of axes, "irregular border" without a number of
    segments, "brown", "fair skin", ranges and limits are unread, and a diagnosis does not imply its label. Plain
    "symmetrical" is 0 axes, a regular or fading border 0 segments, blue or grey alone is blue-grey, tan is light
    brown. A negated colour, structure or artefact is absent. Of two values for one attribute the first is kept and the
    other is unread.
    """
    description = Description(text)
    claims = description.claims
    found, absent = {}, {}
    for kind in ("claim", "fallback"):
        for claim in claims:
            if claim.rule.kind == kind:
                claim.read = _settle(claim, found, absent)
    for claim in claims:
        value = found.get(claim.rule.attribute)
        if claim.rule.kind == "weak":
            claim.read = value is not None and not claim.denied and bool(claim.rule.value(value))
        elif claim.denied and claim.rule.attribute in ("label", "diagnosis"):
            claim.read = value is not None and value != claim.value
    return Reading(LesionAttributes(**found), description.unread())


def _settle(claim: Claim, found: dict, absent: dict) -> bool:
    """Note what `claim` says in `found` or `absent`; False if it is unclear or contradicts what is there."""
    name, value = claim.rule.attribute, claim.value
    if name == "skip":
        return True
    several = isinstance(value, tuple)
    if value is None or claim.denied is None or (claim.denied and not several):
        return False
    if not several:
        return found.setdefault(name, value) == value
    here, there = (absent, found) if claim.denied else (found, absent)
    if set(value) & set(there.get(name, ())):
        return False
    here[name] = here.get(name, ()) + value
    return True
