"""Discrimination, ratings, artefacts, learning and the size of a study, on readings whose answers are known."""

import csv

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from dermaflux.errors import DataError, InputError
from dermaflux.study import asked, discrimination, estimates, learning, planning, ratings, readings, results, simulate
from dermaflux.study.estimates import Estimate
from dermaflux.study.simulate import Reader

FEW = 200


def made(readers: int = 4, cases: int = 60, seed: int = 0, repeats: float = 0, **reader) -> pd.DataFrame:
    return simulate.readings(seed, simulate.panel(seed, readers, Reader(**reader), 0.1), cases, repeats=repeats)


def perfect(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(said_synthetic=(table["source"] == "synthetic").astype("boolean"), confidence=5)


def test_wilsons_interval_is_that_of_the_literature():
    for n, low, high in ((100, 0.404, 0.596), (400, 0.451, 0.549)):
        found = estimates.wilson(n // 2, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4) and found.n == n
    assert estimates.wilson(0, 0).text() == "not estimable"


def test_each_readers_shares_are_counted_from_first_showings_alone():
    table = made(2, 40, repeats=0.5)
    found = {skill.who: skill for skill in discrimination.of_readers(discrimination.answers(table), FEW)}
    own = table[(table["reader"] == "R01") & ~table["repeat"]]
    synthetic = own[own["source"] == "synthetic"]
    assert found["R01"].accuracy.n == 40
    assert found["R01"].sensitivity == estimates.wilson(int(synthetic["said_synthetic"].sum()), 20)
    assert found["R01"].specificity.n == 20


def test_the_auc_is_that_of_scikit_learn_on_the_ten_step_scale():
    found = discrimination.answers(made(3))
    assert set(found.level) <= set(range(1, 11)) and (found.said == (found.level > 5)).all()
    known = []
    for skill in discrimination.of_readers(found, FEW):
        own = found.of(found.readers == skill.who)
        known.append(roc_auc_score(own.synthetic, own.level))
        assert skill.auc.value == pytest.approx(known[-1])
    assert discrimination.pooled(found, FEW).auc.value == pytest.approx(np.mean(known))
    false, true = discrimination.roc(found)
    assert np.trapezoid(true, false) == pytest.approx(roc_auc_score(found.synthetic, found.level))


def test_comments_come_back_from_the_csv_as_they_were_and_none_is_a_formula(tmp_path):
    said = ["=1+1", "'=1+1", "''", "'tis odd", "- a\n- b", "@x", "\tx", "plain", "", "'"]
    table = made(1, 10).assign(comment=said)
    path = readings.write(table, tmp_path / "readings.csv")
    assert readings.read(path).equals(table)
    with path.open(newline="", encoding="utf-8") as stream:
        kept = [row["comment"] for row in csv.DictReader(stream)]
    assert kept == ["'=1+1", "''=1+1", "''", "'tis odd", "'- a\n- b", "'@x", "'\tx", "plain", "", "'"]


def test_a_clustered_interval_holds_for_independent_readings_and_widens_with_clusters():
    rng = np.random.default_rng(0)
    readers, cases = np.repeat(np.arange(10), 50), np.tile(np.arange(50), 10)
    table = pd.DataFrame({"reader": readers, "case": cases})
    alone = estimates.mean((rng.random(500) < 0.3).astype(float), table)
    known = estimates.wilson(round(alone.value * 500), 500)
    assert alone.high - alone.low == pytest.approx(known.high - known.low, rel=0.3)
    for unit in (readers, cases):
        together = estimates.mean((rng.random(50) < 0.3)[unit].astype(float), table)
        assert together.high - together.low > 2 * (known.high - known.low)


def test_a_share_that_is_whole_in_the_sample_still_has_an_interval():
    table = pd.DataFrame({"reader": np.repeat([1, 2], 20), "case": np.tile(np.arange(20), 2)})
    found = estimates.mean(np.ones(40), table)
    assert found.value == found.high == 1 and 0.8 < found.low < 0.9
    alike = estimates.mean(np.full(40, 3.0), table, estimates.STEPS)
    assert alike.text() == "3.00 (no interval)"


@pytest.mark.parametrize(
    "value, error, verdict, words",
    [
        (0.5, 0.03, "equivalent to chance", "no better than chance"),
        (0.55, 0.02, "distinguishable, by less than the margin", "less than the margin"),
        (0.7, 0.05, "distinguishable", "tell synthetic from real"),
        (0.3, 0.05, "distinguishable", "for the wrong source"),
        (0.55, 0.08, "inconclusive", "neither shown"),
    ],
)
def test_the_equivalence_test_says_what_may_be_concluded(value, error, verdict, words):
    low, high = estimates.limits(Estimate(value, 0, 0, 400, error, 30), (0, 1), 0.95)
    found = discrimination.equivalence(Estimate(value, low, high, 400, error, 30), 0.1)
    assert found.verdict == verdict and words in found.sentence and "90 % interval" in found.sentence
    assert (found.p < 0.05) == (found.low > 0.4 and found.high < 0.6)


def test_perfect_readers_are_told_from_readers_who_always_say_the_same():
    table = perfect(made())
    found = discrimination.pooled(discrimination.answers(table), FEW)
    assert discrimination.equivalence(found.balanced).verdict == "distinguishable" and found.auc.value == 1
    lazy = table.assign(said_synthetic=pd.array([False] * len(table), dtype="boolean"))
    found = discrimination.equivalence(discrimination.pooled(discrimination.answers(lazy), FEW).balanced)
    assert found.verdict == "inconclusive" and "do not vary" in found.sentence


@pytest.mark.parametrize("margin", [0, 0.5, -1, float("nan")])
def test_a_margin_out_of_range_is_refused(margin):
    with pytest.raises(InputError, match="between 0 and"):
        results.compute(made(), margin)


def test_the_sample_size_gives_the_power_it_promises():
    """Readers at chance whose skill scatters by 0.2 and who share a tenth of the evidence: of a right answer's variance
    that is (0.2 phi(0) / 2)^2 / 0.25 and 2 / pi asin(0.1)."""
    [size] = planning.sample_sizes(0.12, 0.8, [6], 0.0064, 0.064)
    found = []
    for seed in range(80):
        panel = simulate.panel(1000 + seed, size.readers, Reader(dprime=0, criterion=0))
        answers = discrimination.answers(simulate.readings(seed, panel, size.cases, repeats=0))
        found.append(discrimination.equivalence(discrimination.pooled(answers, 100).balanced, 0.12).p < 0.05)
    assert 0.7 < np.mean(found) < 0.92


def test_sample_sizes_fall_with_margin_and_readers_and_may_not_exist():
    sizes = planning.sample_sizes(0.1, 0.8, [3, 8, 20])
    assert sizes[0].cases is None and "too few" in sizes[0].text()
    assert sizes[1].cases > sizes[2].cases and sizes[1].cases % 2 == 0 and "design effect" in sizes[1].text()
    assert (
        planning.sample_sizes(0.15, 0.8, [8])[0].cases < sizes[1].cases < planning.sample_sizes(0.1, 0.95, [8])[0].cases
    )
    for wrong in ({"margin": 0.6}, {"power": 1}, {"readers": [1]}, {"reader_share": 0.7, "case_share": 0.4}):
        with pytest.raises(InputError):
            planning.sample_sizes(**wrong)


def test_ratings_are_means_of_their_groups():
    table = made(3, 80, seed=1)
    found = {(one.source, one.group): one.estimate for one in ratings.rated(table, "realism", resamples=FEW)}
    kept = table[(table["source"] == "synthetic") & table["tone"].between(5, 7)]
    assert found["synthetic", "Monk 5 to 7"].value == pytest.approx(kept["realism"].mean())
    assert found["synthetic", "Monk 5 to 7"].n == len(kept) and len(found) == 12
    apart = ratings.rated_apart(table, "realism", resamples=FEW)
    assert apart.value == pytest.approx(found["synthetic", "all"].value - found["real", "all"].value)
    assert ratings.rated_apart(table[table["source"] == "real"], "realism") is None


def test_synthetic_images_are_rated_by_the_values_that_were_asked_for():
    table = made(3, 80, seed=1, repeats=0.3)
    found = {(one.attribute, one.value): one for one in asked.by_value(table, resamples=FEW)}
    drawn = table[(table["source"] == "synthetic") & ~table["repeat"]]
    one = found["border", "3 to 5 segments"]
    kept = drawn[drawn["asked_border"].between(3, 5)]
    assert (one.realism.value, one.realism.n) == (pytest.approx(kept["realism"].mean()), len(kept))
    assert one.match.value == pytest.approx(kept["match"].mean())
    judged = kept[kept["match_border"].isin(("yes", "partly", "no"))]
    assert (one.drawn.value, one.drawn.n) == (pytest.approx((judged["match_border"] == "yes").mean()), len(judged))
    brown = drawn[drawn["asked_colours"].str.split(";").map(lambda names: "light brown" in names)]
    assert found["colours", "light brown"].realism.n == len(brown)
    assert found["asymmetry", "1 axis"].realism.n == (drawn["asked_asymmetry"] == 1).sum()
    assert next(one for one in found if one[0] == "size") == ("size", "up to 6 mm")


def test_values_that_nobody_asked_for_and_questions_that_nobody_answered_are_left_out():
    table = made(2, 20)
    table[["asked_asymmetry", "asked_border", "asked_size"]] = pd.NA
    table["asked_structures"] = ""
    table.loc[table["source"] == "synthetic", "asked_colours"] = "black;no colour"
    table["match"] = pd.array([pd.NA] * len(table), dtype="Int64")
    found = asked.by_value(table, resamples=FEW)
    assert [one.value for one in found if one.attribute == "colours"] == ["black"]
    assert {one.attribute for one in found} == {"colours", "skin tone"} and {one.match.n for one in found} == {0}
    assert asked.by_value(table[table["source"] == "real"]) == []


def test_cannot_tell_is_counted_apart_from_what_was_drawn_as_asked():
    table = made(2, 20)
    said = ["yes", "partly", "no", "cannot tell", "yes"] * 4
    table.loc[table["source"] == "synthetic", "match_border"] = said
    found = {one.attribute: one for one in ratings.matches(table, resamples=FEW)}["border"]
    assert found.counts == {"yes": 8, "partly": 4, "no": 4, "cannot tell": 4}
    assert found.drawn.value == 0.5 and found.drawn.n == 16
    table["match_border"] = np.where(table["source"] == "synthetic", "cannot tell", "")
    found = {one.attribute: one for one in ratings.matches(table, resamples=FEW)}
    assert list(found)[-1] == "border" and found["border"].drawn.text() == "not estimable"


def test_right_diagnoses_are_counted_by_source_where_the_truth_is_known():
    table = made(2, 40)
    table["said_diagnosis"] = table["diagnosis"].str.upper()
    table.loc[table["source"] == "synthetic", "said_diagnosis"] = "melanoma"
    table.loc[table.index[:5], "diagnosis"] = ""
    found = {(one.group, one.source): one.estimate for one in ratings.diagnosed(table, resamples=FEW)}
    known = table[(table["source"] == "synthetic") & (table["diagnosis"] != "")]
    assert found["right diagnosis", "real"].value == 1
    assert found["right diagnosis", "synthetic"].value == pytest.approx((known["diagnosis"] == "melanoma").mean())
    assert found["right diagnosis", "synthetic"].n == len(known)
    assert ratings.diagnosed_apart(table, resamples=FEW)["right diagnosis"].high < 0


def test_artefacts_are_ranked_with_their_cases_and_counted_once_a_reading():
    table = made(2, 20).assign(artefacts="")
    table.loc[table["case"] == "case-0003", "artefacts"] = "blur;hair;blur"
    table.loc[(table["case"] == "case-0004") & (table["reader"] == "R01"), "artefacts"] = " blur ;"
    first, second = ratings.artefacts(table, resamples=FEW)
    assert (first.tag, first.cases) == ("blur", (("case-0003", 2), ("case-0004", 1)))
    assert sum(first.counts.values()) == 3 and second.cases == (("case-0003", 2),)


def test_learning_and_fatigue_are_put_in_words():
    learns = learning.trends(made(6, 100, dprime=0.2, learning=3.0, pace=0.9))
    assert "as by learning" in learns[0].sentence and learns[0].factor.low > 1
    assert "got faster" in learns[1].sentence and learns[1].factor.value == pytest.approx(0.9, abs=0.02)
    tires = learning.trends(made(6, 100, dprime=2.5, learning=-3.0, pace=1.1))
    assert "as by fatigue" in tires[0].sentence and "got slower" in tires[1].sentence
    alone = learning.trends(made(1, 100))
    assert alone[0].factor.low < 1 < alone[0].factor.high


def test_no_trend_is_claimed_of_few_or_uniform_answers():
    for table in (made(1, 10), perfect(made())):
        assert "cannot be said" in learning.trends(table)[0].sentence
    assert [one.what for one in learning.trends(simulate.readings(0, [Reader()], 40, real_share=0))] == [
        "seconds for a case"
    ]


def test_results_are_the_same_for_their_seed_and_need_every_column():
    table = made(3, 40, repeats=0.2)
    one, two = (results.compute(table, resamples=50, seed=3) for _ in range(2))
    assert [section.tables for section in one.sections] == [section.tables for section in two.sections]
    assert one.verdict and one.summary[0].startswith(one.verdict.capitalize())
    with pytest.raises(DataError, match="“realism”"):
        results.compute(table.drop(columns="realism"))


def test_readings_counted_twice_by_mistake_count_once():
    table = made(3, 40)
    tables = lambda readings: [section.tables for section in results.compute(readings, resamples=50).sections[:5]]
    assert tables(pd.concat([table, table])) == tables(table)
