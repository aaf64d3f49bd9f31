"""Reading files that may be anything, and writing files whole or not at all."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from dermaflux.errors import InputError

MAX_BYTES = 20 * 2**20
LOCK = ".lock"
MANIFEST, REJECTED = "manifest.csv", "rejected"
"""In a folder of drawn images: their table, and the folder of those that a screen rejected."""
SKETCHED = 2**14
"""Bytes."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_bytes(path_or_bytes: str | Path | bytes, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a file, at most `max_bytes` of it. Raises InputError; its message never holds the file's name."""
    too_large = InputError(f"The file is larger than {max_bytes / 2**20:.0f} MB; make it smaller and try again.")
    if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
        if len(path_or_bytes) > max_bytes:
            raise too_large
        return bytes(path_or_bytes)
    if not isinstance(path_or_bytes, (str, Path)):
        raise InputError("There is no file; choose one first.")
    try:
        data = _read(Path(path_or_bytes), max_bytes + 1)
    except (OSError, ValueError):
        raise InputError("The file cannot be read; check that it still exists and may be opened.") from None
    if len(data) > max_bytes:
        raise too_large
    return data


def _read(path: Path, size: int) -> bytes:
    if not path.is_file():
        raise FileNotFoundError
    with path.open("rb") as file:
        return file.read(size)


def sketch(path: Path) -> str:
    """What tells a file from others without reading all of it, by its size, beginning and end: 16 hex digits; nothing
    where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            found = hashlib.sha256(str(size).encode())
            for at in (0, max(0, size - SKETCHED)):
                file.seek(at)
                found.update(file.read(SKETCHED))
    except OSError:
        return ""
    return found.hexdigest()[:16]


def weights_of(path: Path) -> list[str]:
    """What tells the weights in a folder, or a file of them, from others: a sketch of each file."""
    return [sketch(file) for file in (sorted(path.rglob("*.safetensors")) if path.is_dir() else [path])]


class NoHome(InputError):
    """A path begins with `~` and the name of nobody who has a home folder."""


def own_path(path: Path | str) -> Path:
    """`path` with `~` as the home folder it stands for. Raises NoHome where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NoHome(f"There is no home folder for “{str(path)[:200]}”. Give the path in full.") from None


def pngs(folder: Path) -> list[Path]:
    """The PNGs in `folder`, by name; hidden ones, such as the shadows that macOS puts beside files, are left out."""
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Fill a temporary file beside `path` by `write`, then rename it; nothing half-written is left behind.

    Raises OSError, with the name of `path`, such as on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid4().hex}.part"
    try:
        with open(temporary, "xb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return path


def guard(cell: object) -> object:
    """What to write into a CSV for `cell`: before a text that a spreadsheet takes for a formula goes an apostrophe."""
    return f"'{cell}" if _formula(cell) else cell


def unguard(cell: object) -> object:
    """What `guard` made `cell` of."""
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and _formula(cell) else cell


def _formula(cell: object) -> bool:
    return isinstance(cell, str) and cell.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


class Busy(InputError):
    """Another process works in a folder, or at a file."""


def alone_in(folder: Path) -> AbstractContextManager[None]:
    """Make `folder`, if it is not there, and keep others out of it who ask by this too. Raises Busy if one is in it,
    OSError, with its name, if it cannot be written to."""
    folder.mkdir(parents=True, exist_ok=True)
    busy = Busy(f"Another process works in {folder}. Wait for it, or give another folder.")
    return _alone(folder / LOCK, folder, busy)


def alone_at(path: Path) -> AbstractContextManager[None]:
    """Keep others from writing the file or folder `path` who ask by this too. Raises Busy if one does, OSError, with
    its name, if it cannot be written to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    busy = Busy(f"Another process writes {path}. Wait for it, or give another name.")
    return _alone(path.with_name(f".{path.name}{LOCK}"), path, busy)


@contextmanager
def _alone(lock: Path, named: Path, busy: Busy) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(lock, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise busy from None
    except OSError as error:
        error.filename = str(named)
        raise
    try:
        yield
    finally:
        lock.release()


KINDS = (
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG", "a PNG image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"BM", "a BMP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"II+\0", "a TIFF image"),
    (0, b"MM\0+", "a TIFF image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"PK\x05\x06", "a ZIP archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (128, b"DICM", "a DICOM file"),
    (4, b"ftyphe", "a HEIC photograph"),
    (4, b"ftypmif1", "a HEIC photograph"),
    (4, b"ftypmsf1", "a HEIC photograph"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyp", "a video"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\0\0\0\x0cjP", "a JPEG 2000 image"),
    (0, b"MZ", "a Windows program"),
    (0, b"\x7fELF", "a Linux program"),
)
"""What a file is, by the bytes at an offset; the first match counts."""
_BINARY = set(range(32)) - set(b"\t\n\f\r")
_MARKUP = ((b"<!doctype html", "a web page (HTML)"), (b"<html", "a web page (HTML)"), (b"<svg", "an SVG drawing"))


def kind_of(data: bytes) -> str:
    """What the content of a file seems to be, in words, whatever its name says."""
    for offset, signature, kind in KINDS:
        if data.startswith(signature, offset):
            return kind
    head = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith(b"<"):
        return next((kind for mark, kind in _MARKUP if mark in head), "a web page or XML document")
    return "a file of another kind" if set(head) & _BINARY else "a text file"


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The whole chunks of a PNG file: type, and where it starts (at its length) and ends (after its checksum)."""
    start = len(PNG_SIGNATURE)
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            return
        yield data[start + 4 : start + 8], start, end
        start = end
