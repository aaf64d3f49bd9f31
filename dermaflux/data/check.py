"""What is wrong with a manifest: lines that cannot be used, broken images, and the same image in two splits.

A manifest is read line by line and images are looked at in blocks, so that memory holds a few numbers a line: half a
million lines take some hundred MB (`tests/benchmarks/data_check.py`).
"""

import os
import random
import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dermaflux.data import manifest
from dermaflux.data.lookalikes import COSINE, Judge, embed, near_features
from dermaflux.errors import DataError, InputError
from dermaflux.images import open_file
from dermaflux.workers import pool_of

COSINES, SIDE, BITS = 32, 8, 64
NEAR = 4
"""Images whose hashes differ in at most this many of 64 bits are looked at as the same."""
BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
"""First bit and width: two hashes that differ in fewer bits than there are bands have a band in common (Indyk and
Motwani, 1998)."""
BLOCK, SAMPLE, MOST_PAIRS = 4096, 48, 10_000
"""Lines looked at together, rows shown in a report, and the most pairs that are named."""
COUNTED = ("diagnosis", "source", "licence", "skin_tone", "site", "sex")
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Pair:
    """Two rows of different splits that look the same: their hashes differ in so many bits, or the cosine of their
    features is that high."""

    first: manifest.Row
    second: manifest.Row
    bits: int | None = None
    cosine: float | None = None

    def sentence(self) -> str:
        names = " and ".join(f"{row.values['file']} ({row.split or 'no split'})" for row in (self.first, self.second))
        how = f"{self.bits} of {BITS} bits differ" if self.cosine is None else f"cosine {self.cosine:.3f}"
        return f"{names} look the same: {how}."


@dataclass
class Report:
    """counts: usable images by split and label. sizes: by (width, height) in px. columns: values of COUNTED. sample:
    rows at random. faults: sentences with the line they are about. near: pairs across splits, at most MOST_PAIRS by
    hash and as many by features; more: whether there are others."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    columns: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in COUNTED})
    sample: list[manifest.Row] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    near: list[Pair] = field(default_factory=list)
    more: bool = False

    def lines(self) -> list[str]:
        """Counts and faults, for people."""
        shown = [f"{split or 'no split'}: {count} {label}" for (split, label), count in sorted(self.counts.items())]
        rest = [f"There are more such pairs; {MOST_PAIRS} of a kind are named at most."] if self.more else []
        return [
            f"{self.counts.total()} images can be used.",
            *shown,
            *self.faults,
            *(pair.sentence() for pair in self.near),
            *rest,
        ]


def check(
    path: Path, workers: int | None = None, features: Judge | None = None, cosine: float = COSINE, seed: int = 0
) -> Report:
    """Look at every line and image of the manifest at `path`. Raises DataError if it is no manifest at all.

    features: what finds images of different splits that a hash does not, where their features have a `cosine` that
    high. seed: of the sample.
    """
    report, rng = Report(), random.Random(seed)
    lines, hashes, splits, first = array("Q"), array("Q"), [], {}
    with pool_of(workers) as pool:
        for rows in _blocks(path, report, first):
            seen = pool.map(look, (row.path for _, row in rows), chunksize=32)
            for (line, row), (size, found, fault) in zip(rows, seen, strict=True):
                if fault:
                    report.faults.append(f"{path.name}, line {line}: {row.values['file']}: {fault}")
                    continue
                _count(report, row, size, rng)
                lines.append(line)
                hashes.append(found)
                splits.append(sys.intern(row.split))
    report.faults += _absent(path, report.counts)
    pairs = _cut(near_pairs(hashes, splits), report)
    looked = {(a, b) for a, b, _ in pairs}
    alike = []
    if features is not None and len(lines):
        vectors = embed(features, (open_file(row.path) for row in _rows_at(path, lines)), len(lines))
        alike = _cut((one for one in near_features(vectors, splits, cosine) if one[:2] not in looked), report)
    places = sorted({place for a, b, _ in (*pairs, *alike) for place in (a, b)})
    named = dict(zip(places, _rows_at(path, [lines[place] for place in places]), strict=True))
    report.near = [Pair(named[a], named[b], bits=bits) for a, b, bits in pairs]
    report.near += [Pair(named[a], named[b], cosine=found) for a, b, found in alike]
    return report


def look(path: Path) -> tuple[tuple[int, int], int, str]:
    """Size in px, hash and fault of one image; a fault stands for the others."""
    try:
        image = open_file(path)
    except (InputError, OSError) as error:
        there = os.path.exists(path)  # which, unlike Path.exists, takes any name
        return (0, 0), 0, str(error) if there else "There is no such file."
    return image.size, perceptual_hash(image), ""


def perceptual_hash(image: Image.Image) -> int:
    """64 bits: which of the 63 slowest cosines of the 32 x 32 grey image lie above their median (Zauner, 2010)."""
    small = np.asarray(image.convert("L").resize((COSINES, COSINES), Image.Resampling.BOX), np.float32)
    slow = cv2.dct(small)[:SIDE, :SIDE].ravel()
    slow[0] = -np.inf  # the mean
    return int.from_bytes(np.packbits(slow > np.median(slow[1:])).tobytes(), "big")


def near_pairs(hashes: Sequence[int], splits: Iterable[Hashable]) -> Iterator[tuple[int, int, int]]:
    """Places of images of different splits whose hashes differ in at most NEAR bits, with how many they are."""
    codes: dict[Hashable, int] = {}
    split = np.fromiter((codes.setdefault(one, len(codes)) for one in splits), int, len(hashes))
    values, inverse, counts = np.unique(np.array(hashes, np.uint64), return_inverse=True, return_counts=True)
    order, ends = np.argsort(inverse, kind="stable"), np.cumsum(counts)
    members = lambda value: order[ends[value] - counts[value] : ends[value]]
    own = np.flatnonzero(counts > 1)
    edges = np.concatenate([_near_values(values), np.stack([own, own, np.zeros_like(own)], 1)])
    if not len(edges):
        return
    places = order[ends - counts][edges[:, :2]]
    for a, b, bits in edges[np.lexsort((places.min(1), places.max(1)))].tolist():
        ones, others = members(a), members(b)
        if np.ptp(split[np.concatenate([ones, others])]) == 0:
            continue
        for place in others.tolist():
            apart = ones[split[ones] != split[place]]
            apart = apart[apart < place] if a == b else apart
            yield from ((min(place, one), max(place, one), bits) for one in apart.tolist())


def alike(hashes: Sequence[int]) -> list[int]:
    """A number for each of `hashes`, the same for those that are near one another or joined by a chain of such."""
    values, inverse = np.unique(np.array(hashes, np.uint64), return_inverse=True)
    edges = _near_values(values)
    graph = coo_array((np.ones(len(edges)), edges[:, :2].T), (len(values),) * 2)
    numbers: dict[int, int] = {}
    found = connected_components(graph, directed=False)[1][inverse].tolist()
    return [numbers.setdefault(one, len(numbers)) for one in found]


class Hashes:
    """Perceptual hashes in the order in which they were added, in which those near another are soon found."""

    def __init__(self) -> None:
        self._values: list[int] = []
        self._buckets: dict[tuple[int, int], list[int]] = defaultdict(list)

    def add(self, value: int) -> None:
        for key in self._keys(value):
            self._buckets[key].append(len(self._values))
        self._values.append(value)

    def near(self, value: int) -> list[tuple[int, int]]:
        """Place and differing bits, at most NEAR, of those added that are near `value`, in order."""
        places = {place for key in self._keys(value) for place in self._buckets.get(key, ())}
        found = ((place, (self._values[place] ^ value).bit_count()) for place in sorted(places))
        return [(place, bits) for place, bits in found if bits <= NEAR]

    @staticmethod
    def _keys(value: int) -> list[tuple[int, int]]:
        return [(first, value >> first & ((1 << width) - 1)) for first, width in BANDS]


def _near_values(values: np.ndarray) -> np.ndarray:
    """Places a < b of distinct hashes (N,) uint64 that differ in at most NEAR bits, and those bits: (E, 3) int."""
    keys = [values >> np.uint64(first) & np.uint64((1 << width) - 1) for first, width in BANDS]
    found = [np.empty((0, 3), int)]
    for band, key in enumerate(keys):
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(key[order]) > 0, True]) if len(key) else []
        for start, end in pairwise(starts):
            bucket = order[start:end]
            step = max(1, _AT_ONCE // len(bucket))
            for at in range(0, len(bucket) - 1, step):
                bits = np.bitwise_count(values[bucket[at : at + step], None] ^ values[bucket])
                a, b = np.nonzero(bits <= NEAR)
                chosen = a + at < b
                a, b, bits = bucket[a[chosen] + at], bucket[b[chosen]], bits[a[chosen], b[chosen]]
                new = ~np.any([earlier[a] == earlier[b] for earlier in keys[:band]], axis=0) if band else slice(None)
                found.append(np.stack([a[new], b[new], bits[new].astype(int)], 1))
    return np.concatenate(found)


def _blocks(path: Path, report: Report, first: dict[str, int]) -> Iterator[list[tuple[int, manifest.Row]]]:
    """Usable lines with their rows, some at a time; what cannot be used becomes a fault. first: where each file was
    named first."""
    lines = manifest.lines(path)
    while block := list(islice(lines, BLOCK)):
        rows = []
        for line, values in block:
            try:
                row = manifest.row_of(path, line, values)
            except DataError as error:
                report.faults.append(str(error))
                continue
            known = first.setdefault(str(row.path), line)
            if known != line:
                report.faults.append(f"{path.name}, line {line}: {values['file']} is in line {known} too.")
                continue
            rows.append((line, row))
        yield rows


def _count(report: Report, row: manifest.Row, size: tuple[int, int], rng: random.Random) -> None:
    """Add a usable row; the sample is a reservoir (Vitter, 1985)."""
    seen = report.counts.total()
    report.counts[row.split, row.label] += 1
    report.sizes[size] += 1
    for name, counter in report.columns.items():
        if value := row.values.get(name):
            counter[value] += 1
    if seen < SAMPLE:
        report.sample.append(row)
    elif (place := rng.randrange(seen + 1)) < SAMPLE:
        report.sample[place] = row


def _absent(path: Path, counts: Counter[tuple[str, str]]) -> list[str]:
    """Sentences on splits without a label that others have."""
    splits, labels = ({key[place] for key in counts} for place in (0, 1))
    return [
        f"{path.name}: no usable image {f'of the split “{split}”' if split else 'without a split'} is {label}."
        for split in sorted(splits)
        for label in sorted(labels)
        if not counts[split, label]
    ]


def _cut(pairs: Iterator[tuple], report: Report) -> list[tuple]:
    """The first MOST_PAIRS of `pairs`, in order."""
    found = list(islice(pairs, MOST_PAIRS + 1))
    report.more |= len(found) > MOST_PAIRS
    return found[:MOST_PAIRS]


def _rows_at(path: Path, lines: Sequence[int]) -> Iterator[manifest.Row]:
    """The rows of these lines of a manifest, ascending."""
    wanted = iter(lines)
    line = next(wanted, None)
    for number, values in manifest.lines(path) if line is not None else ():
        if number == line:
            yield manifest.row_of(path, number, values)
            line = next(wanted, None)
            if line is None:
                return
