"""What the owner of a study does."""

# ruff: noqa: F401, F811

import threading
from dataclasses import replace

import pytest
from sample_study import BACKGROUND, NAME, PASSWORD, answer, clock, open_study, pictures, read_all, store, where
from sqlalchemy import func, select

from dermaflux.errors import InputError
from dermaflux.lesion import LesionAttributes
from dermaflux.study import readings
from dermaflux.study.database import reading
from dermaflux.study.protocol import Protocol
from dermaflux.study.tables import Flag, Picture, Reader, Showing


def test_readings_hold_a_row_for_each_counted_case_and_reader(store):
    tokens = open_study(store, 20, 2)
    for token in tokens:
        read_all(store.reader(token))
    table = store.readings(NAME)
    assert len(table) == 2 * 22 and list(table.columns) == list(readings.COLUMNS)
    assert table.groupby("reader")["repeat"].sum().tolist() == [2, 2]
    assert table.groupby(["reader", "case"]).size().max() == 2 and table["case"].nunique() == 20
    real, drawn = table[table["source"] == "real"], table[table["source"] == "synthetic"]
    assert real["match"].isna().all() and set(real["match_tone"]) == {""} and drawn["match"].notna().all()
    assert set(drawn["match_asymmetry"]) <= {"yes", "no"} and set(drawn["match_border"]) == {""}
    assert set(table["seen_colours"]) == {"white;red"} and set(table["artefacts"]) == {"hair;other"}
    assert set(table["marked"].str[:15]) == {"[[0.1, 0.2, 0.3"}
    assert store.readings(NAME).equals(table) and readings.frame([]).equals(table.head(0))


def test_readings_hold_what_was_asked_of_synthetic_pictures_and_which_are_to_be_left_out(store):
    lesion = LesionAttributes(
        "benign", asymmetry=2, border=0, colours=("white", "red"), structures=("dots",), size_mm=7
    )
    shown = [replace(one, attributes=lesion) for one in pictures(12)]
    store.create(NAME, shown, Protocol(12), PASSWORD)
    store.open(NAME)
    (_, flags), (_, other) = store.invite(NAME, 2)
    for token in (flags, other):
        reader = store.reader(token)
        reader.consent(BACKGROUND)
        for step in read_all(reader):
            if token == flags and step.case == 5 and not step.practice:
                reader.flag(step.showing)
    table = store.readings(NAME)
    columns = ["asked_asymmetry", "asked_border", "asked_colours", "asked_structures", "asked_size"]
    real, drawn = (table.loc[table["source"] == source, columns] for source in ("real", "synthetic"))
    assert set(drawn.itertuples(index=False, name=None)) == {(2, 0, "white;red", "dots", 7)}
    assert real[["asked_asymmetry", "asked_border", "asked_size"]].isna().all(axis=None)
    assert set(real["asked_colours"]) | set(real["asked_structures"]) == {""}
    assert table.loc[table["left_out"].astype(bool), "reader"].unique().tolist() == ["R01"]
    assert set(table.loc[table["left_out"].astype(bool), "position"]) >= {5}


def test_what_the_owner_did_is_logged_and_shown_at_a_glance(store, tmp_path):
    tokens = open_study(store, 12, 2)
    read_all(store.reader(tokens[0]), 5)
    drawn = next(one.case for one in pictures(12) if one.source == "synthetic")
    store.leave_out(NAME, drawn)
    store.leave_out(NAME, drawn, out=False)
    store.flagged(NAME, log="flags written")
    store.readings(NAME, log="exported")
    store.readings(NAME), store.flagged(NAME), store.studies(), store.readers(NAME), store.picture(NAME, drawn)
    store.backup(tmp_path / "copy.sqlite")
    store.withdraw(NAME, "R02")
    store.close(NAME)
    store.close(NAME)
    assert [event[1:] for event in store.events(NAME)] == [
        ("created", "12 cases"),
        ("opened", ""),
        ("invited", "R01 to R02"),
        ("left out", drawn),
        ("taken back in", drawn),
        ("flags written", ""),
        ("exported", "1 readings"),
        ("backed up", "copy.sqlite"),
        ("withdrawn", "R02, by the owner"),
        ("closed", ""),
    ]
    assert {event[0] for event in store.events(NAME)} == {"2030-01-01T00:00:00.000Z"}
    (one,) = store.studies()
    assert (one.name, one.state, one.readers, one.answers, one.protocol.cases) == (NAME, "closed", 1, 4, 12)
    assert [(state.done, state.consented) for state in store.readers(NAME)] == [(5, True), (0, False)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": " Pilot "}, "already"),
        ({"name": " \n"}, "1 to 100 characters"),
        ({"name": "x" * 101}, "1 to 100 characters"),
        ({"password": "short"}, "8 to 200 characters"),
    ],
)
def test_a_study_that_cannot_be_is_refused(store, changes, sentence):
    sound = {"name": NAME, "shown": pictures(12), "protocol": Protocol(12), "password": PASSWORD}
    store.create(**sound)
    with pytest.raises(InputError, match=sentence):
        store.create(**sound | changes)
    assert len(store.studies()) == 1


def test_of_two_studies_made_at_once_under_one_name_one_is_refused_in_a_sentence(store):
    together, told, shown = threading.Barrier(4), [], pictures(12)

    def make() -> None:
        together.wait()
        try:
            store.create(NAME, shown, Protocol(12), PASSWORD)
        except Exception as error:
            told.append(error)

    makers = [threading.Thread(target=make) for _ in range(4)]
    for one in makers:
        one.start()
    for one in makers:
        one.join(60)
    assert [type(one) for one in told] == [InputError] * 3
    assert {str(one) for one in told} == {f"There is a study “{NAME}” already; choose another name."}
    assert [one.name for one in store.studies()] == [NAME] and len(store.events(NAME)) == 1


def test_a_draft_is_deleted_with_its_links_and_its_log_outlives_it(store):
    shown = pictures(12)
    for name in (NAME, "Other"):
        store.create(name, shown, Protocol(12), PASSWORD)
    store.open(NAME)
    ((_, token),) = store.invite(NAME)
    reader = store.reader(token)
    reader.consent(BACKGROUND)
    store.leave_out(NAME, next(one.case for one in shown if one.source == "synthetic"))
    store.delete(NAME)
    assert [one.name for one in store.studies()] == ["Other"]
    assert [event[1] for event in store.events(NAME)] == ["created", "opened", "invited", "left out", "deleted"]
    for call in (lambda: store.reader(token), reader.next, reader.own, lambda: reader.consent(BACKGROUND)):
        with pytest.raises(InputError, match="link is not known"):
            call()
    with pytest.raises(InputError, match="no study"):
        store.delete(NAME)
    with reading(store.engine) as session:
        counts = [session.scalar(select(func.count()).select_from(one)) for one in (Picture, Reader, Showing, Flag)]
    assert counts == [15, 0, 0, 0]
    store.create(NAME, shown, Protocol(12), PASSWORD)
    assert [event[1] for event in store.events(NAME)][-2:] == ["deleted", "created"]


def test_a_study_with_answers_is_not_deleted(store):
    (token,) = open_study(store, 12, 1)
    reader = store.reader(token)
    read_all(reader, 1)
    for act in (lambda: None, lambda: store.close(NAME)):
        act()
        with pytest.raises(InputError, match="Readers have answered in “Pilot”; close it instead"):
            store.delete(NAME)
    assert len(store.studies()) == 1 and "deleted" not in [event[1] for event in store.events(NAME)]
    store.withdraw(NAME, "R01")
    store.delete(NAME)
    assert [event[1:] for event in store.events(NAME)][-2:] == [("withdrawn", "R01, by the owner"), ("deleted", "")]


def test_of_a_first_answer_and_a_deletion_at_once_only_one_comes_about(store):
    for attempt in range(8):
        name = f"Study {attempt}"
        (token,) = open_study(store, 4, 1, name)
        reader, told, together = store.reader(token), [], threading.Barrier(2)
        step = reader.next()

        def act(call, together=together, told=told) -> None:
            together.wait()
            try:
                call()
            except InputError as error:
                told.append(str(error))

        calls = (lambda reader=reader, step=step: answer(reader, step), lambda name=name: store.delete(name))
        acts = [threading.Thread(target=act, args=(call,)) for call in calls]
        for one in acts:
            one.start()
        for one in acts:
            one.join(60)
        left = [one.answers for one in store.studies() if one.name == name]
        assert len(told) == 1 and left == ([1] if "have answered" in told[0] else [])


@pytest.mark.parametrize("forged", ["\0", "R01\ud800", "' OR ''='", "\u202e", "x" * 10_000])
def test_forged_names_of_studies_cases_and_readers_are_refused_in_a_sentence(store, forged):
    open_study(store, 12, 1)
    for call in (store.summary, store.events, lambda name: store.verify_owner(name, PASSWORD)):
        with pytest.raises(InputError, match="no study"):
            call(forged)
    for call in (store.picture, store.leave_out):
        with pytest.raises(InputError, match="no case"):
            call(NAME, forged)
    with pytest.raises(InputError, match="no reader"):
        store.withdraw(NAME, forged + "R02")


def test_unknown_studies_and_too_many_readers_are_refused(store):
    open_study(store)
    for call in (store.open, store.close, store.invite, store.readings, store.readers, store.events, store.flagged):
        with pytest.raises(InputError, match="no study “Other”"):
            call("Other")
    for count in (0, -1, 501):
        with pytest.raises(InputError, match="takes up to 500 readers"):
            store.invite(NAME, count)


def test_readers_of_two_studies_are_kept_apart(store):
    (one,), (other,) = open_study(store, 12, 1), open_study(store, 12, 1, "Second")
    read_all(store.reader(one))
    assert store.readings("Second").empty and store.reader(other).own() == []
    assert store.picture("Second", pictures(12)[3].case).startswith(b"\x89PNG")
    store.create("Third", pictures(13), Protocol(13), PASSWORD)
    with pytest.raises(InputError, match="no case"):
        store.picture(NAME, pictures(13)[-1].case)


def test_pictures_are_flagged_by_readers_and_by_the_owner(store):
    tokens = open_study(store, 12, 2)
    drawn = {one.case: one for one in pictures(12) if one.source == "synthetic"}
    for token in tokens:
        reader = store.reader(token)
        for step in read_all(reader):
            reader.flag(step.showing)
            reader.flag(step.showing, out=step.practice)
            reader.flag(step.showing, out=step.practice)
    practice = next(one for one in drawn.values() if one.practice)
    store.leave_out(NAME, practice.case)
    other = next(one for one in drawn.values() if not one.practice)
    store.leave_out(NAME, other.case)
    assert {(one.case, one.origin, one.readers, one.owner) for one in store.flagged(NAME)} == {
        (practice.case, practice.origin, 2, True),
        (other.case, other.origin, 0, True),
    }
    store.leave_out(NAME, other.case, out=False)
    assert [one.case for one in store.flagged(NAME)] == [practice.case]
