"""Training and calibrating the classifier."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_classifier import TINY, rows, write_manifest

from dermaflux.classifier import Classifier
from dermaflux.errors import DataError
from dermaflux.training import calibration, loop, views
from dermaflux.training import classifier as training


def test_training_writes_a_classifier_measured_on_images_held_out(trained):
    card = Classifier.load(trained / "run" / "classifier").card
    assert card.operating_point.n == 50
    assert "5 times a part held out" in card.operating_point.measured_on
    assert card.gate.false_alarm_rate <= 0.02
    assert card.operating_point.sensitivity >= 0.95
    assert f"AUC {card.auc:.3f}" in (trained / "run" / "classifier" / "README.md").read_text()


def test_training_interrupted_and_resumed_equals_an_unbroken_run(trained, tmp_path, monkeypatch):
    save = loop._save

    def save_and_interrupt(accelerator, out, done):
        save(accelerator, out, done)
        if out.name == "fold-1":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_save", save_and_interrupt)
        training.train([trained / "manifest.csv"], tmp_path, TINY)
    assert (tmp_path / "fold-1" / "checkpoint" / "step").read_text() == "4"
    assert not (tmp_path / "classifier").exists()
    training.train([trained / "manifest.csv"], tmp_path, TINY)
    resumed, whole = (load_file(path / "classifier" / "model.safetensors") for path in (tmp_path, trained / "run"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_test_split_is_left_alone_drawn_images_only_train_and_patients_stay_together(tmp_path):
    rows = [{"label": "benign", "split": "train", "patient_id": f"p{i // 3}"} for i in range(30)]
    rows += [{"label": "malignant", "split": "val", "patient_id": f"q{i // 2}"} for i in range(20)]
    rows += [{"label": "malignant", "split": "train", "source": source} for source in ("phantom", "synthetic")]
    rows += [{"label": "benign", "split": "test", "patient_id": "z"}]
    path = write_manifest(tmp_path, rows)
    held = []
    for train, held_out in training.divide(training.read_rows([path]), training.ClassifierOptions()):
        patients = [
            {row.values["patient_id"] for row in part if row.values["patient_id"]} for part in (train, held_out)
        ]
        assert not patients[0] & patients[1] and "z" not in patients[0] | patients[1]
        assert {row.values["source"] for row in held_out} == {""}
        assert len(train) + len(held_out) == 52
        held += [row.path for row in held_out]
    assert len(held) == len(set(held)) == 50


def two_splits() -> list[dict]:
    labels = ["benign"] * 12 + ["malignant"] * 8
    return [{"label": label, "split": split} for split in ("train", "val") for label in labels]


def test_a_spared_split_is_measured_and_not_learned(tmp_path):
    path = write_manifest(tmp_path, two_splits())
    training.train([path], tmp_path / "run", replace(TINY, spared="val"))
    card = Classifier.load(tmp_path / "run" / "classifier").card
    assert card.operating_point.n == 20 and "held out of its training" in card.operating_point.measured_on
    assert card.trained_on.count("20 of them") == 1
    with pytest.raises(DataError, match="split “none”"):
        training.train([path], tmp_path / "other", replace(TINY, spared="none"))


def test_the_features_of_a_teacher_are_learned_before_the_labels(tmp_path):
    asked = []

    def brightness(images) -> np.ndarray:
        pixels = [np.asarray(image, np.float32) for image in images]
        asked.append(len(pixels))
        return np.stack([[one.mean(), one[..., 0].mean(), one.std()] for one in pixels])

    options = replace(TINY, steps=60, views=2, lessons=16, labels_from=0.9, spared="val")
    training.train([write_manifest(tmp_path, two_splits())], tmp_path / "run", options, brightness)
    with (tmp_path / "run" / "fold-0" / "loss.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert sum(asked) == 40
    assert float(lines[-1]["lesson"]) < 0.8 * float(lines[0]["lesson"])
    assert not lines[0]["loss"] and lines[-1]["loss"]


def test_too_few_images_of_a_class_are_refused(tmp_path):
    path = write_manifest(tmp_path, [{"label": "benign", "split": "train"}] * 9)
    with pytest.raises(DataError, match="at least 5"):
        training.train([path], tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()


def test_an_unreadable_image_is_named(tmp_path):
    path = write_manifest(tmp_path, rows())
    (tmp_path / "7.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"7\.png"):
        training.train([path], tmp_path / "run", TINY)


def test_views_stay_in_range_and_only_borders_are_covered():
    torch.manual_seed(0)
    seen = views.augment(torch.full((64, 3, 80, 80), 128, dtype=torch.uint8), 64)
    assert seen.shape == (64, 3, 64, 64) and seen.min() >= 0 and seen.max() <= 1
    centre = seen[:, :, 16:48, 16:48].flatten(2)
    assert (centre.amax(2) - centre.amin(2)).max() < 1e-5
    spread = (seen.flatten(2).amax(2) - seen.flatten(2).amin(2)).amax(1)
    assert 10 < int((spread > 0.02).sum()) < 54


def test_temperature_and_bias_are_recovered():
    rng = np.random.default_rng(0)
    lead = rng.normal(0, 4, 40_000)
    truth = rng.random(40_000) < 1 / (1 + np.exp(-(lead / 2.5 - 1)))
    logits = torch.tensor(np.stack([np.zeros_like(lead), lead], 1), dtype=torch.float32)
    temperature, bias = calibration.fit_temperature(logits, torch.tensor(truth).long())
    assert float(temperature) == pytest.approx(2.5, rel=0.05)
    assert float(bias) == pytest.approx(-1, rel=0.08)


def test_operating_point_is_the_highest_threshold_that_finds_95_percent():
    scores = np.concatenate([np.linspace(0.01, 1, 100), np.linspace(0, 0.5, 300)])
    point = calibration.operating_point(np.arange(400) < 100, scores)
    assert point.sensitivity == 0.95
    assert point.threshold == pytest.approx(0.06, rel=1e-4)
    assert point.specificity == pytest.approx(0.12, abs=0.01)


def test_wilson_interval_is_the_textbook_one():
    low, high = calibration.wilson(np.arange(100) < 50)
    assert (round(low, 3), round(high, 3)) == (0.404, 0.596)


def test_auc_interval_surrounds_the_auc():
    rng = np.random.default_rng(1)
    malignant = np.arange(400) < 100
    low, high = calibration.auc_interval(malignant, rng.normal(malignant * 1.0, 1))
    assert low < 0.76 < high and 0.05 < high - low < 0.15
    assert calibration.auc_interval(malignant, malignant * 1.0) == (1.0, 1.0)
