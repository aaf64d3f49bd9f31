"""Where visitors' files lie, and for how long."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from gradio.processing_utils import save_file_to_cache
from PIL import Image
from sample_files import JPEG
from sample_recipes import RECIPE

from dermaflux.intake import opened
from dermaflux.ui import classify, folders
from dermaflux.ui.context import images_of


@pytest.fixture
def aged():
    """A folder of which a file is older than is kept."""

    def make(folder: Path) -> Path:
        (folder / "image.png").write_bytes(b"x")
        old = time.time() - folders.DELETE_OLDER - 60
        os.utime(folder, (old, old))
        return folder

    return make


def test_a_file_that_only_passes_is_removed_after_a_day_and_one_that_a_session_holds_is_not(aged):
    passing, held, fresh = aged(folders.new_folder()), aged(folders.new_folder(kept=True)), folders.new_folder()
    folders.remove_old()
    assert not passing.exists() and (held / "image.png").exists() and fresh.exists()
    folders.remove([held / "image.png"])
    assert not held.exists()


def test_a_folder_of_somebody_else_is_left_alone_however_it_is_called(aged):
    own = folders.new_folder()
    other = own.parent.parent / "dermaflux-drawn-by-somebody"
    other.mkdir()
    try:
        aged(other)
        folders.remove_old()
        folders.new_folder()
        assert (other / "image.png").exists()
    finally:
        folders.remove([other / "image.png"])


def test_a_folder_that_vanishes_while_old_ones_are_removed_does_not_end_that(aged):
    passing = aged(folders.new_folder())
    gone = passing.with_name(f"{folders.PASSING}gone")
    gone.symlink_to(passing / "nowhere")
    try:
        folders.remove_old()
        assert not passing.exists()
    finally:
        gone.unlink()


@pytest.mark.parametrize(("content", "sound"), [(JPEG, True), (JPEG[: len(JPEG) // 2], False)])
def test_an_upload_that_one_visitor_classifies_stays_for_another_who_sent_the_same(
    tmp_path, monkeypatch, content, sound
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    (tmp_path / "jane.jpg").write_bytes(content)
    one, other = (save_file_to_cache(tmp_path / "jane.jpg", tmp_path / "cache") for _ in range(2))
    assert one == other
    taken, *_ = classify._take({"path": one})
    assert Path(other).read_bytes() != content
    assert (taken is not None) == sound and "jane" not in str(taken)
    ((_, image),) = opened([Path(other)])
    assert isinstance(image, Image.Image) == sound
    again, *_ = classify._take({"path": other})
    assert (again is not None) == sound


def test_nothing_is_left_when_the_process_ends():
    code = "from dermaflux.ui.folders import new_folder; print(new_folder(kept=True))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert made and not Path(made).parent.exists()


def test_a_recipe_costs_as_many_images_as_must_be_drawn_for_it():
    plain = replace(RECIPE, source=None, strength=None)
    varied = replace(plain, source=plain, strength=0.5)
    assert [images_of(one) for one in (None, plain, varied, replace(varied, source=varied))] == [0, 1, 2, 3]
