"""Ratings are kept whole: under threads, kills, full disks and restarts, in a folder or a private dataset."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import hub_in_place
import pytest
from sample_recipes import RECIPE

from dermaflux.errors import DataError, InputError
from dermaflux.feedback import MAX_REMARK, Rating, described, lasts, open_ratings, to_csv

RATE_FOREVER = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
from sample_recipes import RECIPE
from dermaflux.feedback import Rating, open_ratings
ratings = open_ratings(sys.argv[1], Path("unused"))
for number in range(10**6):
    ratings.keep(Rating(RECIPE, 1 + number % 5, "x" * 400))
    print(number, flush=True)
"""
RATE_UNTIL_FULL = """
import resource, sys
sys.path.insert(0, "tests")
from pathlib import Path
from sample_recipes import RECIPE
from dermaflux.errors import DataError
from dermaflux.feedback import Rating, open_ratings
ratings = open_ratings(sys.argv[1], Path("unused"))
ratings.keep(Rating(RECIPE, 5))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for _ in range(3):
    try:
        ratings.keep(Rating(RECIPE, 1, "x" * 400))
    except DataError as error:
        sys.exit(str(error))
"""

RATE_AND_END = """
import signal, sys, time
sys.path.insert(0, "tests")
from pathlib import Path
from sample_recipes import RECIPE
from dermaflux import feedback
feedback.EVERY_MIN = 60
ratings = feedback.open_ratings("hf://datasets/o/n", Path(sys.argv[1]))
time.sleep(0.5)
ratings.keep(feedback.Rating(RECIPE, 4))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("kept", flush=True)
time.sleep(60)
"""


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_a_rating_is_kept_with_its_recipe_and_nothing_else(tmp_path):
    ratings = open_ratings(str(tmp_path / "a" / "b"), tmp_path)
    rating = Rating(RECIPE, 4, "  Border too sharp.\x00\n痣 ")
    ratings.keep(rating)
    (kept,) = lines(tmp_path / "a" / "b")
    assert kept.keys() == {"id", "image", "score", "remark", "rated_at", "recipe"}
    assert (kept["score"], kept["remark"], kept["image"]) == (4, "Border too sharp.\n痣", rating.image)
    assert kept["recipe"] == json.loads(RECIPE.to_json())


def test_the_same_image_has_the_same_hash_and_another_another():
    assert Rating(RECIPE, 1).image == Rating(RECIPE, 5, "x").image != Rating(replace(RECIPE, seed=1), 1).image
    assert Rating(RECIPE, 1).id != Rating(RECIPE, 1).id


@pytest.mark.parametrize("score", [0, 6, None, "3", 2.0, True, [3]])
def test_a_score_that_is_none_is_refused(score):
    with pytest.raises(InputError, match="from 1 to 5"):
        Rating(RECIPE, score)


@pytest.mark.parametrize("remark", ["x" * (MAX_REMARK + 1), None, ["a"]])
def test_a_remark_that_is_no_short_text_is_refused(remark):
    with pytest.raises(InputError, match="at most 500"):
        Rating(RECIPE, 3, remark)


def test_ratings_of_many_threads_are_all_kept_whole(tmp_path):
    ratings = open_ratings(str(tmp_path), tmp_path)
    rate = lambda: [ratings.keep(Rating(RECIPE, 3, "y" * 400)) for _ in range(10)]
    threads = [threading.Thread(target=rate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = lines(tmp_path)
    assert len(kept) == len({one["id"] for one in kept}) == 80


def test_a_killed_process_leaves_whole_lines_and_the_next_adds_to_them(tmp_path):
    command = [sys.executable, "-c", RATE_FOREVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as rater:
        for line in rater.stdout:
            if int(line) >= 20:
                break
        rater.kill()
        said = int((rater.stdout.read().splitlines() or [line])[-1])
    assert len(lines(tmp_path)) >= said + 1
    before = lines(tmp_path)
    open_ratings(str(tmp_path), tmp_path).keep(Rating(RECIPE, 2))
    after = lines(tmp_path)
    assert len(after) == len(before) + 1 and len(list(tmp_path.glob("*.jsonl"))) == 2


def test_on_a_full_disk_nothing_half_written_is_left_and_it_is_said(tmp_path):
    run = subprocess.run([sys.executable, "-c", RATE_UNTIL_FULL, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 1 and "cannot be written" in run.stderr and "not kept" in run.stderr
    assert [one["score"] for one in lines(tmp_path)] == [5, 1][: len(lines(tmp_path))]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written to the folder .*file"):
        open_ratings(str(tmp_path / "file"), tmp_path)


def test_a_folder_that_goes_away_is_said_at_the_rating(tmp_path):
    ratings = open_ratings(str(tmp_path / "here"), tmp_path)
    (tmp_path / "here").rmdir()
    with pytest.raises(DataError, match="this one is not kept"):
        ratings.keep(Rating(RECIPE, 3))


@pytest.mark.parametrize("place", ["https://x/y", "hf://datasets/name", "hf://datasets/a/b/c", "hf://spaces/o/n"])
def test_a_place_that_is_neither_folder_nor_dataset_is_refused(place):
    with pytest.raises(InputError, match="hf://datasets/OWNER/NAME"):
        described(place)


def test_a_dataset_and_a_mounted_folder_outlive_a_restart_of_a_space_and_others_do_not():
    assert lasts("hf://datasets/o/n") and lasts("/proc/self") and not lasts("/nowhere/feedback")


def test_the_csv_of_ones_ratings_is_safe_in_a_spreadsheet():
    (row,) = csv.DictReader(io.StringIO(to_csv([Rating(RECIPE, 2, "=1+1")])))
    assert (row["remark"], row["score"], row["seed"]) == ("'=1+1", "2", str(RECIPE.seed))


def test_ratings_reach_a_private_dataset_in_the_background(tmp_path, monkeypatch):
    monkeypatch.setattr("dermaflux.feedback.EVERY_MIN", 0.02)
    with hub_in_place.serving() as hub:
        ratings = open_ratings("hf://datasets/o/n", tmp_path, hub_in_place.api(hub))
        created = json.loads(dict(hub.RequestHandlerClass.seen)["/api/repos/create"])
        assert created["type"] == "dataset" and (created.get("private") or created.get("visibility") == "private")
        for score in (1, 5):
            ratings.keep(Rating(RECIPE, score))
            sent = wait_for(hub.RequestHandlerClass.files, score)
        assert [json.loads(line)["score"] for line in sent.splitlines()] == [1, 5]
        assert ratings.place == "the private dataset o/n on Hugging Face"


def test_what_waits_to_be_sent_is_sent_when_the_page_is_asked_to_end(tmp_path):
    with hub_in_place.serving() as hub:
        environ = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_TOKEN": "hf_test"}
        command = [sys.executable, "-c", RATE_AND_END, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as rater:
            assert rater.stdout.readline() == "kept\n" and not hub.RequestHandlerClass.files
            rater.terminate()
        (sent,) = hub.RequestHandlerClass.files.values()
        assert json.loads(sent)["score"] == 4


def wait_for(files: dict[str, bytes], score: int) -> bytes:
    """The one file that was sent, once the rating with that score is in it."""
    for _ in range(200):
        sent = b"".join(files.values())
        if f'"score":{score}'.encode() in sent:
            assert len(files) == 1
            return sent
        time.sleep(0.05)
    raise AssertionError(f"Not sent: {files}")


def test_a_public_dataset_gets_no_ratings(tmp_path):
    with hub_in_place.serving() as hub:
        hub.RequestHandlerClass.private = False
        with pytest.raises(DataError, match="is public"):
            open_ratings("hf://datasets/o/n", tmp_path, hub_in_place.api(hub))


@pytest.mark.parametrize(
    ("status", "token", "said"), [(401, "hf_test", "HF_TOKEN"), (403, "hf_test", "HF_TOKEN"), (0, True, "HF_TOKEN")]
)
def test_a_token_that_may_not_write_is_said(tmp_path, monkeypatch, status, token, said):
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)
    with hub_in_place.serving() as hub:
        hub.RequestHandlerClass.refused, hub.RequestHandlerClass.status = "/repos/create" if status else "", status
        with pytest.raises(DataError, match=said):
            open_ratings("hf://datasets/o/n", tmp_path, hub_in_place.api(hub, token))


def test_without_a_network_that_is_said(tmp_path):
    from huggingface_hub import HfApi

    with pytest.raises(DataError, match="Try again later"):
        open_ratings("hf://datasets/o/n", tmp_path, HfApi(endpoint="http://127.0.0.1:9", token="hf_test"))
