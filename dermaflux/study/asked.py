"""Synthetic images by what was asked of them: how real they look, and whether they were drawn so."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dermaflux.lesion import COLOURS, MAX_ASYMMETRY, MAX_BORDER, MAX_SIZE_MM, MIN_SIZE_MM, STRUCTURES
from dermaflux.study.estimates import STEPS, Estimate, first_showings, mean, numbers
from dermaflux.study.ratings import ATTRIBUTES, TONES

BANDS = {
    "asymmetry": {f"{axes} {'axis' if axes == 1 else 'axes'}": (axes, axes) for axes in range(MAX_ASYMMETRY + 1)},
    "border": {"0 to 2 segments": (0, 2), "3 to 5 segments": (3, 5), "6 to 8 segments": (6, MAX_BORDER)},
    "size": {"up to 6 mm": (MIN_SIZE_MM, 6), "7 to 12 mm": (7, 12), "13 mm or more": (13, MAX_SIZE_MM)},
    "tone": {name: (tones[0], tones[-1]) for name, tones in TONES.items()},
}
"""The groups that the values of an attribute fall into: least and greatest value of each."""
SETS = {"colours": tuple(COLOURS), "structures": STRUCTURES}
"""Attributes of which an image has several values, so that it is in several groups."""


@dataclass(frozen=True)
class Asked:
    """Synthetic images of which `value` of `attribute` was asked: their mean realism and overall match in five steps,
    and the share of yes among yes, partly and no to whether this attribute was drawn as asked."""

    attribute: str
    value: str
    realism: Estimate
    match: Estimate
    drawn: Estimate


def by_value(readings: pd.DataFrame, **options) -> list[Asked]:
    """What readers said of the synthetic images of each value, in the order of the vocabularies; values that were not
    asked of any image are left out."""
    first = first_showings(readings)
    first = first[first["source"] == "synthetic"].reset_index(drop=True)
    found = []
    for name, value, inside in _values(first):
        rows = first[inside]
        said = rows[f"match_{name}"].astype("string").fillna("")
        drawn = np.where(said.isin(("yes", "partly", "no")), (said == "yes").to_numpy(float), np.nan)
        realism, match = (mean(numbers(rows[column]), rows, STEPS, **options) for column in ("realism", "match"))
        found.append(Asked(ATTRIBUTES[f"match_{name}"], value, realism, match, mean(drawn, rows, **options)))
    return found


def _values(first: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """Attribute, value in words, and which readings are of images with it, where there are any."""
    for column in ATTRIBUTES:
        name = column.removeprefix("match_")
        asked = first["tone" if name == "tone" else f"asked_{name}"]
        if name in SETS:
            given = [set(text.split(";")) for text in asked.astype("string").fillna("")]
            groups = [(value, np.array([value in one for one in given], bool)) for value in SETS[name]]
        else:
            known = numbers(asked)
            groups = [(value, (low <= known) & (known <= high)) for value, (low, high) in BANDS[name].items()]
        yield from ((name, value, inside) for value, inside in groups if inside.any())
