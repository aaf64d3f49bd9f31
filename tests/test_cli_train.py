"""`python -m dermaflux train`: what it writes, and bad input refused in a sentence."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from dermaflux import phantom
from dermaflux.cli import app
from dermaflux.models import NANO
from dermaflux.training import text
from dermaflux.training.taef2 import Taef2

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def teacher(path: Path) -> Path:
    """A file shaped like TAEF2, of random weights."""
    save_file(Taef2().state_dict(), path)
    return path


def test_train_autoencoder_writes_a_model_that_loads(tmp_path):
    from diffusers import AutoencoderTiny

    (tmp_path / "manifest.csv").write_text("file,label,split\na.png,benign,train\nb.png,benign,train\n")
    for seed, name in enumerate(("a.png", "b.png")):
        Image.fromarray(phantom.draw(phantom.random_attributes(seed), seed, 96).image).save(tmp_path / name)
    arguments = (tmp_path / "manifest.csv", "--teacher", teacher(tmp_path / "t.safetensors"), "--out", tmp_path / "out")
    few = [f"--set={name}={value}" for name, value in dict(phantoms=2, pieces_steps=1, detail_steps=1, views=2).items()]
    assert run("train", "autoencoder", *arguments, "--steps", 1, "--batch", 2, *few).exit_code == 0
    assert AutoencoderTiny.from_pretrained(tmp_path / "out" / "vae").config.latent_channels == 32


def test_a_file_that_is_not_the_teacher_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_text("file,label\n")
    save_file({"encoder.0.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    for name in ("other.safetensors", "manifest.csv"):
        arguments = (tmp_path / "manifest.csv", "--teacher", tmp_path / name, "--out", tmp_path / "out")
        result = run("train", "autoencoder", *arguments)
        assert result.exit_code == 2 and "does not hold TAEF2's encoder and decoder." in result.stderr


@pytest.mark.parametrize(
    ("option", "sentence"), [("speed=3", "no option “speed”. Known: steps, batch"), ("batch=much", "“much” is not")]
)
def test_an_unknown_option_of_training_is_named(option, sentence, tmp_path):
    result = run("train", "text", "--out", tmp_path / "out", "--set", option)
    assert result.exit_code == 2 and sentence in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--set", "contrast=1"), "--set contrast changes what a LoRA distils"),
        (("--set", "away=3"), "--set away changes what a LoRA distils"),
        (("--set", "worst=1"), "--set worst changes what a LoRA distils"),
        ((), "holds no folder tokenizer; `train text` writes one"),
    ],
)
def test_a_base_is_not_begun_with_what_it_cannot_use(arguments, sentence, tmp_path):
    result = run("train", "base", "--autoencoder", tmp_path, "--texts", tmp_path, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2 and sentence in result.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("objective", "sentence"), [("flow", "is no FluxPipeline folder"), ("diffusion", "not for --objective diffusion")]
)
def test_a_base_goes_on_from_a_transformer_of_its_own_objective(objective, sentence, tmp_path):
    start = tmp_path if objective == "flow" else NANO
    arguments = ("--autoencoder", NANO / "vae", "--texts", NANO, "--start", start, "--objective", objective)
    result = run("train", "base", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2 and sentence in result.stderr.replace("\n", " ")


def test_text_encoders_trained_for_longer_follow_the_rate_of_a_run_of_that_length(tmp_path):
    options = text.TextOptions(steps=4, batch=4, captions=60)
    text.main(tmp_path, options)
    text.main(tmp_path, replace(options, steps=8))
    state = torch.load(tmp_path / "checkpoint" / "scheduler.bin", weights_only=True)
    assert state["last_epoch"] == 8 and state["_last_lr"] == [pytest.approx(0, abs=1e-12)]


def test_training_on_a_wrong_manifest_names_line_and_column(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("file,label\n1.jpg,sick\n")
    result = run("train", "classifier", path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "line 2, column “label”" in result.stderr
