"""The files that users of the original FLUX.1 code and of the authors' demo have on disk are a model as they stand."""

import shutil

import numpy as np
import original_files
import pytest
import torch
from safetensors.torch import save_file

from dermaflux.errors import ModelUnavailable
from dermaflux.generator import Generator, Sample
from dermaflux.models import SamplingOptions, find_model

TEXT = "This photo depicts a malignant lesion. Its colours are red and black."


def test_the_files_of_the_authors_demo_draw_what_the_same_pipeline_draws(tmp_path):
    """At FLUX.1's widths, with one block of each kind, in float32; the LoRA of the folder is found beside them."""
    pipe = original_files.pipeline()
    original_files.write(pipe, tmp_path)
    layer = torch.zeros(3072, 2)
    lora = {"transformer.transformer_blocks.0.attn.to_q.lora_B.weight": layer}
    lora |= {"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.randn(2, 3072)}
    save_file(lora, tmp_path / "flux_lora_64_64.safetensors")
    spec = find_model(str(tmp_path))
    assert spec.name == "flux1-dev" and "non-commercial" in spec.licence
    assert spec.lora.source == str(tmp_path / "flux_lora_64_64.safetensors")
    generator = Generator.from_spec(spec, "cpu")
    options = SamplingOptions.defaults(spec, size=128, steps=2)
    *_, drawn = (item for item in generator.sample(TEXT, options) if isinstance(item, Sample))
    noise = torch.randn((1, 64, 64), generator=torch.Generator("cpu").manual_seed(0))
    pipe.set_progress_bar_config(disable=True)
    pipe.vae.to(memory_format=torch.channels_last)  # as ours, which rounds otherwise
    plain = pipe(
        TEXT, height=128, width=128, num_inference_steps=2, guidance_scale=spec.guidance, latents=noise,
        max_sequence_length=spec.max_sequence_length,
    ).images[0]  # fmt: skip
    assert np.abs(np.asarray(drawn.image).astype(int) - np.asarray(plain)).max() == 0
    assert len(drawn.provenance.model_hash) == 16


def test_files_that_are_missing_are_named(tmp_path):
    save_file({"double_blocks.0.img_attn.proj.bias": torch.zeros(3)}, tmp_path / "flux1-schnell.safetensors")
    save_file({"a": torch.zeros(3)}, tmp_path / "ae.safetensors")
    spec = find_model(str(tmp_path))
    assert spec.name == "flux1-schnell" and spec.steps == 4 and spec.lora is None
    with pytest.raises(ModelUnavailable, match=r"lacks clip_l.safetensors and t5xxl\*.safetensors"):
        Generator.from_spec(spec, "cpu")


def test_any_pipeline_folder_is_a_model(tiny_folder):
    spec = find_model(str(tiny_folder / "pipeline"), "none")
    assert spec.sizes == (64,) and spec.guidance == 3.5 and not spec.honours
    generator = Generator.from_spec(spec, "cpu")
    drawn = list(generator.sample(TEXT, SamplingOptions.defaults(spec, steps=2)))
    assert isinstance(drawn[-1], Sample) and drawn[-1].provenance.model == "pipeline"


def test_a_folder_without_a_whole_model_is_refused(tiny_folder, tmp_path):
    with pytest.raises(ModelUnavailable, match="Known models: nano, flux1-dev"):
        find_model(str(tmp_path))
    shutil.copytree(tiny_folder / "pipeline", tmp_path / "half")
    (tmp_path / "half" / "vae" / "config.json").write_text("[]")
    with pytest.raises(ModelUnavailable, match="not the folder of a whole FluxPipeline"):
        find_model(str(tmp_path / "half"))
