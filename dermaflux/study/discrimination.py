"""Whether readers tell synthetic images from real ones: a positive is a synthetic image called synthetic."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.special import logit
from scipy.stats import norm, t

from dermaflux.errors import InputError
from dermaflux.study.estimates import RESAMPLES, SHARE, Estimate, clustered, first_showings, limits, numbers, wilson

LEVELS = 10
"""Steps of the scale from surely real to surely synthetic."""
CHANCE, MARGIN, ALPHA = 0.5, 0.1, 0.05
DPRIME = (-6.0, 6.0)
"""The range in which d' and criterion are sought."""

Counted = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Answers:
    """Real-or-synthetic answers, one a reader and case: (n,) arrays; level: 1 surely real to 10 surely synthetic."""

    readers: np.ndarray
    cases: np.ndarray
    synthetic: np.ndarray
    said: np.ndarray
    level: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether each answer is right."""
        return self.said == self.synthetic

    def of(self, kept: np.ndarray) -> "Answers":
        """The answers where `kept` is true."""
        return Answers(*(array[kept] for array in vars(self).values()))


@dataclass(frozen=True)
class Skill:
    """How well one reader, or all of them, tell the sources apart; who: the reader, empty for all.

    balanced: mean of sensitivity and specificity. dprime and criterion are those of signal detection, with positive
    criteria for readers who lean towards “real”; they are estimated for all readers only.
    """

    who: str
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    auc: Estimate
    balanced: Estimate | None = None
    dprime: Estimate | None = None
    criterion: Estimate | None = None


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of the balanced accuracy against chance: the 90 % interval, the larger p and what may be
    concluded."""

    margin: float
    low: float
    high: float
    p: float
    verdict: str
    sentence: str


def answers(readings: pd.DataFrame) -> Answers:
    """The first answers to real or synthetic. Without a confidence the level is the middle of its side."""
    first = first_showings(readings)
    said = numbers(first["said_synthetic"])
    confidence = np.nan_to_num(numbers(first["confidence"]), nan=3.0)
    level = np.where(said == 1, 5 + confidence, 6 - confidence)
    synthetic = (first["source"] == "synthetic").to_numpy(bool)
    found = Answers(first["reader"].to_numpy(), first["case"].to_numpy(), synthetic, said == 1, level.astype(int))
    return found.of(~np.isnan(said))


def of_readers(found: Answers, resamples: int = RESAMPLES, seed: int = 0) -> list[Skill]:
    """Each reader's skill: Wilson's intervals for the shares, a bootstrap over cases for the AUC."""
    skills = []
    for reader in sorted(set(found.readers), key=str):
        own = found.of(found.readers == reader)
        shares = (
            wilson(int(own.right[kept].sum()), int(kept.sum()))
            for kept in (np.ones(len(own.said), bool), own.synthetic, ~own.synthetic)
        )
        skills.append(Skill(str(reader), *shares, _clustered(_auc, own, SHARE, resamples, seed)))
    return skills


def pooled(found: Answers, resamples: int = RESAMPLES, seed: int = 0) -> Skill:
    """The skill of readers like these on images like these, with intervals clustered by reader and image. AUC, d' and
    criterion are means of the readers', weighted by their numbers of answers."""
    parts = [np.ones(len(found.said), bool), found.synthetic, ~found.synthetic]
    accuracy, sensitivity, specificity = (
        _clustered(_accuracy, found.of(kept), SHARE, resamples, seed) for kept in parts
    )
    auc = _clustered(_auc, found, SHARE, resamples, seed)
    balanced = _clustered(_balanced, found, SHARE, resamples, seed)
    dprime = _clustered(_dprime, found, DPRIME, resamples, seed)
    criterion = _clustered(_criterion, found, DPRIME, resamples, seed)
    return Skill("", accuracy, sensitivity, specificity, auc, balanced, dprime, criterion)


def equivalence(balanced: Estimate, margin: float = MARGIN) -> Equivalence:
    """Whether a balanced accuracy is within `margin` of chance: TOST (Schuirmann, 1987), each side at 5 %.

    Raises InputError for a margin that is not between 0 and 0.5.
    """
    if not 0 < margin < CHANCE:
        raise InputError(f"The margin must lie between 0 and 0.5, not {margin:g}.")
    lowest, highest = CHANCE - margin, CHANCE + margin
    within = f"{lowest:.2f} to {highest:.2f}"
    extreme = balanced.value in SHARE
    if not balanced.se and not extreme:
        sentence = f"Inconclusive: the answers do not vary, so that a balanced accuracy of {balanced.value:.2f} proves "
        return Equivalence(margin, np.nan, np.nan, np.nan, "inconclusive", sentence + "nothing about other answers.")
    if np.isnan(balanced.low):
        return Equivalence(margin, np.nan, np.nan, np.nan, "inconclusive", "Inconclusive: there are too few answers.")
    low, high, p = balanced.low, balanced.high, 1.0
    if not extreme:
        low, high = limits(balanced, SHARE, 1 - 2 * ALPHA)
        scale = balanced.se / (balanced.value * (1 - balanced.value))
        sides = logit(balanced.value) - logit(lowest), logit(highest) - logit(balanced.value)
        p = float(max(t.sf(side / scale, balanced.df) for side in sides))
    equal, different = p < ALPHA, not balanced.low <= CHANCE <= balanced.high
    shown = (
        f"the balanced accuracy is {balanced.text()}, its 90 % interval {low:.2f} to {high:.2f}, the margin {within}"
    )
    shown += f" (TOST, p {_p(p)})"
    verdict = {
        (True, False): "equivalent to chance",
        (True, True): "distinguishable, by less than the margin",
        (False, True): "distinguishable",
        (False, False): "inconclusive",
    }[equal, different]
    concluded = {
        "equivalent to chance": "Within this margin, readers like these do no better than chance on images like these.",
        "distinguishable, by less than the margin": "Readers like these are off chance, but by less than the margin.",
        "distinguishable": "Readers like these tell synthetic from real images."
        if balanced.value > CHANCE
        else "Readers like these see a difference, but take it for the wrong source.",
        "inconclusive": "It is neither shown that readers tell the images apart nor that they cannot.",
    }[verdict]
    return Equivalence(margin, low, high, p, verdict, f"{verdict.capitalize()}: {shown}. {concluded}")


def roc(found: Answers) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates over the ten steps, from (0, 0) to (1, 1), all answers together."""
    thresholds = np.arange(LEVELS + 1, 0, -1)
    rates = [(found.level[kept][:, None] >= thresholds).mean(0) for kept in (~found.synthetic, found.synthetic)]
    return rates[0], rates[1]


_LOWER, _UPPER = slice(0, LEVELS // 2), slice(LEVELS // 2, LEVELS)


def _clustered(statistic: Counted, found: Answers, bounds: tuple[float, float], resamples: int, seed: int) -> Estimate:
    """`statistic` of the weighted counts of real and of synthetic images by reader and level, each (B, readers, 10)."""
    index, readers = pd.factorize(found.readers)
    columns = (index * 2 + found.synthetic) * LEVELS + found.level - 1
    each = np.arange(len(index))
    table = csr_array((np.ones(len(index)), (each, columns)), shape=(len(index), len(readers) * 2 * LEVELS))

    def of_weights(weights: np.ndarray) -> np.ndarray:
        counts = (weights @ table).reshape(len(weights), len(readers), 2, LEVELS)
        with np.errstate(invalid="ignore", divide="ignore"):
            return statistic(counts[:, :, 0], counts[:, :, 1])

    return clustered(of_weights, found.readers, found.cases, bounds, resamples, seed)


def _accuracy(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    right = synthetic[..., _UPPER].sum((1, 2)) + real[..., _LOWER].sum((1, 2))
    return right / (real + synthetic).sum((1, 2))


def _balanced(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    rates = (side[..., half].sum((1, 2)) / side.sum((1, 2)) for side, half in ((synthetic, _UPPER), (real, _LOWER)))
    return sum(rates) / 2


def _auc(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """The area under each reader's ROC by the trapezoid rule (Hanley & McNeil, 1982), averaged."""
    below = real.cumsum(-1) - real / 2
    return _averaged((synthetic * below).sum(-1) / (synthetic.sum(-1) * real.sum(-1)), real, synthetic)


def _dprime(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    hit, false = _normal_rates(real, synthetic)
    return _averaged(hit - false, real, synthetic)


def _criterion(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    hit, false = _normal_rates(real, synthetic)
    return _averaged(-(hit + false) / 2, real, synthetic)


def _normal_rates(real: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal quantiles of each reader's hit and false alarm rates with the log-linear correction (Hautus, 1995)."""
    both = (real.sum(-1) > 0) & (synthetic.sum(-1) > 0)
    rates = ((side[..., _UPPER].sum(-1) + 0.5) / (side.sum(-1) + 1) for side in (synthetic, real))
    hit, false = (norm.ppf(np.where(both, rate, np.nan)) for rate in rates)
    return hit, false


def _averaged(values: np.ndarray, real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    weights = (real + synthetic).sum(-1) * ~np.isnan(values)
    return (np.nan_to_num(values) * weights).sum(1) / weights.sum(1)


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
