"""Table and figure of what synthesis buys (DermaFlux, arXiv 2603.16392), from the finished cells of `augmentation`."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd
from PIL import Image

RESAMPLES = 2000


def auc(weights: np.ndarray, malignant: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """The AUC (R,) of log odds (N,) in R resamples that hold each image so many times: (R, N). NaN where one holds one
    class only."""
    ones, zeros = weights[:, malignant], weights[:, ~malignant]
    wins = np.subtract.outer(odds[malignant], odds[~malignant])
    with np.errstate(invalid="ignore"):
        return ((ones @ (np.sign(wins) / 2 + 0.5)) * zeros).sum(1) / (ones.sum(1) * zeros.sum(1))


def accuracy(weights: np.ndarray, malignant: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """The share (R,) that is right if malignant is what is more likely so than not; arguments as of `auc`."""
    return weights @ ((odds >= 0) == malignant) / weights.sum(1)


def balanced_accuracy(weights: np.ndarray, malignant: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """The mean (R,) of sensitivity and specificity; arguments as of `auc`."""
    with np.errstate(invalid="ignore"):
        return sum(accuracy(weights * one, malignant, odds) for one in (malignant, ~malignant)) / 2


MEASURES = {"auc": ("AUC", auc), "accuracy": ("Accuracy", accuracy)}
MEASURES |= {"balanced_accuracy": ("Balanced accuracy", balanced_accuracy)}
"""Of each, its title and its value in resamples of the images."""


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Of each cell without its seed: the mean over seeds of every measure, of its gain over the same seeds without
    synthetic images and of its lead over the same with those of the last generator, and the measure's lowest and
    highest over seeds. The 95 % intervals are of resamples (bootstrap, percentiles) of both the images that were tried
    and the seeds; with few seeds they are too narrow still.

    A cell without synthetic images stands beside those of each generator. found: what `augmentation.results` gives.
    """
    found = found.reset_index(drop=True)
    told = _told_by(found)
    drawn, plain = found[found.ratio > 0], found[found.ratio == 0]
    names = list(dict.fromkeys(drawn.generator)) or [""]
    every = pd.concat([drawn, *(plain.assign(generator=name) for name in names)])
    rows = []
    for (arch, generator, real, ratio), part in every.groupby(["arch", "generator", "real", "ratio"], sort=False):
        same = drawn[(drawn.arch == arch) & (drawn.real == real) & (drawn.ratio == ratio)]
        against = {
            "gain": plain[(plain.arch == arch) & (plain.real == real)] if ratio else plain[:0],
            "lead": same[same.generator == names[-1]] if generator != names[-1] else plain[:0],
        }
        row = {"arch": arch, "generator": generator, "real": real, "ratio": ratio}
        row |= {"seeds": len(part), "tried": len(part.malignant.iloc[0])}
        for name, values in told.items():
            own = [values[place] for place in part.index]
            row |= _figure(name, own)
            row |= {f"{name}_least": min(one[0] for one in own), f"{name}_most": max(one[0] for one in own)}
            for what, others in against.items():
                of = dict(zip(others.seed, others.index, strict=True))
                pairs = [(place, of[seed]) for place, seed in part.seed.items() if seed in of]
                row |= _figure(f"{name}_{what}", [values[one] - values[other] for one, other in pairs])
        rows.append(row)
    return pd.DataFrame(rows).sort_values(["arch", "generator", "real", "ratio"], key=_order(names), ignore_index=True)


def overall(found: pd.DataFrame) -> pd.DataFrame:
    """Of each network and generator: mean gain and lead, see `summary`, over all cells of real and synthetic images.

    Means of many cells tell smaller differences. The intervals are over images and seeds, which the cells share.
    """
    found = found.reset_index(drop=True).rename_axis("place").reset_index()
    told = _told_by(found)
    mixed = found[(found.real > 0) & (found.ratio > 0)]
    names = list(dict.fromkeys(mixed.generator))
    rows = []
    for (arch, generator), part in mixed.groupby(["arch", "generator"], sort=False):
        same = found[found.arch == arch]
        plain, last = same[same.ratio == 0], same[same.generator == names[-1]]
        against = {"gain": part.merge(plain, on=["real", "seed"])}
        against["lead"] = part.merge(last if generator != names[-1] else last[:0], on=["real", "ratio", "seed"])
        row = {"arch": arch, "generator": generator, "cells": len(part)}
        for (name, values), (what, pairs) in product(told.items(), against.items()):
            gaps = [
                np.mean([values[one] - values[other] for one, other in zip(some.place_x, some.place_y, strict=True)], 0)
                for _, some in pairs.groupby("seed")
            ]
            row |= _figure(f"{name}_{what}", gaps)
        rows.append(row)
    return pd.DataFrame(rows)


def _told_by(found: pd.DataFrame) -> dict[str, list[np.ndarray]]:
    """By the name of each of MEASURES, its `_values` for every cell."""
    return {name: [_values(measure, cell) for cell in found.itertuples()] for name, (_, measure) in MEASURES.items()}


def _values(measure: Callable, cell) -> np.ndarray:
    """What `measure` is of the images as they are, and then of each resample of them: (1 + RESAMPLES,)."""
    n = len(cell.malignant)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return measure(np.vstack([np.ones(n), drawn]), np.array(cell.malignant, bool), np.array(cell.log_odds))


def _figure(name: str, of_seeds: Sequence[np.ndarray]) -> dict[str, float]:
    """The mean over seeds of such values, with its interval over images and seeds; NaN where there are no seeds."""
    if not of_seeds:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    seeds = len(of_seeds)
    shares = np.random.default_rng(1).multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    plain, *resampled = np.stack(of_seeds, 1)
    low, high = np.nanpercentile((shares * resampled).sum(1), (2.5, 97.5))
    return {name: plain.mean(), f"{name}_low": low, f"{name}_high": high}


def _order(names: Sequence[str]):
    """Generators in the order of `names`, all else in its own."""
    return lambda column: column.map(names.index) if column.name == "generator" else column


def markdown(table: pd.DataFrame, whole: pd.DataFrame, measure: str = "auc") -> str:
    """Tables of one of MEASURES: itself, its gain and, where there are several generators, its lead over the last: a
    line for each network, generator and number of real images, a column for each ratio; and both over all.

    table: what `summary` gives. whole: what `overall` gives.
    """
    title, _ = MEASURES[measure]
    generators = list(dict.fromkeys(table.generator))
    shown = {measure: title, f"{measure}_gain": f"{title}, gain"}
    if len(generators) > 1:
        shown[f"{measure}_lead"] = f"{title} beyond that with the images of {generators[-1]}"
    tables = [
        _table(table, name, head, len(generators) > 1) for name, head in shown.items() if table[name].notna().any()
    ]
    tables += [_over_all(whole, measure, generators)] if len(whole) else []
    seeds, tried = (" or ".join(map(str, sorted(set(column)))) for column in (table.seeds, table.tried))
    how = f"Means of {seeds} seeds, tried on {tried} images; 95 % intervals by a bootstrap of images and seeds."
    return "\n\n".join([*tables, how])


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


def _over_all(whole: pd.DataFrame, measure: str, generators: Sequence[str]) -> str:
    several = len(generators) > 1
    shown = {f"{measure}_gain": "Gain"} | ({f"{measure}_lead": f"Beyond {generators[-1]}"} if several else {})
    heads = [
        f"{MEASURES[measure][0]}, mean of all",
        *(["Images of"] if several else []),
        *shown.values(),
        "Classifiers",
    ]
    lines = [heads, ["---"] * len(heads)]
    for cell in whole.to_dict("records"):
        figures = [_told(cell, name) if np.isfinite(cell[name]) else "" for name in shown]
        lines.append([cell["arch"], *([cell["generator"]] if several else []), *figures, str(cell["cells"])])
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
    reals, ratios = sorted(table.real.unique()), sorted(table.ratio.unique())
    drawing = Figure(figsize=(5.5 * len(archs), 4 * len(generators)), layout="constrained")
    panels = drawing.subplots(len(generators), len(archs), sharey=True, squeeze=False)
    for axes, (generator, arch) in zip(panels.flat, product(generators, archs), strict=True):
        own = table[(table.arch == arch) & (table.generator == generator)]
        for real, part in own.sort_values("ratio").groupby("real"):
            spread = (part[measure] - part[f"{measure}_low"], part[f"{measure}_high"] - part[measure])
            label = f"{real} real" if real else "synthetic only"
            colour = f"C{reals.index(real)}"
            aside = 0.12 * (reals.index(real) - (len(reals) - 1) / 2)
            places = [ratios.index(ratio) + aside for ratio in part.ratio]
            axes.errorbar(places, part[measure], spread, marker="o", elinewidth=0.8, label=label, color=colour)
        title = f"{arch}, images of {generator}" if len(generators) > 1 else arch
        axes.set(title=title, xlabel="synthetic images for each real one", ylabel=MEASURES[measure][0])
        axes.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    told = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in panels.flat]
    lines = {label: line for panel in told for line, label in panel}
    drawing.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines))
    file = io.BytesIO()
    drawing.savefig(file, dpi=120, format="png")
    return Image.open(file)
