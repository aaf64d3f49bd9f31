"""The AUCs of classifiers asked about the same images, their covariance, and the test of their difference.

DeLong, DeLong and Clarke-Pearson (1988) by the fast algorithm of Sun and Xu (IEEE Signal Processing Letters 21, 2014);
over images that cluster by patient or lesion as Obuchowski (Biometrics 53, 1997), which is the same where none do.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata


@dataclass(frozen=True)
class Comparison:
    """Two AUCs, the second less the first with its 95 % interval, and the two-sided test that they are equal.

    Where there are fewer than two patients or lesions of a class, interval, z and p are NaN; where there is none, areas
    and difference are too.
    """

    areas: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    z: float
    p: float
    n: int


def compare(malignant: np.ndarray, first: np.ndarray, second: np.ndarray, clusters: np.ndarray) -> Comparison:
    """The scores `second` (N,) against `first` (N,), of images of which (N,) bool are malignant.

    clusters: (N,) int, the same for images of one patient or lesion.
    """
    areas, covariance = areas_of(malignant, np.stack([first, second]), clusters)
    difference = float(areas[1] - areas[0])
    spread = float(np.sqrt(np.maximum(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0)))
    if np.allclose(spread, 0, atol=1e-9):  # not of NaN
        z = 0.0 if abs(difference) < 1e-9 else float(np.copysign(np.inf, difference))
    else:
        z = difference / spread
    half = norm.ppf(0.975) * spread
    ends = difference - half, difference + half
    return Comparison(tuple(map(float, areas)), difference, ends, z, float(2 * norm.sf(abs(z))), len(malignant))


def areas_of(malignant: np.ndarray, scores: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs (K,) and their covariance (K, K) of K rows of scores (K, N): NaN the covariance without two clusters of each
    class, and both without one."""
    _, places = np.unique(clusters, return_inverse=True)
    ones, zeros = malignant.sum(), (~malignant).sum()
    if not ones or not zeros:
        return np.full(len(scores), np.nan), np.full((len(scores),) * 2, np.nan)
    ranks = rankdata(scores, axis=1)
    placed = np.empty(scores.shape)  # the share of the other class that an image is told from
    placed[:, malignant] = (ranks[:, malignant] - rankdata(scores[:, malignant], axis=1)) / zeros
    placed[:, ~malignant] = 1 - (ranks[:, ~malignant] - rankdata(scores[:, ~malignant], axis=1)) / ones
    areas = placed[:, malignant].mean(1)
    a, b = (_summed((placed - areas[:, None]) * chosen, places) for chosen in (malignant, ~malignant))  # (K, G) each
    many = [len(np.unique(places[chosen])) for chosen in (malignant, ~malignant)]
    count = places.max() + 1
    if min(many) < 2:
        return areas, np.full((len(scores),) * 2, np.nan)
    cross = a @ b.T
    return areas, (
        _corrected(many[0]) * a @ a.T / ones**2
        + _corrected(many[1]) * b @ b.T / zeros**2
        + _corrected(count) * (cross + cross.T) / (ones * zeros)
    )


def _corrected(count: int) -> float:
    return count / (count - 1)


def _summed(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The sums (K, G) of values (K, N) by place."""
    return np.stack([np.bincount(places, row) for row in values])
