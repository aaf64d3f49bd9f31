"""The report of a study: one self-contained HTML page, and Markdown with its figures for a PDF.

Whatever readers wrote is text here, never markup: the page is escaped by its template and allows no script, and the
Markdown escapes every sign that has a meaning in it.
"""

import base64
import io
import re
import unicodedata
from collections.abc import Callable, Container, Iterable
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from dermaflux.errors import InputError
from dermaflux.files import write_atomically
from dermaflux.study import marks, plots
from dermaflux.study.answers import Box
from dermaflux.study.discrimination import MARGIN
from dermaflux.study.estimates import RESAMPLES
from dermaflux.study.results import compute
from dermaflux.study.sections import Exhibit, Results, Section, Table
from dermaflux.study.store import Store

HTML, MARKDOWN, FIGURES = "report.html", "report.md", "figures"
SIDE, DOTS = 160, 150
"""Of a case's picture: pixels, and dots per inch on paper."""
MOST_WIDE = 40
"""Characters of a column on paper, beside which no other becomes too narrow."""
NOTICE = "Research only. Not a medical device; no figure here says anything about a patient."
_MEANING = re.compile(r"([\\`*_{}\[\]<>#|~$^@&!]|:(?=//))")


def write_study(store: Store, name: str, out: Path, margin: float = MARGIN, resamples: int = RESAMPLES) -> None:
    """Write the report of a study, with the pictures of its artefacts, as `write` does; the study's log says so."""
    write(store.readings(name, log="reported"), out, margin, resamples, partial(store.picture, name))


def write(
    readings: pd.DataFrame,
    out: Path,
    margin: float = MARGIN,
    resamples: int = RESAMPLES,
    picture: Callable[[str], bytes] | None = None,
) -> None:
    """Write report.html, report.md and figures/*.png of a table of readings into the folder `out`.

    margin: how far from chance a balanced accuracy still counts as chance. picture: gives the PNG of a case; without it
    cases are named and not shown. Each file is written whole or not at all, the pages last. Raises InputError for a
    margin out of range or where `out` cannot be a folder, DataError for a table that lacks a column.
    """
    out = Path(out)
    results = compute(readings, margin, resamples)
    figures = {plot.name: plots.png(plot.draw()) for section in results.sections for plot in section.plots}
    if picture:
        exhibits = (exhibit for section in results.sections for exhibit in section.exhibits)
        cases = dict.fromkeys(case for exhibit in exhibits for case in exhibit.cases)
        figures |= {_case_figure(case): _small(picture(case), results.marks.get(case, ())) for case in cases}
    pages = {HTML: html(results, figures), MARKDOWN: markdown(results, figures)}
    try:
        for name, png in figures.items():
            write_atomically(out / FIGURES / f"{name}.png", lambda file, png=png: file.write(png))
        for name, page in pages.items():
            write_atomically(out / name, lambda file, page=page: file.write(page.encode("utf-8")))
    except OSError as error:
        raise InputError(f"The report cannot be written to {out}: {error.strerror}; choose another folder.") from error


def html(results: Results, figures: dict[str, bytes]) -> str:
    """The page, with `figures` (PNGs by name) in it; it loads nothing and runs nothing."""
    images = {name: base64.b64encode(png).decode() for name, png in figures.items()}
    return _template().render(results=results, images=images, notice=NOTICE, figure=_case_figure)


def markdown(results: Results, figures: Container[str] = ()) -> str:
    """The report as Markdown that pandoc turns into a PDF; its figures lie in the folder figures beside it.

    `pandoc report.md --from markdown-smart --shift-heading-level-by=-1 -o report.pdf` shows what readers wrote as they
    wrote it, and takes the first heading for the title.

    figures: the names of those that there are; pictures of cases are left out if theirs is not among them.
    """
    parts = [f"# {escaped(results.title)}", f"*{escaped(NOTICE)}*"]
    if results.summary:
        parts += ["## Summary", "\n".join(f"- {escaped(line)}" for line in results.summary)]
    return "\n\n".join([*parts, *(_section(section, figures) for section in results.sections)]) + "\n"


def escaped(text: str) -> str:
    """A text as one line of Markdown that shows it as it is."""
    return _MEANING.sub(r"\\\1", plain(text))


def plain(text: str) -> str:
    """A text on one line, without signs that cannot be seen, such as those that turn the direction of writing."""
    shown = "".join(
        " " if sign.isspace() else sign for sign in text if sign.isspace() or unicodedata.category(sign)[0] != "C"
    )
    return " ".join(shown.split())


def _section(section: Section, figures: Container[str]) -> str:
    parts = [f"## {escaped(section.title)}", *map(escaped, section.sentences)]
    parts += [_table(table) for table in section.tables]
    parts += [f"![{escaped(plot.caption)}]({FIGURES}/{plot.name}.png)" for plot in section.plots]
    rows = [_exhibit(one, figures) for one in section.exhibits]
    if any(rows):
        parts.append("\n".join(["| What | Pictures |", f"| {'-' * 12} | {'-' * 60} |", *filter(None, rows)]))
    return "\n\n".join(parts)


def _exhibit(exhibit: Exhibit, figures: Container[str]) -> str:
    names = {case: _case_figure(case) for case in exhibit.cases}
    shown = " ".join(f"![{escaped(case)}]({FIGURES}/{name}.png)" for case, name in names.items() if name in figures)
    return f"| {escaped(exhibit.caption)} | {shown} |" if shown else ""


def _case_figure(case: str) -> str:
    """The name of the figure of a case, of letters and digits whatever the case is called."""
    return f"case-{sha256(case.encode('utf-8', 'replace')).hexdigest()[:16]}"


def _small(png: bytes, marked: Iterable[Box]) -> bytes:
    stored = io.BytesIO()
    marks.small(png, marked, SIDE).save(stored, "PNG", dpi=(DOTS, DOTS))
    return stored.getvalue()


def _table(table: Table) -> str:
    rows = [table.head, *(tuple(map(escaped, row)) for row in table.rows)]
    widths = [min(MOST_WIDE, max(3, *map(len, column))) for column in zip(*rows, strict=True)]
    lines = [rows[0], ["-" * width for width in widths], *rows[1:]]  # pandoc takes a column's width from its dashes
    return f"**{escaped(table.caption)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template("report.html.j2")
