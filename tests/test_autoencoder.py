"""The embedded autoencoder: what its teacher shows it, and its training."""

import pytest
import torch
import torch.nn.functional as F

from dermaflux import phantom
from dermaflux.training import autoencoder
from dermaflux.training.autoencoder import CONFIG, LATENTS, AutoencoderOptions
from dermaflux.training.taef2 import Taef2

OPTIONS = AutoencoderOptions(steps=6, batch=2)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    """Phantoms: (8, 3, 256, 256) uint8."""
    drawn = (phantom.draw(phantom.random_attributes(seed), seed, CONFIG["sample_size"]).image for seed in range(8))
    return torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in drawn])


@pytest.fixture(scope="module")
def teacher() -> Taef2:
    """A teacher of random weights."""
    torch.manual_seed(0)
    return Taef2().requires_grad_(False).eval().to(torch.bfloat16)


@pytest.fixture(scope="module")
def trained(pixels, teacher, tmp_path_factory):
    """The model, and the folder of its run."""
    out = tmp_path_factory.mktemp("autoencoder")
    return autoencoder.train(pixels, teacher, out, OPTIONS), out


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


def test_training_brings_latents_and_pictures_nearer(trained, pixels, teacher):
    torch.manual_seed(OPTIONS.seed)
    x, fresh = pixels / 127.5 - 1, autoencoder.start().eval()
    with torch.no_grad():
        z = teacher.encode(x)
        off = [F.mse_loss(model.encode(x).latent_dist.mean, z) for model in (fresh, trained[0])]
    assert off[1] < off[0]
    assert autoencoder.psnr(trained[0], pixels).mean() > autoencoder.psnr(fresh, pixels).mean()


def test_a_finished_run_is_not_run_again(trained, pixels, teacher):
    again = autoencoder.train(pixels, teacher, trained[1], OPTIONS)
    states = trained[0].state_dict(), again.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
