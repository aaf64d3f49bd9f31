"""The table of what synthetic images buy: which images each cell learns from, its results, table and figure."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_classifier
from PIL import Image
from typer.testing import CliRunner

from dermaflux.cli import app
from dermaflux.data.manifest import Row
from dermaflux.errors import DataError
from dermaflux.evaluation import augmentation, probe
from dermaflux.evaluation.augmentation import Cell, Sets

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def rows(name: str, count: int) -> list[Row]:
    return [Row(Path(f"{name}{i}.png"), ("benign", "malignant")[i % 2], "train", {}) for i in range(count)]


def test_cells_are_all_combinations_and_the_synthetic_images_alone():
    table = augmentation.cells(["a", "b"], [10, 20], [0, 2], 3)
    assert len(table) == len(set(table)) == 2 * (4 + 1) * 3
    assert {cell.ratio for cell in table if cell.real == 0} == {2}


def test_a_cell_learns_from_its_real_images_and_so_many_drawn_ones():
    sets = Sets(rows("real", 40), rows("drawn", 100), [], [])
    names = lambda cell: [row.path.name for row in sets.learned(cell, 40)]
    plain, mixed = names(Cell("a", 20, 0, 1)), names(Cell("a", 20, 1.75, 1))
    assert len(plain) == 20 and mixed[:20] == plain and len(mixed) == 55
    assert set(plain) < set(names(Cell("a", 40, 0, 1)))
    assert len(names(Cell("a", 0, 2, 1))) == 80 and all("drawn" in name for name in names(Cell("a", 0, 2, 1)))
    with pytest.raises(DataError, match="only 100"):
        names(Cell("a", 40, 3, 0))


def test_no_cell_learns_from_a_generator_that_saw_more_real_images_than_it():
    real = rows("real", 40)
    sets = Sets(real, rows("drawn", 100), [], [], seen=real[30:])
    own = {row.path for row in real[30:]}
    assert own <= {row.path for row in sets.learned(Cell("a", 12, 1, 5), 40)}
    assert own == {row.path for row in sets.learned(Cell("a", 10, 0, 5), 40)}
    assert len(sets.learned(Cell("a", 6, 0, 5), 40)) == 6
    with pytest.raises(DataError, match="trained on 10 images"):
        sets.learned(Cell("a", 6, 1, 0), 40)
    with pytest.raises(DataError, match=r"other0\.png was seen by the generator"):
        Sets(real, rows("drawn", 9), [], [], seen=rows("other", 1)).learned(Cell("a", 6, 1, 0), 40)


def test_gains_are_paired_by_seed_and_intervals_are_over_seeds():
    found = pd.DataFrame(
        [
            dict(arch="a", real=10, ratio=ratio, seed=seed, tried=9)
            | dict.fromkeys(augmentation.MEASURES, 0.6 + 0.1 * seed + 0.05 * ratio)
            for ratio in (0.0, 1.0)
            for seed in range(3)
        ]
    )
    plain, mixed = augmentation.summary(found).to_dict("records")
    assert mixed["auc"] == pytest.approx(0.75) and mixed["auc_gain"] == pytest.approx(0.05)
    assert mixed["auc_gain_low"] == pytest.approx(0.05) and np.isnan(plain["auc_gain"])
    assert plain["auc_low"] == pytest.approx(0.7 - 4.303 * 0.1 / 3**0.5, abs=1e-3)
    assert "| a | 10 | 1 | 3 | 0.750 |" in augmentation.markdown(augmentation.summary(found))


def test_the_command_runs_resumes_and_writes_table_and_figure(tmp_path):
    labels = ["benign", "malignant"] * 24
    real = [{"label": label, "split": ("train", "train", "val", "test")[i // 2 % 4]} for i, label in enumerate(labels)]
    for name, given in (("real", real), ("drawn", [{"label": label, "split": "train"} for label in labels])):
        (tmp_path / name).mkdir()
        tiny_classifier.write_manifest(tmp_path / name, given)
    few = dict(pretrained=0, image_size=32, steps=2, check_every=2, batch=4, ema=0.5)
    arguments = [tmp_path / "real" / "manifest.csv", tmp_path / "drawn", "--out", tmp_path / "out", "--reals", "8,16"]
    arguments += ["--ratios", "0,1.5", "--archs", "resnet10t", "--seeds", 2]
    arguments += [f"--set={name}={value}" for name, value in few.items()]
    done = CliRunner().invoke(app, ["evaluate", "augmentation", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    results = sorted((tmp_path / "out").glob("*/result.json"))
    assert len(results) == 2 * 2 * 2 + 2 and "synthetic" not in done.stderr
    assert {json.loads(path.read_text())["tried"] for path in results} == {12}
    assert done.output.count("| resnet10t |") == 5 == (tmp_path / "out" / "table.md").read_text().count("| resnet10t |")
    assert Image.open(tmp_path / "out" / "figure.png").width > 300
    results[0].unlink()
    times = {path: path.stat().st_mtime_ns for path in results[1:]}
    assert CliRunner().invoke(app, ["evaluate", "augmentation", *map(str, arguments)]).exit_code == 0
    assert results[0].exists() and all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_probe_needs_features_and_fills_cells_as_a_network_does(tmp_path):
    real = [{"label": ("benign", "malignant")[i % 2], "split": ("train", "val")[i // 2 % 2]} for i in range(24)]
    for name, given in (("real", real), ("drawn", [one | {"split": "train"} for one in real])):
        (tmp_path / name).mkdir()
        tiny_classifier.write_manifest(tmp_path / name, given)
    arguments = [tmp_path / "real" / "manifest.csv", tmp_path / "drawn", "--out", tmp_path / "out", "--reals", "8,12"]
    arguments += ["--ratios", "0,1", "--archs", "probe", "--seeds", 3, "--test", "val"]
    without = CliRunner().invoke(app, ["evaluate", "augmentation", *map(str, arguments)])
    assert without.exit_code == 2 and "--features" in without.stderr and not (tmp_path / "out").exists()
    done = CliRunner().invoke(app, ["evaluate", "augmentation", *map(str, arguments), "--features", "nano"])
    assert done.exit_code == 0, done.output
    found = augmentation.results(tmp_path / "out")
    assert len(found) == (2 * 2 + 1) * 3 and set(found.learned) == {8, 12, 16, 24}
    assert (found.auc > 0.9).all()  # malignant ones are the dark ones here


def test_a_probe_learns_from_a_resample_that_its_seed_draws():
    g = np.random.default_rng(0)
    learned, tried = probe.Labelled(g.normal(size=(40, 8)), np.arange(40) % 2 == 0), g.normal(size=(5, 8))
    odds = [probe.log_odds(learned, tried, seed) for seed in (1, 1, 2)]
    assert np.array_equal(odds[0], odds[1]) and not np.allclose(odds[0], odds[2])
