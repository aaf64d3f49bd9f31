"""A table or grid is kept as far as it has come, and a place that cannot be written to is noticed first."""

import csv
from pathlib import Path

import pytest
import tiny
from PIL import Image
from typer.testing import CliRunner, Result

from dermaflux import appearance, phantom, sweep
from dermaflux.cli import app
from dermaflux.errors import ModelUnavailable
from dermaflux.lesion import LesionAttributes
from dermaflux.models import MODELS

LESION = LesionAttributes("benign", asymmetry=0, border=0, colours=("dark brown",), size_mm=8, tone=3)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def images(tmp_path) -> list[Path]:
    paths = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for seed, path in enumerate(paths):
        Image.fromarray(phantom.draw(LESION, seed, 96).image).save(path)
    return paths


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """The images measured so far; the third ends in Ctrl-C."""
    seen, measure = [], appearance.measure

    def counted(image):
        seen.append(len(seen))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return measure(image)

    monkeypatch.setattr(appearance, "measure", counted)
    return seen


@pytest.mark.parametrize("verb", ["measure", "classify"])
def test_an_interrupted_table_holds_the_images_that_were_done(images, measured, verb, tmp_path):
    result = run(verb, *images, "--out", tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert result.exit_code == 130 and [row["file"] for row in rows] == [str(path) for path in images[:2]]
    assert run(verb, images[2], "--out", tmp_path / "next.csv").exit_code == 0


def test_a_file_whose_name_is_a_formula_is_a_text_in_the_table(images, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("=1+1.png").write_bytes(images[0].read_bytes())
    assert run("measure", "=1+1.png", "--out", "table.csv").exit_code == 0
    assert Path("table.csv").read_text().splitlines()[1].startswith("'=1+1.png,")


def test_a_table_that_was_there_outlives_a_run_that_is_interrupted_before_its_first_image(
    images, monkeypatch, tmp_path
):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(appearance, "measure", interrupted)
    (tmp_path / "table.csv").write_text("kept")
    assert run("measure", *images, "--out", tmp_path / "table.csv").exit_code == 130
    assert (tmp_path / "table.csv").read_text() == "kept"


@pytest.mark.parametrize("name", ["x.csv", f"../{'x' * 300}.csv"])
def test_a_table_that_cannot_be_written_is_noticed_before_the_first_image(images, measured, name):
    result = run("measure", *images, "--out", images[0] / name)
    assert result.exit_code == 1 and "cannot be used" in result.stderr and not measured


def test_overlays_that_cannot_be_written_are_noticed_before_the_first_image(images, measured):
    result = run("classify", *images, "--explain", images[0] / "overlays")
    assert result.exit_code == 1 and "cannot be used" in result.stderr and not measured


def test_an_image_of_a_long_name_has_an_overlay_of_a_shorter_one(images, tmp_path):
    long = images[0].rename(tmp_path / f"{'ä' * 120}.png")
    result = run("classify", long, "--explain", tmp_path / "overlays")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "overlays").iterdir()] == [f"{'ä' * 100}-gradcam.png"]


def test_an_overlay_that_cannot_be_written_fails_its_image_alone(images, tmp_path):
    (tmp_path / "overlays" / "a-gradcam.png").mkdir(parents=True)
    result = run("classify", *images, "--explain", tmp_path / "overlays", "--out", tmp_path / "table.csv")
    assert result.exit_code == 1 and f"{images[0]}: The overlay " in result.stderr
    assert [line.partition(",")[0] for line in (tmp_path / "table.csv").read_text().splitlines()[1:]] == [
        str(path) for path in images[1:]
    ]


def test_a_sweep_that_fails_keeps_the_cells_that_are_drawn(monkeypatch, tiny_folder, tmp_path):
    monkeypatch.setitem(MODELS, "tiny", tiny.spec(tiny_folder))
    cells = sweep.run

    def failing(*given):
        drawn = (item for item in cells(*given) if isinstance(item, sweep.Drawn))
        yield next(drawn)
        raise ModelUnavailable("The card is gone.")

    monkeypatch.setattr(sweep, "run", failing)
    out = tmp_path / "grid.png"
    result = run("sweep", "--model", "tiny", "--out", out, "--x", "tone=1,8", "--steps", 2)
    assert result.exit_code == 2 and "1 of 2 images are in" in result.stderr and "The card is gone." in result.stderr
    with Image.open(out) as image:
        assert image.text["dermaflux-grid"].count('"recipe"') == 1


def test_a_grid_that_cannot_be_written_is_noticed_before_the_first_image(monkeypatch, images):
    monkeypatch.setattr(sweep, "run", lambda *_: pytest.fail("it was drawn"))
    result = run("sweep", "--out", images[0] / "grid.png", "--x", "tone=1,8")
    assert result.exit_code == 1 and "cannot be used" in result.stderr
