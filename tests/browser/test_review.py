"""A reader in front of a study: by keyboard alone, on another device, in two tabs, on small screens."""

import re
from collections.abc import Iterator

import pytest
import sample_review
from playwright.sync_api import Browser, Page, expect
from sample_study import BACKGROUND, PASSWORD, answer, pictures

from dermaflux.study.protocol import Protocol, Questions
from dermaflux.study.store import Store

SCREENS = [(1440, 900, False), (1366, 768, False), (1024, 768, True), (768, 1024, True)]
"""Two laptops, and a tablet held either way: width, height, whether it is touched."""
HOSTILE = 'A lesion.<img src=x onerror="document.title=1"><script>document.title=1</script>'


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    opened = Store(tmp_path_factory.mktemp("store") / "studies.sqlite")
    yield opened
    opened.dispose()


@pytest.fixture(scope="module")
def page(store) -> Iterator[str]:
    app, url = sample_review.serve(lambda: store)
    yield url
    app.close()


@pytest.fixture
def token(store, tmp_path, request) -> str:
    (one,) = sample_review.invited(store, tmp_path, 1, cases=2, name=request.node.name[:90])
    return one


@pytest.fixture
def sit(page, browser: Browser) -> Iterator:
    """Opens a reader's link in a browser of its own, at rest on a first case unless `wait` names something else."""
    contexts, wrong = [], []

    def sit(token: str, wait: str = ".frame.loaded", **options) -> Page:
        contexts.append(browser.new_context(**{"viewport": {"width": 1366, "height": 768}} | options))
        return visit(contexts[-1].new_page(), token, wait)

    def visit(window: Page, token: str, wait: str = ".frame.loaded") -> Page:
        window.on("pageerror", lambda error: wrong.append(str(error)))
        window.goto(f"{page}review?reader={token}")
        window.locator(wait).first.wait_for()
        return window

    sit.visit = visit
    yield sit
    for context in contexts:
        context.close()
    assert not wrong


def press(window: Page, keys: str) -> None:
    for key in keys.split():
        window.keyboard.press(key)


def judge(window: Page, comment: str = "blurred at 3 o'clock") -> None:
    """Answer what is shown, by keys alone."""
    if window.locator(".feedback").count():
        press(window, "Enter")
    elif window.locator("blockquote").count():
        press(window, " ".join("4" for _ in window.locator(".row").all()) + " Enter")
    else:
        press(window, "2 4 ArrowUp ArrowRight Enter 3 4 1 2 8 1 3 Enter Enter 9 Enter")
        window.keyboard.type(comment)
        press(window, "Enter Enter Enter")


def test_the_keyboard_alone_goes_through_a_study(sit, store, token, request):
    window = sit(token, ".about")
    press(window, "Tab d e Tab 7 Tab Space Tab Space Tab Enter")
    window.locator(".frame.loaded").wait_for()
    press(window, "z + ArrowLeft m Escape")
    seen = []
    while window.locator(".frame").count():
        window.locator(".frame.loaded").wait_for()
        seen.append(window.locator("#way span").inner_text())
        window.evaluate("document.querySelector('.questions').dataset.old = 1")
        judge(window)
        expect(window.locator("[data-old]")).to_have_count(0)
    expect(window.get_by_role("heading", name="Thank you")).to_be_visible()
    assert seen[0] == "Practice 1 of 3" and "Case 2 of 2" in seen and seen[-1].startswith("Captions")
    table = store.readings(request.node.name)
    assert len(table) == 2 and set(table["role"]) == {"dermatologist"} and set(table["years"]) == {7}
    assert (
        set(table["confidence"]) == {5} and set(table["realism"]) == {3} and set(table["said_diagnosis"]) == {"nevus"}
    )
    assert (
        set(table["seen_asymmetry"]) == {2}
        and set(table["seen_border"]) == {8}
        and set(table["artefacts"]) == {"other"}
    )
    assert set(table["seen_colours"]) == {"white;light brown"} and set(table["comment"]) == {"blurred at 3 o'clock"}
    assert table.loc[table["source"] == "synthetic", "match"].tolist() == [4]


def test_a_study_goes_on_on_another_device_and_the_first_one_is_told(sit, store, token):
    reader = store.reader(token)
    reader.consent(BACKGROUND)
    first = sit(token)
    second = sit(token, viewport={"width": 1024, "height": 768}, has_touch=True)
    judge(second)
    second.get_by_role("heading", name="Practice").wait_for()
    second.get_by_role("button", name="Next case").click()
    judge(first, "something else")
    expect(first.locator("#toast")).to_contain_text("answered elsewhere")
    expect(first.locator("#way")).to_contain_text(second.locator("#way span").inner_text())
    assert store.reader(token).own()[0]["comment"] == "blurred at 3 o'clock" and len(store.reader(token).own()) == 1


def test_places_are_marked_by_hand_and_a_reload_keeps_what_was_begun(sit, store, token):
    store.reader(token).consent(BACKGROUND)
    window = sit(token)
    window.get_by_role("button", name="Mark a place").click()
    box = window.locator(".frame").bounding_box()
    window.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    window.mouse.down()
    window.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.75)
    window.mouse.up()
    window.get_by_text("Malignant").click()
    window.reload()
    window.locator(".frame.loaded").wait_for()
    expect(window.get_by_label("Malignant")).to_be_checked()
    judge(window)
    window.get_by_role("heading", name="Practice").wait_for()
    (mark,) = store.reader(token).own()[0]["marked"]
    assert mark == pytest.approx([0.25, 0.5, 0.75, 0.75], abs=0.01)


def test_a_picture_zooms_and_moves_by_wheel_by_pointer_and_by_two_fingers(sit, store, token):
    store.reader(token).consent(BACKGROUND)
    window = sit(token, viewport={"width": 1024, "height": 768}, has_touch=True)
    box = window.locator(".frame").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shown = lambda: window.locator(".layer").evaluate(
        "layer => { const now = new DOMMatrix(layer.style.transform); return [now.a, now.e, now.f]; }"
    )
    window.mouse.move(x, y)
    window.mouse.wheel(0, -400)
    expect(window.locator(".frame.near")).to_be_visible()
    scale, left, top = shown()
    assert 2.5 < scale < 3 and left == pytest.approx(top, abs=2) and left < 0
    window.mouse.down()
    window.mouse.move(x + 40, y + 20)
    window.mouse.up()
    assert shown() == pytest.approx([scale, left + 40, top + 20], abs=1)
    window.get_by_role("button", name="Show the whole picture").click()
    assert shown() == [1, 0, 0]
    fingers = window.context.new_cdp_session(window)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", None)):
        points = [{"x": x + side * apart, "y": y, "id": side + 1} for side in (-1, 1)] if apart else []
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert shown()[0] == pytest.approx(2, abs=0.1)


def test_idle_time_and_pauses_do_not_count(sit, store, token, request):
    reader = store.reader(token)
    reader.consent(BACKGROUND)
    while reader.next().practice:
        answer(reader, reader.next())
    window = sit(token, "main")
    window.clock.install()
    sit.visit(window, token)
    press(window, "2")
    window.clock.run_for(600_000)
    press(window, "4")
    window.get_by_role("button", name="Pause").click()
    window.clock.run_for(40_000)
    window.get_by_role("button", name="Go on").click()
    window.get_by_text("Real", exact=True).click()
    judge(window)
    window.clock.run_for(1000)
    expect(window.locator("#way")).to_contain_text("Case 2")
    (seconds,) = store.readings(request.node.name)["seconds"]
    assert 55 <= seconds <= 70


def test_the_studys_name_and_a_caption_are_text_whatever_they_hold(sit, store):
    asked = Questions.of(["realism", "match"])
    store.create(HOSTILE, pictures(4, True, HOSTILE), Protocol(4, asked), PASSWORD)
    store.open(HOSTILE)
    ((_, token),) = store.invite(HOSTILE)
    window = sit(token, ".about", viewport={"width": 390, "height": 844})
    expect(window.get_by_role("heading", name=HOSTILE)).to_be_visible()
    assert fits_across(window)
    reader = store.reader(token)
    reader.consent(BACKGROUND)
    answer(reader, reader.next(), {"realism": 3})
    sit.visit(window, token)
    assert window.locator("blockquote").inner_text() == HOSTILE
    assert window.title() == "DermaFlux reader study" and window.locator("img").count() == 1


def test_a_closed_study_and_a_forged_link_say_so_and_show_nothing_else(sit, store, token, request):
    for wrong in ("", "nobody", "%3Cscript%3E"):
        expect(sit(wrong, ".card").locator(".card")).to_contain_text("This link is not known")
    store.close(request.node.name)
    expect(sit(token, ".card").locator(".card")).to_contain_text("This study is closed")


def test_who_withdraws_sees_it_done(sit, store, token):
    store.reader(token).consent(BACKGROUND)
    window = sit(token)
    window.get_by_role("button", name="Pause").click()
    window.get_by_role("button", name="Withdraw").click()
    window.get_by_role("button", name="Delete my answers").click()
    expect(window.get_by_role("heading", name="You have withdrawn")).to_be_visible()


@pytest.mark.parametrize(("width", "height", "touch"), SCREENS)
def test_a_case_fits_on_the_screen(sit, store, token, width, height, touch):
    reader = store.reader(token)
    reader.consent(BACKGROUND)
    window = sit(token, viewport={"width": width, "height": height}, has_touch=touch)
    assert fits(window)
    while reader.next().stage == 1:
        answer(reader, reader.next())
    window.reload()
    window.locator("blockquote").wait_for()
    assert fits(window)


def fits(window: Page) -> bool:
    return fits_across(window) and window.evaluate("document.documentElement.scrollHeight <= innerHeight")


def fits_across(window: Page) -> bool:
    return window.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_narrow_screen_scrolls_down_only_and_the_picture_has_no_telling_name(sit, store, token):
    store.reader(token).consent(BACKGROUND)
    window = sit(token, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert window.evaluate("document.documentElement.scrollWidth <= 390")
    image = window.locator(".frame img")
    assert image.get_attribute("alt") == "Case 1 of 3" and re.match(r"blob:http", image.get_attribute("src"))
    assert image.get_attribute("title") is None
