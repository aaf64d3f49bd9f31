"""What readers rate and see: realism, match to the caption, diagnosis, artefacts."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dermaflux.lesion import LABELS
from dermaflux.study.estimates import SHARE, STEPS, Estimate, difference, first_showings, mean, numbers
from dermaflux.study.readings import MATCHES, SOURCES

ATTRIBUTES = {
    "match_asymmetry": "asymmetry",
    "match_border": "border",
    "match_colours": "colours",
    "match_structures": "structures",
    "match_size": "size",
    "match_tone": "skin tone",
}
TONES = {"Monk 1 to 4": range(1, 5), "Monk 5 to 7": range(5, 8), "Monk 8 to 10": range(8, 11)}
"""Skin tones as light, medium and dark (Schumann et al. 2023, Consensus and Subjectivity of Skin Tone Annotation)."""


@dataclass(frozen=True)
class Rating:
    """A mean rating or share of the readings of a source in a group, such as the label “benign”."""

    source: str
    by: str
    group: str
    estimate: Estimate


@dataclass(frozen=True)
class Match:
    """How an attribute was drawn: counts of each answer, and the share of yes among yes, partly and no."""

    attribute: str
    counts: dict[str, int]
    drawn: Estimate


@dataclass(frozen=True)
class Artefact:
    """How often readers saw an artefact: counts and shares of readings by source, and its cases with the number of
    readers who saw it there, most first."""

    tag: str
    counts: dict[str, int]
    shares: dict[str, Estimate]
    cases: tuple[tuple[str, int], ...]


def rated(readings: pd.DataFrame, column: str, **options) -> list[Rating]:
    """The mean of a rating in five steps, by source, label and tone; groups without a rating are left out."""
    first = first_showings(readings)
    values, found = numbers(first[column]), []
    for source in SOURCES:
        for by, group, inside in _groups(first):
            kept = inside & (first["source"] == source).to_numpy(bool) & ~np.isnan(values)
            if kept.any():
                found.append(Rating(source, by, group, mean(values[kept], first[kept], STEPS, **options)))
    return found


def rated_apart(readings: pd.DataFrame, column: str, **options) -> Estimate | None:
    """The mean rating of synthetic images less that of real ones; None without both."""
    first = first_showings(readings)
    return _apart(first, numbers(first[column]), STEPS, options)


def matches(readings: pd.DataFrame, **options) -> list[Match]:
    """How each attribute was drawn, best first; attributes that nobody judged are left out."""
    first = first_showings(readings)
    found = []
    for column, words in ATTRIBUTES.items():
        answers = first[column].astype("string").fillna("")
        counts = {name: int((answers == name).sum()) for name in MATCHES}
        if any(counts.values()):
            judged = answers.isin(("yes", "partly", "no")).to_numpy(bool)
            yes = (answers == "yes").to_numpy(float)
            found.append(Match(words, counts, mean(yes[judged], first[judged], **options)))
    return sorted(found, key=lambda match: -np.nan_to_num(match.drawn.value, nan=-1))


def diagnosed(readings: pd.DataFrame, **options) -> list[Rating]:
    """The shares of right diagnoses and of right labels, of malignant images called malignant and benign ones benign,
    by source. Readings without an answer or a known truth are left out."""
    first = first_showings(readings)
    found = []
    for name, (values, inside) in _truths(first).items():
        for source in SOURCES:
            kept = inside & (first["source"] == source).to_numpy(bool) & ~np.isnan(values)
            if kept.any():
                found.append(Rating(source, "diagnosis", name, mean(values[kept], first[kept], **options)))
    return found


def diagnosed_apart(readings: pd.DataFrame, **options) -> dict[str, Estimate]:
    """For each figure of `diagnosed`: synthetic less real, where there are both."""
    first = first_showings(readings)
    found = {}
    for name, (values, inside) in _truths(first).items():
        apart = _apart(first[inside], values[inside], SHARE, options)
        if apart:
            found[name] = apart
    return found


def artefacts(readings: pd.DataFrame, **options) -> list[Artefact]:
    """The artefacts that readers saw, most seen first."""
    first = first_showings(readings)
    seen = [_tags(text) for text in first["artefacts"].astype("string").fillna("")]
    found = []
    for tag, _ in Counter(tag for tags in seen for tag in tags).most_common():
        has = np.array([tag in tags for tags in seen])
        inside = {source: (first["source"] == source).to_numpy(bool) for source in SOURCES}
        counts = {source: int((has & kept).sum()) for source, kept in inside.items()}
        shares = {
            source: mean(has[kept].astype(float), first[kept], **options)
            for source, kept in inside.items()
            if kept.any()
        }
        cases = Counter(first["case"].astype(str)[has]).most_common()
        found.append(Artefact(tag, counts, shares, tuple(cases)))
    return found


def left_out(readings: pd.DataFrame) -> list[tuple[str, int, int]]:
    """The synthetic cases that readers want left out of synthesis, most wanted first: the case, by how many readers,
    and of how many who read it."""
    first = first_showings(readings)
    first = first[first["source"] == "synthetic"]
    by = first.assign(out=numbers(first["left_out"]) == 1).groupby("case", sort=True)["out"].agg(["sum", "count"])
    wanted = by[by["sum"] > 0].sort_values("sum", ascending=False, kind="stable")
    return [(str(case), int(out), int(of)) for case, out, of in wanted.itertuples()]


def _tags(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tag.strip() for tag in text.split(";") if tag.strip()))


def _groups(first: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    yield "all", "all", np.ones(len(first), bool)
    for label in LABELS:
        yield "label", label, (first["label"] == label).to_numpy(bool)
    tones = numbers(first["tone"])
    for name, range_ in TONES.items():
        yield "tone", name, np.isin(tones, list(range_))


def _truths(first: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Whether each reading is right (NaN: no answer or no truth), and which readings count, by the figure's name."""
    every = np.ones(len(first), bool)
    malignant, benign = ((first["label"] == label).to_numpy(bool) for label in LABELS[::-1])
    label = _right(first["said_label"], first["label"])
    return {
        "right diagnosis": (_right(first["said_diagnosis"], first["diagnosis"]), every),
        "right label": (label, every),
        "malignant called malignant": (label, malignant),
        "benign called benign": (label, benign),
    }


def _right(said: pd.Series, true: pd.Series) -> np.ndarray:
    said, true = (column.astype("string").fillna("").str.strip().str.casefold() for column in (said, true))
    known = ((said != "") & (true != "")).to_numpy(bool)
    return np.where(known, (said == true).to_numpy(float), np.nan)


def _apart(rows: pd.DataFrame, values: np.ndarray, bounds: tuple[float, float], options: dict) -> Estimate | None:
    synthetic = (rows["source"] == "synthetic").to_numpy(bool)
    known = ~np.isnan(values)
    if not (known & synthetic).any() or not (known & ~synthetic).any():
        return None
    return difference(values, synthetic, rows, bounds, **options)
