"""The front door: where it can listen, and on a Space that is lent a card for a call at a time."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import app
from dermaflux.errors import InputError
from dermaflux.models import SamplingOptions

SCRIPT = Path(__file__).with_name("lent_card.py")


@pytest.fixture(scope="module")
def seen(tiny_folder) -> dict:
    """What a visitor sees of drawings made in another process; see `lent_card`."""
    command = [sys.executable, str(SCRIPT), str(tiny_folder / "pipeline")]
    # One thread: a process that was forked cannot use the other threads of its parent's OpenMP.
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_previews_and_the_same_images_come_back_from_the_process_with_the_card(seen):
    assert seen["previews"] == 8 and seen["same"]


def test_stop_ends_the_process_with_the_card(seen):
    assert seen["first step"] == 1 and seen["ended"] and seen["unread"] < 8


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
    assert seconds() < seconds(true_cfg=2.0) < seconds(contrast=0.5) < seconds(true_cfg=2.0, contrast=0.5)
    assert seconds(share=0.001, seeds=tuple(range(8))) < 20, "a small model must not use up a visitor's day"


def test_without_the_package_of_spaces_the_front_door_is_the_same():
    assert app.spaces is None or not app.spaces.config.Config.zero_gpu


@pytest.fixture
def taken():
    """The number of a port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_that_is_taken_ends_with_a_sentence_and_status_2(host, taken, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["app.py", "--host", host, "--port", str(taken)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    said = f"Port {taken} is in use, perhaps by this page, started before. Give another by --port.\n"
    assert ended.value.code == 2 and capsys.readouterr().err == said


@pytest.mark.parametrize("host", ["nosuchhost.invalid", "192.0.2.1", "x" * 70])
def test_a_host_that_is_not_of_this_machine_is_refused_by_its_name(host):
    with pytest.raises(InputError, match=rf"cannot be served at {host}, port 7860: .* --host and --port"):
        app.check_address(host, 7860)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", ""])
def test_addresses_of_this_machine_are_free_to_listen_at(host):
    app.check_address(host, 0)
