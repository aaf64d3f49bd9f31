"""The table and figure of what synthetic images buy: gains, leads, intervals and measures."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from dermaflux.evaluation.augmentation_report import MEASURES, figure, markdown, overall, summary


def finished(malignant: list[bool], told: list[np.ndarray], shifts: dict[str, float]) -> pd.DataFrame:
    """Cells of three seeds that say `told`, and of the malignant ones more with the images of each generator."""
    return pd.DataFrame(
        dict(arch="a", real=10, ratio=float(bool(name)), seed=seed, generator=name, malignant=malignant)
        | dict(log_odds=(told[seed] + shift * np.array(malignant)).tolist())
        for name, shift in shifts.items()
        for seed in range(3)
    )


def test_gains_are_paired_by_image_and_intervals_are_over_images():
    rng, malignant = np.random.default_rng(0), [True, False] * 60
    told = [malignant + rng.normal(0, 1.5, 120) for _ in range(3)]  # by seed
    found = finished(malignant, told, {"": 0.0, "flow": 0.5})
    plain, mixed = summary(found).to_dict("records")
    areas = [roc_auc_score(malignant, odds) for odds in told]
    assert plain["auc"] == pytest.approx(np.mean(areas)) and np.isnan(plain["auc_gain"])
    assert (plain["auc_least"], plain["auc_most"]) == pytest.approx((min(areas), max(areas)))
    gain = mixed["auc"] - plain["auc"]
    assert mixed["auc_gain"] == pytest.approx(gain) and mixed["auc_gain_low"] < gain < mixed["auc_gain_high"]
    assert mixed["auc_gain_high"] - mixed["auc_gain_low"] < (plain["auc_high"] - plain["auc_low"]) / 3
    text = markdown(summary(found), overall(found))
    assert f"| a | 10 | {plain['auc']:.3f} (" in text and f"| a | 10 | +{gain:.3f} (" in text


def test_generators_stand_beside_each_other_and_lead_over_the_last(tmp_path):
    rng, malignant = np.random.default_rng(0), [True, False] * 60
    told = [malignant + rng.normal(0, 1.5, 120) for _ in range(3)]
    found = finished(malignant, told, {"": 0.0, "flow": 0.5, "diffusion": 0.2})
    table = summary(found)
    assert list(table.generator) == ["flow"] * 2 + ["diffusion"] * 2 and list(table.ratio) == [0, 1] * 2
    (plain, flow), (again, baseline) = (part.to_dict("records") for _, part in table.groupby("generator", sort=False))
    assert plain["auc"] == again["auc"] and np.isnan(plain["auc_lead"]) and np.isnan(baseline["auc_lead"])
    assert flow["auc_lead"] == pytest.approx(flow["auc"] - baseline["auc"])
    assert flow["auc_lead_low"] < flow["auc_lead"] < flow["auc_lead_high"]
    text = markdown(table, overall(found))
    assert f"| a | diffusion | 10 | +{baseline['auc_gain']:.3f} (" in text
    _, lead = text.split("| AUC beyond that with the images of diffusion |")
    assert f"| a | flow | 10 | +{flow['auc_lead']:.3f} (" in lead
    assert "| a | diffusion" not in lead.split("\n\n")[0]
    assert figure(table).height > figure(table[table.generator == "flow"]).height


def test_over_all_cells_gains_and_leads_are_means_and_those_without_real_images_do_not_count():
    rng, malignant = np.random.default_rng(0), [True, False] * 60
    told = [malignant + rng.normal(0, 1.5, 120) for _ in range(3)]
    one, other = (
        finished(malignant, told, {"": 0.0, "flow": shift, "diffusion": 0.1}).assign(real=real)
        for real, shift in ((10, 0.5), (20, 0.3))
    )
    alone = one[one.ratio > 0].assign(real=0)
    found = pd.concat([one, alone, other])
    flow, diffusion = overall(found).to_dict("records")
    table = summary(found)
    expected = table[(table.real > 0) & (table.ratio > 0) & (table.generator == "flow")]
    for figure_ in ("auc_gain", "auc_lead", "accuracy_gain"):
        assert flow[figure_] == pytest.approx(expected[figure_].mean())
        assert flow[f"{figure_}_low"] <= flow[figure_] <= flow[f"{figure_}_high"]
    assert flow["cells"] == 6 and np.isnan(diffusion["auc_lead"]) and diffusion["auc_gain"] > 0
    text = markdown(table, overall(found)).split("\n\n")[-2]
    assert "| AUC, mean of all | Images of | Gain | Beyond diffusion | Classifiers |" in text
    assert f"| a | flow | +{flow['auc_gain']:.3f} (" in text and text.endswith("|  | 6 |")


def test_intervals_span_the_seeds_where_these_differ_more_than_the_images():
    malignant = [True, False] * 200
    sure = np.array(malignant) * 8.0 - 4
    told = [sure, sure, -sure]  # two seeds are always right and one always wrong, of whatever image
    [row] = summary(finished(malignant, told, {"": 0.0})).to_dict("records")
    assert row["auc"] == pytest.approx(2 / 3) and (row["auc_low"], row["auc_high"]) == (0, 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("auc", roc_auc_score), ("accuracy", accuracy_score), ("balanced_accuracy", balanced_accuracy_score)],
)
def test_measures_of_resamples_are_those_of_scikit_learn(name, expected):
    rng = np.random.default_rng(1)
    malignant, odds = rng.random(50) < 0.3, rng.normal(0, 1, 50).round(1)  # with ties
    weights = rng.multinomial(50, np.full(50, 0.02), 3)
    _, measure = MEASURES[name]
    said = odds if name == "auc" else odds >= 0
    own = [expected(malignant, said, sample_weight=one) for one in weights]
    assert measure(weights.astype(float), malignant, odds) == pytest.approx(own)
    assert np.isnan(measure(np.array([malignant * 1.0]), malignant, odds)).all() == (name != "accuracy")
