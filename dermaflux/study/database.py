"""The database of the store: SQLite in a file, or PostgreSQL by a URL; its schema's version; copies of it."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from dermaflux.errors import DataError, InputError
from dermaflux.files import own_path
from dermaflux.study.tables import Base

BUSY_SECONDS = 30
MIGRATIONS = Path(__file__).parent / "migrations"
_POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")
_LOCK = 0x6465726D
"""Of PostgreSQL's advisory locks, held while the schema is brought up to date."""
_migrating = threading.Lock()


def connect(where: str | Path) -> Engine:
    """An engine for the database at `where`, a file or the URL of a PostgreSQL database, with its schema up to date.

    A file that does not exist is made. On SQLite an answer is on the disk before it is acknowledged (WAL, synchronous
    FULL), and what is deleted is overwritten. Raises InputError for another kind of URL or a missing driver, and
    DataError for a database that cannot be used, or that a newer version of the program or another program wrote.
    """
    url = _url(where)
    try:
        engine = _sqlite(url) if url.get_backend_name() == "sqlite" else create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise InputError('A study on PostgreSQL needs its driver: pip install "psycopg[binary]".') from None
    try:
        migrate(engine)
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0][:200] if str(error.orig).strip() else "no answer"
        raise DataError(f"The store {shown(engine)} cannot be used ({reason}); check that it is one.") from error
    return engine


def shown(engine: Engine) -> str:
    """Where the store is, without its password."""
    return engine.url.database if engine.dialect.name == "sqlite" else engine.url.render_as_string(hide_password=True)


def _url(where: str | Path) -> URL:
    if "://" not in str(where):
        path = own_path(where).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        return URL.create("sqlite", database=str(path))
    try:
        url = make_url(str(where))
    except ArgumentError:
        raise InputError(
            "The store's URL cannot be read; it looks like postgresql://user:password@host/name."
        ) from None
    if url.drivername not in _POSTGRES:
        raise InputError(f"A store is a file or a postgresql:// URL, not one of {url.drivername[:40]}.")
    return url.set(drivername="postgresql+psycopg")


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that reads from one moment's state. Raises DataError where the store cannot be reached."""
    with _in_words(), Session(engine) as session:
        yield session


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A session whose changes are stored together when it ends, or not at all. Raises DataError as `reading` does."""
    engine = engine.execution_options(writes=True)
    with _in_words(), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise DataError("The store cannot be reached just now, and nothing was stored; try again.") from error


def _scripts() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to `revision`. Raises DataError where it is newer than this program, or another's."""
    config = _scripts()
    scripts = ScriptDirectory.from_config(config)
    with _migrating, engine.execution_options(writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        current = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in scripts.walk_revisions()}
        if current is not None and current not in known:
            raise DataError(f"A newer version wrote {shown(engine)} (revision {current[:40]}); update this program.")
        if current is None and set(inspect(connection).get_table_names()) & set(Base.metadata.tables):
            raise DataError(f"{shown(engine)} holds tables of another program; choose another store.")
        if current != (scripts.get_current_head() if revision == "head" else revision):
            config.attributes["connection"] = connection
            command.upgrade(config, revision)


def backup(engine: Engine, path: Path) -> Path:
    """Copy the whole store to a new SQLite file, which is itself a store; readers may go on meanwhile.

    Raises InputError where `path` exists.
    """
    if path.exists():
        raise InputError(f"{path} exists already; name another file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{uuid4().hex}.part"
    part.touch(mode=0o600)
    try:
        if engine.dialect.name == "sqlite":
            _copy_file(engine, part)
        else:
            _copy_rows(engine, part)
        part.rename(path)
    finally:
        for name in (part, Path(f"{part}-wal"), Path(f"{part}-shm")):
            name.unlink(missing_ok=True)
    return path


def _copy_file(engine: Engine, part: Path) -> None:
    source, target = engine.raw_connection(), sqlite3.connect(part)
    try:
        source.driver_connection.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
    finally:
        target.close()
        source.close()


def _copy_rows(engine: Engine, part: Path) -> None:
    target = connect(part)
    try:
        snapshot = engine.execution_options(isolation_level="REPEATABLE READ")
        with snapshot.connect() as source, target.execution_options(writes=True).begin() as copy:
            for table in Base.metadata.sorted_tables:
                for rows in source.execute(select(table).order_by(table.c.id)).mappings().partitions(100):
                    copy.execute(insert(table), [dict(row) for row in rows])
        last = target.raw_connection()
        last.driver_connection.execute("PRAGMA journal_mode = DELETE")
        last.close()
    finally:
        target.dispose()
