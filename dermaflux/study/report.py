"""The report of a study: one self-contained HTML page, and Markdown with its figures for a PDF.

Whatever readers wrote is text here, never markup: the page is escaped by its template and allows no script, and the
Markdown escapes every sign that has a meaning in it.
"""

import base64
import re
import unicodedata
from functools import cache
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from dermaflux.errors import InputError
from dermaflux.files import write_atomically
from dermaflux.study import plots
from dermaflux.study.discrimination import MARGIN
from dermaflux.study.estimates import RESAMPLES
from dermaflux.study.results import compute
from dermaflux.study.sections import Results, Section, Table

HTML, MARKDOWN, FIGURES = "report.html", "report.md", "figures"
NOTICE = "Research only. Not a medical device; no figure here says anything about a patient."
_MEANING = re.compile(r"([\\`*_{}\[\]<>#|~$^@&!]|:(?=//))")


def write(readings: pd.DataFrame, out: Path, margin: float = MARGIN, resamples: int = RESAMPLES) -> None:
    """Write report.html, report.md and figures/*.png of a table of readings into the folder `out`.

    margin: how far from chance a balanced accuracy still counts as chance. Each file is written whole or not at all,
    the pages last. Raises InputError for a margin out of range or where `out` cannot be a folder, DataError for a
    table that lacks a column.
    """
    out = Path(out)
    results = compute(readings, margin, resamples)
    figures = {plot.name: plots.png(plot.draw()) for section in results.sections for plot in section.plots}
    pages = {HTML: html(results, figures), MARKDOWN: markdown(results)}
    try:
        for name, png in figures.items():
            write_atomically(out / FIGURES / f"{name}.png", lambda file, png=png: file.write(png))
        for name, page in pages.items():
            write_atomically(out / name, lambda file, page=page: file.write(page.encode("utf-8")))
    except OSError as error:
        raise InputError(f"The report cannot be written to {out}: {error.strerror}; choose another folder.") from error


def html(results: Results, figures: dict[str, bytes]) -> str:
    """The page, with `figures` (PNGs by their plots' names) in it; it loads nothing and runs nothing."""
    images = {name: base64.b64encode(png).decode() for name, png in figures.items()}
    return _template().render(results=results, images=images, notice=NOTICE)


def markdown(results: Results) -> str:
    """The report as Markdown that pandoc turns into a PDF; its figures lie in the folder figures beside it."""
    parts = [f"# {escaped(results.title)}", f"*{escaped(NOTICE)}*"]
    if results.summary:
        parts += ["## Summary", "\n".join(f"- {escaped(line)}" for line in results.summary)]
    return "\n\n".join([*parts, *(_section(section) for section in results.sections)]) + "\n"


def escaped(text: str) -> str:
    """A text as one line of Markdown that shows it as it is."""
    return _MEANING.sub(r"\\\1", plain(text))


def plain(text: str) -> str:
    """A text on one line, without signs that cannot be seen, such as those that turn the direction of writing."""
    shown = "".join(
        " " if sign.isspace() else sign for sign in text if sign.isspace() or unicodedata.category(sign)[0] != "C"
    )
    return " ".join(shown.split())


def _section(section: Section) -> str:
    parts = [f"## {escaped(section.title)}", *map(escaped, section.sentences)]
    parts += [_table(table) for table in section.tables]
    parts += [f"![{escaped(plot.caption)}]({FIGURES}/{plot.name}.png)" for plot in section.plots]
    return "\n\n".join(parts)


def _table(table: Table) -> str:
    lines = [table.head, ("---",) * len(table.head), *(map(escaped, row) for row in table.rows)]
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
