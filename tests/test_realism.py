"""Realism: known sets of features score as they must; images and manifests are read by label and split."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_recipes import RECIPE
from typer.testing import CliRunner

from dermaflux import phantom
from dermaflux.cli import app
from dermaflux.data.features import Features
from dermaflux.errors import DataError, ModelUnavailable
from dermaflux.evaluation import realism, steps, usefulness
from dermaflux.images import save_synthetic


class Thumbnails:
    """Features that need no network: the image at 8 px."""

    def of(self, images) -> np.ndarray:
        small = [np.asarray(image.convert("RGB").resize((8, 8)), np.float32).ravel() / 128 - 1 for image in images]
        return np.stack(small)


def normal(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, 16)).astype(np.float32)


def test_kid_is_zero_within_its_interval_for_one_distribution_and_not_for_two():
    same = realism.kid("a", normal(300, 0), normal(200, 1))
    other = realism.kid("b", normal(300, 0), normal(200, 1, 0.5))
    assert same.interval[0] < 0 < same.interval[1]
    assert other.interval[0] > 0 and other.n == 200


def test_kid_equals_the_textbook_estimator():
    a, b = normal(30, 0), normal(20, 1, 0.3)
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    off = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    wanted = off(kernel(a, a)) + off(kernel(b, b)) - 2 * kernel(a, b).mean()
    assert realism.kid("", a, b).value == pytest.approx(1000 * wanted, rel=1e-4)


def test_real_images_are_covered_by_their_own_kind_and_not_by_a_distant_one():
    real = normal(100, 0)
    assert realism.covered(real, normal(100, 1)).mean() > 0.6
    assert not realism.covered(real, normal(100, 1, 50)).any()
    assert realism.covered(real, real).all()


def test_memorised_images_count_as_copies():
    sets = realism.Sets(normal(200, 0), normal(100, 1), np.concatenate([normal(200, 0)[:30], normal(70, 2)]))
    figures = {figure.name: figure for figure in realism.of_sets(sets, "benign")}
    assert 0.3 <= figures["copies, benign"].value < 0.4
    assert "| <= 0.02 | **no** |" in figures["copies, benign"].markdown()


def test_every_figure_stands_beside_what_real_images_reach():
    sets = realism.Sets(normal(200, 0), normal(60, 1), normal(120, 2, 2))
    figures = {figure.name: figure for figure in realism.every_of_sets(sets, "benign")}
    assert all(f"floor of {name}" in figures for name in figures if not name.startswith("floor"))
    for name in ("CMMD, benign", "Frechet distance, benign"):
        assert figures[name].interval[0] > figures[f"floor of {name}"].interval[1], name
    assert figures["Frechet distance, benign"].n == figures["floor of Frechet distance, benign"].n == 100


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A real manifest of phantoms, 7 a split and label, and a drawn folder of the training images themselves."""
    folder = tmp_path_factory.mktemp("realism")
    drawn = folder / "drawn"
    real_rows, drawn_rows = [], []
    for index in range(28):
        label, split = ("benign", "malignant")[index % 2], ("train", "val")[index % 4 // 2]
        image = Image.fromarray(phantom.draw(phantom.random_attributes(index), index, size=64).image)
        image.save(folder / f"{index:02d}.png")
        real_rows.append({"file": f"{index:02d}.png", "label": label, "split": split})
        if split == "train":
            save_synthetic(image, RECIPE, drawn / f"{index:02d}.png")
            drawn_rows.append({"file": f"{index:02d}.png", "label": label})
    for path, rows in ((folder / "manifest.csv", real_rows), (drawn / "manifest.csv", drawn_rows)):
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder / "manifest.csv", drawn


def test_each_label_is_compared_with_its_own_and_the_mean_follows(folders):
    figures = {figure.name: figure for figure in realism.compare(*folders, Thumbnails())}
    assert figures["copies, mean"].value == 1 and figures["coverage, malignant"].value == 1
    assert figures["KID, mean"].value == pytest.approx(
        (figures["KID, benign"].value + figures["KID, malignant"].value) / 2
    )
    assert figures["KID, mean"].n == 14
    shares = [one for name, one in figures.items() if name.startswith(("copies", "coverage"))]
    assert all(0 <= one.interval[0] <= one.value <= one.interval[1] <= 1 for one in shares)


def test_the_nearest_training_image_of_a_copy_is_its_original(folders, tmp_path):
    names = realism.save_nearest(*folders, Thumbnails(), tmp_path / "sheet.png", count=8, side=32)
    assert len(names) == 8 and all(f"{line[:2]}.png: {line[:2]}, cosine 1.000" == line for line in names)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert "nearest training photograph" in sheet.text["Description"]


def test_few_steps_are_compared_with_many_on_the_same_lesions(folders, tiny_generator, tmp_path):
    real, _ = folders
    found = steps.compare(tiny_generator, real, real, Thumbnails(), tmp_path, (1, 3), 14)
    assert [one.name for one in found] == [f"{name}, mean, {k} steps" for k in (1, 3) for name in ("KID", "coverage")]
    assert {path.name for path in (tmp_path / "steps-1").glob("*.png")} == {
        path.name for path in (tmp_path / "steps-3").glob("*.png")
    }
    with Image.open(tmp_path / "steps.png") as curve:
        assert curve.size == (700, 400)


def test_images_that_carry_the_signal_are_worth_as_much_as_real_ones_and_noise_nothing():
    def labelled(n: int, seed: int, lead: float) -> usefulness.Labelled:
        malignant = np.arange(n) % 4 == 0
        return usefulness.Labelled(normal(n, seed) + lead * malignant[:, None], malignant)

    real, tried = labelled(200, 0, 0.4), labelled(100, 1, 0.4)
    good = {one.name: one for one in usefulness.of_sets(real, labelled(200, 2, 0.4), tried)}
    bad = {one.name: one for one in usefulness.of_sets(real, labelled(200, 3, 0.0), tried)}
    share = "drawn: share of real's lead over 0.5"
    assert good[share].value > 0.8 > 0.5 > bad[share].value
    assert good["AUC, trained on real"].n == 100 and good["AUC, trained on real"].value > 0.8


def test_too_few_images_are_refused_in_a_sentence(folders, tmp_path):
    (tmp_path / "manifest.csv").write_text("file,label\n")
    with pytest.raises(DataError, match="only 0 benign images in"):
        realism.compare(folders[0], tmp_path, Thumbnails())
    with pytest.raises(DataError, match="too few to compare"):
        realism.compare(*folders, Thumbnails(), every=True)
    with pytest.raises(DataError, match="14 images; 16 are needed"):
        realism.save_nearest(*folders, Thumbnails(), tmp_path / "sheet.png")


def test_measures_of_no_images_or_of_one_class_are_refused_in_a_sentence(folders, tmp_path):
    real, drawn = folders
    lines = real.read_text().splitlines()
    bare, one = real.with_name("bare.csv"), real.with_name("one.csv")
    bare.write_text("\n".join(line.replace("train", "learn").replace("val", "tune") for line in lines))
    one.write_text("\n".join(line.replace("malignant", "benign") for line in lines))
    (tmp_path / "empty").mkdir()
    out, nano = str(tmp_path / "out.png"), ["--features", "nano"]
    for arguments, sentence in (
        (["usefulness", bare, drawn, *nano], "Of the 0 train images in"),
        (["usefulness", one, drawn, *nano], "none is malignant; a classifier needs both"),
        (["nearest", bare, drawn, *nano, "--out", out], "has no rows of the split “train”"),
        (["outlines", bare, "--out", out], "has no rows of the split “val”"),
        (["autoencoder", bare], "has no rows of the split “val”"),
        (["classifier", bare], "has no rows of the split “val”"),
        (["concordance", tmp_path / "empty"], "holds no PNG"),
    ):
        done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
        assert done.exit_code == 2 and sentence in " ".join(done.stderr.split()), (arguments, done.output)
    assert not Path(out).exists()


def test_a_file_that_is_no_network_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "no.tflite").write_bytes(b"not a network")
    with pytest.raises(ModelUnavailable):
        Features(tmp_path / "no.tflite")
