"""Read and write manifests: a CSV with one image a row."""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from dermaflux.errors import DataError, InputError
from dermaflux.files import guard, sketch, unguard, write_atomically

COLUMNS = (
    "file",
    "label",
    "split",
    "diagnosis",
    "caption",
    "source",
    "source_id",
    "patient_id",
    "licence",
    "age",
    "sex",
    "site",
    "skin_tone",
)
REQUIRED = ("file", "label")
LEFT_OUT = "left_out"
"""The column in which “yes” marks an image that readers of a study, or its owner, want left out of synthesis."""
FREE = ("caption", "negative", "model", "lora")
"""The columns of any text that this program fills; they are written so that a spreadsheet takes none for a formula."""
LABELS = ("benign", "malignant")


@dataclass(frozen=True)
class Row:
    """One image of a manifest. `path` is absolute; `values` holds the row's columns as text; `manifest` and `line` are
    where it was read."""

    path: Path
    label: str
    split: str
    values: dict[str, str]
    manifest: Path | None = field(default=None, compare=False)
    line: int = field(default=0, compare=False)

    @cached_property
    def content(self) -> tuple[str, str, str]:
        """What tells the image and its label from others: the file's name, the label, and a sketch of the file as it
        was when this was asked first."""
        return self.path.name, self.label, sketch(self.path)

    @property
    def place(self) -> str:
        """Where to look for it, for people."""
        return f"{self.manifest}, line {self.line}: {self.values['file']}" if self.manifest else str(self.path)


def read(path: str | Path, split: str | None = None, left_out: bool = False) -> list[Row]:
    """The rows of the manifest at `path`, of one `split` if given; those marked LEFT_OUT only if `left_out`.

    Raises DataError, with line and column, for a missing column, an unknown label, a file that is absolute or leaves
    the manifest's folder, or one that is in two lines.
    """
    rows, first = [], {}
    for line, values in lines(path):
        row = row_of(Path(path), line, values)
        if (before := first.setdefault(row.path, line)) != line:
            raise DataError(
                f"{path}, line {line}, column “file”: “{values['file']}” is in line {before} too; leave one of them."
            )
        rows.append(row)
    kept = [row for row in rows if left_out or row.values.get(LEFT_OUT) != "yes"]
    return of_split(kept, split)


def of_split(rows: Iterable[Row], split: str | None) -> list[Row]:
    """Those of `rows` that are of one `split`, whose capitals do not count; all if it is None."""
    return [row for row in rows if split is None or row.split == _split(split)]


def lines(path: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a manifest by their numbers, as they were given to `write`. Raises DataError if it is none."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            names = reader.fieldnames or []
            for column in REQUIRED:
                if column not in names:
                    raise DataError(f"{path}, line 1: the column “{column}” is missing.")
            if doubled := next((name for name in names if names.count(name) > 1), None):
                raise DataError(f"{path}, line 1: the column “{doubled}” is there twice.")
            for values in reader:
                yield reader.line_num, {name: unguard(cell) for name, cell in values.items()}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + 1}: {error}; is a quote left open?") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a CSV manifest: {error}.") from error


def row_of(path: Path, line: int, values: dict[str, str]) -> Row:
    """The row that a line of the manifest at `path` stands for. Raises DataError, with line and column."""
    if None in values:
        raise DataError(
            f"{path}, line {line}: there are more cells than columns; put a text with commas between quotes."
        )
    name = PurePosixPath(values["file"] or "")
    if not name.name or name.is_absolute() or ".." in name.parts:
        raise DataError(f"{path}, line {line}, column “file”: “{name}” must be a path inside the manifest's folder.")
    if values["label"] not in LABELS:
        raise DataError(f"{path}, line {line}, column “label”: “{values['label']}” is neither benign nor malignant.")
    return Row(path.parent / name, values["label"], _split(values.get("split")), values, path, line)


def _split(text: str | None) -> str:
    return (text or "").strip().lower()


def fingerprint(rows: Iterable[Row]) -> str:
    """What tells images and their labels from others, in this order: 16 hex digits."""
    return hashlib.sha256(json.dumps([row.content for row in rows]).encode()).hexdigest()[:16]


def beside(out: Path | None, path: Path) -> Path:
    """Where to write what is made of the manifest at `path`: `out`, or in its place. Raises InputError if `out` lies in
    another folder."""
    if out is not None and out.parent.resolve() != path.parent.resolve():
        raise InputError(f"{out} must lie beside {path}, as the files of its rows are named from there.")
    return out or path


def write(path: str | Path, rows: Iterable[dict[str, object]], columns: Iterable[str] | None = None) -> None:
    """Write `rows` to a manifest at `path`: to a temporary name first, then renamed.

    columns: those to write; COLUMNS, and whatever else the rows hold, if not given.
    """
    path, rows = Path(path), list(rows)
    if columns is None:
        columns = dict.fromkeys((*COLUMNS, *(name for row in rows for name in row if name is not None)))

    def fill(file: BinaryIO) -> None:
        stream = TextIOWrapper(file, "utf-8", newline="")
        writer = csv.DictWriter(stream, tuple(columns), extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(row | {name: guard(row[name]) for name in FREE if name in row} for row in rows)
        stream.detach()

    write_atomically(path, fill)
