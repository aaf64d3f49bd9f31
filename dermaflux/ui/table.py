"""The Compare & sweep tab's HTML: what is held fixed, and the grid that fills while a sweep is drawn."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from PIL import Image

from dermaflux.grid import described, value_labels
from dermaflux.sweep import AXES, Base, Plan
from dermaflux.ui import stage

STYLE = Path(__file__).with_name("sweep.css")
THUMBNAIL = 192


def style() -> str:
    """The tab's style sheet as an HTML element."""
    return f"<style>{STYLE.read_text(encoding='utf-8')}</style>"


def held(base: Base, lora: bool) -> str:
    """What both sections start from: the caption, the lesion and the settings of the Draw tab."""
    pairs = "".join(
        f"<div><dt>{escape(name[0].upper() + name[1:])}</dt><dd>{escape(value)}</dd></div>"
        for name, value in described(base, lora=lora).items()
    )
    source = " Each image varies the image chosen there." if base.source is not None else ""
    return (
        f'<section class="df-held" aria-label="From the Draw tab"><p>The lesion and settings of the Draw tab are used, '
        f"with the seed in its form.{source}</p><dl>{pairs}</dl>"
        f"<details><summary>Caption</summary><p>{escape(base.text)}</p></details></section>"
    )


def unusable(sentence: str) -> str:
    """The same place with what is wrong in the Draw tab."""
    return f'<section class="df-held" aria-label="From the Draw tab"><p role="alert">{escape(sentence)}</p></section>'


def empty(sentence: str) -> str:
    """The grid's place before a sweep."""
    return f'<div class="df-grid df-grid-empty"><p>{escape(sentence)}</p></div>'


def thumbnail(image: Image.Image) -> str:
    """A small copy of `image` as a data address."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return stage.preview(small)


def grid(plan: Plan, thumbnails: Mapping[int, str]) -> str:
    """The grid of `plan` as an HTML table with the finished cells; thumbnails: data addresses by cell index."""
    columns = value_labels(plan.x_values)
    rows = value_labels(plan.y_values) if plan.y else [""]
    x_title, y_title = AXES[plan.x].title, AXES[plan.y].title if plan.y else ""
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in columns)
    corner = f'<th class="df-corner" scope="col">{escape(y_title)}</th>' if plan.y else ""
    span = f'<th class="df-corner"></th><th colspan="{len(columns)}">' if plan.y else f'<th colspan="{len(columns)}">'
    lines = []
    for row, label in enumerate(rows):
        cells = []
        for column, across in enumerate(columns):
            alt = f"Synthetic lesion. {x_title}: {across}." + (f" {y_title}: {label}." if plan.y else "")
            cells.append(f"<td>{_cell(thumbnails.get(row * len(columns) + column), alt)}</td>")
        heading = f'<th scope="row">{escape(label)}</th>' if plan.y else ""
        lines.append(f"<tr>{heading}{''.join(cells)}</tr>")
    labels = 1 if plan.y else 0
    return (
        f'<div class="df-grid" role="region" aria-label="Grid of the sweep" tabindex="0" '
        f'style="--columns: {len(columns)}; --rows: {len(rows)}; --labels: {labels}"><table><thead>'
        f'<tr class="df-axis-title">{span}{escape(x_title)}</th></tr><tr>{corner}{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(address: str | None, alt: str) -> str:
    return f'<img src="{address}" alt="{escape(alt)}">' if address else '<span class="df-wait"></span>'
