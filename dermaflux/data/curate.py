"""Manifests put together and split: patients and lesions stay whole, and labels are spread alike."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from warnings import catch_warnings

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from dermaflux.data import manifest
from dermaflux.data.manifest import Row
from dermaflux.errors import DataError, InputError
from dermaflux.lesion import LABELS

PARTS, MOST_PARTS = 20, 100
"""A split is cut from so many folds, that shares are met to 5 %, or from more where a share is smaller than that; each
fold takes time."""


def merge(paths: Sequence[Path], out: Path) -> list[dict[str, str]]:
    """The rows of all manifests, their files named from the folder of `out`. An image that is in several comes once,
    left out if one of them says so.

    Raises DataError if an image does not lie in that folder, or has another label in another manifest.
    """
    root, seen = Path(os.path.abspath(out.parent)), {}
    for path in paths:
        for row in manifest.read(path, left_out=True):
            image = Path(os.path.abspath(row.path))  # a link stays one
            if not image.is_relative_to(root):
                raise DataError(f"{image} does not lie in {root}, from where the rows of {out.name} would name it.")
            named = row.values | {"file": image.relative_to(root).as_posix()}
            before, values = seen.setdefault(image.resolve(), (row, named))
            if before.label != row.label:
                raise DataError(f"{row.place}: it is {row.label} here and {before.label} in {before.place}.")
            if row.values.get(manifest.LEFT_OUT) == "yes":
                values[manifest.LEFT_OUT] = "yes"
    return [values for _, values in seen.values()]


def split(rows: Sequence[Row], shares: dict[str, float], seed: int) -> list[str]:
    """The split of each row: `shares` of the images go to each name, none of a patient or lesion to two of them.

    See `groups_of` for what belongs together. Raises InputError for shares that are not positive or do not add up to 1,
    and DataError for too few patients and for a share that would get no image.
    """
    if not (shares and min(shares.values()) > 0 and abs(sum(shares.values()) - 1) <= 1e-6):  # NaN neither
        raise InputError("The shares of a split must be above 0 and add up to 1.")
    groups = groups_of(rows)
    labels = np.array([row.label for row in rows])
    wished = max(PARTS, math.ceil(min(1 / min(shares.values()), MOST_PARTS)))
    parts = min(wished, len(set(groups)), max(Counter(labels).values(), default=0))
    if parts < len(shares):
        raise DataError(
            f"{len(rows)} images of {len(set(groups))} patients or lesions are too few to be split in {len(shares)}."
        )
    with catch_warnings(action="ignore", category=UserWarning):  # of a class with less images than folds
        folds = list(StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(labels, labels, groups))
    found, wanted = np.empty(len(rows), object), {name: share * len(rows) for name, share in shares.items()}
    for _, chosen in folds:
        name = max(wanted, key=wanted.get)  # the one that lacks most
        found[chosen] = name
        wanted[name] -= len(chosen)
    if empty := [name for name in shares if name not in found]:
        raise DataError(f"“{empty[0]}” would get none of the {len(rows)} images. Give it a larger share.")
    return list(found)


def each_once(rows: Sequence[Row]) -> None:
    """Raises DataError if an image is among `rows` twice, as of two manifests, with both places."""
    first: dict[Path, Row] = {}
    for row in rows:
        if (before := first.setdefault(row.path.resolve(), row)) is not row:
            raise DataError(f"{row.place}: this image is in {before.place} too. Leave one of them.")


def rows_of(paths: Sequence[Path], split: str, needed: bool = True) -> list[Row]:
    """The rows of one split of all manifests. Raises DataError if an image is in two of them, or there are no rows
    although they are `needed`."""
    rows = [row for path in paths for row in manifest.read(path, split)]
    if needed and not rows:
        raise DataError(f"{', '.join(map(str, paths))} has no rows of the split “{split}”.")
    each_once(rows)
    return rows


def subset(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """`count` of `rows`, with the labels in their proportion; a smaller subset by the same seed is part of a larger.

    Raises DataError if there are not so many.
    """
    if count > len(rows):
        raise DataError(f"{count} images are asked for, but there are only {len(rows)}.")
    order = np.random.default_rng(seed).permutation(len(rows))
    place = np.empty(len(rows))
    for label in LABELS:  # evenly spread over the order, so that every beginning of it has the proportion
        of_label = [i for i in order if rows[i].label == label]
        place[of_label] = (np.arange(len(of_label)) + 0.5) / max(len(of_label), 1)
    return [rows[i] for i in np.argsort(place, kind="stable")[:count]]


def groups_of(rows: Sequence[Row]) -> np.ndarray:
    """A number (N,) for each row, the same for those that are joined by a patient or a lesion of one source: patient_id
    and source_id, where they are known."""
    places: dict[tuple[str, ...], int] = {}
    edges = [
        (place, places.setdefault((row.values.get("source") or "", name, row.values[name]), len(rows) + len(places)))
        for place, row in enumerate(rows)
        for name in ("patient_id", "source_id")
        if row.values.get(name)
    ]
    size = len(rows) + len(places)
    graph = coo_array((np.ones(len(edges)), np.array(edges, int).reshape(-1, 2).T), (size, size))
    return connected_components(graph, directed=False)[1][: len(rows)]
