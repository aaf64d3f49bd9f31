"""The front door on ZeroGPU, with the package of Spaces itself: it emulates a card at first, and asks for one."""

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

pytest.importorskip("spaces")
ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 240


class Lender(BaseHTTPRequestHandler):
    """Stands in for what lends the cards; a visitor who asks for one has none left today."""

    asked: list[tuple[str, dict]]

    def do_POST(self):
        place = urlsplit(self.path)
        self.asked.append((place.path, {name: one for name, (one,) in parse_qs(place.query).items()}))
        told = json.dumps({"left": 1, "wait": 3600}).encode()
        self.send_response(429 if place.path == "/schedule" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The address of the page, what the lender was asked, and the log, of app.py started as ZeroGPU starts it."""
    home = tmp_path_factory.mktemp("home")
    handler = type("Lending", (Lender,), {"asked": []})
    lender = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=lender.serve_forever, daemon=True).start()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as free:
        port = free.server_port
    environ = os.environ | {
        "HOME": str(home),
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{lender.server_port}",
        "DERMAFLUX_PORT": str(port),
        "DERMAFLUX_DATA_DIR": str(home / "data"),
        "DERMAFLUX_MODELS": "flux1-dev",
        "OMP_NUM_THREADS": "1",
    }
    log = home / "log"
    with log.open("w") as output:
        server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environ, stdout=output, stderr=output)
    url, end = f"http://127.0.0.1:{port}/", time.monotonic() + PATIENCE_S
    while not answers(url):
        assert server.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    yield url, handler.asked, log
    server.terminate()
    server.wait(30)
    lender.shutdown()


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url).status == 200
    except OSError:
        return False


def test_the_model_is_placed_on_the_card_before_the_page_is_served(space):
    _, asked, log = space
    assert [place for place, _ in asked] == ["/startup-report"], "no function that uses a card was found"
    assert re.search(r"16 bits: about 0\.\d GB on the card", log.read_text())
    assert "ZeroGPU serves the one model" in log.read_text() and "Traceback" not in log.read_text()


def test_a_drawing_asks_for_a_card_for_as_long_as_it_may_take(space, tmp_path):
    url, asked, log = space
    client = Client(url, verbose=False, download_files=str(tmp_path))
    for count in (1, 8):
        with pytest.raises(AppError, match=r"has reached its GPU limit|exceeded your .* quota"):
            client.predict(count=count, steps=20, api_name="/generate")
    short, long = (int(given["durationSeconds"]) for place, given in asked if place == "/schedule")
    assert 15 <= short < long < 60
    assert "Traceback" not in log.read_text()
