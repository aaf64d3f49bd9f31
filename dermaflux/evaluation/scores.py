"""Figures of a binary classifier, each with a bootstrap interval over patients or lesions, in all and in parts.

The values are scikit-learn's. The intervals are percentiles (Efron, 1979) over resamples of clusters (Field and Welsh,
2007): all images of a patient or lesion are drawn together. A resample is a weight for each image, so that thousands of
them are computed at once; `tests/test_scores.py` holds the weighted forms against scikit-learn's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    recall_score,
    roc_auc_score,
)

from dermaflux.evaluation.figures import RESAMPLES, Figure

BINS = 15
"""Of the expected calibration error, of equal width (Guo et al., arXiv 1706.04599)."""
FEWEST = 5
"""Patients or lesions of each class that a figure needs, below which it gets no interval."""
_AT_ONCE = 4_000_000
"""So many weights are held in memory at once."""
NOTHING = (np.nan, np.nan)


@dataclass(frozen=True)
class Answers:
    """A classifier's answers to N images. malignant: (N,) bool, the truth; p: (N,) probabilities of malignancy;
    threshold: “malignant” from there on; clusters: (N,) int, the same for images of one patient or lesion."""

    malignant: np.ndarray
    p: np.ndarray
    threshold: float
    clusters: np.ndarray

    @property
    def called(self) -> np.ndarray:
        """Whether each image is called malignant: (N,) bool."""
        return self.p >= self.threshold

    def of(self, chosen: np.ndarray) -> "Answers":
        """Those to the images `chosen`, (N,) bool."""
        return Answers(self.malignant[chosen], self.p[chosen], self.threshold, self.clusters[chosen])


@dataclass(frozen=True)
class Measure:
    """value: the figure of all answers. weighted: that of each of B resamples, (B,), from the weights (B, N) of the
    images. needs: the classes without which it is not defined."""

    name: str
    value: Callable[[Answers], float]
    weighted: Callable[[Answers, np.ndarray], np.ndarray]
    needs: tuple[bool, ...] = (True, False)


def figures(answers: Answers, resamples: int = RESAMPLES) -> list[Figure]:
    """Every one of MEASURES with its 95 % interval; NaN where a class that it needs is not there, and no interval where
    there are less than FEWEST patients or lesions of it. Resamples that lack such a class are left out."""
    drawn = [
        [measure.weighted(answers, weights) for measure in MEASURES]
        for weights in _weights(answers.clusters, resamples, seed=0)
    ]
    found = []
    for place, measure in enumerate(MEASURES):
        classes = [np.unique(answers.clusters[answers.malignant == one]).size for one in measure.needs]
        value = measure.value(answers) if min(classes, default=len(answers.p)) else np.nan
        interval = NOTHING
        if min(classes, default=np.unique(answers.clusters).size) >= FEWEST:
            spread = np.concatenate([part[place] for part in drawn])
            interval = tuple(float(end) for end in np.nanquantile(spread, (0.025, 0.975)))
        found.append(Figure(measure.name, float(value), interval, _counted(answers, measure)))
    return found


def calibration_error(answers: Answers) -> float:
    """The expected calibration error of the probabilities of malignancy, in BINS of equal width."""
    return float(_calibration_errors(answers, np.ones((1, len(answers.p))))[0])


def bins(p: np.ndarray) -> np.ndarray:
    """The bin of each probability, 0 to BINS - 1."""
    return np.minimum((p * BINS).astype(int), BINS - 1)


def _counted(answers: Answers, measure: Measure) -> int:
    """How many images the figure looks at: those of its class, if it is of one class alone."""
    return int((answers.malignant == measure.needs[0]).sum()) if len(measure.needs) == 1 else len(answers.p)


def share(name: str, hits: np.ndarray, clusters: np.ndarray, aim: float | None = None, most: bool = False) -> Figure:
    """The share of `hits` (N,) bool; clusters: (N,), the same for items drawn together. A single cluster has no
    interval."""
    interval = NOTHING
    if np.unique(clusters).size > 1:
        drawn = [(weights @ hits) / weights.sum(1) for weights in _weights(clusters, RESAMPLES, seed=0)]
        interval = tuple(float(one) for one in np.percentile(np.concatenate(drawn), (2.5, 97.5)))
    return Figure(name, float(hits.mean()) if len(hits) else np.nan, interval, len(hits), aim, most)


def _weights(clusters: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is in each resample, (B, N), in parts that fit in memory."""
    names, places = np.unique(clusters, return_inverse=True)
    rng, part = np.random.default_rng(seed), max(1, _AT_ONCE // len(clusters))
    for start in range(0, resamples, part):
        often = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), min(part, resamples - start))
        yield often[:, places].astype(float)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _accuracies(answers: Answers, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ (answers.called == answers.malignant), weights.sum(1))


def _sensitivities(answers: Answers, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ (answers.called & answers.malignant), weights @ answers.malignant)


def _specificities(answers: Answers, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ ~(answers.called | answers.malignant), weights @ ~answers.malignant)


def _balanced(answers: Answers, weights: np.ndarray) -> np.ndarray:
    return (_sensitivities(answers, weights) + _specificities(answers, weights)) / 2


def _brier(answers: Answers, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ (answers.p - answers.malignant) ** 2, weights.sum(1))


def _calibration_errors(answers: Answers, weights: np.ndarray) -> np.ndarray:
    gaps = np.eye(BINS)[bins(answers.p)] * (answers.malignant - answers.p)[:, None]  # (N, BINS)
    return _ratio(abs(weights @ gaps).sum(1), weights.sum(1))


def _ranked(answers: Answers, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of malignant and of benign images by distinct probability, ascending: (B, K) each."""
    order = np.argsort(answers.p, kind="stable")
    p = answers.p[order]
    starts = np.flatnonzero(np.r_[True, p[1:] != p[:-1]])
    of = lambda chosen: np.add.reduceat(weights[:, order] * chosen[order], starts, axis=1)
    return of(answers.malignant), of(~answers.malignant)


def _areas(answers: Answers, weights: np.ndarray) -> np.ndarray:
    ones, zeros = _ranked(answers, weights)
    below = zeros.cumsum(1) - zeros / 2
    return _ratio((ones * below).sum(1), ones.sum(1) * zeros.sum(1))


def _average_precisions(answers: Answers, weights: np.ndarray) -> np.ndarray:
    ones, zeros = (side[:, ::-1] for side in _ranked(answers, weights))
    found = ones.cumsum(1)
    precision = np.nan_to_num(_ratio(found, found + zeros.cumsum(1)))
    both = np.where(zeros.sum(1) > 0, ones.sum(1), 0)
    return _ratio((ones * precision).sum(1), both)


MEASURES: Sequence[Measure] = (
    Measure("AUC", lambda a: roc_auc_score(a.malignant, a.p), _areas),
    Measure("Average precision", lambda a: average_precision_score(a.malignant, a.p), _average_precisions),
    Measure("Accuracy", lambda a: accuracy_score(a.malignant, a.called), _accuracies, ()),
    Measure("Balanced accuracy", lambda a: balanced_accuracy_score(a.malignant, a.called), _balanced),
    Measure(
        "Sensitivity at the operating point",
        lambda a: recall_score(a.malignant, a.called, pos_label=True),
        _sensitivities,
        (True,),
    ),
    Measure(
        "Specificity there", lambda a: recall_score(a.malignant, a.called, pos_label=False), _specificities, (False,)
    ),
    Measure("Expected calibration error", calibration_error, _calibration_errors, ()),
    Measure("Brier score", lambda a: brier_score_loss(a.malignant, a.p), _brier, ()),
)
