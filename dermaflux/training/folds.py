"""Which images a classifier learns from, and which are held out to measure it on."""

from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from dermaflux.classifier_card import LABELS
from dermaflux.data import manifest
from dermaflux.data.check import alike, perceptual_hash
from dermaflux.data.curate import each_once, groups_of
from dermaflux.data.pixels import open_rgb
from dermaflux.errors import DataError

Rows = list[manifest.Row]
DRAWN = ("phantom", "synthetic")


def read_rows(manifests: list[Path]) -> Rows:
    """The rows of all splits but test. Raises DataError if an image is in two manifests."""
    rows = [row for path in manifests for row in manifest.read(path) if row.split != "test"]
    each_once(rows)
    return rows


def is_real(row: manifest.Row) -> bool:
    """Whether the image of `row` is a photograph: neither phantom nor synthetic."""
    return row.values.get("source") not in DRAWN


def divide(rows: Rows, folds: int, seed: int, spared: str = "") -> list[tuple[Rows, Rows]]:
    """The rows to learn from and those held out: once a fold, or the split `spared`, if one is named.

    Folds are stratified by label and part neither the images of a patient nor near-duplicates. What is drawn is never
    held out. Raises DataError if there are too few images, or too few of a class.
    """
    real = [row for row in rows if is_real(row)]
    if spared:
        parts = [[row for row in real if row.split == spared]]
        if not parts[0] or len(parts[0]) == len(real):
            raise DataError(f"The split “{spared}” must hold some of the images, not none or all.")
    else:
        if min(sum(row.label == label for row in real) for label in LABELS) < folds:
            raise DataError(f"Training needs at least {folds} real images of each class; there are fewer.")
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        chosen = split.split(real, [row.label for row in real], groups(real))
        parts = [[real[i] for i in held_out] for _, held_out in chosen]
    away = [{row.path for row in part} for part in parts]
    divided = [([row for row in rows if row.path not in gone], part) for gone, part in zip(away, parts, strict=True)]
    for side in (side for both in divided for side in both):
        if {row.label for row in side} != set(LABELS):
            raise DataError(
                "Of each class some images must be learned from and some held out; one has too few for that."
            )
    return divided


def groups(rows: Rows) -> list[int]:
    """A number for each row, the same for images of a patient or a lesion and for near-duplicates."""
    known, looks = groups_of(rows), np.array(alike([perceptual_hash(open_rgb(row)) for row in rows]), int)
    size = 2 * len(rows)  # of both numbers, the second behind the first
    joined = coo_array((np.ones(len(rows)), (known, len(rows) + looks)), (size, size))
    return connected_components(joined, directed=False)[1][known].tolist()
