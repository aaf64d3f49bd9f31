"""The reader's page over HTTP: what it tells, and forged, early, late, double and malformed requests."""

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
import sample_review
from sample_study import BACKGROUND, PASSWORD, Clock, pictures, said

from dermaflux.settings import Settings
from dermaflux.study.protocol import Protocol, Questions
from dermaflux.study.session import Step
from dermaflux.study.store import Store
from dermaflux.ui.context import UNEXPECTED
from dermaflux.ui.shell import launch_options

HOSTILE = "</script><script>alert(1)</script>'; DROP TABLE answers; --"


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
def store(tmp_path_factory, clock):
    opened = Store(tmp_path_factory.mktemp("store") / "studies.sqlite", clock)
    yield opened
    opened.dispose()


@pytest.fixture(scope="module")
def page(store):
    """The address of a page with a password that readers need not know."""
    app, url = sample_review.serve(lambda: store, password="only for owners")
    yield url
    app.close()


@pytest.fixture
def tokens(store, tmp_path, request):
    """Two readers of a study of their own."""
    return sample_review.invited(store, tmp_path, 2, name=request.node.name[:90])


def ask(page: str, token: str, verb: str, **given) -> httpx.Response:
    return httpx.post(f"{page}review/{verb}", json=given, headers={"X-Reader": token}, timeout=60)


def begin(page: str, token: str) -> dict:
    return ask(page, token, "consent", values=BACKGROUND).json()["step"]


def give(page: str, token: str, step: dict, **changes) -> httpx.Response:
    values = said(shown(step)) | changes
    given = dict(showing=step["showing"], stage=step["stage"], values=values, seconds=2.5)
    return ask(page, token, "answer", **given)


def shown(step: dict) -> Step:
    return Step(**step | {"questions": Questions(**step["questions"])}, done=0, total=0)


def refused(response: httpx.Response, status: int, sentence: str) -> bool:
    return response.status_code == status and sentence in response.json()["error"]


def test_a_reader_goes_through_the_whole_study_and_every_answer_is_stored(page, store, tokens, request):
    welcome = {"screen": "consent", "reader": "R01", "study": request.node.name}
    assert ask(page, tokens[0], "state").json() == welcome
    step, seen = begin(page, tokens[0]), []
    while step:
        seen.append((step["practice"], step["stage"]))
        answered = give(page, tokens[0], step, **({"comment": HOSTILE} if step["stage"] == 1 else {}))
        if step["practice"] and step["stage"] == 1:
            assert ask(page, tokens[0], "feedback", showing=step["showing"]).json()["source"] in ("real", "synthetic")
        step = answered.json().get("step")
    assert answered.json()["screen"] == "end" and [one for one in seen if one[1] == 1][:4] == [(True, 1)] * 3 + [
        (False, 1)
    ]
    table = store.readings(request.node.name)
    assert len(table) == 4 and set(table["comment"]) == {HOSTILE} and set(table["seconds"]) == {2.5}
    assert table.loc[table["source"] == "synthetic", "match"].notna().all()


def test_the_page_needs_no_password_keeps_nothing_and_runs_its_own_scripts_alone(page):
    found = httpx.get(f"{page}review?reader=anything")
    assert found.status_code == 200 and "anything" not in found.text and not found.cookies
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    assert found.headers["referrer-policy"] == "no-referrer" and found.headers["cache-control"] == "no-store"
    assert found.text.count("<script") == 2
    for name in ("review.js", "review.css", "review_case.js"):
        assert httpx.get(f"{page}review/files/{name}").status_code == 200
    for name in ("review.py", "..%2freview.py", "shell.py"):
        assert httpx.get(f"{page}review/files/{name}").status_code == 404
    assert "gradio_api" not in found.text and httpx.get(f"{page}config").status_code == 401


def test_pictures_of_both_sources_are_served_alike_and_without_a_name(page, store, tokens, request):
    step, seen = begin(page, tokens[0]), {}
    while step:
        call = dict(json={"showing": step["showing"]}, headers={"X-Reader": tokens[0], "Accept-Encoding": "br, gzip"})
        with httpx.stream("POST", f"{page}review/picture", **call) as response:
            raw = b"".join(response.iter_raw())
            seen.setdefault(raw, {name: value for name, value in response.headers.items() if name != "date"})
        step = give(page, tokens[0], step).json().get("step")
    (headers,) = {json.dumps(one, sort_keys=True) for one in seen.values()}
    assert len(seen) == 7 and len({len(one) for one in seen}) == 1
    assert json.loads(headers)["content-type"] == "image/png" and "disposition" not in headers
    for data in seen:
        assert chunks(data) == {b"IHDR", b"IDAT", b"IEND"}


def chunks(data: bytes) -> set[bytes]:
    at, found = 8, set()
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.add(data[at + 4 : at + 8])
        at += 12 + length
    return found


def test_before_an_answer_nothing_tells_the_source(page, tokens):
    step = begin(page, tokens[0])
    assert set(step) == {"showing", "stage", "practice", "case", "cases", "questions", "caption", "asked"}
    assert step["caption"] == "" and step["asked"] == [] and "match" not in step["questions"]
    assert refused(ask(page, tokens[0], "feedback", showing=step["showing"]), 400, "once they are answered")


@pytest.mark.parametrize("token", ["", "x", "A" * 22, "../../etc", HOSTILE, "%00", "A" * 5000])
def test_a_forged_token_opens_nothing(page, token):
    for verb in ("state", "picture", "answer", "withdraw", "consent"):
        assert refused(ask(page, token, verb, showing=1), 403, "link is not known")


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b"\xff", b'{"a": "' + b"x" * 70_000, b"[" * 60_000])
def test_a_malformed_request_is_refused_in_a_sentence(page, tokens, body):
    found = httpx.post(f"{page}review/answer", content=body, headers={"X-Reader": tokens[0]}, timeout=60)
    assert refused(found, 400, "not in the form")


def test_bad_values_are_refused_and_nothing_is_stored(page, store, tokens, request):
    step = begin(page, tokens[0])
    for changes in (
        {"confidence": 6},
        {"realism": "5"},
        {"said_label": "<b>"},
        {"extra": 1},
        {"marked": [[0, 0, 9, 9]]},
    ):
        assert give(page, tokens[0], step, **changes).status_code == 400
    for seconds in (-1, "1", None, True):
        call = dict(showing=step["showing"], stage=1, values=said(shown(step)), seconds=seconds)
        assert refused(ask(page, tokens[0], "answer", **call), 400, "number of seconds")
    assert refused(ask(page, tokens[0], "drop", values={}), 404, "does not know")
    assert store.summary(request.node.name).answers == 0


def test_cases_of_others_and_later_cases_are_refused(page, tokens):
    mine, other = (begin(page, token) for token in tokens)
    for showing in (other["showing"], 10**30, -1, "1", None, 1.5, True):
        for verb in ("picture", "feedback", "tick"):
            assert refused(ask(page, tokens[0], verb, showing=showing, seconds=1), 400, "not one of yours")
    later = mine | {"showing": mine["showing"] + 1}
    assert refused(give(page, tokens[0], later), 400, "not the question that comes next")
    assert refused(ask(page, tokens[0], "picture", showing=later["showing"]), 400, "comes later")


def test_an_answer_sent_by_many_tabs_at_once_is_stored_once_and_stays(page, store, tokens, request):
    step = begin(page, tokens[0])
    with ThreadPoolExecutor(8) as pool:
        same = list(pool.map(lambda _: give(page, tokens[0], step).status_code, range(8)))
    assert set(same) == {200} and store.summary(request.node.name).answers == 1
    assert refused(give(page, tokens[0], step, comment="another"), 400, "locked")


def test_a_wish_to_leave_a_picture_out_comes_with_its_answer(page, store, tokens, request):
    step = begin(page, tokens[0])
    while step:
        values = said(shown(step))
        given = dict(showing=step["showing"], stage=step["stage"], values=values, seconds=1, left_out=True)
        step = ask(page, tokens[0], "answer", **given).json().get("step")
    drawn = store.flagged(request.node.name)
    assert drawn and all(one.readers == 1 and not one.owner for one in drawn)


def test_who_withdraws_is_told_and_cannot_come_back(page, store, tokens, request):
    give(page, tokens[0], begin(page, tokens[0]))
    assert ask(page, tokens[0], "withdraw").json() == {"screen": "gone"}
    assert refused(ask(page, tokens[0], "state"), 403, "withdrawn")
    assert store.readings(request.node.name).empty and begin(page, tokens[1])


def test_a_study_that_is_not_open_or_closed_or_past_its_date_says_so(page, store, clock, tmp_path):
    name = sample_review.create(store, tmp_path, name="Early")
    ((_, early),) = store.invite(name)
    assert refused(ask(page, early, "state"), 403, "not open yet")
    closes = clock() + timedelta(days=1)
    store.create("Dated", pictures(4), Protocol(4), PASSWORD, closes)
    store.open("Dated")
    (_, dated), (_, other) = store.invite("Dated", 2)
    step = begin(page, dated)
    clock.turn(days=2)
    for call in (ask(page, dated, "state"), give(page, dated, step), ask(page, other, "consent", values=BACKGROUND)):
        assert refused(call, 403, "closed")
    clock.turn(days=-2)
    store.close("Dated")
    assert refused(ask(page, dated, "state"), 403, "closed")


def test_a_store_that_fails_is_answered_in_a_sentence():
    def broken():
        raise RuntimeError("secret detail")

    app, url = sample_review.serve(broken)
    try:
        found = ask(url, "x", "state")
        assert refused(found, 500, UNEXPECTED) and "secret" not in found.text
    finally:
        app.close()


def test_studies_are_kept_in_the_data_folder_unless_a_place_is_named(tmp_path):
    assert Settings(data_dir=tmp_path).store == str(tmp_path / "studies.sqlite")
    assert Settings(data_dir=tmp_path, studies="postgresql://host/name").store == "postgresql://host/name"
    assert launch_options(Settings())["app_kwargs"] == {"routes": [], "middleware": []}
