"""Cells of the table of what synthetic images buy whose classifier is a regression on the features of a network."""

import json

import numpy as np
import pytest
import timm
import tiny_classifier
from timm.models import save_for_hf
from typer.testing import CliRunner

from dermaflux.classifier import CLASSIFIERS
from dermaflux.cli import app
from dermaflux.evaluation import augmentation, probe
from dermaflux.evaluation.augmentation_report import summary


@pytest.fixture
def command(tmp_path):
    """Makes a table of probes in `tmp_path`/out, of the features that the words name."""
    real = [{"label": ("benign", "malignant")[i % 2], "split": ("train", "val")[i // 2 % 2]} for i in range(24)]
    for name, given in (("real", real), ("drawn", [one | {"split": "train"} for one in real])):
        (tmp_path / name).mkdir()
        tiny_classifier.write_manifest(tmp_path / name, given)
    arguments = [tmp_path / "real" / "manifest.csv", tmp_path / "drawn", "--out", tmp_path / "out", "--reals", "8,12"]
    arguments += ["--ratios", "0,1", "--archs", "probe", "--seeds", 3, "--test", "val"]
    return lambda *words: CliRunner().invoke(app, ["evaluate", "augmentation", *map(str, [*arguments, *words])])


def test_a_probe_needs_features_and_fills_cells_as_a_network_does(command, tmp_path):
    without = command()
    assert without.exit_code == 2 and "--features" in without.stderr and not (tmp_path / "out").exists()
    done = command("--features", "nano")
    assert done.exit_code == 0, done.output
    found = augmentation.results(tmp_path / "out", augmentation.cells(["probe"], [8, 12], [0, 1], 3, ["drawn"]))
    assert len(found) == (2 * 2 + 1) * 3 and set(found.learned) == {8, 12, 16, 24}
    assert (summary(found).auc > 0.9).all()  # malignant ones are the dark ones here


def test_cells_of_a_probe_are_taken_over_only_by_the_network_that_gave_their_features(command, tmp_path):
    save_for_hf(timm.create_model("test_resnet"), tmp_path / "other", safe_serialization=True)
    first = command("--features", "nano")
    assert first.exit_code == 0, first.output
    cell = tmp_path / "out" / "probe-8-x0-0"
    kept, made_of = cell / "result.json", cell / "made_of.json"
    before = kept.read_bytes()
    done = command("--features", tmp_path / "other")
    assert done.exit_code == 2 and "probe-8-x0-0 was made with other features. Give another --out" in done.stderr
    again = command("--features", CLASSIFIERS["nano"])
    assert again.exit_code == 0 and again.stdout == first.stdout and kept.read_bytes() == before
    made_of.write_text(json.dumps({k: v for k, v in json.loads(made_of.read_text()).items() if k != "features"}))
    done = command("--features", "nano")
    assert done.exit_code == 2 and "probe-8-x0-0 was written by an earlier version" in done.stderr


def test_a_probe_learns_of_both_classes_however_few_the_images(seeds=20):
    learned = probe.Labelled(np.eye(3), np.array([True, False, False]))
    for seed in range(seeds):
        assert np.isfinite(probe.log_odds(learned, np.eye(3), seed)).all()


def test_a_probe_learns_from_a_resample_that_its_seed_draws():
    g = np.random.default_rng(0)
    learned, tried = probe.Labelled(g.normal(size=(40, 8)), np.arange(40) % 2 == 0), g.normal(size=(5, 8))
    odds = [probe.log_odds(learned, tried, seed) for seed in (1, 1, 2)]
    assert np.array_equal(odds[0], odds[1]) and not np.allclose(odds[0], odds[2])
