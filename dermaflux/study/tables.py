"""The tables of the store. Times are text, ISO 8601 in UTC. Tokens and passwords are kept as hashes alone."""

from sqlalchemy import JSON, ForeignKey, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

TIME = String(32)


class Base(DeclarativeBase):
    """Of all tables."""


class Study(Base):
    """A study: its protocol as JSON, the owner's password as a salted hash, and when it was opened and closed."""

    __tablename__ = "studies"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    protocol: Mapped[dict] = mapped_column(JSON)
    password: Mapped[str] = mapped_column(String(300))
    closes: Mapped[str | None] = mapped_column(TIME)
    created_at: Mapped[str] = mapped_column(TIME)
    opened_at: Mapped[str | None] = mapped_column(TIME)
    closed_at: Mapped[str | None] = mapped_column(TIME)


class Picture(Base):
    """A picture as readers see it, and what is known of it; see `pictures.Picture`."""

    __tablename__ = "pictures"
    __table_args__ = (UniqueConstraint("study_id", "case_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    case_id: Mapped[str] = mapped_column(String(64))
    data: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    source: Mapped[str] = mapped_column(String(16))
    label: Mapped[str] = mapped_column(String(16))
    tone: Mapped[int | None]
    caption: Mapped[str] = mapped_column(Text)
    attributes: Mapped[dict] = mapped_column(JSON)
    diagnosis: Mapped[str] = mapped_column(String(200))
    group_number: Mapped[int]
    practice: Mapped[bool]
    origin: Mapped[str] = mapped_column(String(64))


class Reader(Base):
    """A reader by pseudonym, with background once consent is given; a reader who withdrew keeps neither."""

    __tablename__ = "readers"
    __table_args__ = (UniqueConstraint("study_id", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    number: Mapped[int]
    pseudonym: Mapped[str] = mapped_column(String(16))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    consented_at: Mapped[str | None] = mapped_column(TIME)
    withdrawn_at: Mapped[str | None] = mapped_column(TIME)
    role: Mapped[str | None] = mapped_column(String(40))
    years: Mapped[float | None]
    trained: Mapped[bool | None]
    study: Mapped[Study] = relationship()


class Showing(Base):
    """A place in a reader's sequence, from 1; practice cases come before."""

    __tablename__ = "showings"
    __table_args__ = (UniqueConstraint("reader_id", "position"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    reader_id: Mapped[int] = mapped_column(ForeignKey("readers.id", ondelete="CASCADE"))
    picture_id: Mapped[int] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"))
    position: Mapped[int]
    repeat: Mapped[bool]
    first_shown_at: Mapped[str | None] = mapped_column(TIME)
    seconds: Mapped[float]
    picture: Mapped[Picture] = relationship()
    answer: Mapped["Answer | None"] = relationship()


class Answer(Base):
    """What a reader said of a showing: stage 1, locked when given, and stage 2."""

    __tablename__ = "answers"
    id: Mapped[int] = mapped_column(primary_key=True)
    showing_id: Mapped[int] = mapped_column(ForeignKey("showings.id", ondelete="CASCADE"), unique=True)
    first: Mapped[dict] = mapped_column(JSON)
    locked_at: Mapped[str] = mapped_column(TIME)
    second: Mapped[dict | None] = mapped_column(JSON(none_as_null=True))
    second_at: Mapped[str | None] = mapped_column(TIME)


class Flag(Base):
    """A wish that a picture be left out of synthesis: a reader's, or the owner's where there is none."""

    __tablename__ = "flags"
    __table_args__ = (UniqueConstraint("picture_id", "reader_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    picture_id: Mapped[int] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"))
    reader_id: Mapped[int | None] = mapped_column(ForeignKey("readers.id", ondelete="CASCADE"))
    at: Mapped[str] = mapped_column(TIME)


class Event(Base):
    """What the owner did, and withdrawals. study: its name, as the log outlives a study that is deleted."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    study: Mapped[str] = mapped_column(String(100))
    at: Mapped[str] = mapped_column(TIME)
    what: Mapped[str] = mapped_column(String(40))
    detail: Mapped[str] = mapped_column(String(300))
