"""The embedded autoencoder: its linear start, and the training of its decoder."""

from dataclasses import replace

import pytest
import tiny
import torch
from diffusers import FluxPipeline

from dermaflux import phantom
from dermaflux.training import autoencoder, components
from dermaflux.training.autoencoder import CONFIG, AutoencoderOptions
from dermaflux.training.drawn import draw_latents
from dermaflux.training.pairs import encode

OPTIONS = AutoencoderOptions(steps=3, batch=2, fitted=16, critic_from=0.5)


def phantoms(first: int, count: int) -> torch.Tensor:
    """Phantoms from a seed on: (N, 3, 256, 256) uint8."""
    size = CONFIG["sample_size"]
    drawn = (phantom.draw(phantom.random_attributes(seed), seed, size).image for seed in range(first, first + count))
    return torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in drawn])


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return phantoms(0, 16)


@pytest.fixture(scope="module")
def start(pixels):
    return autoencoder.start(pixels, OPTIONS)


@torch.no_grad()
def test_the_encoder_gives_the_principal_components(start, pixels):
    model, stages = start
    x = pixels[12:].float() / 127.5 - 1
    wanted = components.encode(x, stages)[-1]
    assert wanted.shape == (4, 32, 16, 16)
    assert torch.allclose(model.encode(x).latent_dist.mode(), wanted, atol=1e-3)
    assert torch.allclose(components.encode(x, components.read(model))[-1], wanted, atol=1e-4)


@torch.no_grad()
def test_latents_are_centred_and_of_unit_variance_on_the_whole(start, pixels):
    latents = components.encode(pixels.float() / 127.5 - 1, start[1])[-1]
    assert latents.mean((0, 2, 3)).abs().max() < 1e-2
    assert latents.var((0, 2, 3)).mean() == pytest.approx(1, abs=0.01)


def test_the_linear_start_already_shows_images_that_it_never_saw(start):
    assert autoencoder.psnr(start[0].eval(), phantoms(100, 4)).min() > 24


def test_training_changes_the_decoder_only_and_is_not_done_twice(pixels, tmp_path):
    whole = autoencoder.train(pixels, pixels[:0], tmp_path / "whole", OPTIONS)
    linear, _ = autoencoder.start(pixels, OPTIONS)
    same = {
        name: torch.equal(one, other)
        for (name, one), other in zip(whole.state_dict().items(), linear.state_dict().values(), strict=True)
    }
    assert all(equal for name, equal in same.items() if name.startswith("encoder."))
    assert not any(equal for name, equal in same.items() if name.startswith("decoder.conv_in"))
    again = autoencoder.train(pixels, pixels[:0], tmp_path / "whole", OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_the_decoder_learns_from_latents_that_a_flow_draws_as_well(pixels, tmp_path):
    options = replace(OPTIONS, critic_from=0.0)
    latents = torch.randn(4, CONFIG["latent_channels"], 16, 16)
    alone = autoencoder.train(pixels, pixels[:0], tmp_path / "alone", options)
    both = autoencoder.train(pixels, pixels[:0], tmp_path / "both", options, latents)
    weights = [model.state_dict() for model in (alone, both)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items() if "encoder" in name)
    assert not all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_latents_are_drawn_by_a_flow_once_and_of_the_decoders_shape(tiny_folder, tmp_path):
    pipe = FluxPipeline.from_pretrained(tiny_folder / "pipeline", dtype=torch.float32)
    image = phantom.draw(phantom.random_attributes(0), 0, size=tiny.SIZE).image
    encode(pipe, [(image, ["A lesion."])], max_sequence_length=64, views=1).save(tmp_path / "pairs.safetensors")
    where = tiny_folder / "pipeline", tiny_folder / "lora", tmp_path / "pairs.safetensors"
    draw = lambda: draw_latents(*where, 5, tmp_path / "latents.safetensors", steps=2, guidance=2.0)
    latents = draw()
    assert latents.shape == (5, tiny.LATENT_CHANNELS, 8, 8) and pipe.vae.decode(latents).sample.isfinite().all()
    assert len({one.sum().item() for one in latents}) == 5
    written = (tmp_path / "latents.safetensors").stat().st_mtime_ns
    assert torch.equal(draw(), latents) and (tmp_path / "latents.safetensors").stat().st_mtime_ns == written
