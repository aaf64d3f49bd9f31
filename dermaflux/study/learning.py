"""Whether readers learn or tire over their sequence of cases."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.stats import norm, t

from dermaflux.study.estimates import Estimate, first_showings, numbers, wilson

STEP = 10
"""Effects are given for so many cases."""
FEWEST = 20
"""Fewer readings give no trend."""


@dataclass(frozen=True)
class Trend:
    """How something changes over the sequence: the factor for each ten cases, and what that says."""

    what: str
    factor: Estimate
    sentence: str


def trends(readings: pd.DataFrame) -> list[Trend]:
    """How the odds of a right real-or-synthetic answer, and the seconds for a case, change over the sequence.

    Generalised estimating equations with readers as clusters (Liang & Zeger, 1986), the bias-reduced covariance for few
    clusters (Mancl & DeRouen, 2001) and Student's t; with one reader, independent readings.
    """
    first = first_showings(readings)
    seconds = numbers(first["seconds"])
    seconds = np.log(np.where(seconds > 0, seconds, np.nan))
    found = []
    if len(set(first["source"])) > 1:
        accuracy = _factor(first, _right(first), sm.families.Binomial())
        found.append(Trend("odds of a right answer", accuracy, _accuracy(accuracy)))
    pace = _factor(first, seconds, sm.families.Gaussian())
    return [*found, Trend("seconds for a case", pace, _pace(pace))]


def accuracy_over_positions(readings: pd.DataFrame, parts: int = 8) -> list[tuple[float, Estimate]]:
    """The accuracy in up to `parts` equal parts of the sequence, of ten readings or more, as (mean position, share with
    Wilson's interval). Empty for one source."""
    first = first_showings(readings)
    right, positions = _right(first), numbers(first["position"])
    known = ~np.isnan(right) & ~np.isnan(positions)
    if not known.any() or first["source"].nunique() < 2:
        return []
    right, positions = right[known], positions[known]
    split = np.array_split(np.argsort(positions, kind="stable"), min(parts, max(1, len(right) // 10)))
    return [(float(positions[part].mean()), wilson(int(right[part].sum()), len(part))) for part in split]


def _right(first: pd.DataFrame) -> np.ndarray:
    said = numbers(first["said_synthetic"])
    return np.where(np.isnan(said), np.nan, said == (first["source"] == "synthetic").to_numpy(float))


def _factor(first: pd.DataFrame, values: np.ndarray, family: sm.families.Family) -> Estimate:
    positions = numbers(first["position"])
    known = ~np.isnan(values) & ~np.isnan(positions)
    n = int(known.sum())
    nothing = Estimate(np.nan, np.nan, np.nan, n)
    if n < FEWEST or not np.ptp(positions[known]) or not np.ptp(values[known]):
        return nothing
    design = sm.add_constant((positions[known] - positions[known].mean()) / STEP)
    readers = pd.factorize(first["reader"][known])[0]
    clusters = readers.max() + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if clusters > 1:
                fit = sm.GEE(values[known], design, readers, family=family).fit(cov_type="bias_reduced")
                quantile = t.ppf(0.975, clusters - 1)
            else:
                fit, quantile = sm.GLM(values[known], design, family=family).fit(), norm.ppf(0.975)
        except (ValueError, np.linalg.LinAlgError, FloatingPointError):
            return nothing
    slope, error = float(fit.params[1]), float(fit.bse[1])
    if not np.isfinite((slope, error)).all() or abs(slope) > 5:
        return nothing
    low, high = np.exp(slope - quantile * error), np.exp(slope + quantile * error)
    return Estimate(float(np.exp(slope)), float(low), float(high), n)


def _accuracy(factor: Estimate) -> str:
    if np.isnan(factor.value):
        return "Whether accuracy changes over the sequence cannot be said: there are too few or too uniform answers."
    shown = f"With every {STEP} cases the odds of a right answer change by the factor {factor.text()}"
    if factor.low > 1:
        return f"{shown}: readers got better over the sequence, as by learning."
    if factor.high < 1:
        return f"{shown}: readers got worse over the sequence, as by fatigue."
    return f"{shown}: neither learning nor fatigue is shown."


def _pace(factor: Estimate) -> str:
    if np.isnan(factor.value):
        return "Whether readers get faster or slower cannot be said: there are too few times."
    shown = f"With every {STEP} cases the time for a case changes by the factor {factor.text()}"
    if factor.high < 1:
        return f"{shown}: readers got faster."
    if factor.low > 1:
        return f"{shown}: readers got slower."
    return f"{shown}: no change of pace is shown."
