"""The table of what synthetic images buy: which images each cell learns from, its results, table and figure."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_classifier
import torch
from PIL import Image
from typer.testing import CliRunner

from dermaflux.cli import app
from dermaflux.data import manifest
from dermaflux.data.manifest import Row
from dermaflux.data.pixels import Shelf, read_pixels
from dermaflux.errors import DataError
from dermaflux.evaluation import augmentation
from dermaflux.evaluation.augmentation import Cell, Sets
from dermaflux.files import alone_in
from dermaflux.training.finetune import FinetuneOptions

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def rows(name: str, count: int) -> list[Row]:
    return [Row(Path(f"{name}{i}.png"), ("benign", "malignant")[i % 2], "train", {}) for i in range(count)]


def test_cells_are_all_combinations_and_the_synthetic_images_alone():
    table = augmentation.cells(["probe", "resnet10t"], [10, 20], [0, 2], 3, ["flow", "diffusion"])
    assert len(table) == len({cell.name for cell in table}) == 2 * (2 + 2 * (2 + 1)) * 3
    assert {cell.ratio for cell in table if cell.real == 0} == {2}
    assert table == augmentation.cells(["probe", "resnet10t"], [10, 20, 10], [0, 2, 2.0], 3, ["flow", "diffusion"])
    assert all(bool(cell.generator) == bool(cell.ratio) for cell in table)


def test_a_cell_learns_from_its_real_images_and_so_many_drawn_ones():
    sets = Sets(rows("real", 40), {"flow": rows("drawn", 100)}, [], [])
    names = lambda cell: [row.path.name for row in sets.learned(cell, 40)]
    plain, mixed = names(Cell("a", 20, 0, 1)), names(Cell("a", 20, 1.75, 1, "flow"))
    assert len(plain) == 20 and mixed[:20] == plain and len(mixed) == 55
    assert set(plain) < set(names(Cell("a", 40, 0, 1)))
    assert len(names(Cell("a", 0, 2, 1, "flow"))) == 80 and all(
        "drawn" in name for name in names(Cell("a", 0, 2, 1, "flow"))
    )
    with pytest.raises(DataError, match="only 100"):
        names(Cell("a", 40, 3, 0, "flow"))


def test_no_cell_learns_from_a_generator_that_saw_more_real_images_than_it():
    real = rows("real", 40)
    sets = Sets(real, {"flow": rows("drawn", 100)}, [], [], seen=real[30:])
    own = {row.path for row in real[30:]}
    assert own <= {row.path for row in sets.learned(Cell("a", 12, 1, 5, "flow"), 40)}
    assert own == {row.path for row in sets.learned(Cell("a", 10, 0, 5), 40)}
    assert len(sets.learned(Cell("a", 6, 0, 5), 40)) == 6
    with pytest.raises(DataError, match="trained on 10 images"):
        sets.learned(Cell("a", 6, 1, 0, "flow"), 40)
    with pytest.raises(DataError, match=r"other0\.png was seen by the generator"):
        Sets(real, {"flow": rows("drawn", 9)}, [], [], seen=rows("other", 1)).learned(Cell("a", 6, 1, 0, "flow"), 40)


def test_decoded_images_are_kept_for_the_next_cell_as_far_as_the_limit_goes(tmp_path):
    some = rows("real", 3)
    some = [replace(row, path=tmp_path / row.path) for row in some]
    for i, row in enumerate(some):
        Image.new("RGB", (16, 16), (i, 0, 0)).save(row.path)
    shelf = Shelf(limit=2 * 3 * 4 * 4)
    first = shelf.read(some, 4)
    assert torch.equal(first, read_pixels(some, 4))
    some[0].path.unlink()
    assert torch.equal(shelf.read(some, 4), first)
    with pytest.raises(DataError, match=r"real0\.png"):
        shelf.read(some, 8)
    some[2].path.unlink()
    with pytest.raises(DataError, match=r"real2\.png"):
        shelf.read(some, 4)


@pytest.fixture
def folders(tmp_path) -> Path:
    """A manifest with the splits train, val and test, and two folders of drawn images whose names are out of order."""
    real = [{"label": ("benign", "malignant")[i % 2], "split": SPLITS[i // 2 % 4]} for i in range(48)]
    drawn = [{"label": ("benign", "malignant")[i % 2], "split": "train"} for i in range(24)]
    for name, given in (("real", real), ("z-flow", drawn), ("a-diffusion", drawn)):
        (tmp_path / name).mkdir()
        tiny_classifier.write_manifest(tmp_path / name, given)
    return tmp_path


SPLITS = ("train", "train", "val", "test")


def command(folder: Path, *others: object, drawn=("z-flow",), reals="8"):
    few = dict(pretrained=0, image_size=32, steps=2, check_every=2, batch=4, ema=0.5)
    words = ["evaluate", "augmentation", folder / "real" / "manifest.csv", *(folder / name for name in drawn)]
    words += ["--out", folder / "out", "--reals", reals, "--ratios", "0,1", "--archs", "resnet10t", "--seeds", 1]
    words += [*(f"--set={name}={value}" for name, value in few.items()), *others]
    return CliRunner().invoke(app, [str(word) for word in words])


def test_cells_are_taken_over_only_by_the_settings_and_images_that_made_them(folders):
    assert command(folders).exit_code == 0
    cell = r"out/resnet10t-8-x0-0 was made with other "
    for others, named in ((["--set", "steps=3"], "options"), (["--test", "val"], "images to be tried on")):
        done = command(folders, *others)
        assert done.exit_code == 2 and re.search(cell + named, done.stderr)
    image = next(folders.joinpath("real").glob("*.png"))
    before = image.read_bytes()
    tiny_classifier.lesion(999, dark=True).save(image)  # other pixels by the same name
    done = command(folders)
    assert done.exit_code == 2 and re.search(cell + "images to", done.stderr)
    image.write_bytes(before)
    (folders / "out" / "resnet10t-8-x0-0" / "result.json").write_text("{")
    done = command(folders)
    assert done.exit_code == 2 and "result.json is damaged" in done.stderr


@pytest.mark.parametrize("option", ["--test", "--validation"])
def test_no_image_is_learned_from_and_tried_or_stopped_on(option, folders):
    done = command(folders, option, "train")
    assert done.exit_code == 2 and "this image is in" in done.stderr and not (folders / "out").exists()


def test_a_table_that_another_process_makes_is_left_alone(folders):
    with alone_in(folders / "out"):
        done = command(folders)
    assert done.exit_code == 2 and "Another process works in" in done.stderr
    assert command(folders).exit_code == 0


def test_a_larger_table_does_not_take_over_what_was_fewer_images_before(folders):
    assert command(folders).exit_code == 0
    done = command(folders, reals="8,16")
    assert done.exit_code == 2 and "resnet10t-0-x1-z-flow-0 was made with other images to learn from" in done.stderr


def test_the_others_are_compared_with_the_generator_that_is_named_last(folders):
    done = command(folders, drawn=("z-flow", "a-diffusion"))
    assert done.exit_code == 0, done.output
    assert "AUC beyond that with the images of a-diffusion" in done.stdout and "Accuracy, gain" in done.stdout
    assert "| resnet10t | z-flow | 8 | " in done.stdout.split("beyond that")[1]
    assert Image.open(folders / "out" / "figure-accuracy.png").width > 300
    assert not list((folders / "out").glob("*/checkpoint"))


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (["--reals", "0"], "at least 1"),
        (["--reals=-5"], "at least 1"),
        (["--ratios", "nan"], "between 0 and"),
        (["--ratios=-1"], "between 0 and"),
        (["--archs", "resnet10t,resnet10typo"], "no architecture “resnet10typo”"),
        (["--reals", "400"], "resnet10t-400-x0-0 asks for 400 real images, but there are only 24"),
        (["--ratios", "40"], "asks for 320 synthetic images, but there are only 24"),
        (["--set", "steps=0"], "steps must be at least 1"),
        (["--test", "nowhere"], "The 0 images to be tried on are not of both labels"),
    ],
)
def test_what_cannot_be_trained_or_tried_is_refused_before_anything_is(folders, others, said):
    done = command(folders, *others)
    assert done.exit_code == 2 and said in done.stderr and not (folders / "out").exists()


def test_what_the_generator_saw_is_checked_or_said_to_be_unknown(folders):
    assert "Without --seen" in command(folders).stderr
    seen = folders / "real" / "seen.csv"
    lines = (folders / "real" / "manifest.csv").read_text().splitlines()
    seen.write_text("\n".join([lines[0], *(line for line in lines[1:] if ",train" in line)][:5]))
    done = command(folders, "--seen", seen.resolve(), "--out", folders / "other")
    assert done.exit_code == 0 and "Without --seen" not in done.stderr
    seen.write_text("\n".join(line.replace("train", "val") for line in lines))
    done = command(folders, "--seen", seen)
    assert done.exit_code == 2 and "has no rows of the split “train”" in done.stderr


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
    assert {len(json.loads(path.read_text())["log_odds"]) for path in results} == {12}
    assert (
        done.stdout.count("| resnet10t |") == 12 == (tmp_path / "out" / "table.md").read_text().count("| resnet10t |")
    )
    assert Image.open(tmp_path / "out" / "figure.png").width > 300
    results[0].unlink()
    times = {path: path.stat().st_mtime_ns for path in results[1:]}
    assert CliRunner().invoke(app, ["evaluate", "augmentation", *map(str, arguments)]).exit_code == 0
    assert results[0].exists() and all(path.stat().st_mtime_ns == time for path, time in times.items())


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["nowhere"], "nowhere is not a folder that `generate` wrote"),
        (["a b={drawn}"], "cannot name a generator"),
        (["flow={drawn}", "flow={drawn}"], "Two folders are named “flow”"),
    ],
)
def test_folders_that_are_none_or_named_alike_are_refused(tmp_path, folders, said):
    tiny_classifier.write_manifest(tmp_path, [{"label": "benign", "split": "train"}])
    given = [folder.format(drawn=tmp_path) for folder in folders]
    words = ["evaluate", "augmentation", str(tmp_path / "manifest.csv"), *given, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and said in done.stderr and not (tmp_path / "out").exists()


def test_launched_processes_share_the_cells_and_train_each_by_itself(tmp_path):
    rows = [{"label": ("benign", "malignant")[i % 2], "split": ("train", "val", "test")[i // 2 % 3]} for i in range(24)]
    for name, given in (("real", rows), ("drawn", [one | {"split": "train"} for one in rows])):
        (tmp_path / name).mkdir()
        tiny_classifier.write_manifest(tmp_path / name, given)
    few = dict(pretrained=0, image_size=32, steps=4, check_every=2, batch=4, ema=0.5, precision="no")
    arguments = ["evaluate", "augmentation", tmp_path / "real" / "manifest.csv", tmp_path / "drawn", "--reals", "4,8"]
    arguments += ["--ratios", "0", "--archs", "resnet10t", "--seeds", 1, *(f"--set={n}={v}" for n, v in few.items())]
    arguments = [*map(str, arguments), "--out"]
    assert CliRunner().invoke(app, [*arguments, str(tmp_path / "one")]).exit_code == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "dermaflux"]
    root = Path(__file__).parent.parent
    given = dict(cwd=root, capture_output=True, text=True, timeout=240)
    done = subprocess.run([*launch, *arguments, str(tmp_path / "two")], **given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| AUC | Real |") == 1
    for path in (tmp_path / "one").glob("*/result.json"):
        one, two = (json.loads((tmp_path / name / path.parent.name / path.name).read_text()) for name in ("one", "two"))
        assert np.allclose(one["log_odds"], two["log_odds"], atol=1e-3)


def test_a_cell_that_another_process_is_at_is_left_to_it(tmp_path):
    given = [{"label": ("benign", "malignant")[i % 2], "split": ("train", "val")[i // 2 % 2]} for i in range(24)]
    tiny_classifier.write_manifest(tmp_path, given)
    read = lambda split: manifest.read(tmp_path / "manifest.csv", split)
    sets = Sets(read("train"), {}, read("val"), read("val"))
    table, out = augmentation.cells(["resnet10t"], [8], [0], 2, []), tmp_path / "out"
    few = FinetuneOptions(pretrained=False, image_size=32, steps=2, check_every=2, batch=4, ema=0.5)
    with alone_in(out / table[0].name):
        assert [one["seed"] for one in augmentation.run(table, sets, out, few, part=(1, 2))] == [1]
    assert [one["seed"] for one in augmentation.run(table, sets, out, few)] == [0, 1]
