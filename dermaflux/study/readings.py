"""The readings of a study as one table, a row a presented case and reader: its columns, its CSV and its codebook."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dermaflux.errors import DataError
from dermaflux.files import guard, unguard, write_atomically
from dermaflux.lesion import LABELS, MAX_ASYMMETRY, MAX_BORDER, MAX_SIZE_MM, MIN_SIZE_MM, MONK_TONES

TEXT, WHOLE, REAL, FLAG = "text", "whole number", "number", "true or false"
KINDS = {TEXT: "str", WHOLE: "Int64", REAL: "float64", FLAG: "boolean"}
"""The pandas type of each kind. Whole numbers and flags may be NA; text that is not there is empty."""
SOURCES = ("real", "synthetic")
MATCHES = ("yes", "partly", "no", "cannot tell")
_TRUE, _FALSE = "true", "false"


@dataclass(frozen=True)
class Column:
    """A column: its kind, what it means, the values it may hold (any where there are none), and whether it may be
    empty."""

    kind: str
    meaning: str
    values: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    optional: bool = False

    def range(self) -> str:
        """What values it may hold, in words."""
        if self.low is not None:
            return f"{self.low} to {self.high}" if self.high is not None else f"{self.low} or more"
        return ", ".join(self.values)


def _match(what: str) -> Column:
    return Column(TEXT, f"stage 2: whether the picture shows the {what} of the caption", MATCHES, optional=True)


COLUMNS = {
    "study": Column(TEXT, "name of the study"),
    "reader": Column(TEXT, "pseudonym of the reader"),
    "role": Column(TEXT, "the reader's role"),
    "years": Column(REAL, "the reader's years of experience", low=0, optional=True),
    "trained": Column(FLAG, "whether the reader was trained in dermoscopy"),
    "position": Column(WHOLE, "place in the reader's sequence, practice cases not counted", low=1),
    "case": Column(TEXT, "identifier of the picture, from its content"),
    "repeat": Column(FLAG, "whether the reader sees the case for the second time"),
    "source": Column(TEXT, "where the picture comes from", SOURCES),
    "label": Column(TEXT, "label of the picture, true or asked for", LABELS, optional=True),
    "tone": Column(WHOLE, "skin tone on the Monk scale, asked for or measured", (), 1, len(MONK_TONES), True),
    "asked_asymmetry": Column(WHOLE, "asymmetric axes asked of a synthetic picture", (), 0, MAX_ASYMMETRY, True),
    "asked_border": Column(
        WHOLE, "abruptly cut segments of the border asked of a synthetic picture", (), 0, MAX_BORDER, True
    ),
    "asked_colours": Column(TEXT, "colours asked of a synthetic picture, joined by ;", optional=True),
    "asked_structures": Column(TEXT, "structures asked of a synthetic picture, joined by ;", optional=True),
    "asked_size": Column(
        WHOLE, "largest diameter asked of a synthetic picture, in mm", (), MIN_SIZE_MM, MAX_SIZE_MM, True
    ),
    "said_synthetic": Column(FLAG, "stage 1: the reader takes the picture for synthetic", optional=True),
    "confidence": Column(WHOLE, "stage 1: confidence in that, 5 the highest", (), 1, 5, True),
    "realism": Column(WHOLE, "stage 1: how real the picture looks, 5 the most", (), 1, 5, True),
    "said_diagnosis": Column(TEXT, "stage 1: diagnosis", optional=True),
    "said_label": Column(TEXT, "stage 1: benign or malignant", LABELS, optional=True),
    "diagnosis": Column(TEXT, "diagnosis of the picture, true or asked for", optional=True),
    "seen_asymmetry": Column(WHOLE, "stage 1: asymmetric axes seen", (), 0, MAX_ASYMMETRY, True),
    "seen_border": Column(WHOLE, "stage 1: abruptly cut segments of the border seen", (), 0, MAX_BORDER, True),
    "seen_colours": Column(TEXT, "stage 1: colours seen, joined by ;", optional=True),
    "seen_structures": Column(TEXT, "stage 1: structures seen, joined by ;", optional=True),
    "artefacts": Column(TEXT, "stage 1: artefacts seen, joined by ;", optional=True),
    "comment": Column(TEXT, "what the reader wrote", optional=True),
    "marked": Column(
        TEXT, "boxes drawn on what looks wrong: JSON of [x0, y0, x1, y1], shares of the side", optional=True
    ),
    "left_out": Column(FLAG, "whether the reader wants the picture left out of synthesis", optional=True),
    "match_asymmetry": _match("asymmetry"),
    "match_border": _match("border"),
    "match_colours": _match("colours"),
    "match_structures": _match("structures"),
    "match_size": _match("size"),
    "match_tone": _match("skin tone"),
    "match": Column(WHOLE, "stage 2: how well the picture matches the caption as a whole, 5 the best", (), 1, 5, True),
    "seconds": Column(REAL, "seconds that the case was on the screen, idle time excluded", low=0),
    "answered_at": Column(TEXT, "when stage 1 was answered, ISO 8601, UTC"),
}


def frame(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """A table of `rows` with COLUMNS alone, of their types; what a row lacks is NA, or empty where it is text."""
    rows = list(rows)
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    for name, column in COLUMNS.items():
        if column.kind == TEXT:
            columns[name] = ["" if value is None else str(value) for value in columns[name]]
    return pd.DataFrame({name: pd.Series(columns[name], dtype=KINDS[of.kind]) for name, of in COLUMNS.items()})


def write(table: pd.DataFrame, path: Path) -> Path:
    """Write a table of readings as a CSV that is safe to open in a spreadsheet; returns its path."""
    shown = pd.DataFrame(
        {name: [_cell(of.kind, value) for value in table[name]] for name, of in COLUMNS.items()}, dtype="str"
    )
    return write_atomically(
        path, lambda file: file.write(shown.to_csv(index=False, lineterminator="\n").encode("utf-8"))
    )


def read(path: str | Path) -> pd.DataFrame:
    """The readings in the CSV at `path`, as `write` left them.

    Raises DataError, with line and column, for a column that is missing and a value that its column cannot hold.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            for name in COLUMNS:
                if name not in (reader.fieldnames or ()):
                    raise DataError(f"{path}, line 1: the column “{name}” is missing.")
            return frame({name: _value(path, reader.line_num, name, row[name]) for name in COLUMNS} for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as the CSV of a study: {error}.") from error


def codebook() -> str:
    """What each column means, as Markdown."""
    lines = ["# Codebook", "", "One row is one presented case and reader. Practice cases are not in the table."]
    lines += ["Columns of stage 2 are empty for real pictures, and where the study asks no stage 2."]
    lines += ["A text that begins with =, +, -, @, a tab or a line break, also behind apostrophes, has one before it."]
    lines += ["", "| Column | Kind | Values | May be empty | Meaning |", "|---|---|---|---|---|"]
    for name, column in COLUMNS.items():
        empty = "yes" if column.optional else "no"
        lines.append(f"| {name} | {column.kind} | {column.range()} | {empty} | {column.meaning} |")
    return "\n".join(lines) + "\n"


def _cell(kind: str, value: object) -> str:
    if value is None or pd.isna(value):
        return ""
    if kind == TEXT:
        return guard(value)
    if kind == FLAG:
        return _TRUE if value else _FALSE
    return str(int(value)) if kind == WHOLE else repr(float(value))


def _value(path: Path, line: int, name: str, text: str | None) -> object:
    column = COLUMNS[name]
    wrong = DataError(f"{path}, line {line}, column “{name}”: “{(text or '')[:40]}” is not {_asked(column)}.")
    if text is None or (text == "" and not column.optional):
        raise wrong
    if column.kind == TEXT:
        text = unguard(text)
        if text and column.values and text not in column.values:
            raise wrong
        return text
    if text == "":
        return None
    if column.kind == FLAG:
        if text not in (_TRUE, _FALSE):
            raise wrong
        return text == _TRUE
    try:
        value = int(text) if column.kind == WHOLE else float(text)
    except ValueError:
        raise wrong from None
    if not (column.low is None or column.low <= value) or not (column.high is None or value <= column.high):
        raise wrong
    return value


def _asked(column: Column) -> str:
    return f"a {column.kind}" + (f" ({column.range()})" if column.range() else "")
