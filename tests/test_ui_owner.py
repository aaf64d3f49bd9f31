"""The Study tab over HTTP: what its password guards, and what it shows."""

# ruff: noqa: F401, F811

import re
import threading

import gradio as gr
import httpx
import pytest
import sample_review
from sample_owner import HOSTILE, PASSWORD, Browser, browser, desk, kept, served, store

from dermaflux.errors import InputError
from dermaflux.settings import Settings, from_env
from dermaflux.study.store import MAX_PASSWORD, MIN_PASSWORD
from dermaflux.ui import owner
from dermaflux.ui.owner_desk import BUSY, LOCKED, LONGEST_PAUSE, Lock, unlocked_until


def behind(app) -> list:
    """The listeners that read or change anything behind the lock, without those that lock and unlock it."""
    column = next(one for one in app.blocks.values() if getattr(one, "elem_id", None) == "df-owner")
    inside, more = set(), [column]
    while more:
        block = more.pop()
        inside.add(block._id)
        more += getattr(block, "children", [])
    touches = lambda one: {*(block for block, _ in one.targets), *(block._id for block in (*one.inputs, *one.outputs))}
    mine = [one for one in app.fns.values() if one.fn and one.inputs and touches(one) & inside]
    return [one for one in mine if one.name != "_watch" and one.inputs[0].elem_id != "df-owner-password"]


def mark(browser: Browser) -> int:
    """The component that says until when a session is unlocked."""
    (found,) = browser.listener("df-owner-lock").outputs
    return found._id


def test_there_is_no_tab_without_a_password_for_it(store):
    app, url = sample_review.serve(lambda: store)
    try:
        assert "df-owner" not in httpx.get(f"{url}config").text
    finally:
        app.close()


def test_the_page_tells_nothing_of_studies_or_the_password_before_it_is_unlocked(served, store):
    found = httpx.get(f"{served[1]}config").text
    assert "df-owner-password" in found and PASSWORD not in found and "Pilot" not in found and "R01" not in found


def test_every_listener_of_the_tab_refuses_who_calls_it_without_unlocking(served, store):
    browser, before = Browser(served), [(one.name, store.events(one.name)) for one in store.studies()]
    listeners = behind(browser.app)
    assert len(listeners) > 25
    for one in listeners:
        found = browser.call(one, **{"df-owner-case": "0" * 16, "df-owner-sure": True})
        assert not found["success"] and found["output"]["error"] == LOCKED, one.name
    assert [(one.name, store.events(one.name)) for one in store.studies()] == before


def test_the_mark_of_an_unlocked_session_cannot_be_sent_by_a_caller(served):
    browser = Browser(served)
    one = browser.listener("df-owner-refresh")
    for forged in (1e18, True, "1e18", {"value": 1e18}):
        browser.values[mark(browser)] = forged
        assert browser.call(one)["output"]["error"] == LOCKED


def test_another_session_stays_locked_and_locking_ends_ones_own(desk, served):
    assert desk.press("df-owner-refresh")
    assert Browser(served).refused("df-owner-refresh") == LOCKED
    desk.press("df-owner-lock")
    assert desk.refused("df-owner-refresh") == LOCKED


def test_wrong_passwords_are_refused(browser):
    for wrong in (PASSWORD.upper(), [PASSWORD]):
        assert "not the owner's password" in browser.refused("df-owner-unlock", **{"df-owner-password": wrong})
    assert browser.refused("df-owner-refresh") == LOCKED


def test_wrong_passwords_are_answered_later_each_time():
    waits = []
    lock = Lock(PASSWORD, waits.append)
    wrong = ["", "open", PASSWORD.upper(), None, 7, "\ud800", "ü" * 5000]
    assert not any(lock.admits(one) for one in wrong)
    assert waits == sorted(waits) and waits[-1] == LONGEST_PAUSE and waits[0] < 1
    assert lock.admits(PASSWORD) and len(waits) == len(wrong)
    assert not lock.admits("x") and waits[-1] == waits[0]


def test_any_password_is_refused_at_once_while_a_wrong_one_awaits_its_answer():
    waits, answer = threading.Event(), threading.Event()
    lock = Lock(PASSWORD, lambda seconds: waits.set() or answer.wait(30))
    guess = threading.Thread(target=lock.admits, args=("open",))
    guess.start()
    assert waits.wait(30)
    for given in ("guess", PASSWORD):
        with pytest.raises(InputError, match=BUSY):
            lock.admits(given)
    answer.set()
    guess.join()
    assert lock.admits(PASSWORD)


def test_new_answers_are_looked_for_only_while_the_tab_is_shown_and_unlocked():
    shown, other = (gr.SelectData(None, {"index": 0, "value": title}) for title in (owner.TITLE, "Draw"))
    assert owner._watch(unlocked_until(), shown).active
    for locked in (owner._watch(0.0, shown), owner._watch(unlocked_until(), other), owner._watch(True, shown)):
        assert not locked.active


def test_studies_are_listed_and_hostile_names_are_text(desk):
    listed, study, glance, opens, closes, deletes, who, _, log = desk.choose(HOSTILE)
    assert "<img" not in "".join((listed, glance, who, log)) and "&lt;img src=x onerror=alert(1)&gt;" in listed
    assert "${alert(2)}" in listed and study["value"] == HOSTILE and ["Pilot", "Pilot"] in map(list, study["choices"])
    assert "<td>open</td><td>12</td><td>2</td><td>100%</td>" in listed
    assert opens["interactive"] is False and closes["interactive"] is deletes["interactive"] is True
    assert "R01" in who and "opened" in log and desk.choose("Pilot")[5]["interactive"] is False


def test_the_dashboard_shows_the_reports_tables_and_plots_and_says_that_answers_are_few(desk, store):
    shown, flagged, _ = desk.press("df-owner-refresh")
    assert "Too few answers to conclude from: 26 readings by 2 readers" in shown
    assert "Balanced accuracy" in shown and shown.count("data:image/png;base64,") >= 3
    assert "<h4>hair</h4>" in shown and "data:image/jpeg" in shown and flagged == ""
    desk.choose(HOSTILE)
    empty, flagged, _ = desk.press("df-owner-refresh")
    assert "There are no answers yet" in empty and flagged == "" and "<img" not in empty


def test_an_invitation_is_a_link_of_the_pages_own_address_and_stands_in_the_log(desk, store, served):
    address = desk.press("df-owner-unlock", **{"df-owner-password": PASSWORD})[2]
    assert address == served[1].rstrip("/") + "/lesions"
    (link,) = desk.press("df-owner-invite", **{"df-owner-address": address})
    token = re.fullmatch(re.escape(address) + r"/review\?reader=([\w-]{22})", link)[1]
    assert not store.reader(token).consented and store.events("Pilot")[-1][1] == "invited"
    (links,) = desk.press("df-owner-invite", **{"How many": 2, "df-owner-address": "https://x.org/"})
    assert len(re.findall(r"^R\d\d\thttps://x.org/review\?reader=.{22}$", links, re.MULTILINE)) == 2
    for bad in ("javascript:alert(1)", "", "x.org", 'https://x.org/"><script>'):
        assert "begins with http" in desk.refused("df-owner-invite", **{"df-owner-address": bad})


def test_a_password_that_is_too_short_is_refused_and_not_repeated():
    for given in ("x" * (MIN_PASSWORD - 1), "x" * (MAX_PASSWORD + 1)):
        with pytest.raises(InputError, match="--owner-password must have 8 to 200 characters") as refused:
            from_env(["--owner-password", given], {})
        assert "xx" not in str(refused.value)
    for length in (MIN_PASSWORD, MAX_PASSWORD):
        assert from_env([], {"DERMAFLUX_OWNER_PASSWORD": "x" * length}).owner_password == "x" * length
    assert Settings().owner_password == ""
