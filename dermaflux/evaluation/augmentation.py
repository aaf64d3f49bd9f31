"""What synthesis buys: classifiers trained on n real images and r times as many synthetic ones, tried on real ones.

The cells of the table of DermaFlux (arXiv 2603.16392): real n x ratio x generator x architecture x seeds, each trained
by the same code and kept in a folder of its own, so that an interrupted run goes on and processes can share the cells.
Real subsets are nested and hold the generators' own training images first, so that a generator that has seen n images
serves every cell with at least n and leaks none to it. `augmentation_report` makes table and figure of them.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import timm
from scipy import special
from tqdm import tqdm

from dermaflux.classifier_card import LABELS
from dermaflux.data import manifest
from dermaflux.data.curate import each_once, subset
from dermaflux.data.features import Backbone, Features
from dermaflux.data.pixels import Shelf, open_rgb
from dermaflux.errors import DataError, InputError
from dermaflux.evaluation import probe
from dermaflux.files import Busy, alone_in, write_atomically
from dermaflux.training.finetune import FinetuneOptions, finetune

ONLY_SYNTHETIC = 0
RESULT, MADE_OF = "result.json", "made_of.json"
PROBE = "probe"
"""The architecture that is none: a logistic regression on features, see `probe`."""
MOST = 100
"""Synthetic images for each real one."""
KEPT = 2**31
"""Bytes of decoded images that are kept for the next cells."""


@dataclass(frozen=True)
class Cell:
    """One training: `real` photographs (0: none), `ratio` times as many images of a generator ("" where that is 0), an
    architecture and a seed.

    Where there are no photographs, `ratio` is of the largest number of them in the table.
    """

    arch: str
    real: int
    ratio: float
    seed: int
    generator: str = ""

    @property
    def name(self) -> str:
        by = f"-{self.generator}" if self.generator else ""
        return f"{self.arch}-{self.real}-x{self.ratio:g}{by}-{self.seed}"


@dataclass(frozen=True)
class Sets:
    """Rows to learn from, real and by each generator, to stop on and to be tried on; seen: the images that the
    generators were trained on."""

    real: Sequence[manifest.Row]
    synthetic: Mapping[str, Sequence[manifest.Row]]
    validation: Sequence[manifest.Row]
    test: Sequence[manifest.Row]
    seen: Sequence[manifest.Row] = ()

    def learned(self, cell: Cell, largest: int) -> list[manifest.Row]:
        """What `cell` is trained on. Raises DataError if its photographs are fewer than the generator has seen, or if
        there are too few of a kind."""
        drawn = []
        if cell.generator:
            drawn = _some(cell, self.synthetic[cell.generator], round(cell.ratio * (cell.real or largest)))
        if cell.real == ONLY_SYNTHETIC:
            return drawn
        if cell.real > len(self.real):
            raise DataError(f"{cell.name} asks for {cell.real} real images, but there are only {len(self.real)}.")
        first = {row.path.resolve() for row in self.seen}
        if drawn and cell.real < len(first):
            raise DataError(
                f"The generator was trained on {len(first)} images; a classifier of {cell.real} real ones would learn "
                "of more than its own."
            )
        if missing := first - {row.path.resolve() for row in self.real}:
            raise DataError(f"{min(missing).name} was seen by the generator but is not among the real images.")
        own = [row for row in self.real if row.path.resolve() in first]
        rest = [row for row in self.real if row.path.resolve() not in first]
        if cell.real < len(own):
            return subset(own, cell.real, cell.seed)
        return own + subset(rest, cell.real - len(own), cell.seed) + drawn


def _some(cell: Cell, rows: Sequence[manifest.Row], count: int) -> list[manifest.Row]:
    if count > len(rows):
        raise DataError(f"{cell.name} asks for {count} synthetic images, but there are only {len(rows)}.")
    return subset(rows, count, cell.seed)


def cells(
    archs: Sequence[str], reals: Sequence[int], ratios: Sequence[float], seeds: int, generators: Sequence[str]
) -> list[Cell]:
    """Every combination, and for every ratio above 0 one without photographs; one cell of ratio 0 serves all
    generators. Raises InputError for numbers that make no cell, and for an architecture that there is not."""
    if not all(real >= 1 for real in reals):
        raise InputError("The numbers of real images must be at least 1; cells without any are added by themselves.")
    if not all(math.isfinite(ratio) and 0 <= ratio <= MOST for ratio in ratios):
        raise InputError(f"The ratios must lie between 0 and {MOST}.")
    if unknown := [arch for arch in archs if arch != PROBE and not timm.is_model(arch)]:
        raise InputError(f"timm {timm.__version__} has no architecture “{unknown[0][:60]}”.")
    archs, reals, ratios = (list(dict.fromkeys(each)) for each in (archs, reals, ratios))
    drawn = product((ONLY_SYNTHETIC, *reals), [ratio for ratio in ratios if ratio], generators)
    plain = [(real, 0, "") for real in reals] if 0 in ratios else []
    return [
        Cell(arch, real, ratio, seed, by)
        for arch, (real, ratio, by), seed in product(archs, [*plain, *drawn], range(seeds))
    ]


def run(
    table: Sequence[Cell],
    sets: Sets,
    out: Path,
    options: FinetuneOptions,
    part: tuple[int, int] = (0, 1),
    features: Features | Backbone | None = None,
) -> Iterator[dict]:
    """Train and try the cells that are not done yet, yielding each one's results, but those that another process is at.

    part: which of how many processes that share the cells this is; each takes what no other has begun, and the first
    keeps other runs out of `out`. features: for cells of the architecture PROBE. Results are in
    `out/<cell>/result.json`. Before anything is trained raises DataError as `Sets.learned` does, if the images to be
    tried on are of one label, if an image is to be learned from and to be stopped or tried on, or if a cell in `out`
    was made by an earlier version, or of other images, options or features that its results depend on (see
    `_made_of`); InputError if the features are missing, or another process works in `out`.
    """
    if features is None and any(cell.arch == PROBE for cell in table):
        raise InputError(
            f"The architecture “{PROBE}” needs the network that gives the features: --features FILE.tflite."
        )
    malignant = probe.malignant(sets.test)
    if len(set(malignant)) < len(LABELS):
        raise DataError(f"The {len(sets.test)} images to be tried on are not of both labels.")
    drawn = [row for rows in sets.synthetic.values() for row in rows]
    for held_out in (sets.test, sets.validation):
        each_once([*sets.real, *drawn, *held_out])
    largest = max((cell.real for cell in table), default=0)
    learned = {cell: sets.learned(cell, largest) for cell in table}
    made_of = {cell: _made_of(cell, learned[cell], sets, options, features) for cell in table}
    for cell in table:
        _check(out / cell.name, made_of[cell])
    known, shelf = _Known(features), Shelf(KEPT)
    with nullcontext() if part[0] else alone_in(out):  # the first of several processes keeps others than these out
        for cell in tqdm(table, desc="cells", disable=None):
            folder = out / cell.name
            try:
                with alone_in(folder):
                    if not (folder / RESULT).exists():
                        _write(folder / MADE_OF, made_of[cell])
                        odds = _odds(cell, learned[cell], sets, folder, options, known, shelf)
                        result = asdict(cell) | {"learned": len(learned[cell]), "malignant": malignant.tolist()}
                        _write(folder / RESULT, result | {"log_odds": np.round(odds, 6).tolist()})
                        shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # larger than all else in the folder
            except Busy:
                continue
            yield _read(folder / RESULT)


def _odds(
    cell: Cell,
    learned: Sequence[manifest.Row],
    sets: Sets,
    folder: Path,
    options: FinetuneOptions,
    known: "_Known",
    shelf: Shelf,
) -> np.ndarray:
    """The log odds of malignant (N,) of the images to be tried on, as the classifier of `cell` says them."""
    if cell.arch == PROBE:
        return probe.log_odds(known.labelled(learned), known.labelled(sets.test).features, cell.seed)
    own = replace(options, arch=cell.arch, seed=cell.seed)
    trained = finetune(learned, sets.validation, folder, own, shelf.read)
    p = [one.p_malignant for one in trained.predict(map(open_rgb, sets.test))]
    return special.logit(np.clip(p, 1e-6, 1 - 1e-6))


def _made_of(
    cell: Cell,
    learned: Sequence[manifest.Row],
    sets: Sets,
    options: FinetuneOptions,
    features: Features | Backbone | None,
) -> dict[str, str]:
    """What decides the result of a cell, in digests: the images learned from and tried on, and the features of a probe,
    or the images that a network's training stops on and its options."""
    told = {
        "images to learn from": manifest.fingerprint(learned),
        "images to be tried on": manifest.fingerprint(sets.test),
    }
    if cell.arch == PROBE:
        return told | {"features": _digest(features.made_of)}
    own = asdict(replace(options, arch=cell.arch, seed=cell.seed))
    return told | {"images to stop on": manifest.fingerprint(sets.validation), "options": _digest(own)}


def _digest(content: dict | list) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _check(folder: Path, made_of: Mapping[str, str]) -> None:
    before = _read(folder / MADE_OF) if (folder / MADE_OF).exists() else {}
    if made_of.keys() - before.keys() and (folder / RESULT).exists():
        raise DataError(f"{folder} was written by an earlier version. Start in another folder, or delete it.")
    if other := [name for name, digest in made_of.items() if before.get(name, digest) != digest]:
        raise DataError(f"{folder} was made with other {' and '.join(other)}. Give another --out, or delete it.")


def _write(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{path} is damaged. Delete it, and the cell is made again.") from None


class _Known:
    """Features of images, each computed once."""

    def __init__(self, features: Features | Backbone | None):
        self.features, self.known = features, {}

    def labelled(self, rows: Sequence[manifest.Row]) -> probe.Labelled:
        new = list({row.path: row for row in rows if row.path not in self.known}.values())
        if new:
            found = self.features.of(open_rgb(row) for row in tqdm(new, desc="features", disable=None))
            self.known.update(zip((row.path for row in new), found, strict=True))
        return probe.Labelled(np.stack([self.known[row.path] for row in rows]), probe.malignant(rows))


def results(out: Path, table: Sequence[Cell]) -> pd.DataFrame:
    """The finished cells of `table` in `out`, in its order, a row each: the fields of Cell, learned (how many images),
    and of the N images that it was tried on malignant (N,) and log_odds (N,). Raises DataError if there are none."""
    paths = [out / cell.name / RESULT for cell in table]
    found = [_read(path) for path in paths if path.exists()]
    if not found:
        raise DataError(f"{out} holds no finished cell.")
    return pd.DataFrame(found)
