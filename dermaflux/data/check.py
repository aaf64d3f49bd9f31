"""What is wrong with a manifest: lines that cannot be used, broken images, and the same image in two splits."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dermaflux.data import manifest
from dermaflux.errors import DataError, InputError
from dermaflux.images import open_untrusted

COSINES, SIDE, BITS = 32, 8, 64
NEAR = 4
"""Images whose hashes differ in at most this many of 64 bits are looked at as the same."""
BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
"""First bit and width: two hashes that differ in fewer bits than there are bands have a band in common (Indyk and
Motwani, 1998)."""


@dataclass
class Report:
    """faults: sentences with the line they are about. near: pairs of places in `rows` of different splits, with the
    bits in which they differ. rows: those that can be used. sizes: (width, height) of each."""

    rows: list[manifest.Row] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    near: list[tuple[int, int, int]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Counts and faults, for people."""
        counts = Counter((row.split or "no split", row.label) for row in self.rows)
        shown = [f"{split}: {count} {label}" for (split, label), count in sorted(counts.items())]
        pairs = [
            f"{self.rows[a].path.name} ({self.rows[a].split}) and {self.rows[b].path.name} ({self.rows[b].split}) look "
            f"the same: {bits} of {BITS} bits differ."
            for a, b, bits in self.near
        ]
        return [f"{len(self.rows)} images can be used.", *shown, *self.faults, *pairs]


def check(path: Path, workers: int | None = None) -> Report:
    """Look at every line and image of the manifest at `path`. Raises DataError if it is no manifest at all."""
    report, rows = Report(), []
    for line, values in manifest.lines(path):
        try:
            rows.append((line, manifest.row_of(path, line, values)))
        except DataError as error:
            report.faults.append(str(error))
    first, hashes = {}, []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        seen = pool.map(look, (row.path for _, row in rows), chunksize=32)
        for (line, row), (size, found, fault) in zip(rows, seen, strict=True):
            if row.path in first:
                report.faults.append(
                    f"{path.name}, line {line}: {row.values['file']} is in line {first[row.path]} too."
                )
                continue
            first[row.path] = line
            if fault:
                report.faults.append(f"{path.name}, line {line}: {row.values['file']}: {fault}")
                continue
            report.rows.append(row)
            report.sizes.append(size)
            hashes.append(found)
    report.near = list(near_pairs(hashes, [row.split for row in report.rows]))
    return report


def look(path: Path) -> tuple[tuple[int, int], int, str]:
    """Size in px, hash and fault of one image; a fault stands for the others."""
    try:
        image = open_untrusted(path)
    except (InputError, OSError) as error:
        return (0, 0), 0, "There is no such file." if not path.exists() else str(error)
    return image.size, perceptual_hash(image), ""


def perceptual_hash(image: Image.Image) -> int:
    """64 bits: which of the 63 slowest cosines of the 32 x 32 grey image lie above their median (Zauner, 2010)."""
    small = np.asarray(image.convert("L").resize((COSINES, COSINES), Image.Resampling.BOX), np.float32)
    slow = cv2.dct(small)[:SIDE, :SIDE].ravel()
    slow[0] = -np.inf  # the mean
    return int.from_bytes(np.packbits(slow > np.median(slow[1:])).tobytes(), "big")


def near_pairs(hashes: Sequence[int], splits: Iterable[Hashable]) -> Iterator[tuple[int, int, int]]:
    """Places of images of different splits whose hashes differ in at most NEAR bits, with how many they are."""
    splits, known = list(splits), Hashes()
    for place, value in enumerate(hashes):
        yield from ((other, place, bits) for other, bits in known.near(value) if splits[other] != splits[place])
        known.add(value)


def alike(hashes: Sequence[int]) -> list[int]:
    """A number for each of `hashes`, the same for those that are near one another or joined by a chain of such."""
    pairs = [(a, b) for a, b, _ in near_pairs(hashes, range(len(hashes)))]
    links = np.array(pairs, int).reshape(-1, 2).T
    graph = coo_array((np.ones(links.shape[1]), links), (len(hashes), len(hashes)))
    return connected_components(graph, directed=False)[1].tolist()


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
