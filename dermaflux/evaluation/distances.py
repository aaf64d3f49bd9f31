"""How far apart two sets of images lie in a feature space, beside what two halves of the real set are apart.

Frechet distance (Heusel et al., arXiv 1706.08500), improved precision and recall (Kynkäänniemi et al., arXiv
1904.06991), density and coverage (Naeem et al., arXiv 2002.09797) depend on how many images are compared. Therefore the
real set is halved: one half is the reference, and as many drawn images as the other half has are compared with it; the
other half is the floor, what real images themselves reach at that number.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances, polynomial_kernel, rbf_kernel
from sklearn.neighbors import NearestNeighbors

from dermaflux.errors import DataError
from dermaflux.evaluation.figures import Figure, resampled

NEIGHBOURS, MOST = 5, 1000
"""Of an image's neighbourhood, as the authors of density and coverage have it; and the most images of a side."""
FOLDS = FEWEST = 10
"""Parts of each side that the jackknife leaves out in turn, and the fewest images of a side."""
BANDWIDTH = 10.0
"""Of the Gaussian kernel, on features of unit length (Jayasumana et al., arXiv 2401.09603)."""
MOST_PAIRED = 5000
"""The most images of a side of a kernel distance, whose kernel is held in memory."""

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Halves:
    """Features (N, F) of real images to compare with, of as many other real ones, and of as many drawn ones."""

    reference: np.ndarray
    real: np.ndarray
    drawn: np.ndarray


def halves(real: np.ndarray, drawn: np.ndarray, seed: int = 0) -> Halves:
    """`real` and `drawn` (N, F), shuffled and cut to the size of half the real set, at most MOST.

    Raises DataError where less than FEWEST are left.
    """
    rng = np.random.default_rng(seed)
    size = min(len(real) // 2, len(drawn), MOST)
    if size < FEWEST:
        raise DataError(
            f"{len(real)} real and {len(drawn)} drawn images are too few to compare; {2 * FEWEST} and {FEWEST} are "
            "needed."
        )
    places = rng.permutation(len(real))
    return Halves(real[places[:size]], real[places[size : 2 * size]], drawn[rng.permutation(len(drawn))[:size]])


def of_halves(sets: Halves, label: str) -> list[Figure]:
    """Frechet distance, precision, recall, density and coverage of the drawn images, each followed by its floor."""
    found = []
    for of in (_frechet_figure, _precision, _recall, _density, _coverage):
        drawn, real = of(sets.reference, sets.drawn), of(sets.reference, sets.real)
        found += [replace(drawn, name=f"{drawn.name}, {label}"), replace(real, name=f"floor of {real.name}, {label}")]
    return found


def kid(name: str, a: np.ndarray, b: np.ndarray, aim: float | None = None) -> Figure:
    """The kernel inception distance of two sets of features: 1000 times the squared maximum mean discrepancy under the
    kernel (x.y / d + 1)^3 (Binkowski et al., arXiv 1801.01401)."""
    return mmd(name, a, b, lambda x, y: polynomial_kernel(x, y, degree=3, coef0=1), aim)


def cmmd(name: str, a: np.ndarray, b: np.ndarray) -> Figure:
    """The distance of CMMD (Jayasumana et al., arXiv 2401.09603) in the features given: 1000 times the squared maximum
    mean discrepancy under a Gaussian kernel of BANDWIDTH on features of unit length; unbiased, where theirs is not."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    return mmd(name, a, b, lambda x, y: rbf_kernel(x, y, gamma=0.5 / BANDWIDTH**2))


def mmd(name: str, a: np.ndarray, b: np.ndarray, kernel: Kernel, aim: float | None = None) -> Figure:
    """1000 times the squared maximum mean discrepancy, unbiased (Gretton et al., 2012), with the normal interval from
    its first-order variance (Sutherland et al., arXiv 1611.04488)."""
    a, b = (np.asarray(some(x, MOST_PAIRED), float) for x in (a, b))
    within_a, within_b, between = kernel(a, a), kernel(b, b), kernel(a, b)
    inner_a, inner_b = ((k.sum(1) - np.diag(k)) / (len(k) - 1) for k in (within_a, within_b))
    value = inner_a.mean() + inner_b.mean() - 2 * between.mean()
    spread = 4 * (
        np.var(inner_a - between.mean(1), ddof=1) / len(a) + np.var(inner_b - between.mean(0), ddof=1) / len(b)
    )
    half = 1.96 * spread**0.5
    return Figure(name, 1000 * value, (1000 * (value - half), 1000 * (value + half)), len(b), aim, most=True)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The squared Frechet distance of the normal distributions with the means and covariances of two sets of features.

    The trace of the root of the covariances' product is the sum of the singular values of the product of the centred
    features, so that it is exact for fewer images than features too.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    low_a, low_b = (
        np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1), mode="r") for x in (a, b)
    )  # (min(N, F), F) each
    root = np.linalg.svd(low_a @ low_b.T, compute_uv=False).sum()
    moved = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(max(0.0, moved + (low_a**2).sum() + (low_b**2).sum() - 2 * root))


def covered(real: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Whether each of `real` (N, F) has one of `drawn` within the distance of its fifth real neighbour: (N,) bool."""
    return NearestNeighbors(n_neighbors=1).fit(drawn).kneighbors(real)[0][:, 0] < radii(real)


def radii(x: np.ndarray) -> np.ndarray:
    """The distance of each of `x` (N, F) to its fifth neighbour among the others: (N,)."""
    return NearestNeighbors(n_neighbors=NEIGHBOURS).fit(x).kneighbors()[0][:, -1]


def held(real: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Within the neighbourhoods of how many of `real` (N, F) each of `drawn` (M, F) lies: (M,) int."""
    return (euclidean_distances(drawn, real) < radii(real)).sum(1)


def some(x: np.ndarray, most: int) -> np.ndarray:
    """At most so many of `x`, always the same."""
    return x if len(x) <= most else x[np.random.default_rng(0).permutation(len(x))[:most]]


def _frechet_figure(real: np.ndarray, drawn: np.ndarray) -> Figure:
    """The distance with a normal interval from a jackknife that leaves out parts of each side; a bootstrap, whose
    doubled images the distance takes for a narrower distribution, would be biased."""
    spread, value = 0.0, frechet(real, drawn)
    for side in (0, 1):
        without = []
        for fold in range(FOLDS):
            sets = [real, drawn]
            sets[side] = np.delete(sets[side], np.s_[fold::FOLDS], axis=0)
            without.append(frechet(*sets))
        spread += (FOLDS - 1) * np.var(without)
    half = 1.96 * spread**0.5
    return Figure("Frechet distance", value, (value - half, value + half), len(drawn), most=True)


def _precision(real: np.ndarray, drawn: np.ndarray) -> Figure:
    return resampled("precision", np.mean, held(real, drawn) > 0)


def _recall(real: np.ndarray, drawn: np.ndarray) -> Figure:
    return resampled("recall", np.mean, held(drawn, real) > 0)


def _density(real: np.ndarray, drawn: np.ndarray) -> Figure:
    return resampled("density", np.mean, held(real, drawn) / NEIGHBOURS)


def _coverage(real: np.ndarray, drawn: np.ndarray) -> Figure:
    return resampled("coverage of half the real set", np.mean, covered(real, drawn))
