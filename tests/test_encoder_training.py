"""The encoder that learns what its decoder has become."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import save_file
from test_cli import run

from dermaflux import phantom
from dermaflux.model_files import NATIVE
from dermaflux.models import NANO
from dermaflux.training import encoder
from dermaflux.training.autoencoder import psnr
from dermaflux.training.encoder import EncoderOptions
from dermaflux.training.taef2 import Taef2

OPTIONS = EncoderOptions(steps=6, batch=2, learning_rate=1e-4, warmup=1, phantoms=2, ema=0.5, save_every=2)

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    """Four phantoms: (4, 3, 256, 256) uint8."""
    drawn = (phantom.draw(phantom.random_attributes(seed), seed, NATIVE).image for seed in range(4))
    return torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in drawn])


def embedded() -> AutoencoderTiny:
    return AutoencoderTiny.from_pretrained(NANO / "vae")


def blurred() -> AutoencoderTiny:
    """The embedded one with an encoder that has forgotten a little."""
    model, chance = embedded(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight += 0.05 * weight.std() * torch.randn(weight.shape, generator=chance) if weight.ndim > 1 else 0
    return model


@torch.no_grad()
def encode(x: torch.Tensor) -> torch.Tensor:
    return embedded().encode(x).latents


def test_the_encoder_finds_better_latents_and_the_decoder_stays_as_it_is(pixels, tmp_path):
    before, start = psnr(blurred().eval(), pixels).mean(), blurred()
    learned = encoder.train(start, pixels, encode, tmp_path, replace(OPTIONS, steps=16), {})
    assert psnr(learned, pixels).mean() > before + 0.3
    known = embedded().decoder.state_dict()
    assert all(torch.equal(value, known[name]) for name, value in learned.decoder.state_dict().items())
    assert (tmp_path / "loss.csv").read_text().splitlines()[0] == "step,psnr,moved"


def test_a_run_that_is_killed_ends_as_an_unbroken_one(pixels, tmp_path):
    def interrupted(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(x)

    calls: list[int] = []
    whole = encoder.train(blurred(), pixels, encode, tmp_path / "whole", OPTIONS, {})
    with pytest.raises(KeyboardInterrupt):
        encoder.train(blurred(), pixels, interrupted, tmp_path / "broken", OPTIONS, {})
    broken = encoder.train(blurred(), pixels, encode, tmp_path / "broken", OPTIONS, {})
    states = whole.encoder.state_dict(), broken.encoder.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.fixture
def command(tmp_path):
    """`train encoder` on one small photograph, with a teacher of random weights."""
    Image.new("RGB", (64, 64), "#c08060").save(tmp_path / "skin.png")
    (tmp_path / "manifest.csv").write_text("file,label,split\nskin.png,benign,train\n")
    torch.manual_seed(0)
    save_file(Taef2().state_dict(), tmp_path / "teacher.safetensors")
    shared = ("train", "encoder", tmp_path / "manifest.csv", "--teacher", tmp_path / "teacher.safetensors")
    return lambda vae: run(*shared, "--vae", vae, "--out", tmp_path / "out", "--steps", 1, "--set", "phantoms=2")


def test_the_command_writes_an_autoencoder_that_is_read_without_a_warning(command, tmp_path, recwarn):
    done = command(NANO / "vae")
    assert done.exit_code == 0, done.stderr
    AutoencoderTiny.from_pretrained(tmp_path / "out" / "vae")
    assert "_name_or_path" not in (tmp_path / "out" / "vae" / "config.json").read_text()


def test_a_folder_without_such_an_autoencoder_is_refused(command, tmp_path):
    other = tmp_path / "other"
    AutoencoderTiny(latent_channels=4, **SMALL).save_pretrained(other)
    for folder, said in ((tmp_path, "holds no AutoencoderTiny"), (other, "4 latent channels; those of TAEF2 are 32")):
        done = command(folder)
        assert done.exit_code == 2 and said in done.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


SMALL = dict(
    encoder_block_out_channels=(8, 8),
    decoder_block_out_channels=(8, 8),
    num_encoder_blocks=(0, 1),
    num_decoder_blocks=(1, 0),
)
