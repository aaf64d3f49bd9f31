"""Table and figure of what synthesis buys (DermaFlux, arXiv 2603.16392), from the finished cells of `augmentation`."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from PIL import Image

from dermaflux.evaluation.figures import auc, resampled


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
    """Of each cell without its seed: the mean over seeds of every measure, of its gain over the same seeds without
    synthetic images and of its lead over the same with those of the last generator, each with the 95 % interval over
    the images that it was tried on (bootstrap), and the measure's lowest and highest over seeds.

    A cell without synthetic images stands beside those of each generator. found: what `augmentation.results` gives.
    """
    drawn, plain = found[found.ratio > 0], found[found.ratio == 0]
    names = list(dict.fromkeys(drawn.generator)) or [""]
    every = pd.concat([drawn, *(plain.assign(generator=name) for name in names)])
    rows = []
    for (arch, generator, real, ratio), part in every.groupby(["arch", "generator", "real", "ratio"], sort=False):
        same = drawn[(drawn.arch == arch) & (drawn.real == real) & (drawn.ratio == ratio)]
        against = {
            "gain": plain[(plain.arch == arch) & (plain.real == real)] if ratio else None,
            "lead": same[same.generator == names[-1]] if generator != names[-1] else None,
        }
        truth = part.malignant.iloc[0]
        row = {"arch": arch, "generator": generator, "real": real, "ratio": ratio}
        row |= {"seeds": len(part), "tried": len(truth)}
        for name, (_, measure) in MEASURES.items():
            values = [measure(np.array(truth, float), np.array(odds)) for odds in part.log_odds]
            row |= _figure(name, measure, truth, part.log_odds)
            row |= {f"{name}_least": min(values), f"{name}_most": max(values)}
            for what, others in against.items():
                row |= _paired(f"{name}_{what}", measure, truth, part, others)
        rows.append(row)
    return pd.DataFrame(rows).sort_values(["arch", "generator", "real", "ratio"], key=_order(names), ignore_index=True)


def _order(names: Sequence[str]):
    """Generators in the order of `names`, all else in its own."""
    return lambda column: column.map(names.index) if column.name == "generator" else column


def _paired(name: str, measure, truth: Sequence[bool], part: pd.DataFrame, others: pd.DataFrame | None):
    """How much more `part` reaches than `others`, seed by seed; nothing where there are none."""
    if others is None:
        return _figure(name, measure, truth, ())
    both = part.merge(others, on="seed", suffixes=("", "_other"))
    n = len(both)
    more = lambda truth, *odds: measure(truth, *odds[:n]) - measure(truth, *odds[n:])
    return _figure(name, more, truth, (*both.log_odds, *both.log_odds_other))


def _figure(name: str, measure, truth: Sequence[bool], odds: Sequence[Sequence[float]]) -> dict[str, float]:
    if not len(odds):
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    figure = resampled(name, measure, truth, *odds)
    return {name: figure.value, f"{name}_low": figure.interval[0], f"{name}_high": figure.interval[1]}


def markdown(table: pd.DataFrame, measure: str = "auc") -> str:
    """Tables of one of MEASURES: itself, its gain and, where there are several generators, its lead over the last: a
    line for each network, generator and number of real images, a column for each ratio."""
    title, _ = MEASURES[measure]
    generators = list(dict.fromkeys(table.generator))
    shown = {measure: title, f"{measure}_gain": f"Gain in {title}"}
    if len(generators) > 1:
        shown[f"{measure}_lead"] = f"{title} beyond that with the images of {generators[-1]}"
    return "\n\n".join(_table(table, name, head, len(generators) > 1) for name, head in shown.items())


def _table(table: pd.DataFrame, name: str, head: str, several: bool) -> str:
    told = table[np.isfinite(table[name])]
    ratios = sorted(told.ratio.unique())
    heads = [head, *(["Images of"] if several else []), "Real", *(f"{ratio:g} x synthetic" for ratio in ratios)]
    lines = [heads, ["---"] * len(heads)]
    for (arch, generator, real), part in told.groupby(["arch", "generator", "real"], sort=False):
        if name.endswith("_gain") and not real:
            continue
        cells = part.set_index("ratio").to_dict("index")
        figures = [_told(cells[ratio], name) if ratio in cells else "" for ratio in ratios]
        lines.append([arch, *([generator] if several else []), str(real or "none"), *figures])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _told(cell: dict, name: str) -> str:
    sign = "" if name in MEASURES else "+"
    return f"{cell[name]:{sign}.3f} ({cell[f'{name}_low']:.3f} to {cell[f'{name}_high']:.3f})"


def figure(table: pd.DataFrame, measure: str = "auc") -> Image.Image:
    """A panel for each network and generator: one of MEASURES over the ratio, a line with intervals for each number of
    real images."""
    import io

    from matplotlib.figure import Figure

    archs, generators = (list(dict.fromkeys(column)) for column in (table.arch, table.generator))
    reals = sorted(table.real.unique())
    drawing = Figure(figsize=(5.5 * len(archs), 4 * len(generators)), layout="constrained")
    panels = drawing.subplots(len(generators), len(archs), sharey=True, squeeze=False)
    for axes, (generator, arch) in zip(panels.flat, product(generators, archs), strict=True):
        own = table[(table.arch == arch) & (table.generator == generator)]
        for real, part in own.sort_values("ratio").groupby("real"):
            spread = (part[measure] - part[f"{measure}_low"], part[f"{measure}_high"] - part[measure])
            label = f"{real} real" if real else "synthetic only"
            colour = f"C{reals.index(real)}"
            axes.errorbar(part.ratio, part[measure], spread, marker="o", capsize=3, label=label, color=colour)
        title = f"{arch}, images of {generator}" if len(generators) > 1 else arch
        axes.set(title=title, xlabel="synthetic images for each real one", xticks=sorted(table.ratio.unique()))
        axes.set_ylabel(MEASURES[measure][0])
        axes.legend()
    file = io.BytesIO()
    drawing.savefig(file, dpi=120, format="png")
    return Image.open(file)
