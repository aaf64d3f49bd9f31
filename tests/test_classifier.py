"""The classifier's folder, its predictions, and the training that makes both."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_classifier import TINY, lesion, write_manifest

from dermaflux.classifier import BATCH, CLASSIFIERS, Classifier
from dermaflux.errors import ModelUnavailable
from dermaflux.training import classifier as training
from dermaflux.training.views import augment


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of the trained classifier that a test may damage."""
    return Path(shutil.copytree(trained / "run" / "classifier", tmp_path / "classifier"))


@pytest.fixture(scope="module")
def nano() -> Classifier:
    return Classifier.load("nano")


def edit_card(folder: Path, **changes) -> None:
    path = folder / "classifier.json"
    data = json.loads(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        target = data
        for parent in parents:
            target = target[parent]
        target[last] = value
    path.write_text(json.dumps(data))


# Predictions


def test_embedded_classifier_predicts_with_a_complete_card(nano):
    (prediction,) = nano.predict([lesion(0)])
    point = nano.card.operating_point
    assert 0 <= prediction.p_malignant <= 1
    assert (prediction.decision == "malignant") == (prediction.p_malignant >= point.threshold)
    assert (prediction.distance <= nano.card.gate.threshold) == prediction.lesion_like
    assert point.sensitivity >= 0.95 and point.n >= 400
    assert point.sensitivity_interval[0] < point.sensitivity < point.sensitivity_interval[1]
    assert point.specificity_interval[0] < point.specificity < point.specificity_interval[1]
    assert nano.card.gate.false_alarm_rate <= 0.02
    assert "ISIC 2017" in nano.card.trained_on


def test_embedded_classifier_is_small():
    assert (CLASSIFIERS["nano"] / "model.safetensors").stat().st_size < 25e6


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (7, 900), (3000, 2000), (128, 128)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_images_of_any_size_and_mode_are_classified(nano, size, mode):
    (prediction,) = nano.predict([Image.new(mode, size)])
    assert math.isfinite(prediction.distance) and 0 <= prediction.p_malignant <= 1


def test_an_image_is_squeezed_to_the_models_square_not_cropped(nano):
    image, size = lesion(1, (300, 170)), nano.card.image_size
    squeezed = image.resize((size, size), Image.Resampling.BICUBIC)
    assert nano.predict([image]) == nano.predict([squeezed])


def test_a_batch_gives_what_one_by_one_gives_in_the_same_order(nano):
    images = [lesion(i, (40 + i, 60), dark=i % 3 == 0) for i in range(BATCH + 5)]
    together, apart = nano.predict(images), [nano.predict([image])[0] for image in images]
    for a, b in zip(together, apart, strict=True):
        assert a.p_malignant == pytest.approx(b.p_malignant, abs=1e-5)
        assert a.distance == pytest.approx(b.distance, rel=1e-3)
        assert (a.decision, a.lesion_like) == (b.decision, b.lesion_like)
    assert len({round(p.p_malignant, 4) for p in together}) > 10


def test_predictions_repeat_exactly(nano):
    images = [lesion(i) for i in range(3)]
    assert nano.predict(images) == nano.predict(images) == Classifier.load("nano").predict(images)


def test_no_images_give_no_predictions(nano):
    assert nano.predict([]) == []


def test_noise_and_flat_colours_do_not_look_like_a_lesion(nano):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    others = [noise, Image.new("RGB", (90, 90), "magenta"), Image.new("RGB", (90, 90), "lime")]
    assert [prediction.lesion_like for prediction in nano.predict(others)] == [False] * 3


def test_temperature_of_the_card_divides_the_logits(folder):
    logit = lambda: np.array([math.log(p.p_malignant / (1 - p.p_malignant)) for p in predict(folder)])
    edit_card(folder, temperature=1.0)
    plain = logit()
    edit_card(folder, temperature=4.0)
    np.testing.assert_allclose(logit(), plain / 4, rtol=1e-3, atol=1e-6)


def predict(folder):
    return Classifier.load(folder).predict([lesion(i, dark=i > 1) for i in range(4)])


@pytest.mark.parametrize(("threshold", "decision"), [(0.0, "malignant"), (1.0, "benign")])
def test_threshold_of_the_card_decides(folder, threshold, decision):
    edit_card(folder, operating_point__threshold=threshold)
    assert {prediction.decision for prediction in predict(folder)} == {decision}


@pytest.mark.parametrize(("threshold", "like"), [(-1.0, False), (1e9, True)])
def test_gate_threshold_of_the_card_refuses_yet_leaves_the_numbers(folder, threshold, like):
    before = [prediction.p_malignant for prediction in predict(folder)]
    edit_card(folder, gate__threshold=threshold)
    after = predict(folder)
    assert {prediction.lesion_like for prediction in after} == {like}
    assert [prediction.p_malignant for prediction in after] == before


def test_saving_and_loading_keeps_every_prediction(folder, tmp_path):
    classifier, images = Classifier.load(folder), [lesion(i) for i in range(3)]
    classifier.save(tmp_path / "again", "A card.\n")
    again = Classifier.load(tmp_path / "again")
    assert again.card == classifier.card
    assert again.predict(images) == classifier.predict(images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "classifier"]


# Folders that cannot be used


@pytest.mark.parametrize("name", ["missing-name", "/no/such/folder", ""])
def test_unknown_classifier_is_refused_in_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelUnavailable) as caught:
        Classifier.load(name)
    assert str(caught.value).endswith(".")


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("sprung"),))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def poison(path):
    tensors = load_file(path)
    tensors["head.weight"][0, 0] = float("nan")
    save_file(tensors, path)


def drop(path):
    tensors = load_file(path)
    save_file({name: value for name, value in tensors.items() if name != "head.bias"}, path)


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncate,
    "a web page": lambda path: path.write_text("<!doctype html><title>Login</title>" * 50),
    "a pickle": lambda path: torch.save({"head": Trap()}, path),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["model.safetensors", "gate.safetensors", "classifier.json"])
def test_damaged_files_are_refused_in_a_sentence(folder, file, damage, monkeypatch):
    monkeypatch.chdir(folder)
    DAMAGES[damage](folder / file)
    with pytest.raises(ModelUnavailable, match=file) as caught:
        Classifier.load(folder)
    assert str(caught.value).endswith(".")
    assert not Path("sprung").exists()


@pytest.mark.parametrize(("damage", "says"), [(poison, "not numbers"), (drop, "head.bias is missing")])
def test_wrong_weights_are_refused(folder, damage, says):
    damage(folder / "model.safetensors")
    with pytest.raises(ModelUnavailable, match=says):
        Classifier.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["malignant", "benign"]},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"temperature": None},
        {"mean": [0.5, 0.5]},
        {"std": [0.5, 0.0, 0.5]},
        {"interpolation": "nearest"},
        {"image_size": -32},
        {"image_size": 10**9},
        {"image_size": 32.0},
        {"image_size": 48},
        {"arch": "resnet18"},
        {"arch": "no_such_model"},
        {"arch": "hf-hub:somebody/something"},
        {"arch": 7},
        {"model": []},
        {"model__embed_dim": 96},
        {"model__embed_dim": 10**9},
        {"model__embed_dim": 49},
        {"model__depth": 3},
        {"model__num_heads": 0},
        {"model__checkpoint_path": "sprung.pth"},
        {"model__pretrained": True},
        {"model__global_pool": "everything"},
        {"auc": 1.5},
        {"auc_interval": 0.5},
        {"gate__layers": [0, 1]},
        {"gate__layers": [99]},
        {"gate__threshold": float("inf")},
        {"operating_point__threshold": None},
        {"operating_point__surprise": 1},
        {"operating_point": "none"},
        {"surprise": 1},
    ],
    ids=str,
)
def test_cards_that_do_not_hold_are_refused(folder, changes):
    edit_card(folder, **changes)
    with pytest.raises(ModelUnavailable) as caught:
        Classifier.load(folder)
    assert str(caught.value).endswith(".")


# Training


def test_views_are_not_mixed_where_mixup_is_0(tmp_path, monkeypatch):
    made, heard = [], []

    def augmented(*given) -> torch.Tensor:
        made.append(augment(*given))
        return made[-1]

    def teacher(views: torch.Tensor) -> torch.Tensor:
        heard.append(views)
        return torch.nn.functional.avg_pool2d(views.float(), 16).flatten(2).transpose(1, 2)

    monkeypatch.setattr(training, "augment", augmented)
    path = write_manifest(tmp_path, [{"label": label, "split": "train"} for label in ("benign", "malignant") * 4])
    training.train([path], tmp_path / "run", replace(TINY, mixup=0, steps=2, folds=2, drawn_steps=0), teacher)
    assert len(made[-1]) == TINY.batch and torch.equal(made[-1], heard[-1])
