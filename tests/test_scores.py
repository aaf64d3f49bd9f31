"""Figures of classifiers: as scikit-learn gives them, over patients, and never of a class that is not there."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    recall_score,
    roc_auc_score,
)

from dermaflux.evaluation import delong, scores
from dermaflux.evaluation.scores import Answers

ALB = """3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1
3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0
3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1
2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0
4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1"""
"""Albumin, total protein, K-G score and outcome of 43 patients of DeLong et al. (1988), out of the SAS/STAT guide."""


def answers(n: int = 200, seed: int = 0, lead: float = 1.0, images: int = 1) -> Answers:
    """Ties on purpose; `images` of each lesion, which are alike."""
    rng = np.random.default_rng(seed)
    malignant = np.repeat(rng.random(n // images) < 0.3, images)
    p = 1 / (1 + np.exp(-np.repeat(rng.normal(0, 1, n // images), images) - lead * malignant + 1))
    return Answers(malignant, p.round(2), 0.4, np.repeat(np.arange(n // images), images))


def test_weighted_figures_are_those_of_scikit_learn():
    one, rng = answers(), np.random.default_rng(1)
    weights = rng.integers(0, 4, (5, 200)).astype(float)
    known = {
        "AUC": lambda w: roc_auc_score(one.malignant, one.p, sample_weight=w),
        "Average precision": lambda w: average_precision_score(one.malignant, one.p, sample_weight=w),
        "Accuracy": lambda w: accuracy_score(one.malignant, one.called, sample_weight=w),
        "Balanced accuracy": lambda w: balanced_accuracy_score(one.malignant, one.called, sample_weight=w),
        "Sensitivity at the operating point": lambda w: recall_score(one.malignant, one.called, sample_weight=w),
        "Specificity there": lambda w: recall_score(one.malignant, one.called, pos_label=False, sample_weight=w),
        "Brier score": lambda w: brier_score_loss(one.malignant, one.p, sample_weight=w),
    }
    for measure in scores.MEASURES:
        found = measure.weighted(one, weights)
        if measure.name in known:
            assert found == pytest.approx([known[measure.name](w) for w in weights]), measure.name
        assert measure.weighted(one, np.ones((1, 200)))[0] == pytest.approx(measure.value(one)), measure.name
    assert known.keys() | {"Expected calibration error"} == {measure.name for measure in scores.MEASURES}


def test_the_calibration_error_is_the_gap_between_promise_and_truth():
    p = np.full(100, 0.7)
    for share in (0.7, 0.5):
        malignant = np.arange(100) < 100 * share
        found = scores.calibration_error(Answers(malignant, p, 0.5, np.arange(100)))
        assert found == pytest.approx(0.7 - share)
    certain = Answers(np.array([True, False]), np.array([1.0, 0.0]), 0.5, np.arange(2))
    assert scores.calibration_error(certain) == 0


def test_an_interval_covers_its_value_and_is_wider_where_images_share_a_lesion():
    single, shared = answers(400), answers(400, images=8)
    alone = Answers(shared.malignant, shared.p, shared.threshold, np.arange(400))
    width = lambda figure: figure.interval[1] - figure.interval[0]
    for one in scores.figures(single):
        assert one.interval[0] <= one.value <= one.interval[1] or one.name == "Expected calibration error"
    for clustered, naive in zip(scores.figures(shared), scores.figures(alone), strict=True):
        assert clustered.value == naive.value
        assert width(clustered) > 1.5 * width(naive), clustered.name


def test_the_interval_of_a_share_agrees_with_theory():
    one = Answers(np.ones(400, bool), np.repeat([0.9, 0.1], 200), 0.5, np.arange(400))
    [sensitivity] = [each for each in scores.figures(one) if each.name.startswith("Sensitivity")]
    assert sensitivity.interval == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.006)


def test_no_figure_is_given_of_a_class_that_is_not_there():
    benign = answers().of(~answers().malignant)
    found = {one.name: one for one in scores.figures(benign)}
    for name in ("AUC", "Average precision", "Balanced accuracy", "Sensitivity at the operating point"):
        assert np.isnan(found[name].value) and np.isnan(found[name].interval).all()
        assert "not defined" in found[name].markdown() and "nan" not in found[name].markdown()
    assert found["Specificity there"].value > 0 and found["Sensitivity at the operating point"].n == 0


def test_few_lesions_of_a_class_get_a_value_without_an_interval():
    one = answers()
    few = one.of(~one.malignant | (np.cumsum(one.malignant) <= 3))
    found = {each.name: each for each in scores.figures(few)}
    assert 0 < found["AUC"].value < 1 and np.isnan(found["AUC"].interval).all()
    assert not np.isnan(found["Specificity there"].interval).any()


def test_parts_of_resamples_are_those_of_the_whole(monkeypatch):
    one = answers()
    whole = list(scores._weights(one.clusters, 50, 0))
    monkeypatch.setattr(scores, "_AT_ONCE", 200 * 7)
    parts = list(scores._weights(one.clusters, 50, 0))
    assert len(parts) == 8 and np.array_equal(np.concatenate(whole), np.concatenate(parts))


def test_delong_gives_the_published_figures_of_delongs_own_patients():
    table = np.array(ALB.split(), float).reshape(-1, 4)
    worse, alone = table[:, 3] == 0, np.arange(len(table))
    albumin, protein, score = -table[:, 0], -table[:, 1], table[:, 2]
    areas, covariance = delong.areas_of(worse, np.stack([albumin, score, protein]), alone)
    assert areas == pytest.approx([0.7366, 0.7258, 0.6478], abs=5e-5)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.0927, 0.1028, 0.1000], abs=5e-5)
    found = delong.compare(worse, score, albumin, alone)
    assert (found.difference, found.p) == pytest.approx((0.0108, 0.9102), abs=1e-4)
    assert found.interval == pytest.approx((-0.1761, 0.1976), abs=1e-4)
    found = delong.compare(worse, score, protein, alone)
    assert (found.difference, found.p) == pytest.approx((-0.0780, 0.4561), abs=1e-4)


@pytest.mark.parametrize("images", [1, 4])
def test_delong_agrees_with_the_bootstrap_over_lesions(images):
    one = answers(600, images=images)
    noise = np.repeat(np.random.default_rng(5).normal(0, 1, 600 // images), images)
    other = Answers(one.malignant, one.p + noise, 0.4, one.clusters)
    found = delong.compare(one.malignant, one.p, other.p, one.clusters)
    drawn = [scores._areas(other, w) - scores._areas(one, w) for w in scores._weights(one.clusters, 3000, 2)]
    assert found.difference == pytest.approx(
        roc_auc_score(one.malignant, other.p) - roc_auc_score(one.malignant, one.p)
    )
    half = (found.interval[1] - found.interval[0]) / 2
    assert half == pytest.approx(1.96 * np.concatenate(drawn).std(), rel=0.1)


def test_a_classifier_does_not_differ_from_itself_and_one_class_gives_no_test():
    one = answers()
    same = delong.compare(one.malignant, one.p, one.p * 0.5, one.clusters)
    assert (same.difference, same.z, same.p) == (0, 0, 1)
    none = delong.compare(np.zeros(200, bool), one.p, 1 - one.p, one.clusters)
    assert np.isnan([none.difference, none.z, none.p]).all()
    lonely = delong.compare(np.arange(200) == 3, one.p, 1 - one.p, one.clusters)
    assert not np.isnan(lonely.difference) and np.isnan([lonely.z, lonely.p]).all()
