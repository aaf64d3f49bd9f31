"""The embedded autoencoder: its linear outer layers, what its teacher shows it, and its training."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from dermaflux import phantom
from dermaflux.models import NANO
from dermaflux.training import autoencoder, components
from dermaflux.training.autoencoder import CONFIG, LATENTS, WIDTHS, AutoencoderOptions
from dermaflux.training.taef2 import Taef2

OPTIONS = AutoencoderOptions(steps=2, batch=2, inner_steps=12, inner_batch=4, inner_images=32, fitted=16)


def phantoms(first: int, count: int) -> torch.Tensor:
    """Phantoms from a seed on: (N, 3, 256, 256) uint8."""
    size = CONFIG["sample_size"]
    drawn = (phantom.draw(phantom.random_attributes(seed), seed, size).image for seed in range(first, first + count))
    return torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in drawn])


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return phantoms(0, 16)


@pytest.fixture(scope="module")
def earlier() -> AutoencoderKL:
    """The embedded autoencoder."""
    return AutoencoderKL.from_pretrained(NANO / "vae").eval()


@pytest.fixture(scope="module")
def start(pixels, earlier):
    return autoencoder.start(pixels, earlier, OPTIONS)


@pytest.fixture(scope="module")
def teacher() -> Taef2:
    """A teacher of random weights."""
    torch.manual_seed(0)
    return Taef2().requires_grad_(False).eval().to(torch.bfloat16)


@pytest.fixture(scope="module")
def trained(pixels, teacher, earlier, tmp_path_factory):
    """The model, and the folder of its run."""
    out = tmp_path_factory.mktemp("autoencoder")
    return autoencoder.train(pixels, teacher, earlier, out, OPTIONS), out


@torch.no_grad()
def test_the_outer_layers_give_whitened_components_and_the_decoder_is_the_earlier_one(start, pixels, earlier):
    model, stages = start
    x = pixels / 127.5 - 1
    wanted = components.encode(x, stages)[-1]
    assert wanted.shape == (16, WIDTHS[-1], 16, 16)
    assert wanted.mean((0, 2, 3)).abs().max() < 1e-2 and wanted.var((0, 2, 3)).sub(1).abs().max() < 0.02
    h = model.encoder.conv_in(x)
    for block in model.encoder.down_blocks[:-1]:
        h = block(h)
    assert torch.allclose(h[:, : WIDTHS[-1]], wanted, atol=1e-4) and not h[:, WIDTHS[-1] :].any()
    z = torch.randn(1, LATENTS, 16, 16)
    assert torch.equal(model.decode(z).sample, earlier.decode(z).sample)


@torch.no_grad()
def test_blocks_of_images_never_seen_are_their_components_and_little_else(start):
    x = phantoms(100, 4) / 127.5 - 1
    found = components.decode(components.encode(x, start[1])[-1], components.block_inverse(start[1]))
    assert found.shape == x.shape and autoencoder.decibels(found, x) > 30


@torch.no_grad()
def test_the_inner_layers_alone_do_what_they_do_inside(start, pixels):
    model, stages = start
    x = pixels[:2] / 127.5 - 1
    found = autoencoder._InnerEncoder(model.encoder)(components.encode(x, stages)[-1])
    assert torch.allclose(found, model.encode(x).latent_dist.mean, atol=1e-3)
    seen = []
    hook = model.decoder.up_blocks[0].upsamplers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.decode(found)
    hook.remove()
    assert torch.allclose(autoencoder._InnerDecoder(model.decoder)(found), seen[0], atol=1e-4)


def test_lessons_name_what_the_earlier_decoder_takes_to_draw_the_target(pixels, teacher, earlier, start):
    lessons = autoencoder._Lessons.of(pixels, teacher, start[1], earlier, replace(OPTIONS, sharp=0.0))
    assert [len(one) for one in vars(lessons).values()] == [32] * 3
    with torch.no_grad():
        seen = components.decode(lessons.components.float(), components.block_inverse(start[1]))
        h = earlier.decoder.up_blocks[0].upsamplers[0](lessons.features.float()[:2])
        for block in earlier.decoder.up_blocks[1:]:
            h = block(h)
        drawn = earlier.decoder.conv_out(earlier.decoder.conv_act(earlier.decoder.conv_norm_out(h)))
        read = components.decode(lessons.readout()(lessons.features.float()), components.block_inverse(start[1]))
    assert autoencoder.decibels(drawn, seen[:2]) > 26 and autoencoder.decibels(read, seen) > 22


def test_latents_and_pictures_of_the_teacher_have_half_the_side(pixels, teacher):
    latents = teacher.encode(pixels[:2] / 127.5 - 1)
    assert latents.shape == (2, LATENTS, 16, 16) and latents.dtype == torch.float32
    assert teacher.decode(latents).shape == (2, 3, 128, 128)


def test_the_target_lies_between_the_image_and_the_teachers_picture(pixels):
    x = pixels[:2] / 127.5 - 1
    seen = F.avg_pool2d(x, 2).flip(3)
    assert torch.equal(autoencoder.target(x, seen, 0.0), x)
    assert torch.allclose(autoencoder.target(x, F.avg_pool2d(x, 2), 1.0), x, atol=1e-6)
    apart = lambda sharp: F.mse_loss(F.avg_pool2d(autoencoder.target(x, seen, sharp), 2), seen)
    assert apart(1.0) < 0.05 * apart(0.0) and apart(1.0) < apart(0.5) < apart(0.0)


@torch.no_grad()
def test_the_trained_model_has_latents_and_images_of_its_config(trained, pixels):
    latents = trained[0].encode(pixels[:2] / 127.5 - 1).latent_dist
    assert latents.mean.shape == (2, CONFIG["latent_channels"], 16, 16) and latents.std.max() < 1e-3
    assert trained[0].decode(latents.mode()).sample.shape == (2, 3, 256, 256)


def test_training_brings_latents_nearer_and_leaves_the_outer_encoder(trained, start, pixels, teacher):
    x, (fresh, _) = pixels / 127.5 - 1, start
    with torch.no_grad():
        z = teacher.encode(x)
        off = [F.mse_loss(model.encode(x).latent_dist.mean, z) for model in (fresh, trained[0])]
    assert off[1] < off[0]
    outer = ("encoder.conv_in", *(f"encoder.down_blocks.{i}." for i in range(4)))
    found = trained[0].state_dict()
    same = {name: torch.equal(value, found[name]) for name, value in fresh.state_dict().items()}
    assert all(equal for name, equal in same.items() if name.startswith(outer))
    assert not any(
        same[name] for name in ("encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
    )


def test_a_finished_run_is_not_run_again(trained, pixels, teacher, earlier):
    again = autoencoder.train(pixels, teacher, earlier, trained[1], OPTIONS)
    states = trained[0].state_dict(), again.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
