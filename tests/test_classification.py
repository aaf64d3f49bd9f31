"""What classifiers are measured on: non-lesions, splits, and where saliency lies."""

import numpy as np
import pytest
from tiny_classifier import write_manifest

from dermaflux.classifier import Classifier
from dermaflux.data.curate import rows_of
from dermaflux.evaluation import answers, classification, non_lesions


@pytest.fixture(scope="module")
def nano() -> Classifier:
    return Classifier.load("nano")


@pytest.mark.parametrize("kind", non_lesions.KINDS)
def test_non_lesions_are_seeded_and_differ(kind):
    first, again, other = (non_lesions.draw(kind, seed) for seed in (3, 3, 4))
    assert first.size == (256, 256) and first.mode == "RGB"
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_photographs_come_from_installed_packages():
    assert len(non_lesions._photographs()) >= 3


def test_refusals_are_counted_by_kind_and_in_all(nano):
    figures = {one.name: one for one in classification.of_non_lesions(nano, 40)}
    each = [figures[f"Refused, {kind}"] for kind in non_lesions.KINDS]
    assert [one.n for one in each] == [10] * 4 and figures["Refused, all"].n == 40
    assert figures["Refused, all"].value == pytest.approx(sum(one.value for one in each) / 4)
    assert figures["Refused, texture"].value >= 0.7


def test_saliency_lies_in_the_lesion_more_than_chance(nano):
    figures = {one.name: one.value for one in classification.of_saliency(nano, 12)}
    assert figures["Saliency inside the lesion"] > figures["the same, random maps"]
    assert figures["Fall of p where a fifth is blurred"] > figures["that of random maps"]
    assert figures["the same, random maps"] == pytest.approx(figures["Share of the image that is lesion"], abs=0.05)


def test_parts_of_one_photograph_count_as_one_for_the_interval(nano):
    seen = {non_lesions.shown("photograph", seed) for seed in range(60)}
    assert len(seen) <= len(non_lesions._photographs()) < 60
    assert [non_lesions.shown("texture", seed) for seed in (3, 4)] == [3, 4]


def test_the_auc_of_a_fold_without_one_of_the_classes_is_not_defined(tmp_path):
    lines = ["file,label,split,fold,p_malignant,distance", "a,benign,train,0,0.1,1", "b,malignant,train,0,0.9,1"]
    (tmp_path / "held_out.csv").write_text("\n".join([*lines, "c,benign,train,1,0.2,1"]))
    both, first, second = classification.of_held_out(tmp_path / "held_out.csv")
    assert both.value == first.value == 1 and np.isnan(second.value) and second.n == 1
    assert "| not defined |" in second.markdown()


def test_a_split_is_measured_alone(trained, tmp_path):
    rows = [{"label": label, "split": "val"} for label in ("benign", "malignant") * 8]
    rows += [{"label": "benign", "split": "train"} for _ in range(3)]
    classifier = Classifier.load(trained / "run" / "classifier")
    asked = answers.ask(classifier, rows_of([write_manifest(tmp_path, rows)], "val"))
    figures = {one.name: one for one in classification.of_asked(asked)}
    assert figures["AUC"].n == 16 and figures["AUC"].value > 0.9
    assert figures["Sensitivity at the operating point"].n == 8
