"""A server of a study is killed while ten readers answer: no acknowledged answer is lost or doubled."""

# ruff: noqa: F401, F811

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from sample_study import NAME, open_study, said, where
from sqlalchemy import select

from dermaflux.study.database import reading
from dermaflux.study.protocol import Questions
from dermaflux.study.session import Step
from dermaflux.study.store import Store
from dermaflux.study.tables import Answer

READERS, KILLS, CASES, REPEATS = 10, 5, 20, 2
ROOT = Path(__file__).parent.parent


class Server:
    """A process that serves the store at `where`, started again after each kill."""

    def __init__(self, where: str):
        self.where, self.port, self.process = where, None, None

    def start(self) -> None:
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, str(ROOT / "tests" / "sample_study.py"), self.where]
        environment = os.environ | {"PYTHONPATH": paths}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


def ask(port: int, *call: object) -> object:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/", json.dumps(call))
        response = connection.getresponse()
        found = json.loads(response.read())
    finally:
        connection.close()
    assert response.status == 200, found
    return found


def read(server: Server, token: str, acknowledged: dict, stop: threading.Event) -> None:
    """A reader: asks what is next, answers it, and sends the same answer again where no acknowledgement came."""
    call = [token, "next"]
    while not stop.is_set():
        try:
            found = ask(server.port, *call)
        except (OSError, http.client.HTTPException, ValueError):
            time.sleep(0.02)
            continue
        if call[1] == "next":
            if found is None:
                return
            step = Step(**found | {"questions": Questions(**found["questions"])})
            call = [token, "answer_first" if step.stage == 1 else "answer_second", step.showing, said(step)]
        else:
            assert (call[2], call[1]) not in acknowledged
            acknowledged[call[2], call[1]] = call[3]
            call = [token, "next"]


def check(where: str, acknowledged: dict) -> int:
    """How many answers the store holds, all that were acknowledged among them, as they were given."""
    known, store = dict(acknowledged), Store(where)
    with reading(store.engine) as session:
        stored = session.scalars(select(Answer)).all()
    store.dispose()
    by_showing = {one.showing_id: one for one in stored}
    assert len(by_showing) == len(stored)
    for (showing, verb), given in known.items():
        kept = by_showing[showing].first if verb == "answer_first" else by_showing[showing].second
        assert all(kept[name] == value for name, value in given.items())
    return sum(1 + (one.second is not None) for one in stored)


def test_no_acknowledged_answer_is_lost_or_doubled_when_the_server_is_killed(where):
    store = Store(where)
    tokens = open_study(store, CASES, READERS)
    store.dispose()
    rng, stop, acknowledged, server = random.Random(), threading.Event(), {}, Server(where)
    server.start()
    readers = [threading.Thread(target=read, args=(server, token, acknowledged, stop)) for token in tokens]
    for one in readers:
        one.start()
    try:
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.05, 0.4))
            server.kill()
            assert len(acknowledged) <= check(where, acknowledged) <= len(acknowledged) + READERS
            server.start()
        for one in readers:
            one.join(timeout=120)
    finally:
        stop.set()
        server.kill()
        for one in readers:
            one.join(timeout=120)
    store = Store(where)
    states = store.readers(NAME)
    assert [state.done for state in states] == [state.total for state in states]
    assert check(where, acknowledged) == len(acknowledged) == sum(state.total for state in states)
    table = store.readings(NAME)
    assert len(table) == READERS * (CASES + REPEATS) and not table.duplicated(["reader", "position"]).any()
    store.dispose()
