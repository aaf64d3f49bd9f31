"""What the owner of studies does, on the command line and on the page alike: from pools of images to files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from dermaflux.data import manifest
from dermaflux.errors import InputError
from dermaflux.files import write_atomically
from dermaflux.study import pictures, readings
from dermaflux.study.protocol import Protocol, Questions, Strata
from dermaflux.study.store import Store

READINGS, CODEBOOK = "readings.csv", "codebook.md"
DAY = "2030-12-31"


@dataclass(frozen=True)
class Wanted:
    """A study to be made. synthetic, real: a folder or manifest; training: a manifest; None where there is none.

    questions: by name, all that can be asked where there are none. closes: None to stay open.
    """

    name: str
    cases: int
    synthetic: Path | None = None
    real: Path | None = None
    repeats: float = 0.1
    strata: Sequence[str] = ("label",)
    questions: Sequence[str] = ()
    closes: datetime | None = None
    training: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """A study that was made. counts: its cases by source and label. near: pictures that look the same, or like a
    training image."""

    name: str
    counts: dict[tuple[str, str], int]
    near: tuple[pictures.Near, ...]

    def lines(self) -> list[str]:
        """The study in words, a line for each kind of case and each pair that looks the same."""
        kinds = [f"{count} {source}, {label}" for (source, label), count in sorted(self.counts.items())]
        return kinds + ([one.line() for one in self.near] or ["No cases look the same."])


def create(store: Store, wanted: Wanted, password: str) -> Made:
    """Choose the cases of a study, make them alike and store them; readers come in once it is opened.

    Training images are looked at first. Raises InputError or DataError for what cannot be, and then stores nothing.
    """
    drawn = pictures.synthetic_pool(wanted.synthetic) if wanted.synthetic else []
    real = pictures.real_pool(wanted.real) if wanted.real else []
    asked = wanted.questions or [name for name, fits in fitting(bool(drawn), bool(real)).items() if fits]
    protocol = Protocol(wanted.cases, Questions.of(asked), Strata.of(wanted.strata), wanted.repeats, wanted.seed)
    shown = pictures.prepare(drawn, real, protocol)
    near = pictures.near_duplicates(shown)
    near += pictures.near_training(shown, wanted.training) if wanted.training else []
    name = store.create(wanted.name, shown, protocol, password, wanted.closes)
    counts = Counter((one.source, one.label or "no label") for one in shown if not one.practice)
    return Made(name, dict(counts), tuple(near))


def fitting(synthetic: bool, real: bool) -> dict[str, bool]:
    """The questions, and whether pictures of these sources can be asked about."""
    return vars(Questions()) | {"source": synthetic and real, "match": synthetic}


def closing(text: str, called: str = "The closing date") -> datetime | None:
    """The end of a day, or a moment, in UTC where no zone is named; None for an empty text.

    Raises InputError, which names the value as `called`.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment + timedelta(days=1) if len(text) == len(DAY) else moment
    except (ValueError, OverflowError):
        raise InputError(f"{called} is a date such as {DAY}, not “{text[:40]}”.") from None


def export(table: pd.DataFrame, out: Path) -> list[Path]:
    """Write readings and what their columns mean into the folder `out`; returns the files."""
    return [
        readings.write(table, out / READINGS),
        write_atomically(out / CODEBOOK, lambda file: file.write(readings.codebook().encode())),
    ]


def leave_out(store: Store, name: str, synthetic: Path, out: Path, readers: int = 1) -> tuple[int, int]:
    """Write the manifest of a study's synthetic images, a folder or a manifest, to `out` with a column that marks those
    flagged by the owner or by `readers`; returns how many are left out, and of how many.

    Raises InputError unless `out` lies beside the images.
    """
    out = manifest.beside(out, synthetic / "any" if synthetic.is_dir() else synthetic)
    found = store.flagged(name, log="flags written")
    rows = pictures.marked(synthetic, [one.origin for one in found if one.owner or one.readers >= readers])
    manifest.write(out, rows)
    return sum(row[manifest.LEFT_OUT] == "yes" for row in rows), len(rows)
