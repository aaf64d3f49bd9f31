"""One reader's way through a study: what comes next, and what is said of it. Readers see their own alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session, joinedload, selectinload

from dermaflux.errors import InputError
from dermaflux.lesion import LesionAttributes
from dermaflux.study import answers
from dermaflux.study.database import reading, writing
from dermaflux.study.protocol import Protocol, Questions
from dermaflux.study.tables import Answer, Event, Flag, Picture, Reader, Showing

MAX_TICK = 60.0
"""Most seconds that one tick adds: more than that is idle time."""


@dataclass(frozen=True)
class Task:
    """One answer that a reader is to give: stage 1 or 2 of a showing."""

    showing: Showing
    stage: int

    @property
    def done(self) -> bool:
        """Whether the answer is stored."""
        given = self.showing.answer
        return given is not None and (self.stage == 1 or given.second is not None)


@dataclass(frozen=True)
class Step:
    """What to show now. showing: what to answer with. stage: 1, or 2 with the caption and the attributes asked about.

    case: which of `cases`, from 1, or of the practice cases. done, total: answers, practice and stage 2 included.
    """

    showing: int
    stage: int
    practice: bool
    case: int
    cases: int
    done: int
    total: int
    questions: Questions
    caption: str = ""
    asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Truth:
    """What a practice case was."""

    source: str
    label: str
    diagnosis: str


def tasks(session: Session, reader: int, questions: Questions) -> list[Task]:
    """All answers that a reader is to give, in order; captions come last where real or synthetic is asked."""
    query = select(Showing).where(Showing.reader_id == reader).order_by(Showing.position)
    order, last = [], []
    for showing in session.scalars(query.options(joinedload(Showing.picture), selectinload(Showing.answer))):
        order.append(Task(showing, 1))
        shown = showing.picture
        if questions.match and shown.source == "synthetic" and shown.caption:
            (last if questions.captions_last and not shown.practice else order).append(Task(showing, 2))
    return order + last


class ReaderSession:
    """The reader whose row is `reader`; made by `Store.reader`. Any number may be open for one reader.

    Each method raises InputError once the study is closed or the reader has withdrawn. now: gives the time as ISO 8601.
    Times on the screen come as ticks of the caller's clock, so that the time of day may change meanwhile.
    """

    def __init__(self, engine: Engine, reader: int, now: Callable[[], str]):
        self._engine, self._reader, self._now = engine, reader, now

    def check(self) -> None:
        """Raises InputError where the reader may not go on."""
        with reading(self._engine) as session:
            self._find(session)

    @property
    def consented(self) -> bool:
        """Whether consent and background are given."""
        with reading(self._engine) as session:
            return self._find(session).consented_at is not None

    @property
    def pseudonym(self) -> str:
        """What the reader is called in the results."""
        with reading(self._engine) as session:
            return self._find(session).pseudonym

    @property
    def study(self) -> str:
        """What the study is called."""
        with reading(self._engine) as session:
            return self._find(session).study.name

    def consent(self, values: object) -> None:
        """Store consent and background, once; see `answers.background`."""
        given = answers.background(values)
        with writing(self._engine) as session:
            reader = self._find(session, lock=True)
            if reader.consented_at:
                if (reader.role, reader.years, reader.trained) != (given.role, given.years, given.trained):
                    raise InputError("You have answered the questions about you already.")
                return
            reader.role, reader.years, reader.trained = given.role, given.years, given.trained
            reader.consented_at = self._now()

    def next(self) -> Step | None:
        """The first answer that is missing; None once all are given. Raises InputError before consent."""
        with writing(self._engine) as session:
            _, questions, order = self._tasks(session)
            task = _current(order)
            if task is None:
                return None
            showing = task.showing
            showing.first_shown_at = showing.first_shown_at or self._now()
            practice = showing.picture.practice
            places = [
                one.showing.position for one in order if one.stage == 1 and one.showing.picture.practice is practice
            ]
            step = Step(
                showing=showing.id,
                stage=task.stage,
                practice=practice,
                case=places.index(showing.position) + 1,
                cases=len(places),
                done=sum(one.done for one in order),
                total=len(order),
                questions=questions,
            )
            if task.stage == 1:
                return step
            return Step(**vars(step) | {"caption": showing.picture.caption, "asked": _asked(showing.picture)})

    def picture(self, showing: object) -> bytes:
        """The PNG of a case that the reader is at, or was."""
        with reading(self._engine) as session:
            _, _, order = self._tasks(session)
            found = _of(order, showing)
            task = _current(order)
            if task and task.stage == 1 and found.position > task.showing.position:
                raise InputError("This case comes later; answer those before it first.")
            return session.scalar(select(Picture.data).where(Picture.id == found.picture_id))

    def answer_first(self, showing: object, values: object) -> None:
        """Store an answer of stage 1, which locks it; see `answers.first`. The same answer again changes nothing.

        Raises InputError for another answer than the one stored, and for a showing that is not this reader's next.
        """
        with writing(self._engine) as session:
            _, questions, order = self._tasks(session)
            found, said = _of(order, showing), answers.first(values, questions).record()
            if found.answer is not None:
                _same(found.answer.first, said)
                return
            _in_turn(order, found, 1)
            session.add(Answer(showing_id=found.id, first=said, locked_at=self._now()))

    def answer_second(self, showing: object, values: object) -> None:
        """Store an answer of stage 2; see `answers.second`. Otherwise like `answer_first`."""
        with writing(self._engine) as session:
            _, _, order = self._tasks(session)
            found = _of(order, showing)
            said = answers.second(values, _asked(found.picture)).record()
            if found.answer is not None and found.answer.second is not None:
                _same(found.answer.second, said)
                return
            _in_turn(order, found, 2)
            found.answer.second, found.answer.second_at = said, self._now()

    def tick(self, showing: object, seconds: object) -> None:
        """Add to the time that a case was on the screen at stage 1, at most a minute at once.

        The caller measures with a clock that does not jump, and leaves out idle time and pauses. Ticks that arrive
        once the case is answered are passed over. Raises InputError for a time below 0.
        """
        if type(seconds) not in (int, float) or not math.isfinite(seconds) or seconds < 0:
            raise InputError("The time on the screen is a number of seconds, 0 or more.")
        with writing(self._engine) as session:
            _, _, order = self._tasks(session)
            found = _of(order, showing)
            if found.answer is None:
                found.seconds += min(float(seconds), MAX_TICK)

    def feedback(self, showing: object) -> Truth:
        """What a practice case was. Raises InputError before it is answered, and for other cases."""
        with reading(self._engine) as session:
            _, _, order = self._tasks(session)
            found = _of(order, showing)
            shown = found.picture
            if not shown.practice or found.answer is None:
                raise InputError("What a case was is told of practice cases only, once they are answered.")
            return Truth(shown.source, shown.label, shown.diagnosis)

    def flag(self, showing: object, out: bool = True) -> None:
        """Wish that the picture of an answered case be left out of synthesis, or no longer."""
        with writing(self._engine) as session:
            reader, _, order = self._tasks(session)
            found = _of(order, showing)
            if found.answer is None:
                raise InputError("Answer this case first; then it can be flagged.")
            session.execute(delete(Flag).where(Flag.picture_id == found.picture_id, Flag.reader_id == reader.id))
            if out:
                session.add(Flag(picture_id=found.picture_id, reader_id=reader.id, at=self._now()))

    def own(self) -> list[dict[str, object]]:
        """The reader's own answers, by position; what the cases were is not told."""
        with reading(self._engine) as session:
            self._find(session)
            query = select(Showing.position, Answer.first, Answer.second).join(Answer)
            rows = session.execute(query.where(Showing.reader_id == self._reader).order_by(Showing.position))
            return [{"position": position, **first, **(second or {})} for position, first, second in rows]

    def withdraw(self, by: str = "reader") -> None:
        """Delete all that the reader answered and said of themselves; that it was done is logged. Holds for ever."""
        with writing(self._engine) as session:
            reader = session.scalar(select(Reader).where(Reader.id == self._reader).with_for_update())
            if reader is None or reader.withdrawn_at:
                return
            session.execute(delete(Flag).where(Flag.reader_id == reader.id))
            session.execute(delete(Showing).where(Showing.reader_id == reader.id))
            reader.role = reader.years = reader.trained = reader.consented_at = None
            reader.withdrawn_at = self._now()
            detail = f"{reader.pseudonym}, by the {by}"
            session.add(Event(study=reader.study.name, at=reader.withdrawn_at, what="withdrawn", detail=detail))

    def _find(self, session: Session, lock: bool = False) -> Reader:
        query = select(Reader).where(Reader.id == self._reader).options(joinedload(Reader.study))
        reader = session.scalar(query.with_for_update(of=Reader) if lock else query)
        if reader is None:
            raise InputError("This link is not known any more; ask who invited you for a new one.")
        study = reader.study
        if reader.withdrawn_at:
            raise InputError("You have withdrawn from this study, and your answers are deleted.")
        if study.closed_at or (study.closes and study.closes <= self._now()):
            raise InputError("This study is closed; thank you. Ask who invited you to have your answers deleted.")
        if not study.opened_at:
            raise InputError("This study is not open yet; come back by the same link later.")
        return reader

    def _tasks(self, session: Session) -> tuple[Reader, Questions, list[Task]]:
        """The reader, whose other sessions wait until this one ends, and what there is to answer."""
        reader = self._find(session, lock=True)
        if not reader.consented_at:
            raise InputError("Answer the questions about you first.")
        questions = Protocol.of(reader.study.protocol).questions
        return reader, questions, tasks(session, reader.id, questions)


def _current(order: list[Task]) -> Task | None:
    return next((task for task in order if not task.done), None)


def _of(order: list[Task], showing: object) -> Showing:
    """The reader's showing of that id. Raises InputError for another's, and for what is no id."""
    for task in order:
        if type(showing) is int and task.showing.id == showing:
            return task.showing
    raise InputError("This case is not one of yours; reload the page.")


def _in_turn(order: list[Task], found: Showing, stage: int) -> None:
    task = _current(order)
    if task is None or (task.showing.id, task.stage) != (found.id, stage):
        raise InputError("This is not the question that comes next; reload the page.")


def _same(kept: dict, said: dict) -> None:
    if kept != said:
        raise InputError("This is answered already and locked; go on with the next one.")


def _asked(picture: Picture) -> tuple[str, ...]:
    return answers.asked(LesionAttributes(**picture.attributes))
