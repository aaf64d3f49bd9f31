"""What is seen of an image while it is drawn: a tiny decoder where there is one, else a linear map."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from diffusers import AutoencoderTiny, FluxPipeline
from huggingface_hub import constants

from dermaflux import latents, phantom, previews
from dermaflux.generator import Generator, Preview
from dermaflux.loading import load
from dermaflux.models import MODELS, TAEF1, SamplingOptions, find_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipe(tiny_folder):
    return FluxPipeline.from_pretrained(tiny_folder / "pipeline")


@pytest.fixture
def spec(tiny_folder):
    return replace(tiny.spec(tiny_folder), previews=None, lora=None)


def taef1(folder, channels=tiny.LATENT_CHANNELS):
    """A decoder of taef1's class, small and of random weights."""
    torch.manual_seed(1)
    widths = dict(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    blocks = dict(num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4)
    vae = AutoencoderTiny(latent_channels=channels, shift_factor=0.0, **widths, **blocks)
    vae.save_pretrained(folder)
    return vae


def look(generator):
    return next(generator.sample("A benign lesion.", SamplingOptions.defaults(generator.spec))).images


def test_the_tiny_decoder_in_the_models_folder_shows_the_previews(spec, pipe, tmp_path):
    vae = taef1(tmp_path / "taef1")
    chosen = previews.choose(replace(spec, source=str(tmp_path), tiny_decoder=TAEF1), pipe, CPU)
    assert isinstance(chosen, previews.TinyPreview)
    z = torch.randn(2, tiny.LATENT_CHANNELS, tiny.SIZE // 8, tiny.SIZE // 8)
    shown = chosen(z, tiny.SIZE)
    wanted = pipe.image_processor.postprocess(vae.decode(z).sample.detach(), output_type="np")
    assert np.abs(np.stack(shown) / 255 - wanted).max() < 0.01
    assert {image.size for image in chosen(z, 48)} == {(48, 48)}


def test_the_tiny_decoder_in_the_hubs_cache_shows_the_previews(spec, pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    stored = tmp_path / "models--madebyollin--taef1"
    taef1(stored / "snapshots" / ("2" * 40))
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("2" * 40)
    assert isinstance(previews.choose(replace(spec, tiny_decoder=TAEF1), pipe, CPU), previews.TinyPreview)


@pytest.mark.parametrize("damage", ["missing", "truncated", "other latents"])
def test_without_a_usable_decoder_a_linear_map_is_fitted(spec, pipe, tmp_path, monkeypatch, caplog, damage):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    if damage != "missing":
        taef1(tmp_path / "taef1", 4 if damage == "other latents" else tiny.LATENT_CHANNELS)
    if damage == "truncated":
        weights = next((tmp_path / "taef1").glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:999])
    with caplog.at_level(logging.WARNING, "dermaflux"):
        chosen = previews.choose(replace(spec, source=str(tmp_path), tiny_decoder=TAEF1), pipe, CPU)
    assert isinstance(chosen, previews.LinearPreview)
    assert bool(caplog.records) == (damage != "missing")


def test_the_fitted_map_shows_what_the_autoencoder_shows():
    """On lesions that it was not fitted to, through the embedded model's autoencoder."""
    pipe = load(replace(MODELS["nano"], lora=None), "cpu").pipe
    chosen = previews.fitted(pipe, CPU)
    drawn = np.stack([phantom.draw(phantom.random_attributes(seed), seed, 128).image for seed in range(99, 105)])
    pixels = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        shown = np.stack(chosen(latents.encode(pipe, pixels), 128)).astype(int)
    assert np.abs(shown - drawn).mean() < 22
    agree = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(shown, drawn, strict=True)]
    assert np.mean(agree) > 0.7


def test_a_model_without_a_map_is_seen_at_every_step(spec):
    generator = Generator.from_spec(spec, "cpu")
    [image] = look(generator)
    assert image.size == (tiny.SIZE, tiny.SIZE)
    assert all(isinstance(item, Preview) for item in [next(generator.sample("", SamplingOptions.defaults(spec)))])


def test_models_with_the_latents_of_flux_know_their_decoder(tiny_folder, tmp_path):
    assert [spec.tiny_decoder for spec in MODELS.values()] == [None, TAEF1, TAEF1]
    assert find_model(str(tiny_folder / "pipeline")).tiny_decoder is None
    for part in ("transformer", "vae", "tokenizer_2"):
        (tmp_path / part).mkdir()
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "transformer/config.json").write_text("{}")
    (tmp_path / "tokenizer_2/tokenizer_config.json").write_text("{}")
    vae = dict(_class_name="AutoencoderKL", latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159)
    (tmp_path / "vae/config.json").write_text(json.dumps(vae))
    assert find_model(str(tmp_path)).tiny_decoder == TAEF1
