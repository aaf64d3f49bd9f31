"""A real browser on the page that `python app.py` serves, and a visitor who uses it by what is written on it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from dermaflux.caption import parse
from dermaflux.lesion import LesionAttributes

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(__file__).with_name("screenshots")
PATIENCE_S = 60
WATCH = """
window.seen = {statuses: [], tracebacks: 0};
new MutationObserver(() => {
    const status = document.querySelector('#df-status')?.textContent.trim();
    if (status && status !== window.seen.statuses.at(-1)) window.seen.statuses.push(status);
    if (document.body?.textContent.includes('Traceback (most recent')) window.seen.tracebacks += 1;
}).observe(document, {childList: true, subtree: true, characterData: true});
"""
"""Notes every status of a run, however short it stands, and every traceback shown on the page."""


class Visitor:
    """A person in front of the page, with a browser window of their own."""

    def __init__(self, page: Page, address: str):
        self.page, self.address, self.complaints = page, address, []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)
        self.open()

    def _note(self, message) -> None:
        if message.type == "error" and message.location["url"].startswith(self.address):
            self.complaints.append(message.text)

    def open(self, query: str = "") -> None:
        """Open the page, or open it anew."""
        self.page.goto(self.address + query)
        expect(self["draw"]).to_be_enabled()

    def __getitem__(self, name: str) -> Locator:
        """The part of the Draw tab whose element id is df- and `name`."""
        return self.page.locator(f"#df-{name}")

    def tab(self, name: str) -> Locator:
        """Go to a tab; its panel."""
        tab = self.page.get_by_role("tab", name=name)
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        return self.page.get_by_role("tabpanel")

    def unfold(self, name: str) -> None:
        fold = self.page.get_by_role("button", name=name)
        if fold.get_attribute("class").split().count("open") == 0:
            fold.click()

    def group(self, name: str) -> Locator:
        """The group of choices with this heading."""
        heading = self.page.get_by_test_id("block-info").get_by_text(name, exact=True)
        return self.page.locator("fieldset:visible").filter(has=heading)

    def choose(self, group: str, choice: str) -> None:
        self.group(group).locator("label").filter(has_text=re.compile(rf"^\s*{choice}\s*$")).click()

    def chosen(self, group: str) -> list[str]:
        expect(self.group(group)).to_be_visible()
        return [each.strip() for each in self.group(group).locator("label:has(input:checked)").all_inner_texts()]

    def number(self, name: str) -> Locator:
        """The field of a number, with a slider or without."""
        return self.page.get_by_role("spinbutton", name=re.compile(rf"^(number input for )?{name}(?! up to)\b"))

    def set(self, **numbers: float) -> None:
        """Set numbers of the settings, by what stands on the page; a seed is fixed with it."""
        self.unfold("Settings ▼")
        for name, value in numbers.items():
            type_in(self.number(name), str(value))
        if "Seed" in numbers:
            self.page.get_by_label("New seed each time").uncheck()

    def caption(self) -> str:
        return self["caption"].get_by_role("textbox").input_value()

    def wait_for_caption(self, **attributes) -> None:
        """Wait until the caption says what `attributes` name, as LesionAttributes."""
        wanted = LesionAttributes(**attributes).specified().items()
        until(lambda: wanted <= parse(self.caption()).specified().items(), lambda: self.caption())

    def draw(self, button: str = "draw") -> None:
        """Draw with the settings as they are, and wait until the run is done and its recipe shown."""
        before = self.images().count()
        self[button].click()
        self.wait_until_drawn()
        expect(self.images()).not_to_have_count(before)
        expect(self["recipe"].get_by_role("rowheader", name="Seed")).to_be_visible()

    def wait_until_drawn(self) -> None:
        expect(self["status"]).to_contain_text("Done")
        expect(self["draw"]).to_be_enabled()

    def images(self) -> Locator:
        """The images in the visitor's gallery."""
        return self["gallery"].get_by_role("button", name=re.compile("Thumbnail")).get_by_role("img")

    def recipe(self) -> dict[str, str]:
        """The recipe on the page, as text by name."""
        rows = self["recipe"].locator("tr").all()
        return {row.locator("th").inner_text(): row.locator("td").inner_text() for row in rows}

    def download(self, button: str, folder: Path) -> Path:
        """Click the button of that id; the file that the browser saves, under the name the page gives it."""
        with self.page.expect_download() as started:
            self.page.locator(button).click()
        path = folder / started.value.suggested_filename
        started.value.save_as(path)
        return path

    def restore(self, path: Path) -> None:
        """Drop a file on the form's place for it."""
        self.unfold("Restore from a PNG")
        target = self.page.get_by_role("button", name="Click to upload or drop files")
        drop(target, path)

    def upload(self, place: str, path: Path) -> None:
        """Choose a file for the upload area of that id."""
        self.page.locator(f"{place} input[type=file]").set_input_files(path)

    def shoot(self, name: str) -> None:
        """Save a screenshot of the whole page."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def until(holds: Callable[[], bool], found: Callable[[], object]) -> None:
    """Wait until `holds`; after PATIENCE_S fail with what is `found` instead."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, found()
        time.sleep(0.1)


def type_in(field: Locator, text: str) -> None:
    """Type `text` into a field, again if it does not stand there a moment later: one just unfolding may forget it."""

    def stands() -> bool:
        field.fill(text)
        field.press("Tab")
        field.page.wait_for_timeout(100)
        return field.input_value() == text

    until(stands, field.input_value)


def drop(target: Locator, path: Path) -> None:
    """Drop the file at `path` on `target`, as a hand does."""
    data = target.page.evaluate_handle(
        """([name, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'}));
            return data;
        }""",
        [path.name, list(path.read_bytes())],
    )
    for event in ("dragenter", "dragover", "drop"):
        target.dispatch_event(event, {"dataTransfer": data})


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page, started as its user starts it; its log must hold no traceback in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    url = f"http://127.0.0.1:{port}/"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env=os.environ | {"GRADIO_SERVER_PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: answers(url) or server.poll() is not None, log.read_text)
        assert server.poll() is None, log.read_text()
        yield url
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
    assert "Traceback" not in log.read_text(), log.read_text()


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url).status == 200
    except urllib.error.URLError:
        return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, or else Playwright's own."""
    expect.set_options(timeout=PATIENCE_S * 1000)
    names = ("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, names)), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(address: str, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Visitor]]:
    """Opens the page for another visitor; options are those of Browser.new_context.

    In the end each window is photographed, and none may have seen an error in its console or a traceback.
    """
    visitors = []

    def visit(**options) -> Visitor:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        context.set_default_timeout(PATIENCE_S * 1000)
        context.add_init_script(WATCH)
        visitors.append(Visitor(context.new_page(), address))
        return visitors[-1]

    yield visit
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    for number, visitor in enumerate(visitors, 1):
        visitor.shoot(f"{name}-{number}" if len(visitors) > 1 else name)
        seen = visitor.page.evaluate("window.seen")
        visitor.page.context.close()
        assert not visitor.complaints and not seen["tracebacks"]


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    """A visitor at a desk."""
    return visit()
