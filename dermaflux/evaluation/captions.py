"""Captioners compared: what their captions restate, and how far what they say agrees with what is measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dermaflux import phrases
from dermaflux.caption import read
from dermaflux.data import manifest
from dermaflux.data.pixels import measured, open_rgb
from dermaflux.errors import DataError
from dermaflux.evaluation.figures import Figure, f1, resampled
from dermaflux.lesion import DIAGNOSES


def compare(paths: Sequence[Path]) -> list[Figure]:
    """Figures for the captions of each manifest of `paths`, see `of_manifest`. Raises DataError for one without
    captions."""
    return [figure for path in paths for figure in of_manifest(path)]


def of_manifest(path: Path) -> list[Figure]:
    """How often the captions of the manifest at `path` restate the label behind their opening, are faulty or say
    nothing of an attribute, and how far their attributes agree with those measured on the images: of each captioner by
    itself, in the order in which they come; captions whose captioner is not known go by the file's name.

    Raises DataError, with file and line, for an image that cannot be read.
    """
    rows = [row for row in manifest.read(path) if row.values.get("caption")]
    if not rows:
        raise DataError(f"{path} has no captions.")
    by: dict[str, list[manifest.Row]] = {}
    for row in rows:
        by.setdefault(row.values.get("captioner") or path.name, []).append(row)
    return [figure for who, own in by.items() for figure in _of_captioner(who, own)]


def _of_captioner(who: str, rows: Sequence[manifest.Row]) -> list[Figure]:
    said = [read(row.values["caption"]).attributes for row in rows]
    seen = [measured(row, open_rgb(row)).attributes() for row in rows]
    share = lambda name, values: resampled(f"{who}: {name}, share", np.mean, list(values))
    figures = [
        share("restates the label", (restates(row.values["caption"], row.label) for row in rows)),
        share("has faults", (bool(row.values.get("caption_faults")) for row in rows)),
    ]
    for name in ("asymmetry", "border"):
        pairs = [(getattr(a, name), getattr(b, name)) for a, b in zip(said, seen, strict=True)]
        figures.append(share(f"names {name}", (a is not None for a, _ in pairs)))
        both = [a == b for a, b in pairs if a is not None and b is not None]
        if both:
            figures.append(share(f"{name} as measured, where named", both))
    sets = [(set(a.colours), set(b.colours)) for a, b in zip(said, seen, strict=True)]
    counts = zip(*((len(a & b), len(a - b), len(b - a)) for a, b in sets), strict=True)
    return [*figures, resampled(f"{who}: colours as measured, F1", f1, *counts)]


def restates(text: str, label: str) -> bool:
    """Whether the description behind a caption's opening names `label`, or what only that can be."""
    for opening in (phrases.OPENING.format(label=f"{label} "), phrases.OPENING.format(label="")):
        text = text.removeprefix(opening)
    said = read(text).attributes
    return label == (DIAGNOSES[said.diagnosis].label if said.diagnosis else said.label)
