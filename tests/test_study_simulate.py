"""Simulated readers: their parameters, and a report that recovers them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from dermaflux.errors import InputError
from dermaflux.study import agreement, discrimination, learning, ratings, simulate
from dermaflux.study import readings as table_of
from dermaflux.study.estimates import Estimate
from dermaflux.study.simulate import Reader

STUDIES, FEW, SPREAD = 100, 100, 0.2


def estimated(table) -> Iterator[tuple[str, Estimate]]:
    """What the report says of each parameter of simulated readers."""
    skill = discrimination.pooled(discrimination.answers(table), FEW)
    yield from ((name, getattr(skill, name)) for name in ("dprime", "criterion", "sensitivity", "specificity", "auc"))
    yield "accuracy", skill.balanced
    for one in ratings.rated(table, "realism", resamples=FEW):
        if one.by == "all":
            yield f"realism, {one.source}", one.estimate
    for one in ratings.diagnosed(table, resamples=FEW):
        yield f"{one.group}, {one.source}", one.estimate
    for one in ratings.artefacts(table, resamples=FEW):
        yield from ((f"{one.tag}, {source}", share) for source, share in one.shares.items())
    for one in ratings.matches(table, resamples=FEW):
        yield f"{one.attribute} as asked", one.drawn
    yield "like answers", agreement.within(table, FEW)[0].estimate
    yield "learning", learning.trends(table)[0].factor


def test_the_report_recovers_the_readers_parameters_in_90_of_100_studies():
    reader = Reader()
    many = [simulate.expected(one) for one in simulate.panel(1, 2000, reader, SPREAD)]
    truth = {name: float(np.mean([one[name] for one in many])) for name in many[0]}
    truth |= {"dprime": reader.dprime, "criterion": reader.criterion, "learning": 1.0}
    found = Counter()
    for seed in range(STUDIES):
        panel = simulate.panel(1000 + seed, 5, reader, SPREAD)
        for name, estimate in estimated(simulate.readings(seed, panel, 100)):
            found[name] += name in truth and estimate.low <= truth[name] <= estimate.high
    assert {name: found[name] for name in truth if found[name] < 0.9 * STUDIES} == {}


def test_what_is_expected_of_a_reader_is_what_many_answers_show():
    reader = Reader(dprime=1.2, criterion=-0.3, learning=0)
    truth = simulate.expected(reader)
    assert truth["sensitivity"] == pytest.approx(norm.cdf(0.9)) and truth["specificity"] == pytest.approx(norm.cdf(0.3))
    table = simulate.readings(0, [reader] * 4, 2000, repeats=0.5, case_share=0)
    for name, estimate in estimated(table):
        if name in truth:
            assert estimate.value == pytest.approx(truth[name], abs=0.05), name


def test_readings_have_the_columns_and_values_of_an_export(tmp_path):
    table = simulate.readings(5, simulate.panel(5, 3), 30)
    table_of.write(table, tmp_path / "readings.csv")
    again = table_of.read(tmp_path / "readings.csv")
    assert list(again) == list(table_of.COLUMNS) and len(again) == len(table) == 3 * 33
    assert (again.dtypes == table.dtypes).all() and again.drop(columns="seconds").equals(table.drop(columns="seconds"))
    real = table[table["source"] == "real"]
    assert real["match"].isna().all() and (real["match_border"] == "").all()


def test_a_study_is_the_same_for_its_seed_alone():
    panel = simulate.panel(1, 2)
    one, two, three = (simulate.readings(seed, panel, 20) for seed in (1, 1, 2))
    assert one.equals(two) and not one.equals(three)
    assert simulate.panel(1, 2) == panel != simulate.panel(2, 2)


def test_repeats_come_after_every_first_showing_and_shares_are_kept():
    table = simulate.readings(1, [Reader()], 40, real_share=0.25, repeats=0.25)
    again = table["repeat"].astype(bool)
    assert again.sum() == 10 and table["position"][again].min() > table["position"][~again].max()
    assert (table[~again]["source"] == "real").sum() == 10
    lost = simulate.readings(1, [Reader()] * 3, 40, missing=0.5)
    assert 0 < len(lost) < 100 and set(lost["case"][lost["repeat"].astype(bool)]) <= set(lost["case"])


def test_tremor_is_the_share_of_repeats_answered_the_other_way():
    for tremor in (0.0, 1.0):
        found = agreement.within_each(simulate.readings(1, [replace(Reader(), tremor=tremor)], 60, repeats=1))
        assert found["R01"].value == 1 - tremor and found["R01"].n == 60


@pytest.mark.parametrize(
    "wrong", [{"real_share": 1.2}, {"repeats": -0.1}, {"missing": 2}, {"case_share": float("nan")}]
)
def test_a_share_out_of_range_is_refused(wrong):
    with pytest.raises(InputError, match="share must lie"):
        simulate.readings(0, [Reader()], 10, **wrong)
