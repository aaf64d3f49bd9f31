"""What the owner of a study does, copies of the store, and versions of its schema."""

# ruff: noqa: F401, F811

import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sample_study import NAME, PASSWORD, POSTGRES, clock, open_study, pictures, read_all, store, where
from sqlalchemy import inspect, text

from dermaflux.errors import DataError, InputError
from dermaflux.study import database, readings
from dermaflux.study.protocol import Protocol
from dermaflux.study.store import Store
from dermaflux.study.tables import Base

ROOT = Path(__file__).parent.parent


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


def test_a_backup_is_a_store_made_while_readers_go_on(store, tmp_path):
    tokens = open_study(store, 20, 4)
    running = [threading.Thread(target=read_all, args=(store.reader(token),)) for token in tokens]
    for one in running:
        one.start()
    store.backup(tmp_path / "copies" / "one.sqlite")
    for one in running:
        one.join(120)
    store.backup(tmp_path / "copies" / "two.sqlite")
    assert sorted(path.name for path in (tmp_path / "copies").iterdir()) == ["one.sqlite", "two.sqlite"]
    assert stat.S_IMODE((tmp_path / "copies" / "two.sqlite").stat().st_mode) == 0o600
    with pytest.raises(InputError, match="exists already"):
        store.backup(tmp_path / "copies" / "two.sqlite")
    early, late = Store(tmp_path / "copies" / "one.sqlite"), Store(tmp_path / "copies" / "two.sqlite")
    assert len(early.readings(NAME)) <= len(late.readings(NAME)) == 88
    assert late.readings(NAME).equals(store.readings(NAME)) and late.events(NAME) == store.events(NAME)[:-1]
    assert late.picture(NAME, pictures(1)[0].case) == store.picture(NAME, pictures(1)[0].case)
    early.reader(tokens[0])
    early.dispose(), late.dispose()


def test_a_store_of_the_first_version_is_brought_up_to_date_with_its_answers(where):
    engine = database.connect(where)
    scripts = database._scripts()
    with engine.execution_options(writes=True).begin() as connection:
        scripts.attributes["connection"] = connection
        database.command.downgrade(scripts, "0001")
        connection.execute(
            text(
                "INSERT INTO studies (id, name, protocol, password, created_at) "
                "VALUES (1, 'Old', :protocol, '{}', '2030-01-01T00:00:00.000Z')"
            ),
            {"protocol": '{"cases": 9, "questions": {}, "strata": {}, "repeats": 0.1, "seed": 0}'},
        )
    assert "flags" not in inspect(engine).get_table_names()
    engine.dispose()
    store = Store(where)
    assert [(one.name, one.protocol.cases) for one in store.studies()] == [("Old", 9)]
    assert set(Base.metadata.tables) <= set(inspect(store.engine).get_table_names())
    store.dispose()


def test_the_migrations_make_the_tables_that_the_program_uses(store):
    found = inspect(store.engine)
    for table in Base.metadata.sorted_tables:
        columns = {one["name"]: one["nullable"] for one in found.get_columns(table.name)}
        assert columns == {one.name: one.nullable for one in table.columns}
        keys = {
            (*one["constrained_columns"], one["options"].get("ondelete")) for one in found.get_foreign_keys(table.name)
        }
        assert keys == {(one.parent.name, one.ondelete) for one in table.foreign_keys}
        unique = {tuple(one["column_names"]) for one in found.get_unique_constraints(table.name)}
        known = {tuple(one.columns.keys()) for one in table.constraints if one.__visit_name__ == "unique_constraint"}
        assert unique == known


def test_a_store_of_a_newer_version_is_refused_and_left_alone(where):
    engine = database.connect(where)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    for _ in range(2):
        with pytest.raises(DataError, match=r"newer version wrote .* \(revision 9999\); update this program"):
            Store(where)


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "text").write_text("not a database at all" * 100)
    with pytest.raises(DataError, match="cannot be used"):
        Store(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE studies (id INTEGER)")
    other.commit()
    other.close()
    with pytest.raises(DataError, match="tables of another program"):
        Store(tmp_path / "other")
    for url, sentence in (("mysql://host/name", "not one of mysql"), ("://", "cannot be read")):
        with pytest.raises(InputError, match=sentence):
            Store(url)


def test_a_postgresql_that_cannot_be_reached_is_named_without_its_password():
    pytest.importorskip("psycopg")
    with pytest.raises(DataError, match="cannot be used") as raised:
        Store("postgresql://someone:sesame@127.0.0.1:1/none")
    assert "sesame" not in str(raised.value)


def test_without_its_driver_postgresql_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"pip install 'psycopg\[binary\]'"):
        Store("postgresql://127.0.0.1/none")


def test_answers_are_on_the_disk_before_they_are_acknowledged(tmp_path):
    store = Store(tmp_path / "studies.sqlite")
    with store.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
        kept = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("foreign_keys", "secure_delete")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2} and kept == {"foreign_keys": 1, "secure_delete": 1}
    assert stat.S_IMODE((tmp_path / "studies.sqlite").stat().st_mode) == 0o600
    store.dispose()


def test_the_schema_is_made_once_though_many_open_the_store_at_once_from_any_folder(tmp_path, where):
    code = "import sys; from dermaflux.study.store import Store; Store(sys.argv[1]).studies()"
    call = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}", where]
    running = [subprocess.Popen(call, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [one.communicate(timeout=120)[1] for one in running] == [""] * 4
