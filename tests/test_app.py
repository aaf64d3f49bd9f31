"""The front door on a Space that is lent a card for a call at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import app
from dermaflux.models import SamplingOptions

SCRIPT = Path(__file__).with_name("lent_card.py")


@pytest.fixture(scope="module")
def seen(tiny_folder) -> dict:
    """What a visitor sees of drawings made in another process; see `lent_card`."""
    command = [sys.executable, str(SCRIPT), str(tiny_folder / "pipeline")]
    # One thread: a process that was forked cannot use the other threads of its parent's OpenMP.
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_previews_and_the_same_images_come_back_from_the_process_with_the_card(seen):
    assert seen["previews"] == 8 and seen["same"]


def test_stop_ends_the_process_with_the_card(seen):
    assert seen["first step"] == 1 and seen["ended"]


def test_what_goes_wrong_there_reaches_the_visitor_as_a_sentence(seen):
    assert "Error" in seen["error"] and "The graphics card ran out of memory." in seen["error"]


def test_a_card_is_asked_for_by_steps_count_and_size():
    seconds = lambda share=1.0, **changes: app.card_seconds(
        share, "", SamplingOptions(**dict(steps=20, size=512) | changes)
    )
    assert seconds() < 60
    assert seconds(steps=40) > seconds()
    assert seconds(seeds=(1, 2)) > seconds()
    assert seconds(size=1024) > seconds()
    assert seconds(true_cfg=2.0) > seconds()
    assert seconds(share=0.001, seeds=tuple(range(8))) < 20, "a small model must not use up a visitor's day"


def test_without_the_package_of_spaces_the_front_door_is_the_same():
    assert app.spaces is None or not app.spaces.config.Config.zero_gpu
