"""What can go wrong with a model's files and numbers is said in a sentence, and the model stays usable."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from dermaflux.errors import ModelUnavailable
from dermaflux.generator import Generator, Sample
from dermaflux.models import SamplingOptions


def draw(generator, **changes):
    items = generator.sample("A benign lesion.", SamplingOptions.defaults(generator.spec, steps=2, **changes))
    return np.stack([np.asarray(item.image) for item in items if isinstance(item, Sample)])


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def test_numbers_that_overflow_are_said_and_the_next_image_is_right(tiny_generator, monkeypatch):
    before, velocity = draw(tiny_generator), Generator._velocity
    with monkeypatch.context() as patch:
        patch.setattr(Generator, "_velocity", lambda *given: velocity(*given) * float("nan"))
        with pytest.raises(ModelUnavailable, match=r"overflowed\. Lower the guidance or the LoRA strength"):
            draw(tiny_generator)
    assert (draw(tiny_generator) == before).all()


@pytest.mark.parametrize("name", ["lora.pt", "lora.ckpt", "lora.bin", "lora.safetensors"])
def test_a_pickle_in_the_place_of_a_lora_is_refused_and_not_run(tiny_folder, tmp_path, name):
    torch.save({"a": Trap(tmp_path / "mark")}, tmp_path / name)
    spec = tiny.spec(tiny_folder)
    with pytest.raises(ModelUnavailable, match=r"must be a \.safetensors file|not a whole safetensors file"):
        Generator.from_spec(replace(spec, lora=replace(spec.lora, source=str(tmp_path / name))), "cpu")
    assert not (tmp_path / "mark").exists()


def test_a_pickle_in_the_place_of_weights_is_refused_and_not_run(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder / "pipeline", tmp_path / "pipeline")
    for weights in (folder / "vae").glob("*.safetensors"):
        weights.unlink()
    torch.save({"a": Trap(tmp_path / "mark")}, folder / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        Generator.from_spec(replace(tiny.spec(tiny_folder), source=str(folder)), "cpu")
    assert not (tmp_path / "mark").exists()


def test_the_autoencoder_of_another_class_is_not_remarked_on_but_other_remarks_are_heard(caplog, monkeypatch):
    said = logging.getLogger("diffusers.pipelines.pipeline_utils")
    monkeypatch.setattr(logging.getLogger("diffusers"), "level", logging.WARNING)  # commands make it silent
    said.manager._clear_cache()
    said.addHandler(caplog.handler)
    try:
        Generator.load("nano", lora="none", device="cpu")
        assert "Expected types" not in caplog.text
        said.warning("Expected types for vae: of another pipeline")
        assert "of another pipeline" in caplog.text
    finally:
        said.removeHandler(caplog.handler)
