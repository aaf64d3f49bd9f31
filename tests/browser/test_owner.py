"""The owner of studies in front of the Study tab: from a password to a study that a reader opens by its link."""

import re
from collections.abc import Iterator

import pytest
import sample_review
from conftest import type_in
from playwright.sync_api import Browser, Page, expect
from sample_study import BACKGROUND, read_all

from dermaflux.study.store import Store

PASSWORD = "open sesame"
HOSTILE = "<img src=x onerror=\"document.title='taken'\">'; DROP TABLE studies; --"


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    opened = Store(tmp_path / "studies.sqlite")
    yield opened
    opened.dispose()


@pytest.fixture
def address(store, tmp_path) -> Iterator[str]:
    app, url = sample_review.serve(lambda: store, owner_password=PASSWORD, data_dir=tmp_path)
    yield url
    app.close()


@pytest.fixture
def owner(address, browser: Browser) -> Iterator[Page]:
    """The owner in front of the tab, which is locked."""
    context, wrong = browser.new_context(viewport={"width": 1440, "height": 900}), []
    context.set_default_timeout(120_000)
    window = context.new_page()
    window.on("pageerror", lambda error: wrong.append(str(error)))
    window.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    window.goto(address)
    window.get_by_role("tab", name="Study").click()
    yield window
    assert not wrong and window.title() == "DermaFlux"
    context.close()


def unlock(window: Page) -> None:
    window.locator("#df-owner-password input").fill(PASSWORD)
    window.keyboard.press("Enter")
    window.locator("#df-owner-list p, #df-owner-list td").first.wait_for()


def test_an_owner_makes_a_study_of_uploads_and_a_reader_opens_it_by_its_link(owner, store, browser):
    expect(owner.locator("#df-owner-list")).to_be_hidden()
    owner.locator("#df-owner-password input").fill("a guess")
    owner.locator("#df-owner-unlock").click()
    owner.get_by_text("That is not the owner's password.").wait_for()
    unlock(owner)
    expect(owner.locator("#df-owner-list")).to_contain_text("There are no studies yet")

    owner.get_by_role("button", name="New study").click()
    type_in(owner.get_by_label("Name", exact=True), HOSTILE)
    type_in(owner.locator("#df-owner-cases input"), "3")
    images = sorted(sample_review.EXAMPLES.glob("*.png"))
    owner.locator("#df-owner-synthetic input[type=file]").set_input_files(images)
    expect(owner.locator("#df-owner-synthetic")).to_contain_text(images[-1].stem[:8])
    owner.locator("#df-owner-create").click()
    expect(owner.locator("#df-owner-made")).to_contain_text("is a draft with:")
    expect(owner.locator("#df-owner-list")).to_contain_text("draft")

    owner.locator("#df-owner-open").click()
    expect(owner.locator("#df-owner-list td:nth-child(2)")).to_have_text("open")
    expect(owner.locator("#df-owner-results")).to_contain_text("There are no answers yet")
    owner.get_by_role("button", name="Invite readers").click()
    owner.locator("#df-owner-invite").click()
    link = owner.locator("#df-owner-link textarea")
    expect(link).to_have_value(re.compile(r"^http://127\.0\.0\.1:\d+/review\?reader=[\w-]{22}$"))
    reader = browser.new_page()
    reader.goto(link.input_value())
    reader.locator(".about").wait_for()
    reader.close()

    session = store.reader(link.input_value().partition("=")[2])
    session.consent(BACKGROUND)
    read_all(session)
    owner.locator("#df-owner-refresh").click()
    expect(owner.locator("#df-owner-results")).to_contain_text(
        "Too few answers to conclude from: 3 readings by 1 reader"
    )
    expect(owner.locator("#df-owner-results figure img").first).to_be_visible()
    with owner.expect_download() as saved:
        owner.get_by_role("button", name="Readings and codebook").click()
    assert saved.value.suggested_filename.endswith("-readings.zip")
    owner.reload()
    owner.get_by_role("tab", name="Study").click()
    expect(owner.locator("#df-owner-password input")).to_have_value("")
    expect(owner.locator("#df-owner-list")).to_be_hidden()


def test_a_reader_goes_from_the_review_tab_by_their_link_to_the_study(owner, store, tmp_path, address):
    (token,) = sample_review.invited(store, tmp_path)
    owner.get_by_role("tab", name="Review").click()
    field, go = owner.get_by_label("Your link"), owner.get_by_role("button", name="Go to the study")
    for wrong in ("", "https://example.org/", f"{token}<img src=x onerror=alert(1)>", "reader=short"):
        field.fill(wrong)
        go.click()
        expect(owner.locator("#df-reader-told")).to_contain_text("That is no reader's link")
        assert owner.locator("#df-reader-told img").count() == 0
    field.fill(f" https://elsewhere.org/review?reader={token} ")
    field.press("Enter")
    owner.locator(".about").wait_for()
    assert owner.url == f"{address}review?reader={token}"
    owner.go_back()
    expect(owner).to_have_title("DermaFlux")


def test_the_tab_fits_a_telephone_and_a_refusal_shows_a_hostile_name_as_text(owner, store, tmp_path):
    sample_review.create(store, tmp_path, name=HOSTILE)
    unlock(owner)
    owner.set_viewport_size({"width": 390, "height": 844})
    owner.get_by_role("button", name="New study").click()
    type_in(owner.get_by_label("Name", exact=True), HOSTILE)
    type_in(owner.locator("#df-owner-cases input"), "3")
    type_in(owner.get_by_label("Synthetic images").first, str(sample_review.EXAMPLES))
    assert owner.evaluate("document.documentElement.scrollWidth") <= 390
    owner.locator("#df-owner-create").click()
    expect(owner.get_by_test_id("toast-body")).to_contain_text("already; choose another name")
    assert owner.locator("img[src=x][onerror]").count() == 0
