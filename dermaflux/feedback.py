"""Visitors' ratings of single images, kept so that they outlive a restart: in a folder, or in a private dataset.

A rating is a line of JSON with the recipe of its image and never with who gave it. Each process appends to a file of
its own, so that neither two of them nor a restart on an empty disk can write over what another kept.
"""

import csv
import hashlib
import io
import json
import os
import re
import threading
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from dermaflux.errors import DataError, InputError, first_line
from dermaflux.files import guard
from dermaflux.provenance import Provenance

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB = "hf://datasets/"
LOWEST, HIGHEST = 1, 5
MAX_REMARK = 500
EVERY_MIN = 1
"""Minutes between two commits to a dataset: as much may be lost where a process is killed and its disk emptied."""
COLUMNS = ("image", "score", "remark", "rated_at", "seed", "label", "caption", "model")


@dataclass(frozen=True)
class Rating:
    """How far an image looks like the lesion that was asked for, from 1 (not at all) to 5 (fully), and a remark.

    id: the same where a visitor rates an image again: the last of an id counts. Raises InputError.
    """

    recipe: Provenance
    score: int
    remark: str = ""
    id: str = field(default_factory=lambda: uuid4().hex)
    rated_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __post_init__(self):
        if type(self.score) is not int or not LOWEST <= self.score <= HIGHEST:
            raise InputError(f"Choose a score from {LOWEST} to {HIGHEST} first.")
        if not isinstance(self.remark, str) or len(self.remark) > MAX_REMARK:
            raise InputError(f"The remark must be text of at most {MAX_REMARK} characters.")
        kept = (one for one in self.remark if one == "\n" or unicodedata.category(one) not in ("Cc", "Cs"))
        object.__setattr__(self, "remark", "".join(kept).strip())

    @property
    def image(self) -> str:
        """The SHA-256 of the recipe: the same for the same image."""
        return hashlib.sha256(self.recipe.to_json().encode()).hexdigest()

    def line(self) -> bytes:
        """The rating as a line of JSON."""
        record = {name: getattr(self, name) for name in ("id", "image", "score", "remark", "rated_at")}
        record["recipe"] = json.loads(self.recipe.to_json())
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class Ratings:
    """Keeps ratings in a folder. For use by several threads."""

    def __init__(self, folder: Path, place: str, lock: "threading.Lock | None" = None):
        """folder: made if it is not there. place: what it is called. lock: held while a line is written.

        Raises DataError if nothing can be written there.
        """
        self.place, self._lock = place, lock or threading.Lock()
        self._path = folder / f"ratings-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid4().hex[:8]}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise DataError(f"{_unwritable(place, error)}.") from error

    def keep(self, rating: Rating) -> None:
        """Append a rating; when this returns it is on the disk, whole. Raises DataError, and then nothing is kept."""
        try:
            with self._lock:
                _append(self._path, rating.line())
        except OSError as error:
            raise DataError(f"{_unwritable(self.place, error)}, so this one is not kept.") from error


def _append(path: Path, line: bytes) -> None:
    """Append `line` whole or not at all."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        before = os.fstat(file).st_size
        try:
            if os.write(file, line) < len(line):
                raise OSError("the disk is full")
            os.fsync(file)
        except OSError:
            os.ftruncate(file, before)
            raise
    finally:
        os.close(file)


def _unwritable(place: str, error: OSError) -> str:
    return f"Ratings cannot be written to {place} ({error.strerror or error})"


def dataset(place: str) -> str | None:
    """The OWNER/NAME of a place hf://datasets/OWNER/NAME; None if it is a folder. Raises InputError."""
    if "://" not in place:
        return None
    name = place.removeprefix(HUB)
    if name == place or not re.fullmatch(r"[\w.-]+/[\w.-]{1,96}", name):
        raise InputError(f"must be a folder, {HUB}OWNER/NAME or none")
    return name


def lasts(place: str) -> bool:
    """Whether a place outlives the disk of this machine: a dataset, or a folder on a mounted disk."""
    folder = Path(place).resolve()
    return bool(dataset(place)) or any(one.is_mount() for one in (folder, *folder.parents[:-1]))


def described(place: str) -> str:
    """The place for people."""
    name = dataset(place)
    return f"the private dataset {name} on Hugging Face" if name else f"the folder {place}"


def open_ratings(place: str, cache: Path, api: "HfApi | None" = None) -> Ratings:
    """Where ratings are kept: the folder called `place`, or a private dataset of the Hub, made if it is not there.

    For a dataset they are written to the folder `cache` and committed from it every EVERY_MIN minutes and at the end.
    Raises DataError if nothing can be written there, and for a dataset that is public.
    """
    name = dataset(place)
    if name is None:
        return Ratings(Path(place), described(place))
    from huggingface_hub import CommitScheduler, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    from dermaflux.hub import HUB_ERRORS

    api = api or HfApi()
    try:
        api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        if not api.repo_info(name, repo_type="dataset").private:
            raise DataError(f"The dataset {name} is public. Ratings are kept in a private one only.")
        scheduler = CommitScheduler(
            repo_id=name,
            repo_type="dataset",
            folder_path=cache,
            allow_patterns="*.jsonl",
            every=EVERY_MIN,
            private=True,
            hf_api=api,
        )
    except (LocalTokenNotFoundError, HfHubHTTPError) as error:
        raise DataError(f"{_unreachable(name)} Set HF_TOKEN to a token that may write to it.") from error
    except HUB_ERRORS as error:
        raise DataError(f"{_unreachable(name)} {first_line(error)}. Try again later.") from error
    return Ratings(cache, described(place), scheduler.lock)


def _unreachable(name: str) -> str:
    return f"Ratings cannot be kept in the dataset {name} on Hugging Face."


def to_csv(ratings: Iterable[Rating]) -> str:
    """Ratings as CSV with COLUMNS; safe to open in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in ratings:
        recipe = one.recipe
        row = (one.image, one.score, one.remark, one.rated_at, recipe.seed, recipe.attributes.label)
        writer.writerow(map(guard, (*row, recipe.caption, recipe.model)))
    return text.getvalue()
