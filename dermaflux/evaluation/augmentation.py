"""What synthesis buys: classifiers trained on n real images and r times as many synthetic ones, tried on real ones.

The table and figure of DermaFlux (arXiv 2603.16392): real n x ratio x architecture x seeds, every cell trained by the
same code and kept in a folder of its own, so that an interrupted run goes on and processes can share the cells. Real
subsets are nested and hold the generator's own training images first, so that a generator that has seen n images serves
every cell with at least n and leaks none to it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import special
from tqdm import tqdm

from dermaflux.data import manifest
from dermaflux.data.curate import subset
from dermaflux.data.features import Features
from dermaflux.data.pixels import Shelf, open_rgb
from dermaflux.errors import DataError, InputError
from dermaflux.evaluation import probe
from dermaflux.evaluation.figures import auc, resampled
from dermaflux.files import write_atomically
from dermaflux.training.finetune import FinetuneOptions, finetune

ONLY_SYNTHETIC = 0
PROBE = "probe"
"""The architecture that is none: a logistic regression on features, see `probe`."""
KEPT = 2**31
"""Bytes of decoded images that are kept for the next cells."""


@dataclass(frozen=True)
class Cell:
    """One training: `real` photographs (0: none), `ratio` times as many synthetic images, an architecture and a seed.

    Where there are no photographs, `ratio` is of the largest number of them in the table.
    """

    arch: str
    real: int
    ratio: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arch}-{self.real}-x{self.ratio:g}-{self.seed}"


@dataclass(frozen=True)
class Sets:
    """Rows to learn from, real and synthetic, to stop on and to be tried on; seen: the images that the generator of the
    synthetic ones was trained on."""

    real: Sequence[manifest.Row]
    synthetic: Sequence[manifest.Row]
    validation: Sequence[manifest.Row]
    test: Sequence[manifest.Row]
    seen: Sequence[manifest.Row] = ()

    def learned(self, cell: Cell, largest: int) -> list[manifest.Row]:
        """What `cell` is trained on. Raises DataError if its photographs are fewer than the generator has seen, or if
        there are too few of a kind."""
        drawn = subset(self.synthetic, round(cell.ratio * (cell.real or largest)), cell.seed)
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
    archs: Sequence[str], reals: Sequence[int], ratios: Sequence[float], seeds: int, only_synthetic: bool = True
) -> list[Cell]:
    """Every combination, and for every ratio above 0 one without photographs if `only_synthetic`."""
    alone = [(ONLY_SYNTHETIC, ratio) for ratio in ratios if ratio] if only_synthetic else []
    return [
        Cell(arch, real, ratio, seed)
        for arch, (real, ratio), seed in product(archs, [*product(reals, ratios), *alone], range(seeds))
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
    if older := [path for path, cell in found.items() if "log_odds" not in cell]:
        raise DataError(f"{older[0]} was written by an earlier version. Start in another folder, or delete it.")
    return pd.DataFrame(found.values())


def accuracy(malignant: np.ndarray, *log_odds: np.ndarray) -> float:
    """The mean accuracy of several classifiers that call malignant what is more likely so than not."""
    return float(((np.array(log_odds) >= 0) == (malignant > 0.5)).mean())


def balanced_accuracy(malignant: np.ndarray, *log_odds: np.ndarray) -> float:
    """The mean of their sensitivity and specificity; NaN where a resample holds one class only."""
    classes = [malignant > 0.5, malignant <= 0.5]
    if not all(one.any() for one in classes):
        return np.nan
    return float(np.mean([accuracy(malignant[one], *(odds[one] for odds in log_odds)) for one in classes]))


MEASURES = {
    "auc": ("AUC", auc),
    "accuracy": ("accuracy", accuracy),
    "balanced_accuracy": ("balanced accuracy", balanced_accuracy),
}
"""Of each, its title and what it is of the truth and of the log odds of several classifiers: their mean."""


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Of each cell without its seed: the mean over seeds of every measure and of its gain over the same seeds without
    synthetic images, each with the 95 % interval over the images that it was tried on (bootstrap), and the measure's
    lowest and highest over seeds."""
    rows = []
    for (arch, real, ratio), part in found.groupby(["arch", "real", "ratio"]):
        plain = found[(found.arch == arch) & (found.real == real) & (found.ratio == 0)]
        both = part.merge(plain, on="seed", suffixes=("", "_plain"))
        truth = part.malignant.iloc[0]
        row = {"arch": arch, "real": real, "ratio": ratio, "seeds": len(part), "tried": len(truth)}
        for name, (_, measure) in MEASURES.items():
            values = [measure(np.array(truth, float), np.array(odds)) for odds in part.log_odds]
            row |= _figure(name, measure, truth, part.log_odds)
            row |= {f"{name}_least": min(values), f"{name}_most": max(values)}
            gain = _gain(measure, len(both))
            pairs = (*both.log_odds, *both.log_odds_plain) if ratio else ()
            row |= _figure(f"{name}_gain", gain, truth, pairs)
        rows.append(row)
    return pd.DataFrame(rows)


def _gain(measure, seeds: int):
    return lambda truth, *odds: measure(truth, *odds[:seeds]) - measure(truth, *odds[seeds:])


def _figure(name: str, measure, truth: Sequence[bool], odds: Sequence[Sequence[float]]) -> dict[str, float]:
    if not len(odds):
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    figure = resampled(name, measure, truth, *odds)
    return {name: figure.value, f"{name}_low": figure.interval[0], f"{name}_high": figure.interval[1]}


def markdown(table: pd.DataFrame, measure: str = "auc") -> str:
    """Two tables of one of MEASURES: itself and its gain, a line for each network and number of real images, a column
    for each ratio."""
    title, _ = MEASURES[measure]
    ratios = sorted(table.ratio.unique())
    text = []
    for name, head in ((measure, title), (f"{measure}_gain", f"Gain in {title}")):
        shown = ratios if name == measure else [ratio for ratio in ratios if ratio]
        heads = " | ".join(f"{ratio:g} x synthetic" for ratio in shown)
        text += [f"| {head} | Real | {heads} |", "|---" * (2 + len(shown)) + "|"]
        for (arch, real), part in table.groupby(["arch", "real"], sort=False):
            if name != measure and not real:
                continue
            cells = part.set_index("ratio").to_dict("index")
            told = [_told(cells.get(ratio, {}), name) for ratio in shown]
            text.append(f"| {arch} | {real or 'none'} | {' | '.join(told)} |")
        text.append("")
    return "\n".join(text).rstrip()


def _told(cell: dict, name: str) -> str:
    if not np.isfinite(cell.get(name, np.nan)):
        return ""
    sign = "+" if name.endswith("gain") else ""
    return f"{cell[name]:{sign}.3f} ({cell[f'{name}_low']:.3f} to {cell[f'{name}_high']:.3f})"


def figure(table: pd.DataFrame, measure: str = "auc") -> Image.Image:
    """A panel a network: one of MEASURES over the ratio, a line with intervals for each number of real images."""
    import io

    from matplotlib.figure import Figure

    archs, reals = list(dict.fromkeys(table.arch)), sorted(table.real.unique())
    drawing = Figure(figsize=(5.5 * len(archs), 4), layout="constrained")
    for axes, arch in zip(np.atleast_1d(drawing.subplots(1, len(archs), sharey=True)), archs, strict=True):
        for real, part in table[table.arch == arch].sort_values("ratio").groupby("real"):
            spread = (part[measure] - part[f"{measure}_low"], part[f"{measure}_high"] - part[measure])
            label = f"{real} real" if real else "synthetic only"
            colour = f"C{reals.index(real)}"
            axes.errorbar(part.ratio, part[measure], spread, marker="o", capsize=3, label=label, color=colour)
        axes.set(title=arch, xlabel="synthetic images for each real one", xticks=sorted(table.ratio.unique()))
        axes.set_ylabel(MEASURES[measure][0])
        axes.legend()
    file = io.BytesIO()
    drawing.savefig(file, dpi=120, format="png")
    return Image.open(file)
