"""Coefficients of agreement against published examples and other implementations."""

import krippendorff as other
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from dermaflux.study import agreement, simulate

NONE = np.nan
UNITS = np.array(
    [
        [1, 1, NONE, 1],
        [2, 2, 3, 2],
        [3, 3, 3, 3],
        [3, 3, 3, 3],
        [2, 2, 2, 2],
        [1, 2, 3, 4],
        [4, 4, 4, 4],
        [1, 1, 2, 1],
        [2, 2, 2, 2],
        [NONE, 5, 5, 5],
        [NONE, NONE, 1, 1],
        [NONE, NONE, 3, NONE],
    ]
)
"""Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C, a unit a row; Gwet's Handbook of
Inter-Rater Reliability (2014) takes it up as its example with missing ratings."""
ABSTRACTORS = np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]])
"""Gwet's example of two abstractors who tell ectopic, abnormal and normal pregnancies apart (2014)."""
DIAGNOSES = np.array([[40, 4, 4, 17], [6, 25, 2, 13], [4, 1, 21, 12], [15, 5, 9, 45]])
"""Gwet's example of 223 patients diagnosed by two methods (2014)."""


def counts(units: np.ndarray, categories) -> np.ndarray:
    return np.stack([(units == category).sum(1) for category in categories], 1)


def pairs(table: np.ndarray) -> np.ndarray:
    return np.array([(a, b) for (a, b), count in np.ndenumerate(table) for _ in range(count)])


def test_krippendorffs_alpha_is_that_of_his_worked_example_with_missing_ratings():
    table = counts(UNITS, range(1, 6))
    assert agreement.krippendorff(table) == pytest.approx(0.743, abs=5e-4)
    assert agreement.krippendorff(table, ordinal=True) == pytest.approx(0.815, abs=5e-4)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("level", ["nominal", "ordinal"])
def test_krippendorffs_alpha_agrees_with_another_implementation(seed, level):
    rng = np.random.default_rng(seed)
    units = np.clip(rng.integers(1, 6, (30, 1)) + rng.integers(-1, 2, (30, 5)), 1, 5).astype(float)
    units[rng.random(units.shape) < 0.3] = NONE
    known = other.alpha(reliability_data=units.T, level_of_measurement=level)
    assert agreement.krippendorff(counts(units, range(1, 6)), level == "ordinal") == pytest.approx(known)


def test_gwets_ac1_is_that_of_his_worked_examples():
    assert agreement.gwet(counts(pairs(ABSTRACTORS), range(3))) == pytest.approx(0.8493305, abs=1e-6)
    assert agreement.gwet(counts(UNITS, range(1, 6))) == pytest.approx(0.77544, abs=5e-6)


def test_gwets_ac2_is_that_of_his_worked_examples():
    """The examples of his Handbook (2014) with its ordinal weights, as the package irrCAC gives them."""
    assert agreement.ordinal_weights(3)[0] == pytest.approx([1, 2 / 3, 0])
    assert agreement.ordinal_weights(5)[1] == pytest.approx([0.9, 1, 0.9, 0.7, 0.4])
    assert agreement.gwet(counts(UNITS, range(1, 6)), ordinal=True) == pytest.approx(0.899, abs=5e-4)
    assert agreement.gwet(counts(pairs(ABSTRACTORS), range(3)), ordinal=True) == pytest.approx(0.925, abs=5e-4)
    assert agreement.gwet(counts(pairs(DIAGNOSES), range(4)), ordinal=True) == pytest.approx(0.324, abs=5e-4)
    assert agreement.gwet(counts(pairs(DIAGNOSES), range(4))) == pytest.approx(0.456, abs=5e-4)


def test_ac2_counts_the_steps_that_nobody_used_and_forgives_near_misses():
    near, far = np.array([[1, 1, 0, 0, 0]] * 9), np.array([[1, 0, 0, 0, 1]] * 9)
    spread = np.vstack([np.eye(5) * 2, near[:1]])
    assert agreement.gwet(np.vstack([spread, near]), True) > agreement.gwet(np.vstack([spread, far]), True)
    table = simulate.readings(5, simulate.panel(5, 3), 40)
    table["realism"] = pd.array([3] * len(table), dtype="Int64")
    found = {one.question.column: one for one in agreement.between(table, 20) if one.coefficient.startswith("Gwet")}
    assert found["realism"].estimate.value == 1 and found["realism"].coefficient == "Gwet's AC2, ordinal weights"


def test_cohens_kappa_is_that_of_the_example_and_of_scikit_learn():
    assert agreement.cohen(ABSTRACTORS) == pytest.approx(0.7964094, abs=1e-6)
    table = np.random.default_rng(1).integers(0, 20, (4, 4))
    one, two = pairs(table).T
    for ordinal, weights in ((False, None), (True, "quadratic")):
        assert agreement.cohen(table, ordinal) == pytest.approx(cohen_kappa_score(one, two, weights=weights))


def test_fleiss_kappa_is_that_of_his_worked_example():
    """Fleiss (1971) as restated in the articles on it: 10 subjects, 14 raters, 5 categories, kappa 0.210."""
    table = np.array(
        [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ]
    )
    assert agreement.fleiss(table) == pytest.approx(0.210, abs=5e-4)


def test_agreement_that_cannot_be_estimated_is_not_a_number():
    alike = np.tile([3, 0], (5, 1))
    assert np.isnan([agreement.krippendorff(alike), agreement.fleiss(alike), agreement.gwet(alike[:, :1])]).all()
    assert np.isnan(agreement.cohen(np.diag([5, 0])))
    assert np.isnan(agreement.gwet(np.array([[1, 0], [0, 1]])))
    estimate = agreement.bootstrapped(agreement.krippendorff, alike, 15, 20)
    assert estimate.text() == "not estimable" and estimate.n == 15


def test_the_interval_over_cases_is_as_wide_as_chance_makes_it():
    """The simple agreement of two readers is a share of independent cases, whose interval is known."""
    hits = np.arange(100) < 70
    found = agreement.bootstrapped(lambda rows: float(rows.mean()), hits, 200, 2000)
    assert found.value == 0.7 and (found.low, found.high) == pytest.approx((0.61, 0.79), abs=0.02)


def test_two_readers_have_cohens_kappa_and_many_have_none():
    def names(readers: int) -> set[str]:
        table = simulate.readings(1, simulate.panel(1, readers), 40)
        return {one.coefficient for one in agreement.between(table, 20) if one.question.column == "said_label"}

    assert names(1) == set()
    assert names(2) == {"Cohen's kappa", "Krippendorff's alpha", "Fleiss' kappa", "Gwet's AC1"}
    assert names(5) == names(2) - {"Cohen's kappa"}


def test_ordered_answers_have_ordinal_coefficients_alone():
    found = agreement.between(simulate.readings(1, simulate.panel(1, 2), 40), 20)
    names = {one.coefficient for one in found if one.question.column == "realism"}
    assert names == {"Krippendorff's alpha", "Cohen's kappa, quadratic weights", "Gwet's AC2, ordinal weights"}


def test_repeated_cases_count_for_readers_themselves_and_not_between_them():
    table = simulate.readings(2, simulate.panel(2, 3), 60, repeats=0.5)
    once = table[~table["repeat"].astype(bool)]
    of = lambda found: [(one.coefficient, one.estimate) for one in found]
    assert of(agreement.between(table, 20)) == of(agreement.between(once, 20))
    found = agreement.within(table, 20)
    assert found[0].coefficient == "share of like answers" and found[0].estimate.n == 90
    assert agreement.within(once, 20) == [] and agreement.within_each(once) == {}


def test_missing_answers_leave_the_coefficients_that_can_do_without_them():
    table = simulate.readings(3, simulate.panel(3, 4), 60, repeats=0, missing=0.3)
    found = {one.coefficient: one for one in agreement.between(table, 20) if one.question.column == "said_synthetic"}
    assert found["Krippendorff's alpha"].cases > found["Fleiss' kappa"].cases > 0
    codes = table.assign(said=table["said_synthetic"].astype(float)).pivot(
        index="reader", columns="case", values="said"
    )
    known = other.alpha(reliability_data=codes.to_numpy(), level_of_measurement="nominal")
    assert found["Krippendorff's alpha"].estimate.value == pytest.approx(known)


def test_a_reader_without_tremor_agrees_with_themselves_wholly_but_not_with_certainty():
    table = simulate.readings(4, [simulate.Reader(tremor=0)] * 3, 60)
    for one in agreement.within_each(table).values():
        assert one.value == one.high == 1 and 0.5 < one.low < 0.8 and one.n == 6
