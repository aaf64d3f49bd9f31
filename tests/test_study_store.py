"""A study in its store: readers answer in turn, once, and their own cases alone; owners open, close and read it."""

# ruff: noqa: F401, F811

import threading
from dataclasses import replace

import pytest
from sample_study import (
    BACKGROUND,
    NAME,
    PASSWORD,
    answer,
    clock,
    open_study,
    pictures,
    read_all,
    said,
    store,
    where,
)
from sqlalchemy import select

from dermaflux.errors import InputError
from dermaflux.study import readings
from dermaflux.study.database import reading
from dermaflux.study.protocol import Protocol, Questions
from dermaflux.study.store import Store
from dermaflux.study.tables import Answer, Base, Flag, Reader, Showing

NASTY = "'; DROP TABLE answers; -- <script>alert(1)</script> {{7*7}} %s \\ \" ‮ 😀 =1+1"


def whole(store: Store) -> str:
    """Everything in the store, pictures left out, as text."""
    with reading(store.engine) as session:
        tables = (table for table in Base.metadata.sorted_tables)
        return "\n".join(str(session.execute(select(*(c for c in t.c if c.name != "data"))).all()) for t in tables)


def test_captions_come_after_the_last_case_where_real_or_synthetic_is_asked(store):
    (token,) = open_study(store, 12, 1)
    steps = read_all(store.reader(token))
    assert [step.done for step in steps] == list(range(len(steps))) and {step.total for step in steps} == {len(steps)}
    counted = [step.stage for step in steps if not step.practice]
    assert counted == [1] * 13 + [2] * counted.count(2) and counted.count(2) >= 6
    assert not any(step.caption for step in steps if step.stage == 1)
    assert all(step.caption == "A lesion." and step.asked == ("asymmetry", "tone") for step in steps if step.stage == 2)
    assert [(step.case, step.cases) for step in steps if step.stage == 1] == [
        *((n, 3) for n in range(1, 4)),
        *((n, 13) for n in range(1, 14)),
    ]


def test_captions_come_after_their_case_where_all_pictures_are_synthetic(store):
    (token,) = open_study(store, 4, 1, questions=Questions(source=False))
    assert [step.stage for step in read_all(store.reader(token))] == [1, 2] * 7
    table = store.readings(NAME)
    assert table["said_synthetic"].isna().all() and table["confidence"].isna().all() and table["match"].notna().all()


def test_a_reader_goes_on_by_the_same_link_where_they_stopped(store, where, clock):
    (token,) = open_study(store, 12, 1)
    read_all(store.reader(token), 5)
    step = store.reader(token).next()
    again = Store(where, clock)
    assert again.reader(token).next() == step == again.reader(token).next() and step.done == 5
    again.dispose()


def test_the_same_answer_twice_is_stored_once_and_another_is_refused(store):
    (token,) = open_study(store, 12, 1)
    reader = store.reader(token)
    first = reader.next()
    for _ in range(3):
        reader.answer_first(first.showing, said(first))
    with pytest.raises(InputError, match="answered already and locked"):
        reader.answer_first(first.showing, said(first) | {"comment": "I meant something else"})
    assert len(reader.own()) == 1 and reader.next().done == 1
    steps = [first, *read_all(reader)]
    last = steps[-1]
    reader.answer_second(last.showing, said(last))
    with pytest.raises(InputError, match="answered already and locked"):
        reader.answer_second(last.showing, said(last) | {"match": 6 - said(last)["match"], "match_tone": "cannot tell"})
    assert reader.next() is None and len(reader.own()) == 16


def test_answers_out_of_order_and_forged_cases_are_refused(store):
    mine, other = open_study(store, 12, 2)
    reader, step = store.reader(mine), store.reader(mine).next()
    with reading(store.engine) as session:
        ids = session.scalars(select(Showing.id).order_by(Showing.id)).all()
    later, theirs = step.showing + 1, store.reader(other).next().showing
    with pytest.raises(InputError, match="not the question that comes next"):
        reader.answer_first(later, said(step))
    with pytest.raises(InputError, match="not the question that comes next"):
        reader.answer_second(step.showing, {"match": 3})
    with pytest.raises(InputError, match="comes later"):
        reader.picture(later)
    for forged in (
        theirs,
        max(ids) + 1,
        -1,
        2**80,
        True,
        None,
        "1",
        str(step.showing),
        [step.showing],
        1.0,
        "1 OR 1=1",
    ):
        for call in (reader.answer_first, reader.answer_second):
            with pytest.raises(InputError, match="not one of yours"):
                call(forged, said(step))
        for call in (reader.picture, reader.feedback, reader.flag):
            with pytest.raises(InputError, match="not one of yours"):
                call(forged)
    assert reader.own() == [] and reader.picture(step.showing).startswith(b"\x89PNG")


def test_what_a_case_was_is_told_of_practice_alone(store):
    (token,) = open_study(store, 12, 1)
    reader = store.reader(token)
    step = reader.next()
    with pytest.raises(InputError, match="once they are answered"):
        reader.feedback(step.showing)
    answer(reader, step)
    assert reader.feedback(step.showing).source == "real"
    while (step := reader.next()).practice:
        answer(reader, step)
    answer(reader, step)
    with pytest.raises(InputError, match="practice cases only"):
        reader.feedback(step.showing)


def test_nobody_reads_before_the_study_opens_before_consent_or_with_a_guessed_link(store):
    store.create(NAME, pictures(12), Protocol(12), PASSWORD)
    ((pseudonym, token),) = store.invite(NAME)
    assert pseudonym == "R01" and len(token) == 22
    with pytest.raises(InputError, match="not open yet"):
        store.reader(token)
    store.open(NAME)
    reader = store.reader(token)
    with pytest.raises(InputError, match="questions about you first"):
        reader.next()
    reader.consent(BACKGROUND)
    reader.consent(BACKGROUND)
    with pytest.raises(InputError, match="already"):
        reader.consent(BACKGROUND | {"years": 30})
    for guess in ("", "R01", token[:-1], token + " ", token.swapcase(), NASTY, "\udcff", "x" * 10**6, None):
        with pytest.raises(InputError, match="link is not known"):
            store.reader(guess)


def test_tokens_and_passwords_are_not_in_the_store(store):
    tokens = open_study(store, 12, 3)
    assert store.verify_owner(NAME, PASSWORD) and not store.verify_owner(NAME, PASSWORD + " ")
    text = whole(store)
    assert not any(secret in text for secret in (*tokens, PASSWORD)) and len(set(tokens)) == 3


def test_an_expired_or_closed_study_takes_no_answers(store, clock):
    shown = pictures(12)
    closes = clock().replace(day=2)
    store.create(NAME, shown, Protocol(12), PASSWORD, closes)
    store.open(NAME)
    ((_, token),) = store.invite(NAME)
    reader = store.reader(token)
    reader.consent(BACKGROUND)
    step = reader.next()
    clock.turn(days=1)
    for call in (lambda: store.reader(token), reader.next, lambda: answer(reader, step), lambda: reader.tick(1, 1)):
        with pytest.raises(InputError, match="closed"):
            call()
    assert store.summary(NAME).state == "closed"
    with pytest.raises(InputError, match="passed already"):
        store.create("Late", shown, Protocol(12), PASSWORD, closes)
    open_study(store, 12, 1, "Other")
    store.close("Other")
    with pytest.raises(InputError, match="is closed"):
        store.open("Other")


def test_a_clock_that_jumps_changes_neither_times_nor_order(store, clock):
    (token,) = open_study(store, 12, 1)
    reader = store.reader(token)
    while step := reader.next():
        reader.tick(step.showing, 2.5)
        clock.turn(days=-3 if step.done % 2 else 2)
        reader.tick(step.showing, 4)
        reader.tick(step.showing, 10**6) if step.done == 0 else None
        answer(reader, step)
        reader.tick(step.showing, 7)
    table = store.readings(NAME)
    assert set(table["seconds"]) == {6.5} and list(table["position"]) == list(range(1, 14))
    assert all(len(moment) == 24 and moment.endswith("Z") for moment in table["answered_at"])


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "3", None, True])
def test_a_time_that_is_none_is_refused(store, seconds):
    (token,) = open_study(store, 12, 1)
    reader = store.reader(token)
    with pytest.raises(InputError, match="number of seconds"):
        reader.tick(reader.next().showing, seconds)


def test_two_tabs_of_one_reader_store_each_answer_once(store):
    (token,) = open_study(store, 20, 1)
    refused = []

    def tab(number: int) -> None:
        reader = store.reader(token)
        while step := reader.next():
            try:
                answer(reader, step, said(step, number))
            except InputError as error:
                refused.append(str(error))

    tabs = [threading.Thread(target=tab, args=(number,)) for number in range(4)]
    for one in tabs:
        one.start()
    for one in tabs:
        one.join(120)
    reader = store.reader(token)
    with reading(store.engine) as session:
        showings = session.scalars(select(Answer.showing_id)).all()
    assert reader.next() is None and len(showings) == len(set(showings)) == 25
    assert set(refused) <= {
        "This is answered already and locked; go on with the next one.",
        "This is not the question that comes next; reload the page.",
    }


def test_markup_and_statements_in_every_text_are_stored_as_text(store, tmp_path):
    shown = [replace(one, caption=NASTY if one.caption else "", diagnosis=NASTY) for one in pictures(12)]
    name = store.create(NASTY, shown, Protocol(12), NASTY * 2)
    store.open(name)
    ((_, token),) = store.invite(name)
    reader = store.reader(token)
    for wrong in ({"role": NASTY}, {NASTY: 1}):
        with pytest.raises(InputError):
            reader.consent(BACKGROUND | wrong)
    reader.consent(BACKGROUND)
    while step := reader.next():
        assert step.stage == 1 or step.caption == NASTY
        answer(reader, step, said(step) | ({"comment": NASTY} if step.stage == 1 else {}))
    table = store.readings(name)
    assert set(table["comment"]) == {NASTY} and set(table["diagnosis"]) == {NASTY} and set(table["study"]) == {NASTY}
    readings.write(table, tmp_path / "readings.csv")
    assert readings.read(tmp_path / "readings.csv").equals(table)
    assert store.verify_owner(NASTY, NASTY * 2)
    with pytest.raises(InputError, match="no reader"):
        store.withdraw(name, NASTY)
    with pytest.raises(InputError, match="no case"):
        store.leave_out(name, NASTY)


def test_a_reader_who_withdraws_leaves_nothing_but_the_log(store):
    stays, goes = open_study(store, 12, 2)
    read_all(store.reader(stays))
    reader = store.reader(goes)
    step = reader.next()
    answer(reader, step, said(step) | {"comment": "my secret"})
    reader.flag(step.showing)
    reader.withdraw()
    reader.withdraw()
    assert "my secret" not in whole(store) and set(store.readings(NAME)["reader"]) == {"R01"}
    with reading(store.engine) as session:
        row = session.scalar(select(Reader).where(Reader.pseudonym == "R02"))
        assert (row.role, row.years, row.trained, row.consented_at) == (None,) * 4
        assert session.scalars(select(Flag)).all() == []
    for call in (lambda: store.reader(goes), reader.next, reader.own):
        with pytest.raises(InputError, match="withdrawn"):
            call()
    store.withdraw(NAME, "R01")
    assert [one[1:] for one in store.events(NAME)[-2:]] == [
        ("withdrawn", "R02, by the reader"),
        ("withdrawn", "R01, by the owner"),
    ]
    assert store.readings(NAME).empty and [one.withdrawn for one in store.readers(NAME)] == [True, True]
