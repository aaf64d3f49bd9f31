"""A model whose files are missing, cut short or of something else is refused, with the way out."""

import shutil
from dataclasses import replace

import pytest
import tiny

from dermaflux import loading
from dermaflux.errors import ModelUnavailable
from dermaflux.generator import Generator
from dermaflux.model_files import Weights


def copied(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "copy")
    return tmp_path / "copy", tiny.spec(tmp_path / "copy")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "text_encoder_2"])
def test_truncated_weights_are_refused(tiny_folder, tmp_path, part):
    folder, spec = copied(tiny_folder, tmp_path)
    cut(next((folder / "pipeline" / part).glob("*.safetensors")))
    with pytest.raises(ModelUnavailable, match=rf"{part}/.* is truncated or not a safetensors file. Fetch it again\."):
        Generator.from_spec(spec, "cpu")
    known = replace(spec, weights=Weights(1, 1, 1))
    with pytest.raises(ModelUnavailable, match=r"cannot be loaded from .* cut short .* copy the model there again\."):
        Generator.from_spec(known, "cpu")


def test_of_a_damaged_model_in_the_hubs_cache_that_is_named_which_is_to_be_deleted(tiny_folder, tmp_path, monkeypatch):
    folder, spec = copied(tiny_folder, tmp_path)
    cut(next((folder / "pipeline" / "vae").glob("*.safetensors")))
    stored = tmp_path / "models--o--m" / "snapshots" / ("1" * 40)
    stored.parent.mkdir(parents=True)
    (folder / "pipeline").rename(stored)
    monkeypatch.setattr(loading, "fetch", lambda spec: stored)
    with pytest.raises(ModelUnavailable, match=rf"delete {tmp_path}/models--o--m and start again"):
        Generator.from_spec(replace(spec, source="o/m", weights=Weights(1, 1, 1)), "cpu")


def test_a_missing_part_is_refused(tiny_folder, tmp_path):
    folder, spec = copied(tiny_folder, tmp_path)
    shutil.rmtree(folder / "pipeline" / "vae")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        Generator.from_spec(spec, "cpu")


def test_a_missing_folder_is_refused(tiny_folder, tmp_path):
    spec = replace(tiny.spec(tiny_folder), source=str(tmp_path / "nowhere"))
    with pytest.raises(ModelUnavailable, match="nowhere"):
        Generator.from_spec(spec, "cpu")


def test_missing_or_truncated_previews_are_refused(tiny_folder, tmp_path):
    folder, spec = copied(tiny_folder, tmp_path)
    cut(folder / "previews.safetensors")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        Generator.from_spec(spec, "cpu")
    (folder / "previews.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        Generator.from_spec(spec, "cpu")


def test_a_truncated_or_foreign_lora_is_refused(tiny_folder, tmp_path):
    folder, spec = copied(tiny_folder, tmp_path)
    cut(folder / "lora" / "pytorch_lora_weights.safetensors")
    with pytest.raises(ModelUnavailable, match=r"not a whole safetensors file.* Fetch the file again"):
        Generator.from_spec(spec, "cpu")
    shutil.copy(tiny_folder / "previews.safetensors", folder / "lora" / "pytorch_lora_weights.safetensors")
    with pytest.raises(ModelUnavailable, match=r"made for another model.* Choose a plain LoRA for this model"):
        Generator.from_spec(spec, "cpu")
