"""Figures with their intervals, and the Markdown table that holds them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, rankdata, spearmanr

RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """One measured value over n items with its 95 % interval, NaN where there is none; aim: the least it should be, or
    the most, where there is one."""

    name: str
    value: float
    interval: tuple[float, float]
    n: int
    aim: float | None = None
    most: bool = False

    def markdown(self) -> str:
        """The figure's line in a table."""
        aim, met = "", ""
        if self.aim is not None:
            reached = self.value <= self.aim if self.most else self.value >= self.aim
            aim, met = f"{'<=' if self.most else '>='} {self.aim:g}", "yes" if reached else "**no**"
        met = "" if np.isnan(self.value) else met
        return f"| {self.name} | {said(self.value)} | {between(self.interval)} | {self.n} | {aim} | {met} |"


def undefined(name: str, n: int, aim: float | None = None) -> Figure:
    """A figure that cannot be given, of so many items."""
    return Figure(name, np.nan, (np.nan, np.nan), n, aim)


def said(value: float) -> str:
    """A value in words."""
    return "not defined" if np.isnan(value) else f"{value:.3f}"


def between(interval: tuple[float, float]) -> str:
    """An interval in words; nothing where there is none."""
    return "" if np.isnan(interval).any() else f"{interval[0]:.3f} to {interval[1]:.3f}"


def table(figures: Iterable[Figure]) -> str:
    """All figures as a Markdown table."""
    head = "| Figure | Value | 95 % interval | n | Aim | Met |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(figure.markdown() for figure in figures)


def resampled(
    name: str,
    statistic: Callable[..., float],
    *samples: Iterable[float],
    aim: float | None = None,
    most: bool = False,
) -> Figure:
    """`statistic` of paired samples, with the percentile bootstrap's interval over items (Efron, 1979); a single item
    has none."""
    samples = [np.asarray(list(sample), float) for sample in samples]
    if not len(samples[0]):
        return undefined(name, 0, aim)
    value = float(statistic(*samples))
    if len(samples[0]) == 1:
        return Figure(name, value, (np.nan, np.nan), 1, aim, most)
    found = bootstrap(
        samples, statistic, paired=True, vectorized=False, n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    return Figure(name, value, (float(found.low), float(found.high)), len(samples[0]), aim, most)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two samples; 0 where one does not vary."""
    return float(np.nan_to_num(spearmanr(a, b).statistic)) if np.ptp(a) and np.ptp(b) else 0.0


def f1(hits: np.ndarray, extra: np.ndarray, missed: np.ndarray) -> float:
    """F1 over all names of all items, from each item's numbers of hits, of extra names and of missed ones."""
    return float(2 * hits.sum() / max(1, 2 * hits.sum() + extra.sum() + missed.sum()))


def auc(truth: np.ndarray, *scores: np.ndarray) -> float:
    """The mean AUC of several scores for one truth, by their ranks; 0.5 where a resample holds one class only.

    It is scikit-learn's value in a tenth of its time, as a bootstrap asks for thousands of them.
    """
    ones = np.asarray(truth) > 0.5
    pairs = ones.sum() * (~ones).sum()
    if not pairs:
        return 0.5
    wins = rankdata(scores, axis=1)[:, ones].sum(1) - ones.sum() * (ones.sum() + 1) / 2  # of malignant over benign
    return float(wins.mean() / pairs)
