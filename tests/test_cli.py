"""`python -m dermaflux`: tables, folders, sentences and exit statuses."""

import csv
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from typer.testing import CliRunner, Result

from dermaflux import phantom
from dermaflux.caption import parse
from dermaflux.classifier import Classifier
from dermaflux.cli import app
from dermaflux.data import manifest
from dermaflux.files import alone_in
from dermaflux.grid import CHUNK
from dermaflux.images import open_untrusted, read_provenance
from dermaflux.lesion import LABELS, LesionAttributes
from dermaflux.models import MODELS

LESION = LesionAttributes("benign", asymmetry=0, border=0, colours=("dark brown",), size_mm=8, tone=3)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def png(seed: int, size: tuple[int, int] = (96, 96)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(phantom.draw(LESION, seed, 128).image).resize(size).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def draw(monkeypatch, tiny_folder, tmp_path):
    """Runs `generate` on the tiny model, registered for this test, into the folder `out`."""
    monkeypatch.setitem(MODELS, "tiny", tiny.spec(tiny_folder))
    return lambda *arguments: run("generate", "--model", "tiny", "--out", tmp_path / "out", "--steps", 2, *arguments)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder with three sound images, two of the same name, a broken one, a text and a ZIP."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deeper").mkdir()
    (folder / "mole.png").write_bytes(png(1))
    (folder / "deeper" / "mole.png").write_bytes(png(2))
    (folder / "wide.png").write_bytes(png(3, (120, 60)))
    (folder / "broken.jpg").write_bytes(png(4)[:300])
    (folder / "notes.txt").write_text("not an image")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("inside.png", png(5))
        archive.writestr("page.jpg", "<html></html>")
    return folder


def test_generate_alternates_the_labels_and_writes_a_manifest(draw, tmp_path):
    result = draw("--count", 3, "--label", "both", "--asymmetry", 2, "--colours", "red,black", "--seed", 40)
    assert result.exit_code == 0, result.output
    listed = manifest.read(tmp_path / "out" / "manifest.csv")
    assert [row.label for row in listed] == ["benign", "malignant", "benign"]
    for seed, row in enumerate(listed, 40):
        recipe = read_provenance(row.path)
        assert recipe.attributes == LesionAttributes(row.label, asymmetry=2, colours=("red", "black"))
        assert (recipe.seed, recipe.steps, recipe.model) == (seed, 2, "tiny")


def test_a_folder_that_another_process_draws_into_is_left_alone(draw, tmp_path):
    with alone_in(tmp_path / "out"):
        result = draw("--count", 1)
    assert result.exit_code == 2 and "Another process works in" in result.stderr
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_folder_is_gone_on_with_only_by_the_filters_and_precision_that_it_was_drawn_with(draw, tmp_path):
    assert draw("--count", 1, "--memory", "float32").exit_code == 0
    result = draw("--count", 2, "--memory", "bf16")
    assert result.exit_code == 2 and "drawn with float32 on cpu, now bf16 on cpu" in " ".join(result.stderr.split())
    result = draw("--count", 2, "--memory", "float32", "--distinct")
    assert result.exit_code == 2 and "distinct: none, now True" in result.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 1


def test_generate_again_changes_nothing(draw, tmp_path):
    before = []
    for _ in range(2):
        assert draw("--count", 2, "--label", "benign").exit_code == 0
        before.append({path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")})
    assert before[0] == before[1] and len(before[0]) == 2


def test_generate_follows_a_caption_and_a_plan_and_a_real_set(draw, tmp_path):
    plan = tmp_path / "plan.csv"
    plan.write_text("label,diagnosis,left_out\nmalignant,melanoma,\nbenign,seborrheic keratosis,yes\nbenign,nevus,no\n")
    real = tmp_path / "real.csv"
    real.write_text("file,label,split\n1.jpg,malignant,train\n")
    for arguments, diagnoses in (
        (("--caption", "A nevus.", "--lora", "none"), ["nevus"]),
        (("--plan", plan), ["melanoma", "nevus"]),
        (("--from", real, "--diagnosis", "melanoma"), ["melanoma"]),
    ):
        out = tmp_path / arguments[0]
        result = draw(*arguments, "--out", out)
        assert result.exit_code == 0, result.output
        assert [read_provenance(path).attributes.diagnosis for path in sorted(out.glob("*.png"))] == diagnoses


def test_generate_says_what_the_model_does_not_honour(draw):
    result = draw("--site", "trunk", "--diagnosis", "dermatofibroma")
    assert result.exit_code == 0
    assert "not trained on: site, dermatofibroma" in result.stderr


@pytest.mark.parametrize("flags", [("--balance", "diagnosis"), ("--mixed",)])
def test_a_balance_and_a_mixture_are_of_a_real_set(draw, flags):
    result = draw(*flags)
    assert result.exit_code == 2 and "give that with --from" in result.stderr


def test_generate_says_how_many_captions_name_no_label_to_agree_with(draw, tmp_path):
    plan = tmp_path / "plan.csv"
    plan.write_text("caption\nA mole.\nThis photo depicts a benign lesion.\n")
    result = draw("--plan", plan, "--agree", 0)
    assert result.exit_code == 0 and "1 of 2 captions name no label; --agree does not judge them" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--label", "sick"), "--label must be one of benign, malignant, both"),
        (("--label", "benign", "--diagnosis", "melanoma"), "A melanoma is malignant"),
        (("--diagnosis", "cold"), "“cold” is not a known diagnosis"),
        (("--colours", "green"), "“green” is not one of the colours"),
        (("--border", "9"), "from 0 to 8"),
        (("--steps", "0"), "from 1 to 50"),
        (("--seed", "-1"), "from 0 to 4294967295"),
        (("--seed", "text"), "--seed"),
        (("--size", "100"), "draws at"),
        (("--guidance", "nan"), "from 0 to 10"),
        (("--count", "0"), "--count"),
        (("--caption", ""), "The description is empty"),
        (("--caption", "x" * 3000), "3000 characters"),
        (("--caption", "a mole", "--label", "benign"), "leave the flags out"),
        (("--caption", "a mole", "--plan", "plan.csv"), "only one of"),
        (("--caption", "A mole.", "--agree", "0.8"), "no caption names one"),
        (("--plan", "absent.csv"), "absent.csv cannot be read"),
        (("--model", "nosuch"), "There is no model “nosuch”"),
        (("--model", "~no-such-user/x"), "There is no home folder for “~no-such-user/x”"),
        (("--lora", "absent.safetensors"), "was not found"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_wrong_use_of_generate_ends_with_a_sentence_and_draws_nothing(arguments, sentence, draw, tmp_path):
    result = draw(*arguments)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split()) and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_classify_takes_folders_and_archives_and_names_what_failed(pictures, tmp_path):
    out = tmp_path / "table.csv"
    result = run("classify", pictures, pictures / "more.zip", pictures / "absent.png", "--out", out)
    assert result.exit_code == 1
    for name in ("broken.jpg", "more.zip/page.jpg", "absent.png"):
        assert f"{pictures}/{name}: " in result.stderr
    found = rows(out.read_text())
    assert list(found[0]) == ["file", "p_malignant", "decision", "lesion_like"]
    names = ("deeper/mole.png", "mole.png", "wide.png", "more.zip/inside.png")
    assert [row["file"] for row in found] == [f"{pictures}/{name}" for name in names]
    image = open_untrusted(pictures / "mole.png")
    prediction = Classifier.load().predict([image])[0]
    assert float(found[1]["p_malignant"]) == pytest.approx(prediction.p_malignant, abs=1e-5)
    assert found[1]["decision"] == prediction.decision in LABELS
    assert {row["lesion_like"] for row in found} <= {"true", "false"}


def test_explain_writes_an_overlay_for_each_image(pictures, tmp_path):
    images = (pictures / "mole.png", pictures / "deeper" / "mole.png", pictures / "wide.png")
    result = run("classify", *images, "--explain", tmp_path)
    assert result.exit_code == 0 and len(rows(result.stdout)) == 3
    sizes = {path.name: Image.open(path).size for path in tmp_path.iterdir()}
    assert sizes == {
        "mole-gradcam.png": (96, 96),
        "mole-gradcam-2.png": (96, 96),
        "wide-gradcam.png": (120, 60),
    }
    overlay = np.asarray(Image.open(tmp_path / "wide-gradcam.png"))
    assert (overlay != np.asarray(open_untrusted(pictures / "wide.png"))).any()


@pytest.mark.parametrize("flags", [("--method", "guess"), ("--target", "sick"), ("--classifier", "nosuch")])
def test_wrong_use_of_classify_ends_with_a_sentence(flags, pictures):
    result = run("classify", pictures / "mole.png", *flags)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert not result.stdout


def test_measure_gives_the_figures_of_each_lesion(pictures):
    result = run("measure", pictures / "mole.png")
    assert result.exit_code == 0
    [found] = rows(result.stdout)
    assert list(found) == ["file", "asymmetry", "border", "colours", "size", "ita", "lesion_share"]
    assert found["colours"] == "dark brown"
    assert float(found["size"]) == pytest.approx(LESION.size_mm, rel=0.25)
    assert 0.05 < float(found["lesion_share"]) < 0.3


def test_caption_fills_the_manifest_and_names_what_cannot_be_read(tmp_path):
    drawn = phantom.draw(LESION, 1)
    Image.fromarray(drawn.image).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    path = tmp_path / "manifest.csv"
    path.write_text("file,label,split,diagnosis\na.png,malignant,train,melanoma\nb.png,benign,train,nevus\n")
    result = run("caption", path, "--out", tmp_path / "captioned.csv")
    assert result.exit_code == 1 and "b.png" in result.stderr
    first, second = manifest.read(tmp_path / "captioned.csv")
    said = parse(first.values["caption"])
    assert (said.label, said.diagnosis, second.values["caption"]) == ("malignant", "melanoma", "")
    assert abs(said.size_mm - LESION.size_mm) <= 0.25 * LESION.size_mm
    assert path.read_text().count("depicts") == 0


def test_caption_writes_only_beside_the_manifest(tmp_path):
    (tmp_path / "manifest.csv").write_text("file,label\n")
    result = run("caption", tmp_path / "manifest.csv", "--out", tmp_path / "elsewhere" / "manifest.csv")
    assert result.exit_code == 2 and "must lie beside" in result.stderr


def test_a_folder_without_images_is_named(tmp_path):
    result = run("measure", tmp_path)
    assert result.exit_code == 1 and f"{tmp_path}: The folder holds no images." in result.stderr


def test_the_readme_holds_the_table_that_settings_prints():
    table = run("settings").stdout.strip()
    assert table in (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_module_runs_as_a_program(pictures):
    command = [sys.executable, "-m", "dermaflux", "measure", str(pictures / "broken.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 1
    assert done.stdout == "file,asymmetry,border,colours,size,ita,lesion_share\n"
    assert "broken.jpg: " in done.stderr and "Traceback" not in done.stderr


def test_sweep_writes_a_grid_with_every_recipe(monkeypatch, tiny_folder, tmp_path):
    monkeypatch.setitem(MODELS, "tiny", tiny.spec(tiny_folder))
    out = tmp_path / "grid.png"
    axes = ("--x", "tone=1,8", "--y", "lora_strength=0,1", "--caption", "A benign lesion.")
    result = run("sweep", "--model", "tiny", "--out", out, *axes, "--seed", 3, "--steps", 2)
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        image.load()
        recipes = [record["recipe"] for record in json.loads(image.text[CHUNK])]
    assert [(one["attributes"]["tone"], one["lora_strength"], one["seed"]) for one in recipes] == [
        (1, 0.0, 3),
        (8, 0.0, 3),
        (1, 1.0, 3),
        (8, 1.0, 3),
    ]


@pytest.mark.parametrize(
    ("axis", "sentence"),
    [("tone", "is not NAME=VALUES"), ("weight=1,2", "weight"), ("tone=1,99", "99"), ("tone=", "value")],
)
def test_wrong_use_of_sweep_ends_with_a_sentence(axis, sentence, tmp_path):
    result = run("sweep", "--out", tmp_path / "grid.png", "--x", axis)
    assert result.exit_code == 2 and sentence in result.stderr
    assert not (tmp_path / "grid.png").exists()
