"""A small study in a real store, its clock, and answers to it; run as a program, it serves a store over HTTP."""

import json
import os
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import create_engine, text

from dermaflux.errors import InputError
from dermaflux.lesion import LesionAttributes
from dermaflux.study.pictures import Picture, encode
from dermaflux.study.protocol import PRACTICE, Protocol, Questions
from dermaflux.study.session import Step
from dermaflux.study.store import Store

NAME, PASSWORD = "Pilot", "correct horse"
BACKGROUND = {"consent": True, "role": "dermatologist", "years": 7, "trained": True}
POSTGRES = os.environ.get("DERMAFLUX_TEST_POSTGRES")
BACKENDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL")))


class Clock:
    """A clock that tests turn."""

    def __init__(self):
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def turn(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture(params=BACKENDS)
def where(request, tmp_path) -> Iterator[str]:
    """A place for a store: a file, or a database of its own."""
    if request.param == "sqlite":
        yield str(tmp_path / "studies.sqlite")
        return
    name, url = f"study_{uuid4().hex}", POSTGRES.replace("postgresql:", "postgresql+psycopg:", 1)
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(where, clock) -> Iterator[Store]:
    opened = Store(where, clock)
    yield opened
    opened.dispose()


def pictures(count: int, synthetic_only: bool = False, caption: str = "A lesion.") -> list[Picture]:
    """`count` cases of both sources and labels, and practice cases before them."""
    made = []
    for place in range(count + PRACTICE):
        noise = np.random.default_rng(place).integers(0, 256, (16, 16, 3), np.uint8)
        source = ("real", "synthetic")[synthetic_only or place % 2]
        label, drawn = ("benign", "malignant")[place // 2 % 2], source == "synthetic"
        lesion = LesionAttributes(label=label, asymmetry=1, tone=4) if drawn else LesionAttributes(label=label)
        made.append(
            Picture(
                case=f"{place:016x}",
                data=encode(Image.fromarray(noise), 16),
                source=source,
                label=label,
                tone=4,
                caption=caption if drawn else "",
                attributes=lesion,
                diagnosis="melanoma" if label == "malignant" else "nevus",
                group=place,
                origin=f"{place:064x}" if drawn else "",
                look=place,
                practice=place < PRACTICE,
            )
        )
    return made


def open_study(store: Store, cases: int = 12, readers: int = 2, name: str = NAME, **changes) -> list[str]:
    """A study with readers who have consented; returns their tokens."""
    only = not changes.get("questions", Questions()).source
    store.create(name, pictures(cases, only), Protocol(cases, **changes), PASSWORD)
    store.open(name)
    tokens = [token for _, token in store.invite(name, readers)]
    for token in tokens:
        store.reader(token).consent(BACKGROUND)
    return tokens


def said(step: Step, seed: int = 0) -> dict[str, object]:
    """An answer to `step`, the same for the same seed."""
    rng = random.Random(f"{step.showing} {step.stage} {seed}")
    if step.stage == 2:
        return {"match": rng.randint(1, 5)} | {f"match_{name}": rng.choice(("yes", "no")) for name in step.asked}
    answer = {
        "said_synthetic": rng.random() < 0.5,
        "confidence": rng.randint(1, 5),
        "realism": rng.randint(1, 5),
        "said_diagnosis": "nevus",
        "said_label": "benign",
        "seen_colours": ["white", "red"],
        "artefacts": ["hair", "other"],
        "comment": f"words {rng.random()}",
        "marked": [[0.1, 0.2, 0.3, rng.randint(40, 90) / 100]],
    }
    return (
        answer if step.questions.source else {n: answer[n] for n in answer if n not in ("said_synthetic", "confidence")}
    )


def answer(reader, step: Step, values: dict | None = None) -> None:
    """Answer `step`."""
    give = reader.answer_first if step.stage == 1 else reader.answer_second
    give(step.showing, said(step) if values is None else values)


def read_all(reader, most: int = 10**6) -> list[Step]:
    """Answer what comes next until the study ends, or `most` answers are given; returns what was shown."""
    steps = []
    while len(steps) < most and (step := reader.next()):
        answer(reader, step)
        steps.append(step)
    return steps


class _Handler(BaseHTTPRequestHandler):
    """POST of [token, verb, arguments]; what comes back is JSON."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        token, verb, *rest = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            found, status = getattr(self.server.store.reader(token), verb)(*rest), 200
            found = vars(found) | {"questions": vars(found.questions)} if isinstance(found, Step) else None
        except InputError as error:
            found, status = str(error), 400
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.store = Store(sys.argv[1])
    print(server.server_port, flush=True)
    server.serve_forever()
