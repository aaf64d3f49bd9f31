"""What classifiers are measured on: non-lesions, splits, and where saliency lies."""

import numpy as np
import pytest
from tiny_classifier import write_manifest

from dermaflux.classifier import Classifier
from dermaflux.evaluation import classification, non_lesions


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
    assert figures["the same, random maps"] == pytest.approx(figures["Share of the image that is lesion"], abs=0.05)


def test_a_split_is_measured_alone(trained, tmp_path):
    rows = [{"label": label, "split": "val"} for label in ("benign", "malignant") * 8]
    rows += [{"label": "benign", "split": "train"} for _ in range(3)]
    classifier = Classifier.load(trained / "run" / "classifier")
    figures = {one.name: one for one in classification.of_split(classifier, write_manifest(tmp_path, rows), "val")}
    assert figures["AUC"].n == 16 and figures["AUC"].value > 0.9
    assert figures["Sensitivity at the operating point"].n == 8
