"""What the owner of a study names or uploads, as pools of pictures on this machine."""

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from dermaflux.errors import InputError
from dermaflux.files import MAX_BYTES, pngs, read_bytes
from dermaflux.images import open_archive

MAX_ENTRIES = 5000
NEITHER = "Upload PNGs, or a ZIP of images with their manifest as a CSV or of PNGs with recipes."


def place(text: str | None) -> Path | None:
    """The file or folder on this machine that a path names, None for an empty text. Raises InputError for another."""
    text = (text or "").strip()
    if not text:
        return None
    try:
        path = Path(text).expanduser().absolute()
        there = path.exists()
    except (OSError, RuntimeError, ValueError):
        there = False
    if not there:
        raise InputError(f"There is nothing at “{text[:200]}” on the machine that serves this page.")
    return path


def pool(text: str | None, files: Sequence[str] | None, folder: Path) -> Path | None:
    """A pool by its path, or of uploaded files, which are kept in the new `folder`; None where there is neither.

    Raises InputError for both at once.
    """
    path = place(text)
    if path and files:
        raise InputError("Give pictures either by a path or as files, not both.")
    return received(files, folder) if files else path


@contextmanager
def kept(folder: Path) -> Iterator[Path]:
    """A new folder, not made yet, whose files stay only if all goes well."""
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def received(files: Sequence[str | Path], folder: Path) -> Path:
    """Put PNGs, and what ZIPs hold, into the new `folder`; returns the one CSV among them, or else the folder.

    Whatever files are called, all lie in the folder. Raises InputError for other files, or none of use.
    """
    folder.mkdir(mode=0o700, parents=True)
    for number, file in enumerate(map(Path, files)):
        if file.suffix.lower() == ".zip":
            _unpack(file, folder, f"{number:04d}")
        elif file.suffix.lower() == ".png":
            (folder / f"{number:04d}.png").write_bytes(read_bytes(file))
        else:
            raise InputError(NEITHER)
    tables = [path for path in folder.rglob("*") if path.suffix.lower() == ".csv"]
    if len(tables) > 1:
        raise InputError("The files hold more than one CSV; give a single manifest.")
    if not tables and not pngs(folder):
        raise InputError(f"The files hold no PNG and no manifest. {NEITHER}")
    return tables[0] if tables else folder


def _unpack(file: Path, folder: Path, name: str) -> None:
    open_archive(file, MAX_ENTRIES)  # refuses what is damaged, locked or too large
    with zipfile.ZipFile(file) as archive:
        entries = {entry: _inside(entry.filename) for entry in archive.infolist()}
        entries = {entry: path for entry, path in entries.items() if path}
        listed = any(path.suffix.lower() == ".csv" for path in entries.values())
        for number, (entry, path) in enumerate(entries.items()):
            if not listed and path.suffix.lower() != ".png":
                continue
            out = folder / name / path if listed else folder / f"{name}-{number:04d}.png"
            out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with archive.open(entry) as stream, out.open("xb") as kept:
                    kept.write(read_bytes(stream.read(MAX_BYTES + 1)))
            except InputError:
                raise
            except Exception:  # of hostile bytes zipfile raises anything
                raise InputError("The ZIP is damaged, or two of its files have one name; make it again.") from None


def _inside(name: str) -> PurePosixPath | None:
    """The path of a ZIP's entry below any folder; None for folders, hidden files, and what would lie elsewhere."""
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    apart = name.endswith("/") or path.is_absolute() or ":" in name or "__MACOSX" in path.parts
    hidden = any(part.startswith(".") for part in path.parts)
    return None if apart or hidden or not path.parts else path
