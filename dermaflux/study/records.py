"""Rows of the store from pictures and sequences, and rows of readings from the store."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dermaflux.study import pictures, tables
from dermaflux.study.protocol import Protocol, sequence
from dermaflux.study.tables import Reader, Showing, Study


@dataclass(frozen=True)
class _Case:
    case: str
    source: str
    label: str
    tone: int | None
    caption: str
    group: int


def picture(study: Study, one: pictures.Picture) -> tables.Picture:
    """The row of a picture."""
    return tables.Picture(
        study_id=study.id,
        case_id=one.case,
        data=one.data,
        source=one.source,
        label=one.label,
        tone=one.tone,
        caption=one.caption,
        attributes=one.attributes.specified(),
        diagnosis=one.diagnosis,
        group_number=one.group,
        practice=one.practice,
        origin=one.origin,
    )


def showings(session: Session, study: Study, readers: Iterable[Reader]) -> Iterator[Showing]:
    """The rows of the readers' sequences."""
    query = select(tables.Picture).where(tables.Picture.study_id == study.id).order_by(tables.Picture.id)
    shown, protocol = session.scalars(query).all(), Protocol.of(study.protocol)
    keys = {one.case_id: one.id for one in shown}
    practice, counted = ([_case(one) for one in shown if one.practice is practice] for practice in (True, False))
    for reader in readers:
        for place in sequence(counted, practice, protocol, reader.number):
            yield Showing(
                reader_id=reader.id,
                picture_id=keys[place.case],
                position=place.position,
                repeat=place.repeat,
                seconds=0.0,
            )


def _case(one: tables.Picture) -> _Case:
    return _Case(one.case_id, one.source, one.label, one.tone, one.caption, one.group_number)


def reading(study: Study, reader: Reader, showing: Showing, left_out: bool) -> dict[str, object]:
    """The row of a showing that was answered, by the names of `readings.COLUMNS`; left_out: whether the reader wants
    its picture left out of synthesis."""
    shown, answer = showing.picture, showing.answer
    asked = shown.attributes if shown.source == "synthetic" else {}
    said = {**answer.first, **(answer.second or {})}
    joined = {name: ";".join(said[name]) for name in ("seen_colours", "seen_structures", "artefacts")}
    return said | {
        "study": study.name,
        "reader": reader.pseudonym,
        "role": reader.role,
        "years": reader.years,
        "trained": reader.trained,
        "position": showing.position,
        "case": shown.case_id,
        "repeat": showing.repeat,
        "source": shown.source,
        "label": shown.label,
        "tone": shown.tone,
        "asked_asymmetry": asked.get("asymmetry"),
        "asked_border": asked.get("border"),
        "asked_colours": ";".join(asked.get("colours", ())),
        "asked_structures": ";".join(asked.get("structures", ())),
        "asked_size": asked.get("size_mm"),
        "left_out": left_out,
        "diagnosis": shown.diagnosis,
        "marked": json.dumps(said["marked"]) if said["marked"] else "",
        "seconds": round(showing.seconds, 1),
        "answered_at": answer.locked_at,
        **joined,
    }
