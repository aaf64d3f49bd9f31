"""Distances between sets of features: textbook values, and what real halves reach."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.neighbors import NearestNeighbors

from dermaflux.errors import DataError
from dermaflux.evaluation import distances


def normal(n: int, seed: int, shift: float = 0.0, width: int = 16, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (n, width)).astype(np.float32)


def test_the_frechet_distance_is_the_textbooks():
    a, b = normal(300, 0), normal(200, 1, 0.3, scale=1.4)
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum(np.trace(each) for each in covariances)
    wanted -= 2 * np.trace(sqrtm(covariances[0] @ covariances[1])).real
    assert distances.frechet(a, b) == pytest.approx(wanted, rel=1e-4)


def test_the_frechet_distance_of_fewer_images_than_features_is_exact():
    a, b = normal(12, 0, width=40), normal(9, 1, 1.0, width=40)
    assert distances.frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert distances.frechet(a, b) == pytest.approx(distances.frechet(b, a))
    assert distances.frechet(a, a + 2) == pytest.approx(40 * 4, rel=1e-4)


def test_cmmd_is_the_published_estimator_but_for_its_bias():
    a, b = normal(60, 0), normal(50, 1, 0.5)
    x, y = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (a.astype(float), b.astype(float)))
    kernel = lambda p, q: np.exp(-((p[:, None] - q[None]) ** 2).sum(-1) / (2 * 10**2))
    off = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    wanted = 1000 * (off(kernel(x, x)) + off(kernel(y, y)) - 2 * kernel(x, y).mean())
    found = distances.cmmd("", a, b)
    assert found.value == pytest.approx(wanted, rel=1e-6) and found.interval[0] > 0 and found.n == 50
    same = distances.cmmd("", normal(200, 2), normal(200, 3))
    assert same.interval[0] < 0 < same.interval[1]


@pytest.mark.parametrize("away", [0, 100])
def test_neighbourhoods_are_counted_as_one_by_one_however_far_from_the_origin(away):
    real, drawn = normal(40, 0, away, width=3), normal(30, 1, away + 0.4, width=3)
    far = np.sort(np.linalg.norm(real[:, None] - real[None], axis=-1), 1)[:, distances.NEIGHBOURS]
    inside = np.linalg.norm(drawn[:, None] - real[None], axis=-1) < far
    assert np.array_equal(distances.held(real, drawn), inside.sum(1))
    assert np.array_equal(distances.covered(real, drawn), inside.any(0))
    nearest = NearestNeighbors(n_neighbors=distances.NEIGHBOURS + 1).fit(real).kneighbors(real)[0][:, -1]
    assert distances.radii(real) == pytest.approx(nearest, rel=1e-5)


def test_drawn_images_of_the_real_kind_reach_the_floor_and_others_do_not():
    sets = distances.halves(normal(400, 0), normal(300, 1))
    assert len(sets.reference) == len(sets.real) == len(sets.drawn) == 200
    good = {one.name: one for one in distances.of_halves(sets, "benign")}
    far = {one.name: one for one in distances.of_halves(distances.halves(normal(400, 0), normal(300, 1, 3)), "benign")}
    one_spot = np.repeat(normal(1, 3), 300, 0) + normal(300, 1, scale=0.01)
    narrow = {one.name: one for one in distances.of_halves(distances.halves(normal(400, 0), one_spot), "benign")}
    for name in ("precision", "recall", "density", "coverage of half the real set"):
        drawn, floor = good[f"{name}, benign"], good[f"floor of {name}, benign"]
        assert drawn.value == pytest.approx(floor.value, abs=0.12) and drawn.n == floor.n == 200
        assert far[f"{name}, benign"].value < 0.1
    assert narrow["recall, benign"].value < 0.05 and narrow["coverage of half the real set, benign"].value < 0.1
    name = "Frechet distance, benign"
    assert good[name].value == pytest.approx(good[f"floor of {name}"].value, rel=0.3)
    assert good[name].interval[1] < far[name].interval[0]


def test_the_jackknife_of_the_frechet_distance_agrees_with_new_samples():
    fresh = [distances.frechet(normal(300, 10 + i), normal(300, 500 + i, 1)) for i in range(60)]
    found = distances._frechet_figure(normal(300, 0), normal(300, 1, 1))
    half = (found.interval[1] - found.interval[0]) / 2
    assert half == pytest.approx(1.96 * np.std(fresh), rel=0.6)
    assert abs(found.value - np.mean(fresh)) < 2 * half


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match="19 real and 50 drawn images are too few to compare; 20 and 10 are needed"):
        distances.halves(normal(19, 0), normal(50, 1))
    with pytest.raises(DataError, match="too few"):
        distances.halves(normal(50, 0), normal(9, 1))
    assert len(distances.of_halves(distances.halves(normal(20, 0), normal(10, 1)), "benign")) == 10


def test_halves_share_no_image_and_are_the_same_for_their_seed():
    real = np.arange(50, dtype=np.float32)[:, None]
    sets = distances.halves(real, real[:10], seed=3)
    assert not set(sets.reference.ravel()) & set(sets.real.ravel()) and len(sets.drawn) == 10
    assert np.array_equal(sets.reference, distances.halves(real, real[:10], seed=3).reference)
