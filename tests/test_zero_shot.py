"""Zero-shot peers: a small image-text model of random weights is asked as a published one is."""

import builtins
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tiny_clip
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_classifier import lesion

from dermaflux.errors import ModelUnavailable
from dermaflux.evaluation import zero_shot
from dermaflux.evaluation.zero_shot import ZeroShot

pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip.build(tmp_path_factory.mktemp("clip") / "tiny")


def test_an_image_is_told_by_the_nearer_of_two_texts(folder):
    import open_clip

    images = [lesion(seed, dark=seed % 2 == 0) for seed in range(4)]
    found = ZeroShot.load(folder).p_malignant(images)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")
    unit = lambda x: x / x.norm(dim=-1, keepdim=True)
    with torch.no_grad():
        of = lambda label: unit(model.encode_text(tokens([t.format(label) for t in zero_shot.TEMPLATES]))).mean(0)
        texts = unit(torch.stack([of("benign"), of("malignant")]))
        seen = unit(model.encode_image(torch.stack([preprocess(image) for image in images])))
        wanted = (model.logit_scale.exp() * seen @ texts.T).softmax(1)[:, 1]
    assert found.shape == (4,) and found == pytest.approx(wanted.numpy(), abs=1e-5)
    assert np.ptp(found) > 0


def test_an_image_of_any_mode_and_size_is_taken(folder):
    peer = ZeroShot.load(folder)
    assert peer.p_malignant([Image.new("L", (500, 33), 90), Image.new("RGBA", (8, 8))]).shape == (2,)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda at: (at / "open_clip_config.json").unlink(), "open_clip_config.json is missing"),
        (
            lambda at: (at / "open_clip_model.safetensors").rename(at / "open_clip_pytorch_model.bin"),
            "safetensors only",
        ),
        (lambda at: (at / "open_clip_model.safetensors").write_bytes(b"no"), "cannot be read by open_clip"),
        (lambda at: (at / "open_clip_config.json").write_text("{"), "cannot be read by open_clip"),
        (
            lambda at: (at / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 3}})),
            "cannot be",
        ),
    ],
)
def test_a_folder_that_holds_no_such_model_is_refused_in_a_sentence(tmp_path, spoil, said):
    spoil(tiny_clip.build(tmp_path / "clip"))
    with pytest.raises(ModelUnavailable, match=said):
        ZeroShot.load(tmp_path / "clip")


@pytest.mark.parametrize("name", ["nothing", "/nowhere/at/all", "a/b/c"])
def test_an_unknown_name_is_refused_with_those_that_are_known(name):
    with pytest.raises(ModelUnavailable, match="biomedclip, dermlip, make"):
        ZeroShot.load(name)


@pytest.mark.parametrize("name", ["dermlip-panderm", zero_shot.PANDERM])
def test_a_model_that_open_clip_does_not_have_is_refused_with_the_reason_and_nothing_is_fetched(name, monkeypatch):
    monkeypatch.setattr(zero_shot, "snapshot_download", None)
    with pytest.raises(ModelUnavailable, match=r"changed copy of open_clip.* Compare with dermlip, their model"):
        ZeroShot.load(name)


def test_the_command_that_is_offered_makes_safetensors_of_a_pytorch_file(tmp_path):
    at = tiny_clip.build(tmp_path / "clip")
    before = ZeroShot.load(at).texts
    torch.save(load_file(at / "open_clip_model.safetensors"), at / "open_clip_pytorch_model.bin")
    (at / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="name that folder") as refused:
        ZeroShot.load(at)
    command = shlex.split(str(refused.value).splitlines()[1])
    subprocess.run([sys.executable, *command[1:]], cwd=at, check=True)
    assert torch.equal(ZeroShot.load(at).texts, before)


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(zero_shot, "snapshot_download", unreachable)
    with pytest.raises(ModelUnavailable, match="dermlip cannot be read by open_clip: no route to host"):
        ZeroShot.load("dermlip")


def test_a_repository_that_publishes_a_pickle_alone_is_refused(tmp_path, monkeypatch):
    (tmp_path / "open_clip_config.json").write_text("{}")
    monkeypatch.setattr(zero_shot, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(ModelUnavailable, match="read from safetensors only"):
        ZeroShot.load("biomedclip")


def test_without_the_package_a_sentence_says_how_it_is_had(folder, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **named):
        if name == "open_clip":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ModelUnavailable, match="pip install open_clip_torch"):
        ZeroShot.load(folder)
