"""Backbones that give features: timm networks by folder, classifiers, and what is none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf
from tiny_classifier import lesion

from dermaflux.classifier import CLASSIFIERS, Classifier
from dermaflux.data import features
from dermaflux.errors import ModelUnavailable


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small convolutional network of random weights, as timm publishes one."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("backbones") / "network"
    model = timm.create_model("test_resnet", num_classes=3)
    save_for_hf(model, path, safe_serialization=True)
    return path


def test_a_folder_of_timm_gives_its_pooled_features_with_its_own_preprocessing(folder):
    images = [lesion(seed) for seed in range(features.BATCH + 3)]
    found = features.load(folder).of(iter(images))
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    config = timm.data.resolve_model_data_config(model) | {"crop_pct": 1.0, "crop_mode": "squash"}
    prepare = timm.data.create_transform(**config, is_training=False)
    with torch.no_grad():
        wanted = model(torch.stack([prepare(image) for image in images])).numpy()
    assert found.shape == (len(images), model.num_features) and found.dtype == np.float32
    assert found == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("source", ["nano", CLASSIFIERS["nano"]])
def test_a_classifier_is_a_backbone_by_name_and_by_folder(source):
    images = [lesion(1), lesion(2, dark=False)]
    found = features.load(source).of(images)
    classifier = Classifier.load(source)
    logits, _ = replace(classifier, card=replace(classifier.card, views=1)).measure(images)
    head = classifier.model.get_classifier()
    with torch.no_grad():
        assert head(torch.from_numpy(found)).numpy() == pytest.approx(logits.numpy(), abs=1e-5)


def test_networks_are_told_apart_by_their_weights_not_by_how_they_are_named(folder, tmp_path):
    nano = features.load("nano")
    assert nano.made_of == features.load(CLASSIFIERS["nano"]).made_of != features.load(folder).made_of
    (tmp_path / "copy").symlink_to(folder)
    assert features.load(tmp_path / "copy").made_of == features.load(folder).made_of


def test_images_of_any_mode_are_taken(folder):
    found = features.load(folder).of([Image.new("L", (9, 300), 80), Image.new("RGBA", (70, 70))])
    assert np.isfinite(found).all() and len(found) == 2


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_half_a_folder_is_refused(folder, tmp_path, missing):
    for name in {"config.json", "model.safetensors"} - {missing}:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelUnavailable, match=f"{missing} is missing"):
        features.load(tmp_path)


def test_damaged_weights_and_configs_are_refused_in_a_sentence(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelUnavailable, match="cannot be read by timm"):
        features.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "no_such_network"}))
    with pytest.raises(ModelUnavailable, match="cannot be read by timm"):
        features.load(tmp_path)


def test_a_name_that_timm_does_not_know_is_refused():
    with pytest.raises(ModelUnavailable, match="“no_such_network” is no file"):
        features.load("no_such_network")


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ModelUnavailable, match="resnet18 cannot be read by timm: no route to host"):
        features.load("resnet18")
