"""A page with a Study tab, and a browser session that calls its listeners as the page does."""

import json
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import sample_review
from sample_study import open_study, read_all

from dermaflux.study.store import Store

PASSWORD = "open sesame"
HOSTILE = "<img src=x onerror=alert(1)>'; DROP TABLE studies; -- ${alert(2)}"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store(tmp_path_factory.mktemp("store") / "studies.sqlite")
    for reader in open_study(opened, 12, 2):
        read_all(opened.reader(reader))
    open_study(opened, 12, 1, HOSTILE)
    yield opened
    opened.dispose()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The page's folder."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def served(store, kept):
    """The page and its address, behind a proxy's path."""
    app, url = sample_review.serve(lambda: store, owner_password=PASSWORD, data_dir=kept, root_path="/lesions")
    yield app, url
    app.close()


class Browser:
    """A browser session that calls listeners as the page does."""

    def __init__(self, served):
        self.app, self.url = served
        self.session, self.values = uuid4().hex, {}

    def listener(self, name: str, event: str = "click"):
        """The listener of the component with that id or label."""
        for one in self.app.fns.values():
            for block, happened in one.targets:
                block = self.app.blocks.get(block)
                if happened == event and name in (getattr(block, "elem_id", None), getattr(block, "value", None)):
                    return one
        raise AssertionError(f"there is no {name}")

    def call(self, listener, **given) -> dict:
        """What calling it gives: by ids of components what each is given, or the page's own values."""
        data = [
            given.get(one.elem_id, given.get(one.label, self.values.get(one._id, plain(one))))
            for one in listener.inputs
        ]
        body = dict(data=data, fn_index=listener._id, session_hash=self.session, event_data=None)
        asked = httpx.post(f"{self.url}gradio_api/queue/join", json=body)
        assert asked.status_code == 200, asked.text
        with httpx.stream("GET", f"{self.url}gradio_api/queue/data?session_hash={self.session}", timeout=120) as events:
            for line in filter(None, events.iter_lines()):
                found = json.loads(line.removeprefix("data: "))
                if found["msg"] == "process_completed":
                    return found
        raise AssertionError("no answer")

    def press(self, name: str, **given) -> list:
        """Press the button of that id or title; what it gives."""
        found = self.call(self.listener(name), **given)
        assert found["success"], found["output"]
        return found["output"]["data"]

    def refused(self, name: str, **given) -> str:
        """Press it; why it is refused."""
        found = self.call(self.listener(name), **given)
        assert not found["success"]
        return found["output"]["error"]

    def unlock(self) -> "Browser":
        """Give the password, and choose a study as the page does."""
        self.press("df-owner-unlock", **{"df-owner-password": PASSWORD})
        return self

    def choose(self, name: str) -> list:
        """Have studies read, and choose one."""
        after = next(
            one for one in self.app.fns.values() if one.trigger_after == self.listener("df-owner-unlock")._id and one.fn
        )
        self.call(after, **{"df-owner-study": None})
        (study,) = (one._id for one in after.inputs if one.elem_id == "df-owner-study")
        self.values[study] = name
        return self.call(after)["output"]["data"]

    def saved(self, file: dict) -> bytes:
        """The content of a file that a listener gave."""
        return httpx.get(f"{self.url}gradio_api/file={file['path']}").raise_for_status().content

    def upload(self, path: Path) -> dict:
        """Upload a file; what stands for it."""
        with path.open("rb") as file:
            (kept,) = httpx.post(f"{self.url}gradio_api/upload", files={"files": (path.name, file)}).json()
        return {"path": kept, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


def plain(component):
    value = component.value
    return value() if callable(value) else value


@pytest.fixture
def browser(served):
    return Browser(served)


@pytest.fixture
def desk(browser):
    browser.unlock().choose("Pilot")
    return browser
