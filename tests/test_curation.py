"""Manifests merged, split and checked."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dermaflux import phantom
from dermaflux.cli import app
from dermaflux.data import check, curate, manifest
from dermaflux.errors import DataError, InputError

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def run(*arguments: object):
    return CliRunner().invoke(app, ["data", *(str(argument) for argument in arguments)])


def lesion(seed: int, size: int = 128) -> Image.Image:
    return Image.fromarray(phantom.draw(phantom.random_attributes(seed), seed, size).image)


def rows(count: int, **columns) -> list[manifest.Row]:
    """Rows of two labels, one in four malignant; columns: values by place."""
    return [
        manifest.Row(
            Path(f"{i}.png"), "malignant" if i % 4 == 0 else "benign", "", {n: str(of(i)) for n, of in columns.items()}
        )
        for i in range(count)
    ]


def folder(root: Path, seeds, name: str = "manifest.csv", **values) -> Path:
    """A manifest of one phantom a seed."""
    root.mkdir(exist_ok=True)
    for seed in seeds:
        lesion(seed).save(root / f"{seed}.png")
    manifest.write(root / name, [{"file": f"{seed}.png", "label": "benign"} | values for seed in seeds])
    return root / name


def test_merged_manifests_name_files_from_the_new_one_and_an_image_once(tmp_path):
    first, second = folder(tmp_path / "a", (1, 2), source="a"), folder(tmp_path / "b", (3,), source="b")
    again = folder(tmp_path / "a", (2,), "again.csv")
    result = run("merge", first, second, again, "--out", tmp_path / "all.csv")
    assert result.exit_code == 0 and "3 images." in result.stdout
    found = manifest.read(tmp_path / "all.csv")
    assert [row.values["file"] for row in found] == ["a/1.png", "a/2.png", "b/3.png"]
    assert all(row.path.exists() for row in found) and [row.values["source"] for row in found] == ["a", "a", "b"]
    result = run("merge", first, "--out", tmp_path / "b" / "all.csv")
    assert result.exit_code == 2 and "does not lie in" in result.stderr


def test_links_to_images_elsewhere_are_merged_as_they_are_named(tmp_path):
    first = folder(tmp_path / "disk", (1,))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.png").symlink_to(first.with_name("1.png"))
    (tmp_path / "set" / "manifest.csv").write_text(first.read_text())
    result = run("merge", tmp_path / "set" / "manifest.csv", "--out", tmp_path / "set" / "all.csv")
    assert result.exit_code == 0, result.output
    assert [row.values["file"] for row in manifest.read(tmp_path / "set" / "all.csv")] == ["1.png"]


def test_splits_are_named_in_small_letters_however_they_are_written(tmp_path):
    path = folder(tmp_path, (1, 2, 3), split=" TRAIN")
    assert len(manifest.read(path, "train")) == 3


def test_manifests_that_contradict_each_other_are_not_merged(tmp_path):
    first = folder(tmp_path, (1,))
    second = folder(tmp_path, (1,), "again.csv", label="malignant")
    result = run("merge", first, second, "--out", tmp_path / "all.csv")
    assert result.exit_code == 2 and "again.csv, line 2: 1.png: it is malignant here and benign in" in result.stderr


def test_what_readers_left_out_stays_so_in_what_is_merged_and_split(tmp_path):
    first = folder(tmp_path, range(8))
    second = folder(tmp_path, (2, 3), "flagged.csv", left_out="yes", reason="blurred")
    assert run("merge", first, second, "--out", tmp_path / "all.csv").exit_code == 0
    assert run("split", tmp_path / "all.csv", "--train", 0.5, "--val", 0.25, "--test", 0.25).exit_code == 0
    assert len(manifest.read(tmp_path / "all.csv")) == 6
    whole = manifest.read(tmp_path / "all.csv", left_out=True)
    assert [row.path.stem for row in whole if row.values["left_out"] == "yes"] == ["2", "3"]


def test_a_lesion_is_whole_where_its_patient_is_known_of_some_images_only():
    known = rows(240, source_id=lambda i: i // 4, patient_id=lambda i: i // 8 if i % 2 else "")
    names = curate.split(known, SHARES, 0)
    for column in ("source_id", "patient_id"):
        splits = defaultdict(set)
        for row, name in zip(known, names, strict=True):
            if row.values[column]:
                splits[row.values[column]].add(name)
        assert all(len(found) == 1 for found in splits.values())


def test_a_name_that_is_too_long_for_any_file_is_one_fault_among_others(tmp_path):
    path = folder(tmp_path, (1, 2))
    with path.open("a") as stream:
        stream.write(f"{'x' * 300}.png,benign\n")
    found = check.check(path, workers=1)
    assert any("There is no such file" in fault and "line 4" in fault for fault in found.faults)
    assert sum(found.counts.values()) == 2


@pytest.mark.parametrize("column", ["patient_id", "source_id"])
def test_no_patient_or_lesion_is_in_two_splits_and_labels_are_spread_alike(column):
    some = rows(600, **{column: lambda i: i // 3}, source=lambda i: "one")
    names = curate.split(some, SHARES, seed=1)
    of = defaultdict(set)
    for row, name in zip(some, names, strict=True):
        of[row.values[column]].add(name)
    assert {len(found) for found in of.values()} == {1}
    for name, share in SHARES.items():
        labels = [row.label for row, found in zip(some, names, strict=True) if found == name]
        assert len(labels) / 600 == pytest.approx(share, abs=0.03)
        assert labels.count("malignant") / len(labels) == pytest.approx(0.25, abs=0.05)


def test_patients_of_two_sources_are_two_although_they_have_one_number():
    some = rows(40, patient_id=lambda i: 7, source=lambda i: i)
    assert len(set(curate.split(some, {"train": 0.5, "val": 0.5}, 0))) == 2


def test_a_split_is_the_same_for_its_seed_alone():
    some = rows(200)
    assert curate.split(some, SHARES, 3) == curate.split(some, SHARES, 3) != curate.split(some, SHARES, 4)


def test_shares_and_patients_that_cannot_be_split_are_refused():
    with pytest.raises(InputError, match="add up to 1"):
        curate.split(rows(40), {"train": 0.7, "val": 0.7}, 0)
    with pytest.raises(InputError, match="add up to 1"):
        curate.split(rows(40), {"train": 0.7, "val": float("nan")}, 0)
    with pytest.raises(DataError, match="1 patients or lesions"):
        curate.split(rows(40, patient_id=lambda i: 1), SHARES, 0)
    with pytest.raises(DataError, match="“val” would get none of the 24 images"):
        curate.split(rows(24), {"train": 0.96, "val": 0.02, "test": 0.02}, 0)


def test_a_share_of_few_images_is_met():
    found = Counter(curate.split(rows(400), {"train": 0.96, "val": 0.02, "test": 0.02}, 0))
    assert found == {"train": 384, "val": 8, "test": 8}


def test_the_command_writes_the_split(tmp_path):
    path = folder(tmp_path / "a", range(12), caption_faults="kept")
    result = run("split", path, "--train", 0.5, "--val", 0.5, "--test", 0)
    assert result.exit_code == 0 and "train: 6 benign" in result.stdout
    assert Counter(row.split for row in manifest.read(path)) == {"train": 6, "val": 6}
    assert {row.values["caption_faults"] for row in manifest.read(path)} == {"kept"}


def test_every_fault_of_a_manifest_is_named_by_its_line(tmp_path):
    lesion(1).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    lines = ("file,label,split", "a.png,benign,train", "broken.png,benign,train", "missing.png,benign,val")
    lines += ("a.png,benign,train", "a.png,sick,train", "../a.png,benign,train")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    found = check.check(tmp_path / "manifest.csv", workers=1)
    assert [row.path.name for row in found.sample] == ["a.png"] and found.sizes == {(128, 128): 1}
    said = "\n".join(found.faults)
    for words in ("line 3: broken.png", "line 4: missing.png: There is no such file", "line 5: a.png is in line 2 too"):
        assert words in said
    assert "line 6, column “label”" in said and "line 7, column “file”" in said and len(found.faults) == 5


def test_the_same_image_in_two_splits_is_found_though_it_was_saved_anew(tmp_path):
    path = folder(tmp_path / "a", range(6), split="train")
    lesion(2).resize((96, 96)).save(tmp_path / "a" / "again.jpg", quality=70)
    lesion(3).save(tmp_path / "a" / "twin.png")
    added = [("again.jpg", "test"), ("twin.png", "train")]
    known = [row.values for row in manifest.read(path)]
    manifest.write(path, [*known, *({"file": name, "label": "benign", "split": split} for name, split in added)])
    found = check.check(path, workers=1)
    assert [(one.first.path.name, one.second.path.name) for one in found.near] == [("2.png", "again.jpg")]
    result = run("check", path, "--report", tmp_path / "report.html")
    assert result.exit_code == 1 and "2.png (train) and again.jpg (test) look the same" in result.stdout
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") == 8 and "train, benign" in page and "look the same" in page
    assert "Apparent skin tone, as measured on 8 of the images below" in page


def test_images_of_one_name_that_look_the_same_are_named_with_their_folders():
    places = {"train": "patient1/img.png", "test": "patient2/img.png"}
    found = [manifest.Row(Path("/set", file), "benign", split, {"file": file}) for split, file in places.items()]
    assert check.Pair(*found, bits=0).sentence().startswith("patient1/img.png (train) and patient2/img.png (test) look")


def test_hashes_that_differ_in_few_bits_are_found_and_no_others():
    random = np.random.default_rng(0)
    base = int.from_bytes(random.bytes(8), "big")
    flip = lambda count: base ^ sum(1 << int(bit) for bit in random.permutation(64)[:count])
    hashes = [base, *(flip(count) for count in (1, check.NEAR, check.NEAR + 1, 20))]
    found = {(a, b): bits for a, b, bits in check.near_pairs(hashes, "abcde")}
    assert found[0, 1] == 1 and found[0, 2] == check.NEAR and (0, 3) not in found and (0, 4) not in found
    assert not list(check.near_pairs([base, base], "aa"))


def test_a_sound_manifest_passes(tmp_path):
    result = run("check", folder(tmp_path / "a", range(3)))
    assert result.exit_code == 0 and "3 images can be used." in result.stdout
