"""Many synthetic images leave as one ZIP with a manifest."""

import csv
import io
import zipfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_recipes import RECIPE, foreign, image, varied

from dermaflux.errors import InputError
from dermaflux.files import guard, unguard
from dermaflux.images import MANIFEST_COLUMNS, Provenance, bundle, save_synthetic


@pytest.fixture
def saved(tmp_path):
    return save_synthetic(image(), RECIPE, tmp_path / "new folder" / "a.png")


def rows(path):
    with zipfile.ZipFile(path) as archive:
        return list(csv.DictReader(io.StringIO(archive.read("manifest.csv").decode())))


def test_a_bundle_holds_the_files_unchanged_and_a_manifest(saved, tmp_path):
    other = save_synthetic(image(32), varied(1), tmp_path / "a.png")
    path = bundle([saved, other], tmp_path / "all.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a.png", "a-2.png", "manifest.csv"]
        assert archive.read("a.png") == saved.read_bytes() and archive.read("a-2.png") == other.read_bytes()
    first, second = rows(path)
    assert tuple(first) == MANIFEST_COLUMNS
    assert first["file"] == "a.png" and first["caption"] == RECIPE.caption and first["seed"] == str(RECIPE.seed)
    assert first["label"] == RECIPE.attributes.label and first["colours"] == "; ".join(RECIPE.attributes.colours)
    assert first["asymmetry"] == str(RECIPE.attributes.asymmetry) and first["varied_from"] == ""
    assert second["file"] == "a-2.png" and Provenance.from_json(second["varied_from"]) == RECIPE
    assert second["strength"] == "0.4"


def test_a_bundle_of_the_same_files_is_the_same_bytes(saved, tmp_path):
    assert bundle([saved], tmp_path / "1.zip").read_bytes() == bundle([saved], tmp_path / "2.zip").read_bytes()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_cell_of_the_manifest_is_a_formula(tmp_path, start):
    recipe = replace(RECIPE, caption=f'{start}HYPERLINK("http://x")', negative=f"{start}1", model=f"{start}cmd")
    path = bundle([save_synthetic(image(), recipe, tmp_path / f"{start}a.png")], tmp_path / "all.zip")
    [row] = rows(path)
    assert all(row[name].startswith("'" + start) for name in ("file", "caption", "negative", "model"))


@given(st.text(st.sampled_from("'=+-@\t\r\nab")))
def test_a_guarded_cell_is_no_formula_and_is_read_as_it_was(text):
    assert not guard(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert unguard(guard(text)) == text


def test_what_is_no_formula_is_neither_guarded_nor_taken_for_guarded():
    for cell in ("'Nevus'", "a=b", "", -5, 2.5, None):
        assert guard(cell) == unguard(cell) == cell


def test_a_bundle_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="no images"):
        bundle([], tmp_path / "all.zip")


def test_a_bundle_with_a_foreign_image_leaves_nothing_behind(saved, tmp_path):
    foreign_path = tmp_path / "foreign.png"
    foreign_path.write_bytes(foreign("PNG"))
    with pytest.raises(InputError, match="no recipe"):
        bundle([saved, foreign_path], tmp_path / "out" / "all.zip")
    assert list((tmp_path / "out").iterdir()) == []
