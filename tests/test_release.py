"""Putting the shipped folder together from the parts of several runs."""

import json
import shutil
from dataclasses import replace

import pytest
import tiny
import torch
from diffusers import AutoencoderKL, FluxPipeline
from safetensors.torch import load_file

from dermaflux import phantom
from dermaflux.generator import Generator, Preview, Sample
from dermaflux.models import LoraSpec, SamplingOptions
from dermaflux.training.encoding import encode
from dermaflux.training.pairs import Pairs
from dermaflux.training.release import release


@pytest.fixture
def parts(tiny_folder, tmp_path):
    """A base, another decoder for it, a LoRA, and the pairs of three phantoms: what `release` takes, and `out`."""
    vae = AutoencoderKL.from_pretrained(tiny_folder / "pipeline" / "vae")
    with torch.no_grad():
        vae.decoder.conv_out.bias += 0.25
    vae.save_pretrained(tmp_path / "vae")
    images = [(phantom.draw(phantom.random_attributes(i), i, size=tiny.SIZE).image, ["A lesion."]) for i in range(3)]
    pipe = FluxPipeline.from_pretrained(tiny_folder / "pipeline")
    make = lambda seen: encode(pipe, images, max_sequence_length=64, views=2, seen=seen)
    Pairs.cached(tmp_path / "pairs.safetensors", make)
    shutil.copytree(tiny_folder / "lora", tmp_path / "lora")
    return (
        tiny_folder / "pipeline",
        tmp_path / "vae",
        tmp_path / "lora",
        tmp_path / "pairs.safetensors",
        tmp_path / "out",
    )


def test_the_released_folder_draws_with_the_new_decoder_and_previews_it(parts, tiny_folder):
    (parts[2] / "README.md").write_text("A card of the run.")
    config = parts[1] / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_name_or_path": "/home/someone/vae"}))
    release(*parts)
    out = parts[-1]
    (out / "likeness.safetensors").write_bytes(b"of the former parts")
    release(*parts)  # over what is there
    assert not (out / "likeness.safetensors").exists()
    spec = replace(
        tiny.spec(tiny_folder),
        source=str(out),
        lora=LoraSpec("new", "New", str(out / "lora"), "Apache-2.0"),
        previews=str(out / "previews.safetensors"),
    )
    items = list(Generator.from_spec(spec, "cpu").sample("A lesion.", SamplingOptions.defaults(spec)))
    assert {item.images[0].size for item in items if isinstance(item, Preview)} == {(tiny.SIZE, tiny.SIZE)}
    assert sum(isinstance(item, Sample) for item in items) == 1
    decoders = [load_file(path / "diffusion_pytorch_model.safetensors") for path in (parts[1], out / "vae")]
    assert torch.equal(*(one["decoder.conv_out.bias"] for one in decoders))
    assert not list(out.rglob("README.md")) and "someone" not in (out / "vae" / "config.json").read_text()


def test_parts_may_be_those_of_the_folder_itself(parts):
    *_, pairs, out = parts
    release(*parts)
    before = {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    release(out, out / "vae", out / "lora", pairs, out)
    assert {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before
    assert not out.with_name("out.part").exists()


def test_nothing_is_replaced_where_a_source_is_missing(parts):
    base, vae, lora, pairs, out = parts
    release(*parts)
    kept = (out / "vae" / "config.json").read_bytes()
    for wrong in ((base, vae, lora, out / "none.safetensors"), (base, vae, out / "none", pairs)):
        with pytest.raises(FileNotFoundError):
            release(*wrong, out)
        assert (out / "vae" / "config.json").read_bytes() == kept and (out / "lora").is_dir()
        assert not out.with_name("out.part").exists()
