"""Caption a manifest: row by row, checked, each with its captioner's name; what is done outlives an interruption."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dermaflux import __version__
from dermaflux.caption import caption
from dermaflux.data import manifest
from dermaflux.data.captioners import describe
from dermaflux.errors import DataError, DermaFluxError, InputError
from dermaflux.files import alone_at, sketch
from dermaflux.images import open_file


@dataclass(frozen=True)
class Captioner:
    """name: with its version, kept beside each caption. caption: gives captions and their faults for images with their
    rows and places in the manifest. batch: how many images at once."""

    name: str
    caption: Callable[[Sequence[Image.Image], Sequence[manifest.Row], Sequence[int]], list[tuple[str, tuple[str, ...]]]]
    batch: int = 1


def of_appearance() -> Captioner:
    """Words what is measured, and the known diagnosis, in the published form."""

    def word(images, rows, places) -> list[tuple[str, tuple[str, ...]]]:
        return [
            (caption(describe(np.asarray(image), row), place), ())
            for image, row, place in zip(images, rows, places, strict=True)
        ]

    return Captioner(f"appearance {__version__}", word)


def of_llama(describer, label_in_prompt: bool, batch: int = 4) -> Captioner:
    """Asks a `llama.Describer`; the published opening, which names the label, stands before its answer."""

    from dermaflux.llama import faults, opened

    def ask(images, rows, places) -> list[tuple[str, tuple[str, ...]]]:
        found = describer.describe(images, [row.label if label_in_prompt else None for row in rows])
        return [
            (opened(row.label, one.text), faults(one.text, row.label)) for row, one in zip(rows, found, strict=True)
        ]

    how = "with" if label_in_prompt else "without"
    source = f"{describer.spec.source}@{describer.revision}" if describer.revision else describer.spec.source
    return Captioner(f"{source}, {how} the label in its prompt", ask, batch)


def run(
    path: Path, captioner: Captioner, out: Path, split: str | None = None
) -> Iterator[tuple[manifest.Row, DermaFluxError | None]]:
    """Caption the rows of the manifest at `path`, of one `split` if given, into `out`, yielding each with what stood in
    its way, if anything.

    Rows that are left out stay as they are, and if `out` is the manifest those of other splits too. What is done is
    kept beside `out`, in a file that ends in .part, from which the same captioner goes on; it stays until every row has
    its caption. Raises DataError for a manifest that cannot be read or has no such rows, Busy if another process
    captions into `out`.
    """
    with alone_at(out):
        yield from _run(path, captioner, out, split)


def _run(
    path: Path, captioner: Captioner, out: Path, split: str | None
) -> Iterator[tuple[manifest.Row, DermaFluxError | None]]:
    whole, kept = manifest.read(path, left_out=True), out.with_suffix(f"{out.suffix}.part")
    of_split = manifest.of_split(whole, split)
    if not of_split:
        raise DataError(f"{path} has no rows{'' if split is None else f' of the split “{split}”'}.")
    rows = [row for row in of_split if row.values.get(manifest.LEFT_OUT) != "yes"]
    done, keys = _done(kept, captioner.name), {row.path: _key(row) for row in rows}
    with kept.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        for first in range(0, len(rows), captioner.batch):
            some = list(enumerate(rows[first : first + captioner.batch], first))
            todo = [(place, row) for place, row in some if keys[row.path] not in done]
            for row, text, faults, error in _captioned(captioner, todo):
                if error is None:
                    writer.writerow((captioner.name, keys[row.path], text, " ".join(faults)))
                    stream.flush()
                    done[keys[row.path]] = text, " ".join(faults)
                yield row, error
            yield from ((row, None) for place, row in some if (place, row) not in todo)
    for row in rows:
        text, faults = done.get(keys[row.path], ("", ""))
        row.values.update(caption=text, captioner=captioner.name if text else "", caption_faults=faults)
    manifest.write(out, [row.values for row in (whole if out.resolve() == path.resolve() else of_split)])
    if all(key in done for key in keys.values()):
        kept.unlink()


def _captioned(captioner: Captioner, todo: Sequence[tuple[int, manifest.Row]]):
    """Each row of `todo` with its caption and faults, or with the error that stood in the way."""
    opened = []
    for place, row in todo:
        try:
            opened.append((place, row, open_file(row.path)))
        except InputError as error:
            yield row, "", (), error
    if not opened:
        return
    places, rows, images = zip(*opened, strict=True)
    try:
        found = captioner.caption(images, rows, places)
    except InputError as error:
        yield from ((row, "", (), error) for row in rows)
        return
    for row, (text, faults) in zip(rows, found, strict=True):
        yield row, text, faults, None


def _key(row: manifest.Row) -> str:
    """What stands for a row and its image as they are, captions apart."""
    values = {name: value for name, value in row.values.items() if not name.startswith("caption")}
    return hashlib.sha256(json.dumps([values, sketch(row.path)], sort_keys=True).encode()).hexdigest()[:24]


def _done(kept: Path, name: str) -> dict[str, tuple[str, str]]:
    """Captions and faults by `_key` that `name` has written to `kept`; a line cut short is cut off."""
    if not kept.exists():
        return {}
    data = kept.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    kept.write_bytes(whole)
    lines = csv.reader(io.StringIO(whole.decode("utf-8"), newline=""))
    return {key: (text, faults) for by, key, text, faults in lines if by == name}
