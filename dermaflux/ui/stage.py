"""The area where images appear: previews while a run is drawn, then the finished images, always of one size."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Cell:
    """One image of the stage: its data address (none while it waits), the line under it and its alternative text."""

    address: str
    line: str
    alt: str


def preview(image: Image.Image) -> str:
    """`image` as a small data address, for looking at only."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def finished(path: str | Path) -> str:
    """The synthetic PNG at `path` as a data address of its very bytes, so that a saved copy keeps its recipe."""
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()


def show(cells: Sequence[Cell]) -> str:
    """The stage with `cells`, as HTML."""
    columns = min(len(cells), 4 if len(cells) > 6 else 3 if len(cells) in (3, 5, 6) else 2)
    figures = "".join(_figure(cell) for cell in cells)
    return f'<div class="df-stage df-columns-{columns}">{figures}</div>'


def empty(sentence: str) -> str:
    """The stage without an image, with a sentence in its place."""
    return f'<div class="df-stage df-stage-empty"><p>{escape(sentence)}</p></div>'


def status(sentence: str, share: float | None = None) -> str:
    """The line under the stage; share: how much of the run is done, from 0 to 1, where one is going on."""
    bar = "" if share is None else f'<progress max="1" value="{share:.3f}" aria-label="Progress of the run"></progress>'
    live = ' role="status" aria-live="polite"' if share is None else ""
    return f'<div class="df-status"><span{live}>{escape(sentence)}</span>{bar}</div>'


def _figure(cell: Cell) -> str:
    image = f'<img src="{cell.address}" alt="{escape(cell.alt)}">' if cell.address else '<span class="df-wait"></span>'
    return f"<figure>{image}<figcaption>{escape(cell.line)}</figcaption></figure>"
