"""The page under a prefix, behind a real reverse proxy: its files, its API and the readers' page."""

import re
from urllib.parse import urljoin

import httpx
import pytest
import tiny
from gradio_client import Client, handle_file
from raw_visitor import RawVisitor
from reverse_proxy import proxied

from dermaflux.classifier import Classifier
from dermaflux.images import read_provenance
from dermaflux.settings import Settings
from dermaflux.slot import once
from dermaflux.study.store import Store
from dermaflux.ui.shell import build_app, launch_options

GRADIOS = "/manifest.json"
"""What gradio asks for without a prefix, though it serves it only to be installed as an app."""


@pytest.fixture(scope="module")
def address(tiny_generator, tmp_path_factory):
    """The address of the page as its visitors see it."""
    settings = Settings(host="127.0.0.1", port=0, root_path="/skin/lesions")
    studies = once(lambda: Store(str(tmp_path_factory.mktemp("studies") / "studies.sqlite")))
    app = build_app(settings, tiny.slot(tiny_generator), once(lambda: Classifier.load("nano")))
    _, url, _ = app.launch(**launch_options(settings, studies), prevent_thread_lock=True, quiet=True)
    with proxied(url, "/skin/lesions") as outside:
        yield outside
    app.close()


def test_every_file_that_the_page_asks_for_is_under_the_prefix(address):
    with httpx.Client(base_url=address) as http:
        page = http.get("")
        assert page.status_code == 200 and http.get("config").json()["root"] == address.rstrip("/")
        asked = {urljoin(address, one) for one in re.findall(r'(?:src|href)="([^"#]+)"', page.text)}
        ours = [one for one in asked if one.startswith(address.rsplit("/", 3)[0]) and not one.endswith(GRADIOS)]
        assert len(ours) >= 3
        for one in ours:
            assert one.startswith(address) and http.get(one).status_code == 200, one


def test_the_api_draws_and_classifies_under_the_prefix(address, tmp_path):
    client = Client(address, verbose=False, download_files=str(tmp_path))
    (path,) = client.predict(label="malignant", seed=3, steps=2, size=64, api_name="/generate")
    assert read_provenance(path).seed == 3
    assert 0 <= client.predict(handle_file(path), api_name="/classify")["p_malignant"] <= 1


def test_the_buttons_of_the_page_work_under_the_prefix(address):
    visitor = RawVisitor(address)
    visitor.draw()
    (archive,) = visitor.do("df-zip")
    assert archive["url"].startswith(address)
    assert visitor.http.get(archive["url"]).content.startswith(b"PK")


def test_the_readers_page_works_under_the_prefix(address):
    with httpx.Client(base_url=address) as http:
        page = http.get("review", params={"reader": "unknown"})
        assert page.status_code == 200 and "<h1>DermaFlux</h1>" in page.text
        asked = [urljoin(address, one) for one in re.findall(r'(?:src|href)="([^"]+)"', page.text)]
        modules = http.get("review/files/review.js").text
        asked += [urljoin(address + "review/files/", one) for one in re.findall(r'from "(\./[^"]+)"', modules)]
        assert len(asked) > 3 and all(http.get(one).status_code == 200 for one in asked), asked
        answer = http.post("review/state", json={}, headers={"X-Reader": "unknown"})
        assert answer.status_code == 403 and answer.json()["error"]
