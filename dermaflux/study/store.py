"""The store of studies, as their owner uses it: create, open, invite, close, read the answers, copy."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload, selectinload

from dermaflux.errors import InputError
from dermaflux.study import access, database, pictures, readings, records
from dermaflux.study.answers import clean
from dermaflux.study.database import reading, writing
from dermaflux.study.protocol import Protocol, sequence
from dermaflux.study.session import ReaderSession, tasks
from dermaflux.study.summaries import Flagged, ReaderState, Summary
from dermaflux.study.tables import Answer, Event, Flag, Picture, Reader, Showing, Study

MAX_NAME, MIN_PASSWORD, MAX_PASSWORD, MAX_READERS, MAX_DETAIL = 100, 8, 200, 500, 300
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


class Store:
    """The studies in one database, a file or a PostgreSQL URL; see `database.connect` for what is raised.

    clock: gives the time, with its zone. Methods that take a study's name raise InputError where there is no such one.
    """

    def __init__(self, where: str | Path, clock: Clock = utc_now):
        self.engine, self._clock = database.connect(where), clock

    @property
    def place(self) -> str:
        """Where the store is, for people."""
        return database.shown(self.engine)

    def dispose(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def create(
        self,
        name: str,
        shown: Sequence[pictures.Picture],
        protocol: Protocol,
        password: str,
        closes: datetime | None = None,
    ) -> str:
        """Store a new study, not open yet; returns its name.

        Raises InputError for a name that is taken, a short password, a closing date that has passed, and cases that
        cannot be put in order.
        """
        name = clean(name)
        if not 0 < len(name) <= MAX_NAME or "\n" in name:
            raise InputError(f"A study's name is a line of 1 to {MAX_NAME} characters.")
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise InputError(f"The owner's password has {MIN_PASSWORD} to {MAX_PASSWORD} characters.")
        if closes is not None and closes <= self._clock():
            raise InputError("The closing date has passed already; choose a later one.")
        practice, counted = ([one for one in shown if one.practice is kind] for kind in (True, False))
        sequence(counted, practice, protocol, 0)
        with writing(self.engine) as session:
            study = Study(
                name=name, protocol=protocol.record(), password=access.password_hash(password), created_at=self._now()
            )
            study.closes = _stamp(closes) if closes else None
            session.add(study)
            try:
                session.flush()
            except IntegrityError:
                raise InputError(f"There is a study “{name}” already; choose another name.") from None
            session.add_all(records.picture(study, one) for one in shown)
            self._log(session, study, "created", f"{len(counted)} cases")
        return name

    def open(self, name: str) -> None:
        """Let readers in. Raises InputError for a study that is closed."""
        with writing(self.engine) as session:
            study = _find(session, name, lock=True)
            if study.closed_at:
                raise InputError(f"The study “{name}” is closed; create another one.")
            if not study.opened_at:
                study.opened_at = self._now()
                self._log(session, study, "opened")

    def close(self, name: str) -> None:
        """Let nobody answer any more."""
        with writing(self.engine) as session:
            study = _find(session, name, lock=True)
            if not study.closed_at:
                study.closed_at = self._now()
                self._log(session, study, "closed")

    def delete(self, name: str) -> None:
        """Delete a study that nobody has answered in yet, its readers' links included; its log stays. Raises InputError
        for a study with answers."""
        with writing(self.engine) as session:
            study = _find(session, name, lock=True)
            session.scalars(select(Reader.id).where(Reader.study_id == study.id).with_for_update()).all()
            if self._summary(session, study).answers:
                raise InputError(f"Readers have answered in “{study.name}”; close it instead, or withdraw them first.")
            session.execute(delete(Study).where(Study.id == study.id))
            self._log(session, study, "deleted")

    def invite(self, name: str, count: int = 1) -> list[tuple[str, str]]:
        """Add `count` readers, each with an order of their own; returns pseudonym and token of each.

        A token has 128 random bits and is not stored: who loses one is invited anew. Raises InputError for a closed
        study, or too many readers.
        """
        with writing(self.engine) as session:
            study = _find(session, name, lock=True)
            last = session.scalar(select(func.max(Reader.number)).where(Reader.study_id == study.id))
            start = 0 if last is None else last + 1
            if study.closed_at or not 0 < count <= MAX_READERS - start:
                raise InputError(f"A study that is not closed takes up to {MAX_READERS} readers; it has {start}.")
            tokens = {number: access.new_token() for number in range(start, start + count)}
            added = [
                Reader(study=study, number=number, pseudonym=f"R{number + 1:02d}", token_hash=access.token_hash(token))
                for number, token in tokens.items()
            ]
            session.add_all(added)
            session.flush()
            session.add_all(records.showings(session, study, added))
            invited = [(reader.pseudonym, tokens[reader.number]) for reader in added]
            self._log(session, study, "invited", f"{invited[0][0]} to {invited[-1][0]}")
        return invited

    def reader(self, token: str) -> ReaderSession:
        """The reader whose link holds `token`. Raises InputError where there is none, or the study is not open."""
        with reading(self.engine) as session:
            found = session.scalar(select(Reader.id).where(Reader.token_hash == access.token_hash(str(token))))
        if found is None:
            raise InputError("This link is not known; ask who invited you for a new one.")
        started = ReaderSession(self.engine, found, self._now)
        started.check()
        return started

    def verify_owner(self, name: str, password: str) -> bool:
        """Whether `password` is that of the study's owner."""
        with reading(self.engine) as session:
            return access.verified(password, _find(session, name).password)

    def withdraw(self, name: str, pseudonym: str) -> None:
        """Delete a reader's answers and background. Raises InputError where there is no such reader."""
        with writing(self.engine) as session:
            study = _find(session, name)
            query = select(Reader).where(Reader.study_id == study.id)
            reader = session.scalar(query.where(Reader.pseudonym == clean(pseudonym)))
            if reader is None:
                raise InputError(f"The study “{name}” has no reader “{pseudonym[:20]}”.")
            found = reader.id
        ReaderSession(self.engine, found, self._now).withdraw(by="owner")

    def leave_out(self, name: str, case: str, out: bool = True) -> None:
        """Mark a picture as to be left out of synthesis, or no longer. Raises InputError for an unknown one."""
        with writing(self.engine) as session:
            study = _find(session, name, lock=True)
            found = _picture(session, study, case, Picture.id)
            session.execute(delete(Flag).where(Flag.picture_id == found, Flag.reader_id.is_(None)))
            if out:
                session.add(Flag(picture_id=found, reader_id=None, at=self._now()))
            self._log(session, study, "left out" if out else "taken back in", case)

    def flagged(self, name: str, log: str = "") -> list[Flagged]:
        """The synthetic pictures that a reader or the owner wants left out. log: see `readings`."""
        with writing(self.engine) if log else reading(self.engine) as session:
            query = select(Picture, func.count(Flag.reader_id), func.count(Flag.id)).join(Flag).group_by(Picture.id)
            study = _find(session, name)
            rows = session.execute(query.where(Picture.study_id == study.id, Picture.source == "synthetic"))
            if log:
                self._log(session, study, log)
            return [Flagged(one.case_id, one.origin, by, every > by) for one, by, every in rows]

    def studies(self) -> list[Summary]:
        """All studies, by name."""
        with reading(self.engine) as session:
            return [self._summary(session, study) for study in session.scalars(select(Study).order_by(Study.name))]

    def summary(self, name: str) -> Summary:
        """One study."""
        with reading(self.engine) as session:
            return self._summary(session, _find(session, name))

    def _summary(self, session: Session, study: Study) -> Summary:
        theirs = Reader.study_id == study.id
        readers = session.scalar(select(func.count(Reader.id)).where(theirs, Reader.withdrawn_at.is_(None)))
        answers = session.scalar(select(func.count(Answer.id)).join(Showing).join(Reader).where(theirs))
        closed = study.closed_at or (study.closes and study.closes <= self._now())
        state = "closed" if closed else "open" if study.opened_at else "created"
        return Summary(study.name, state, Protocol.of(study.protocol), readers, answers, study.closes, study.opened_at)

    def readers(self, name: str) -> list[ReaderState]:
        """How far each reader is."""
        with reading(self.engine) as session:
            study = _find(session, name)
            questions = Protocol.of(study.protocol).questions
            states = []
            for one in session.scalars(select(Reader).where(Reader.study_id == study.id).order_by(Reader.number)):
                every = tasks(session, one.id, questions)
                gone, agreed = one.withdrawn_at is not None, one.consented_at is not None
                states.append(ReaderState(one.pseudonym, agreed, gone, sum(task.done for task in every), len(every)))
            return states

    def events(self, name: str) -> list[tuple[str, str, str]]:
        """What the owner did, and withdrawals: when, what, detail; also of a study that was deleted."""
        with reading(self.engine) as session:
            rows = session.scalars(select(Event).where(Event.study == clean(name)).order_by(Event.id)).all()
            if not rows:
                _find(session, name)
            return [(one.at, one.what, one.detail) for one in rows]

    def readings(self, name: str, log: str = "") -> pd.DataFrame:
        """Every case that was answered, practice left out, with the columns of `readings.COLUMNS`.

        log: what the owner takes them for, such as “exported”, which is noted among the events; empty: nothing is.
        """
        with writing(self.engine) if log else reading(self.engine) as session:
            study = _find(session, name)
            query = select(Showing, Reader).join(Reader).join(Answer, Answer.showing_id == Showing.id)
            query = query.options(joinedload(Showing.picture), selectinload(Showing.answer))
            query = query.where(Reader.study_id == study.id, Showing.position > 0)
            rows = session.execute(query.order_by(Reader.number, Showing.position)).all()
            flags = select(Flag.reader_id, Flag.picture_id).join(Reader).where(Reader.study_id == study.id)
            out = set(map(tuple, session.execute(flags)))
            table = readings.frame(
                records.reading(study, reader, showing, (reader.id, showing.picture_id) in out)
                for showing, reader in rows
            )
            if log:
                self._log(session, study, log, f"{len(table)} readings")
            return table

    def picture(self, name: str, case: str) -> bytes:
        """The PNG of a case, for the owner. Raises InputError for an unknown one."""
        with reading(self.engine) as session:
            return _picture(session, _find(session, name), case, Picture.data)

    def backup(self, path: Path) -> Path:
        """Copy the whole store to a new SQLite file; returns its path. Raises InputError where it exists."""
        copied = database.backup(self.engine, path)
        with writing(self.engine) as session:
            for study in session.scalars(select(Study)):
                self._log(session, study, "backed up", path.name)
        return copied

    def _now(self) -> str:
        return _stamp(self._clock())

    def _log(self, session: Session, study: Study, what: str, detail: str = "") -> None:
        session.add(Event(study=study.name, at=self._now(), what=what, detail=clean(detail)[:MAX_DETAIL]))


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _find(session: Session, name: str, lock: bool = False) -> Study:
    query = select(Study).where(Study.name == clean(name))
    study = session.scalar(query.with_for_update() if lock else query)
    if study is None:
        raise InputError(f"There is no study “{name[:40]}”; `study list` names those that there are.")
    return study


def _picture(session: Session, study: Study, case: str, column: InstrumentedAttribute) -> object:
    found = session.scalar(select(column).where(Picture.study_id == study.id, Picture.case_id == clean(case)))
    if found is None:
        raise InputError(f"The study “{study.name}” has no case “{case[:20]}”.")
    return found
