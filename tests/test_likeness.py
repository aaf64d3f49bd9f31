"""Likeness: what tells photographs from drawn images, and how it is learned and read."""

import csv
import shutil

import numpy as np
import pytest
import tiny
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from dermaflux import phantom
from dermaflux.candidates import ENOUGH
from dermaflux.cli import app
from dermaflux.errors import ModelUnavailable
from dermaflux.generator import Generator
from dermaflux.likeness import MOST, NAME, Likeness, size, statistics
from dermaflux.models import NANO, SamplingOptions
from dermaflux.samples import Sample


@pytest.fixture(scope="module")
def generator():
    return Generator.load("nano", device="cpu")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder with 24 images that stand for photographs, 24 for drawn ones, what was learned, and 12 more of each."""
    folder = tmp_path_factory.mktemp("likeness")
    for name, first, count in (("real", 0, 24), ("drawn", 100, 24), ("more real", 200, 12), ("more drawn", 300, 12)):
        draw_into(folder / name, range(first, first + count), "drawn" in name)
    run = learn(folder, folder)
    assert run.exit_code == 0 and "AUC of" in run.output, run.output
    return folder


def draw_into(folder, seeds, blurred):
    """Phantoms with a manifest, sharp ones that stand for photographs or blurred ones for drawn images."""
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["file", "label", "split"])
        for seed in seeds:
            image = Image.fromarray(phantom.draw(phantom.random_attributes(seed), seed).image)
            image = image.filter(ImageFilter.GaussianBlur(2)) if blurred else image
            image.save(folder / f"{seed}.png")
            lines.writerow([f"{seed}.png", "benign", "train"])


def learn(folder, out, base=NANO):
    command = ["train", "likeness", str(folder / "real" / "manifest.csv"), "--base", str(base)]
    return CliRunner().invoke(app, [*command, "--drawn", str(folder / "drawn"), "--out", str(out)])


def scores(likeness, generator, folder):
    return [likeness.of_image(generator.pipe, Image.open(path)) for path in sorted(folder.glob("*.png"))]


def test_what_is_learned_tells_photographs_from_drawn_images(generator, learned):
    likeness = Likeness.beside(learned, generator.pipe)
    drawn = scores(likeness, generator, learned / "drawn")
    assert np.mean(drawn) == pytest.approx(0, abs=0.1) and np.std(drawn, ddof=1) == pytest.approx(1, abs=0.1)
    real, drawn = (scores(likeness, generator, learned / name) for name in ("more real", "more drawn"))
    assert roc_auc_score([1] * 12 + [0] * 12, [*real, *drawn]) > 0.9


def test_too_few_images_are_refused_with_their_number(tmp_path):
    draw_into(tmp_path / "real", range(3), False)
    draw_into(tmp_path / "drawn", range(3), True)
    run = learn(tmp_path, tmp_path)
    assert run.exit_code and not (tmp_path / NAME).exists()
    assert "There are 3 photographs" in run.output + str(run.exception)


def test_a_pipeline_of_another_kind_of_autoencoder_is_refused(learned, tmp_path, tiny_folder):
    run = learn(learned, tmp_path, tiny_folder / "pipeline")
    assert run.exit_code and "has no AutoencoderTiny" in run.output + str(run.exception)


def test_the_statistics_are_of_what_blocks_give_and_of_the_latents(generator):
    vae, x = generator.pipe.vae, torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        found, latents = statistics(vae, x), vae.encode(x).latents.flatten(2)
        first = vae.encoder.layers[:3](x / 2 + 0.5).flatten(2)
    assert found.shape == (2, size(vae)) == (2, 1728)
    assert torch.allclose(found[:, :128], torch.cat([first.mean(2), first.std(2)], 1), atol=1e-5)
    assert torch.allclose(found[:, -64:], torch.cat([latents.mean(2), latents.std(2)], 1), atol=1e-5)
    assert not any(layer._forward_hooks for layer in vae.encoder.layers)


def test_a_model_without_one_calls_all_images_equal(tiny_generator):
    assert tiny_generator._likeness is None and tiny_generator._alike(Image.new("RGB", (64, 64))) == ENOUGH


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (None, "cannot be loaded"),
        ({"weight": torch.zeros(1728)}, "cannot be loaded"),
        ({"weight": torch.full((1728,), torch.nan), "bias": torch.tensor(0.0)}, "holds what is no number"),
        ({"weight": torch.zeros(32), "bias": torch.tensor(0.0)}, "another autoencoder than the model's"),
    ],
)
def test_a_damaged_one_is_refused_with_the_way_out(generator, tmp_path, tensors, said):
    path = tmp_path / NAME
    if tensors is None:
        path.write_bytes((NANO / NAME).read_bytes()[:100])
    else:
        save_file(tensors, path)
    with pytest.raises(ModelUnavailable, match=f"{NAME} .*{said}.*train likeness"):
        Likeness.beside(tmp_path, generator.pipe)


def test_one_of_another_autoencoder_is_refused(tmp_path, tiny_folder):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    shutil.copy(NANO / NAME, folder / "pipeline" / NAME)
    with pytest.raises(ModelUnavailable, match="another autoencoder than the model's"):
        Generator.from_spec(tiny.spec(folder), "cpu")


def test_what_the_embedded_model_draws_scores_about_as_it_did_in_learning_at_16_bits_too(generator):
    options = SamplingOptions.defaults(generator.spec, seeds=tuple(range(6)), candidates=1)
    run = generator.sample("A benign nevus on light skin.", options)
    images = [item.image for item in run if isinstance(item, Sample)]
    found = [generator._alike(image) for image in images]
    assert all(abs(one) < MOST for one in found) and abs(np.mean(found)) < 1.5
    half = Generator.load("nano", device="cpu", memory="bf16")
    assert [half._alike(image) for image in images] == pytest.approx(found, abs=0.3)
