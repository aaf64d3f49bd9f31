"""Images of different splits that a network takes for the same: their features point the same way.

All pairs of a large set are too many for the features themselves. Random projections to a few dimensions (Johnson and
Lindenstrauss, 1984) tell which pairs may be near; only those are computed exactly. Features lie on disk.
"""

import tempfile
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import combinations, islice, product
from typing import Protocol

import numpy as np
from PIL import Image

COSINE = 0.9
"""From this cosine of their features on, two images are looked at as the same, where nothing else is said. It suits an
ImageNet network, which gives different lesions hardly 0.85; one that was trained on lesions takes more of them for
alike and needs a higher one."""
SKETCH, DEVIATIONS = 64, 4
"""Dimensions of a projection, and how many of its standard deviations a pair may seem further apart than it is."""
BLOCK, BATCH = 2048, 256


class Judge(Protocol):
    """What gives features of images; see `features`."""

    def of(self, images: Iterable[Image.Image]) -> np.ndarray:
        """(N, F) float32."""


def embed(features: Judge, images: Iterable[Image.Image], count: int) -> np.ndarray:
    """Features of unit length of `count` images: (count, F) float16, in a temporary file that is gone with them."""
    images, found, at = iter(images), None, 0
    while batch := list(islice(images, BATCH)):
        x = features.of(batch)
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        if found is None:
            file = tempfile.TemporaryFile()  # noqa: SIM115, closed with the array
            found = np.memmap(file, np.float16, "w+", shape=(count, x.shape[1]))
        found[at : at + len(x)] = x
        at += len(x)
    return found


def near_features(
    vectors: np.ndarray, splits: Sequence[Hashable], least: float, seed: int = 0
) -> Iterator[tuple[int, int, float]]:
    """Places a < b of vectors (N, F) of unit length of different `splits` with a cosine of at least `least`, and it."""
    sketches = _sketches(vectors, seed)
    slack = DEVIATIONS * (1 - least**2) / SKETCH**0.5 if sketches.shape[1] < vectors.shape[1] else 1e-3
    by_split: dict[Hashable, list[int]] = {}
    for place, split in enumerate(splits):
        by_split.setdefault(split, []).append(place)
    blocks = [
        [np.array(places[at : at + BLOCK]) for at in range(0, len(places), BLOCK)] for places in by_split.values()
    ]
    for one, other in combinations(blocks, 2):
        for a, b in product(one, other):
            rows, columns = np.nonzero(sketches[a] @ sketches[b].T >= least - slack)
            if not len(rows):
                continue
            rows, columns = a[np.unique(rows)], b[np.unique(columns)]
            cosines = vectors[rows].astype(np.float32) @ vectors[columns].astype(np.float32).T
            for i, j in np.argwhere(cosines >= least).tolist():
                first, second = sorted((int(rows[i]), int(columns[j])))
                yield first, second, min(1.0, float(cosines[i, j]))


def _sketches(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Random projections of unit length: (N, SKETCH) float32, or the vectors themselves where they are that short."""
    if vectors.shape[1] <= SKETCH:
        return vectors.astype(np.float32)
    onto = np.random.default_rng(seed).normal(size=(vectors.shape[1], SKETCH)).astype(np.float32)
    found = np.empty((len(vectors), SKETCH), np.float32)
    for at in range(0, len(vectors), BLOCK):
        x = vectors[at : at + BLOCK].astype(np.float32) @ onto
        found[at : at + BLOCK] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return found
