"""The HTML of the Study tab: tables, results with their plots, pictures. Whatever anybody wrote is text here."""

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from dermaflux.study.protocol import PRACTICE
from dermaflux.ui import stage, table

if TYPE_CHECKING:
    from dermaflux.study.answers import Box
    from dermaflux.study.sections import Results, Section
    from dermaflux.study.summaries import ReaderState, Summary

STYLE = Path(__file__).with_name("owner.css")
STATES = {"created": "draft", "open": "open", "closed": "closed"}
NONE = "There are no studies yet. Create one below."


def style() -> str:
    """The tab's style sheet as an HTML element."""
    return f"<style>{STYLE.read_text(encoding='utf-8')}</style>"


def lines(sentences: Iterable[str], role: str = "") -> str:
    """A paragraph for each sentence."""
    said = "".join(f"<p>{_text(one)}</p>" for one in sentences)
    return f'<div class="df-study"{f" role={role}" if role else ""}>{said}</div>' if said else ""


def grid(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], titled: bool = True) -> str:
    """A table that scrolls within its frame; titled: with its caption above it."""
    heads = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    title = f"<caption>{_text(caption)}</caption>" if titled else ""
    return (
        f'<div class="df-study-table" tabindex="0" role="region" aria-label="{_text(caption)}">'
        f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def studies(found: "Sequence[Summary]") -> str:
    """All studies, each with what it holds and how far it is."""
    if not found:
        return lines([NONE])
    head = ("Study", "State", "Cases", "Readers", "Answered", "Closes (UTC)")
    rows = [
        (one.name, STATES[one.state], str(one.protocol.cases), str(one.readers), answered(one), _moment(one.closes))
        for one in found
    ]
    return grid("Studies", head, rows, titled=False)


def answered(one: "Summary") -> str:
    """The share of pictures that readers have judged, practice and repeats included."""
    cases = PRACTICE + one.protocol.cases + round(one.protocol.repeats * one.protocol.cases)
    return f"{one.answers / (one.readers * cases):.0%}" if one.readers else "no readers"


def at_a_glance(one: "Summary") -> str:
    """The state of one study, in words."""
    asked = ", ".join(name for name, on in vars(one.protocol.questions).items() if on)
    strata = ", ".join(name for name, on in vars(one.protocol.strata).items() if on) or "nothing"
    until = f" It closes {_moment(one.closes)} (UTC)." if one.closes else ""
    return lines(
        [
            f"{one.name}: {STATES[one.state]}. {one.protocol.cases} cases, {one.protocol.repeats:.0%} shown twice, "
            f"balanced by {strata}. Questions: {asked}.{until}"
        ],
        "status",
    )


def readers(found: "Sequence[ReaderState]") -> str:
    """How far each reader is."""
    if not found:
        return lines(["Nobody is invited yet."])
    rows = [(one.reader, _way(one), f"{one.done} of {one.total}" if one.total else "") for one in found]
    return grid("Readers", ("Reader", "State", "Answers"), rows, titled=False)


def _way(one: "ReaderState") -> str:
    if one.withdrawn:
        return "withdrawn, answers deleted"
    if not one.consented:
        return "invited, not begun"
    return "done" if one.done == one.total else "reading"


def log(events: Sequence[tuple[str, str, str]]) -> str:
    """What was done, last first."""
    rows = [(_moment(at), *what) for at, *what in reversed(events)]
    return grid("Log", ("When (UTC)", "What", "Detail"), rows, titled=False)


def results(found: "Results", cautions: Sequence[str], small: Callable[[str], str]) -> str:
    """Sections, tables, plots and pictures of the report; small: gives the data address of a case's picture."""
    parts = [lines(cautions, "note"), lines(found.summary), *(_section(one, small) for one in found.sections)]
    return f'<div class="df-study-results">{"".join(parts)}</div>'


def _section(section: "Section", small: Callable[[str], str]) -> str:
    from dermaflux.study import plots

    figures = "".join(_figure(_address(plots.png(plot.draw())), plot.caption) for plot in section.plots)
    tables = "".join(grid(one.caption, one.head, one.rows) for one in section.tables)
    said = lines(one for one in section.sentences if one != section.headline)
    drawn = f'<div class="df-study-plots">{figures}</div>' if figures else ""
    rows = "".join(pictures(one.caption, [(case, "") for case in one.cases], small) for one in section.exhibits)
    return f"<section><h3>{_text(section.title)}</h3>{said}{tables}{drawn}{rows}</section>"


def pictures(caption: str, cases: Iterable[tuple[str, str]], small: Callable[[str], str]) -> str:
    """Small pictures of cases under a caption, each with its name and a line under it."""
    figures = "".join(_figure(small(case), ": ".join(filter(None, (case, line)))) for case, line in cases)
    return f'<h4>{_text(caption)}</h4><div class="df-study-pictures">{figures}</div>' if figures else ""


def small(png: bytes, marked: "Iterable[Box]") -> str:
    """A small copy of a picture, with what readers drew on it, as a data address."""
    from dermaflux.study import marks

    return stage.preview(marks.small(png, marked, table.THUMBNAIL))


def _figure(address: str, caption: str) -> str:
    return f'<figure><img src="{address}" alt="{_text(caption)}"><figcaption>{_text(caption)}</figcaption></figure>'


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _cell(text: str) -> str:
    return f"<td{' class=df-long' if len(text) > 34 else ''}>{_text(text)}</td>"


def _moment(stamp: str | None) -> str:
    return stamp[:16].replace("T", " ") if stamp else ""


def _text(text: str) -> str:
    from dermaflux.study.report import plain

    return escape(plain(text))
