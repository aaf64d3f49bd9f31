"""The database of studies: copies of it, versions of its schema, and what is no such database."""

# ruff: noqa: F401, F811

import sqlite3
import stat
import subprocess
import sys
import threading

import pytest
from sample_study import NAME, clock, open_study, pictures, read_all, store, where
from sqlalchemy import inspect, text

import app
from dermaflux.errors import DataError, InputError
from dermaflux.settings import Settings
from dermaflux.study import database
from dermaflux.study.store import Store
from dermaflux.study.tables import Base


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
        connection.execute(
            text(
                "INSERT INTO events (study_id, at, what, detail) "
                "VALUES (1, '2030-01-01T00:00:00.000Z', 'created', '9 cases')"
            )
        )
    assert "flags" not in inspect(engine).get_table_names()
    engine.dispose()
    store = Store(where)
    assert [(one.name, one.protocol.cases) for one in store.studies()] == [("Old", 9)]
    assert store.events("Old") == [("2030-01-01T00:00:00.000Z", "created", "9 cases")]
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
    wrong = (
        ("mysql://host/name", "not one of mysql"),
        ("://", "cannot be read"),
        ("~no-such-user/x", "no home folder"),
    )
    for url, sentence in wrong:
        with pytest.raises(InputError, match=sentence):
            Store(url)


def test_a_postgresql_that_cannot_be_reached_is_named_without_its_password():
    pytest.importorskip("psycopg")
    with pytest.raises(DataError, match="cannot be used") as raised:
        Store("postgresql://someone:sesame@127.0.0.1:1/none")
    assert "sesame" not in str(raised.value)


def test_without_its_driver_postgresql_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r'pip install "psycopg\[binary\]"'):
        Store("postgresql://127.0.0.1/none")


def test_where_studies_are_kept_is_said_at_start(tmp_path, caplog):
    with caplog.at_level("INFO", "dermaflux"):
        app.open_studies(Settings(data_dir=tmp_path)).dispose()
    assert caplog.messages == [f"Studies are kept in {tmp_path / 'studies.sqlite'}"]


@pytest.mark.parametrize(("space", "warned"), [(None, False), ("o/n", True)])
def test_a_space_whose_restart_would_empty_the_store_says_so_at_start(space, warned, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("gradio.utils.get_space", lambda: space)
    app.open_studies(Settings(data_dir=tmp_path)).dispose()
    assert ("A restart of the Space empties it" in caplog.text) == warned


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
