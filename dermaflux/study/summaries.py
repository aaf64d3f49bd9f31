"""What the store tells of studies at a glance."""

from dataclasses import dataclass

from dermaflux.study.protocol import Protocol


@dataclass(frozen=True)
class Summary:
    """A study at a glance. state: created, open or closed. readers: invited and not withdrawn. answers: showings
    answered, practice included. closes, opened_at: ISO 8601 in UTC, None where there is none."""

    name: str
    state: str
    protocol: Protocol
    readers: int
    answers: int
    closes: str | None
    opened_at: str | None


@dataclass(frozen=True)
class ReaderState:
    """How far a reader is: answers given and to be given, practice and stage 2 included."""

    reader: str
    consented: bool
    withdrawn: bool
    done: int
    total: int


@dataclass(frozen=True)
class Flagged:
    """A synthetic picture that should be left out of synthesis: by how many readers, and whether by the owner.

    origin: SHA-256 of the image's file.
    """

    case: str
    origin: str
    readers: int
    owner: bool
