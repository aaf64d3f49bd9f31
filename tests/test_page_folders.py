"""Where visitors' files lie, and for how long."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sample_recipes import RECIPE

from dermaflux.ui import folders
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


def test_nothing_is_left_when_the_process_ends():
    code = "from dermaflux.ui.folders import new_folder; print(new_folder(kept=True))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert made and not Path(made).parent.exists()


def test_a_recipe_costs_as_many_images_as_must_be_drawn_for_it():
    plain = replace(RECIPE, source=None, strength=None)
    varied = replace(plain, source=plain, strength=0.5)
    assert [images_of(one) for one in (None, plain, varied, replace(varied, source=varied))] == [0, 1, 2, 3]
