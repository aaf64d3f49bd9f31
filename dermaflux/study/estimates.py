"""Estimates with 95 % intervals from readings that cluster by reader and by image."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import t
from statsmodels.stats.proportion import proportion_confint

RESAMPLES = 1000
SHARE = (0.0, 1.0)
"""The range of a share."""
STEPS = (1.0, 5.0)
"""The range of a rating in five steps."""
_AT_ONCE = 4_000_000
"""So many weights are held in memory at once."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""Weights of the readings, (B, n), to the statistic of each of B resamples, (B,)."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval over n readings; NaN where the readings do not allow one.

    se: standard error, df: its degrees of freedom, where the interval comes from them.
    """

    value: float
    low: float
    high: float
    n: int
    se: float = np.nan
    df: float = np.nan

    def text(self, digits: int = 2) -> str:
        """The value and its interval in words."""
        if np.isnan(self.value):
            return "not estimable"
        value, low, high = (
            f"{round(number, digits) + 0.0:.{digits}f}".replace("-", "−")
            for number in (self.value, self.low, self.high)
        )
        return f"{value} (no interval)" if np.isnan(self.low) else f"{value} ({low} to {high})"


NOTHING = Estimate(np.nan, np.nan, np.nan, 0)


def first_showings(readings: pd.DataFrame) -> pd.DataFrame:
    """The readings without repeated showings, one a reader and case."""
    repeats = readings["repeat"].astype("boolean").fillna(False).astype(bool)
    return readings[~repeats].drop_duplicates(["study", "reader", "case"]).reset_index(drop=True)


def numbers(column: pd.Series) -> np.ndarray:
    """A column of numbers or truths as floats; NaN where it is empty."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def wilson(hits: int, n: int) -> Estimate:
    """A share with Wilson's interval (Wilson, 1927)."""
    if not n:
        return NOTHING
    low, high = proportion_confint(hits, n, method="wilson")
    return Estimate(hits / n, float(low), float(high), int(n))


def clustered(
    statistic: Statistic,
    readers: np.ndarray,
    cases: np.ndarray,
    bounds: tuple[float, float] = SHARE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """`statistic` of n readings, with an interval that holds for other readers and other images like these.

    The variance is that of resampled readers, plus that of resampled images, less that of resampled readings, which is
    in both (Cameron, Gelbach & Miller 2011, with bootstrap variances); the degrees of freedom are Satterthwaite's. The
    interval is symmetric on the logit of the statistic's range `bounds`. With one reader it holds for that one alone.
    Where nothing varies there is none, unless the value is an end of its range.
    """
    n = len(readers)
    value = float(statistic(np.ones((1, n)))[0]) if n else np.nan
    if np.isnan(value):
        return Estimate(np.nan, np.nan, np.nan, n)
    rng = np.random.default_rng(seed)
    units = [pd.factorize(np.asarray(ids))[0] for ids in (readers, cases)]
    counts = [int(unit.max()) + 1 for unit in units]
    parts = [(_variance(statistic, unit, resamples, rng), count - 1) for unit, count in zip(units, counts, strict=True)]
    parts = [(variance, df) for variance, df in parts if not np.isnan(variance)]
    if not parts:
        return Estimate(value, np.nan, np.nan, n)
    variance = max(part for part, _ in parts)
    spread = sum(part**2 / df for part, df in parts)
    if len(parts) == 2:
        within = _variance(statistic, np.arange(n), resamples, rng)
        variance = max(variance, sum(part for part, _ in parts) - within)
        spread += within**2 / ((counts[0] - 1) * (counts[1] - 1))
    if not variance and bounds[0] < value < bounds[1]:
        return Estimate(value, np.nan, np.nan, n, 0.0, np.inf)
    df = variance**2 / spread if spread else np.inf
    found = Estimate(value, np.nan, np.nan, n, float(np.sqrt(variance)), float(df))
    low, high = limits(found, bounds, 0.95, counts[1])
    return Estimate(value, low, high, n, found.se, found.df)


def limits(estimate: Estimate, bounds: tuple[float, float], confidence: float, cases: int = 1) -> tuple[float, float]:
    """The interval of `estimate` from its standard error; at an end of `bounds` Wilson's for one reading a case."""
    low, width = bounds[0], bounds[1] - bounds[0]
    share = (estimate.value - low) / width
    if min(share, 1 - share) < 1e-9:
        found = proportion_confint(round(share) * cases, cases, alpha=1 - confidence, method="wilson")
    else:
        reach = t.ppf((1 + confidence) / 2, estimate.df) * estimate.se / width / (share * (1 - share))
        found = expit(logit(share) - reach), expit(logit(share) + reach)
    return float(low + width * found[0]), float(low + width * found[1])


def mean(values: np.ndarray, readings: pd.DataFrame, bounds: tuple[float, float] = SHARE, **options) -> Estimate:
    """The mean of `values`, one a reading (NaN: left out), as `clustered`."""
    known = ~np.isnan(values)
    kept = values[known]
    return clustered(lambda w: _ratio(w @ kept, w.sum(1)), *_units(readings, known), bounds, **options)


def difference(
    values: np.ndarray, group: np.ndarray, readings: pd.DataFrame, bounds: tuple[float, float] = SHARE, **options
) -> Estimate:
    """The mean of `values` where `group` is true less that where it is false, as `clustered`."""
    known = ~np.isnan(values)
    kept, inside = values[known], np.asarray(group, bool)[known].astype(float)
    width = bounds[1] - bounds[0]

    def statistic(weights: np.ndarray) -> np.ndarray:
        here, there = weights * inside, weights * (1 - inside)
        return _ratio(here @ kept, here.sum(1)) - _ratio(there @ kept, there.sum(1))

    return clustered(statistic, *_units(readings, known), (-width, width), **options)


def _units(readings: pd.DataFrame, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return readings["reader"].to_numpy()[known], readings["case"].to_numpy()[known]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below; NaN where below is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)


def _variance(statistic: Statistic, unit: np.ndarray, resamples: int, rng: np.random.Generator) -> float:
    """Bootstrap variance over clusters, without its downward bias k / (k - 1) for k clusters; NaN for one cluster, and
    where most resamples have no statistic."""
    count = int(unit.max()) + 1
    if count == 1:
        return np.nan
    found = []
    step = max(1, _AT_ONCE // len(unit))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        found.append(statistic(times[:, unit].astype(float)))
    found = np.concatenate(found)
    found = found[~np.isnan(found)]
    return float(found.var(ddof=1) * count / (count - 1)) if len(found) > resamples / 2 else np.nan
