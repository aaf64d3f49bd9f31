"""What synthesis buys: classifiers trained on n real images and r times as many synthetic ones, tried on real ones.

The cells of the table of DermaFlux (arXiv 2603.16392): real n x ratio x generator x architecture x seeds, each trained
by the same code and kept in a folder of its own, so that an interrupted run goes on and processes can share the cells.
Real subsets are nested and hold the generators' own training images first, so that a generator that has seen n images
serves every cell with at least n and leaks none to it. `augmentation_report` makes table and figure of them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special
from tqdm import tqdm

from dermaflux.data import manifest
from dermaflux.data.curate import subset
from dermaflux.data.features import Features
from dermaflux.data.pixels import Shelf, open_rgb
from dermaflux.errors import DataError, InputError
from dermaflux.evaluation import probe
from dermaflux.files import write_atomically
from dermaflux.training.finetune import FinetuneOptions, finetune

ONLY_SYNTHETIC = 0
PROBE = "probe"
"""The architecture that is none: a logistic regression on features, see `probe`."""
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
            drawn = subset(self.synthetic[cell.generator], round(cell.ratio * (cell.real or largest)), cell.seed)
        if cell.real == ONLY_SYNTHETIC:
            return drawn
        first = {row.path for row in self.seen}
        if drawn and cell.real < len(first):
            raise DataError(
                f"The generator was trained on {len(first)} images; a classifier of {cell.real} real ones would learn "
                "of more than its own."
            )
        if missing := first - {row.path for row in self.real}:
            raise DataError(f"{min(missing).name} was seen by the generator but is not among the real images.")
        own = [row for row in self.real if row.path in first]
        rest = [row for row in self.real if row.path not in first]
        if cell.real < len(own):
            return subset(own, cell.real, cell.seed)
        return own + subset(rest, cell.real - len(own), cell.seed) + drawn


def cells(
    archs: Sequence[str], reals: Sequence[int], ratios: Sequence[float], seeds: int, generators: Sequence[str]
) -> list[Cell]:
    """Every combination, and for every ratio above 0 one without photographs; one cell of ratio 0 serves all
    generators."""
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
    features: Features | None = None,
) -> Iterator[dict]:
    """Train and try the cells that are not done yet, yielding each one's results; every part[1]th from part[0] on.

    features: for cells of the architecture PROBE. Results are in `out/<cell>/result.json`. Raises DataError, before
    anything is trained, as `Sets.learned` does, and InputError if the features are missing.
    """
    if features is None and any(cell.arch == PROBE for cell in table):
        raise InputError(
            f"The architecture “{PROBE}” needs the network that gives the features: --features FILE.tflite."
        )
    largest = max((cell.real for cell in table), default=0)
    learned = {cell: sets.learned(cell, largest) for cell in table}
    malignant = probe.malignant(sets.test)
    known, shelf = _Known(features), Shelf(KEPT)
    for cell in tqdm(table[part[0] :: part[1]], desc="cells", disable=None):
        path = out / cell.name / "result.json"
        if not path.exists():
            if cell.arch == PROBE:
                odds = probe.log_odds(known.labelled(learned[cell]), known.labelled(sets.test).features, cell.seed)
            else:
                own = replace(options, arch=cell.arch, seed=cell.seed)
                trained = finetune(learned[cell], sets.validation, out / cell.name, own, shelf.read)
                p = [one.p_malignant for one in trained.predict([open_rgb(row) for row in sets.test])]
                odds = special.logit(np.clip(p, 1e-6, 1 - 1e-6))
            result = asdict(cell) | {"learned": len(learned[cell]), "malignant": malignant.tolist()}
            result |= {"log_odds": np.round(odds, 6).tolist()}
            text = json.dumps(result, indent=2) + "\n"
            write_atomically(path, lambda file, text=text: file.write(text.encode()))
        yield json.loads(path.read_text(encoding="utf-8"))


class _Known:
    """Features of images, each computed once."""

    def __init__(self, features: Features | None):
        self.features, self.known = features, {}

    def labelled(self, rows: Sequence[manifest.Row]) -> probe.Labelled:
        new = list({row.path: row for row in rows if row.path not in self.known}.values())
        if new:
            found = self.features.of(open_rgb(row) for row in tqdm(new, desc="features", disable=None))
            self.known.update(zip((row.path for row in new), found, strict=True))
        return probe.Labelled(np.stack([self.known[row.path] for row in rows]), probe.malignant(rows))


def results(out: Path) -> pd.DataFrame:
    """All finished cells of `out`, a row each: the fields of Cell, learned (how many images), and of the N images that
    it was tried on malignant (N,) and log_odds (N,). Raises DataError if there are none, or ones of an earlier form."""
    found = {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*/result.json"))}
    if not found:
        raise DataError(f"{out} holds no finished cell.")
    if older := [path for path, cell in found.items() if not cell.keys() >= {"log_odds", "generator"}]:
        raise DataError(f"{older[0]} was written by an earlier version. Start in another folder, or delete it.")
    return pd.DataFrame(found.values())
