"""Likeness: what tells photographs from drawn images by their latents, and how it is learned and read."""

import csv
import shutil

import numpy as np
import pytest
import tiny
import torch
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dermaflux import phantom
from dermaflux.candidates import ENOUGH
from dermaflux.cli import app
from dermaflux.errors import ModelUnavailable
from dermaflux.generator import Generator
from dermaflux.latents import encode
from dermaflux.likeness import NAME, Likeness, statistics
from dermaflux.models import NANO


@pytest.fixture(scope="module")
def generator():
    return Generator.load("nano")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder with 24 sharp images that stand for photographs, 24 blurred ones for drawn, and what was learned."""
    folder = tmp_path_factory.mktemp("likeness")
    for name, first in (("real", 0), ("drawn", 100)):
        (folder / name).mkdir()
        with (folder / name / "manifest.csv").open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["file", "label", "split"])
            for seed in range(first, first + 24):
                image = Image.fromarray(phantom.draw(phantom.random_attributes(seed), seed).image)
                image = image if name == "real" else image.filter(ImageFilter.GaussianBlur(2))
                image.save(folder / name / f"{seed}.png")
                lines.writerow([f"{seed}.png", "benign", "train"])
    command = ["train", "likeness", str(folder / "real" / "manifest.csv"), "--base", str(NANO)]
    command += ["--drawn", str(folder / "drawn"), "--out", str(folder)]
    run = CliRunner().invoke(app, command, catch_exceptions=False)
    assert run.exit_code == 0 and "AUC of" in run.output, run.output
    return folder


def scores(likeness, generator, folder):
    return [likeness.of_image(generator.pipe, Image.open(path)) for path in sorted(folder.glob("*.png"))]


def test_what_is_learned_tells_photographs_from_drawn_images(generator, learned):
    likeness = Likeness.beside(learned, 32)
    drawn, real = (scores(likeness, generator, learned / name) for name in ("drawn", "real"))
    assert np.mean(drawn) == pytest.approx(0, abs=0.02) and np.std(drawn, ddof=1) == pytest.approx(1, abs=0.02)
    assert np.mean(real) > 1 and min(real) > np.mean(drawn)


def test_the_statistics_are_means_and_standard_deviations_of_channels():
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found = statistics(latents)
    assert found.shape == (3, 8)
    assert torch.allclose(found[1, 2], latents[1, 2].mean()) and torch.allclose(found[1, 6], latents[1, 2].std())


def test_the_embedded_model_tells_a_blurred_image_from_itself(generator):
    image = Image.fromarray(phantom.draw(phantom.random_attributes(3), 3).image)
    assert generator._alike(image) != generator._alike(image.filter(ImageFilter.GaussianBlur(3)))
    with torch.inference_mode():
        latents = encode(generator.pipe, generator.pipe.image_processor.preprocess(image))
        assert generator._alike(image) == pytest.approx(float(generator._likeness(latents)))


def test_a_model_without_one_calls_all_images_equal(tiny_generator):
    assert tiny_generator._likeness is None and tiny_generator._alike(Image.new("RGB", (64, 64))) == ENOUGH


def test_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / NAME
    path.write_bytes((NANO / NAME).read_bytes()[:100])
    with pytest.raises(ModelUnavailable, match=f"{NAME} cannot be loaded"):
        Likeness.beside(tmp_path, 32)
    save_file({"weight": torch.zeros(64)}, path)
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        Likeness.beside(tmp_path, 32)


def test_one_of_other_latents_is_refused(tmp_path, tiny_folder):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    shutil.copy(NANO / NAME, folder / "pipeline" / NAME)
    with pytest.raises(ModelUnavailable, match="other latents than the model's"):
        Generator.from_spec(tiny.spec(folder), "cpu")


def test_the_shipped_weights_are_plain_numbers():
    tensors = load_file(NANO / NAME)
    assert tensors["weight"].shape == (64,) and tensors["bias"].shape == ()
    assert all(torch.isfinite(one).all() for one in tensors.values())
