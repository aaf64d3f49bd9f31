"""Captioning a manifest: resumed, checked, compared; Llama 3.2 with random weights."""

import csv
import shutil
from pathlib import Path

import pytest
import tiny_llama
from PIL import Image
from typer.testing import CliRunner

from dermaflux import phantom
from dermaflux.caption import parse
from dermaflux.cli import app
from dermaflux.data import captioning, manifest
from dermaflux.errors import DataError, InputError
from dermaflux.evaluation import captions
from dermaflux.lesion import LesionAttributes

LESION = LesionAttributes("benign", asymmetry=0, border=0, colours=("dark brown",), size_mm=8, tone=3)


@pytest.fixture
def images(tmp_path) -> Path:
    """A manifest of four phantoms and a file that is none."""
    for seed in range(4):
        Image.fromarray(phantom.draw(LESION, seed, 128).image).save(tmp_path / f"{seed}.png")
    (tmp_path / "4.png").write_bytes(b"")
    labels = ("benign", "malignant", "benign", "malignant", "benign")
    rows = [{"file": f"{seed}.png", "label": label} for seed, label in enumerate(labels)]
    manifest.write(tmp_path / "manifest.csv", rows)
    return tmp_path / "manifest.csv"


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return tiny_llama.describer(tmp_path_factory.mktemp("describer"))


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def captioned(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def watching(asked: list[int]) -> tuple[captioning.Captioner, captioning.Captioner]:
    """The captioner by appearance, and the same that notes in `asked` the places of the images it is asked about."""
    plain = captioning.of_appearance()

    def noted(pictures, rows, places):
        asked.extend(places)
        return plain.caption(pictures, rows, places)

    return plain, captioning.Captioner(plain.name, noted)


def test_every_caption_names_its_captioner_and_what_cannot_be_read_has_none(images):
    result = run("caption", images)
    assert result.exit_code == 1 and "4.png" in result.stderr
    found = captioned(images)
    assert [row["captioner"].split()[0] for row in found[:4]] == ["appearance"] * 4
    assert found[4]["caption"] == found[4]["captioner"] == ""
    assert parse(found[0]["caption"]).label == "benign"


def test_captioning_one_split_in_place_keeps_the_other_rows_and_every_column(images):
    known = captioned(images)
    splits = ("train", "train", "val", "val", "val")
    manifest.write(images, [row | {"split": split, "mine": "x"} for row, split in zip(known, splits, strict=True)])
    run("caption", images, "--split", "val")
    found = captioned(images)
    assert [bool(row["caption"]) for row in found] == [False, False, True, True, False]
    assert {row["mine"] for row in found} == {"x"}
    list(captioning.run(images, captioning.of_appearance(), images.with_name("val.csv"), "val"))
    assert len(captioned(images.with_name("val.csv"))) == 3


def test_a_split_that_is_not_there_leaves_what_was_captioned_and_capitals_do_not_count(images):
    known, out = captioned(images), images.with_name("out.csv")
    manifest.write(images, [row | {"split": "Train"} for row in known])
    run("caption", images, "--split", " TRAIN", "--out", out)
    done = out.read_bytes()
    assert sum(bool(row["caption"]) for row in captioned(out)) == 4
    for place in (out, images):
        result = run("caption", images, "--split", "trian", "--out", place)
        assert result.exit_code == 2 and "has no rows of the split “trian”" in " ".join(result.stderr.split())
    assert (
        out.read_bytes() == done and len(captioned(images)) == 5 and not images.with_name("manifest.csv.part").exists()
    )
    run("data", "sample", images, "--count", 2, "--split", "Train", "--out", images.with_name("few.csv"))
    assert len(captioned(images.with_name("few.csv"))) == 2


def test_what_readers_left_out_is_not_captioned_but_stays(images):
    given = captioned(images)
    manifest.write(images, [row | {"left_out": "yes" if row["file"] == "1.png" else ""} for row in given])
    for out in (images, images.with_name("other.csv")):
        run("caption", images, "--out", out)
        told = {row["file"]: row for row in captioned(out)}
        assert len(told) == 5 and told["1.png"]["left_out"] == "yes"
        assert not told["1.png"]["caption"] and told["0.png"]["caption"]


@pytest.mark.parametrize("cut", [0, 5])
def test_an_interrupted_run_goes_on_where_it_stopped_also_behind_a_line_cut_short(images, cut):
    out, asked = images.with_name("out.csv"), []
    plain, watched = watching(asked)
    first = captioning.run(images, watched, out)
    for _ in range(2):
        next(first)
    first.close()
    assert not out.exists()
    kept = out.with_suffix(".csv.part")
    kept.write_bytes(kept.read_bytes()[: -cut or None])
    list(captioning.run(images, watched, out))
    assert asked == [0, 1, *range(2 if cut == 0 else 1, 4)]
    list(captioning.run(images, plain, images.with_name("whole.csv")))
    assert captioned(out) == captioned(images.with_name("whole.csv")) and kept.exists()  # for the one that is no image


def test_after_a_failure_only_what_failed_or_changed_is_captioned_anew(images):
    """Of the five the last is no image."""
    out, asked = images.with_name("out.csv"), []
    plain, watched = watching(asked)
    list(captioning.run(images, watched, out))
    shutil.copy(images.with_name("0.png"), images.with_name("4.png"))
    shutil.copy(images.with_name("2.png"), images.with_name("1.png"))
    given = [row | ({"label": "malignant"} if row["file"] == "0.png" else {}) for row in captioned(images)]
    manifest.write(images, given)
    list(captioning.run(images, watched, out))
    assert asked == [0, 1, 2, 3, 0, 1, 4]
    assert all(row["caption"] for row in captioned(out)) and not out.with_suffix(".csv.part").exists()
    list(captioning.run(images, plain, images.with_name("whole.csv")))
    assert captioned(out) == captioned(images.with_name("whole.csv"))


def test_a_name_that_is_too_long_for_any_file_is_one_failure_among_others(images):
    manifest.write(images, [*captioned(images), {"file": f"{'x' * 300}.png", "label": "benign"}])
    result = run("caption", images)
    assert result.exit_code == 1 and "line 7: xxx" in result.stderr
    assert sum(bool(row["caption"]) for row in captioned(images)) == 4


def test_two_runs_do_not_write_one_manifest(images):
    out, plain = images.with_name("out.csv"), captioning.of_appearance()
    first = captioning.run(images, plain, out)
    next(first)
    with pytest.raises(InputError, match=r"Another process writes .*out\.csv\. Wait for it"):
        next(captioning.run(images, plain, out))
    next(captioning.run(images, plain, images.with_name("other.csv")))
    list(first)
    assert len(captioned(out)) == 5


def test_another_captioner_does_not_take_over_what_one_left_unfinished(images):
    out, plain = images.with_name("out.csv"), captioning.of_appearance()
    first = captioning.run(images, captioning.Captioner("someone else", plain.caption), out)
    next(first)
    first.close()
    list(captioning.run(images, plain, out))
    assert {row["captioner"] for row in captioned(out) if row["caption"]} == {plain.name}


@pytest.mark.parametrize("how", ["with", "without"])
def test_llama_captions_open_as_published_and_say_how_it_was_asked(how, images, llama):
    flag = "--label-in-prompt" if how == "with" else "--no-label-in-prompt"
    result = run("caption", images, "--captioner", "llama", "--model", llama, flag, "--batch", 3)
    assert result.exit_code == 1 and "4.png" in result.stderr and "3.png" not in result.stderr
    found = captioned(images)
    assert found[1]["caption"].startswith("This photo depicts a malignant lesion. Here's a description of the mole: ")
    assert {row["captioner"] for row in found[:4]} == {f"{llama}, {how} the label in its prompt"}


def test_an_unknown_captioner_is_refused(images):
    result = run("caption", images, "--captioner", "me")
    assert result.exit_code == 2 and "appearance or llama" in result.stderr


def test_captions_of_what_is_measured_agree_with_it_and_wrong_ones_do_not(images):
    run("caption", images)
    right = {one.name.partition(": ")[2]: one.value for one in captions.of_manifest(images)}
    assert right["asymmetry as measured, where named, share"] == right["colours as measured, F1"] == 1
    assert right["has faults, share"] == 0
    rows = captioned(images)
    for row in rows[:4]:
        row["caption"] = "This photo depicts a benign lesion. It is asymmetric in both axes. The pigment is red."
    manifest.write(images, rows)
    wrong = {one.name.partition(": ")[2]: one.value for one in captions.of_manifest(images)}
    assert wrong["asymmetry as measured, where named, share"] == wrong["colours as measured, F1"] == 0


def test_captions_of_several_captioners_in_one_manifest_are_told_apart(images):
    run("caption", images)
    rows = captioned(images)
    faulty = {"caption": "It is red.", "captioner": "someone else", "caption_faults": "kept"}
    manifest.write(images, [rows[0] | faulty, rows[1], rows[2] | {"captioner": ""}, rows[3]])
    faults = [one for one in captions.of_manifest(images) if one.name.endswith(": has faults, share")]
    of = ("someone else", rows[1]["captioner"], "manifest.csv")
    assert [one.name.removesuffix(": has faults, share") for one in faults] == list(of)
    assert [(one.value, one.n) for one in faults] == [(1, 1), (0, 2), (0, 1)]


@pytest.mark.parametrize(
    ("text", "label", "said"),
    [
        ("This photo depicts a malignant lesion. Here's a description of the mole: It is dark.", "malignant", False),
        (
            "This photo depicts a malignant lesion. Here's a description of the mole: It looks malignant.",
            "malignant",
            True,
        ),
        ("It may well be a melanoma.", "malignant", True),
        ("It may well be a melanoma.", "benign", False),
        ("It looks like a seborrheic keratosis.", "benign", True),
        ("There are no signs of malignancy.", "malignant", False),
    ],
)
def test_a_caption_restates_its_label_only_behind_its_opening(text, label, said):
    assert captions.restates(text, label) is said


def test_captions_are_compared_where_one_alone_names_an_attribute_and_a_damaged_image_is_named(images):
    rows = [row for row in captioned(images) if row["file"] != "4.png"]
    texts = ["Its halves differ in both axes.", "It is dark brown."]
    manifest.write(images, [row | {"caption": text} for row, text in zip(rows, texts, strict=False)])
    done = run("evaluate", "captions", images)
    assert done.exit_code == 0, done.output
    assert "| manifest.csv: asymmetry as measured, where named, share | 0.000 |  | 1 |" in done.stdout
    images.with_name("1.png").write_bytes(b"")
    done = run("evaluate", "captions", images)
    assert done.exit_code == 2 and "line 3: 1.png" in " ".join(done.stderr.split())


def test_a_manifest_without_captions_is_refused(images):
    with pytest.raises(DataError, match="has no captions"):
        captions.compare([images])
