"""A manifest on one page: how many of what, of which size, and what they look like."""

import base64
import io
from collections import Counter
from collections.abc import Iterable
from html import escape
from pathlib import Path

from dermaflux import appearance
from dermaflux.data.check import Report
from dermaflux.data.manifest import Row
from dermaflux.errors import InputError
from dermaflux.files import write_atomically
from dermaflux.images import open_file

THUMBNAIL = 128
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:0 0 1.5rem}td,th{text-align:left;padding:.2rem 1rem .2rem 0}"
    "td:last-child{text-align:right}figure{display:inline-block;margin:0 .5rem .5rem 0;font-size:.8rem}"
)


def write(report: Report, title: str, out: Path) -> None:
    """Write the page as one HTML file, with the report's sample; images of people's skin are in it."""
    split = Counter({f"{split or 'no split'}, {label}": count for (split, label), count in report.counts.items()})
    sides = Counter({f"{width} x {height} px": count for (width, height), count in report.sizes.items()})
    parts = [_table("Split and label", split), _table("Size", sides)]
    for column, counts in report.columns.items():
        if counts:
            parts.append(_table(column.replace("_", " ").capitalize(), counts))
    tones = Counter(filter(None, (_tone(row) for row in report.sample)))
    if tones:
        parts.append(_table(f"Apparent skin tone, as measured on {tones.total()} of the images below", tones))
    said = "".join(f"<li>{escape(line)}</li>" for line in report.lines())
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1><ul>{said}</ul>{''.join(parts)}<h2>Sample</h2>"
        f"{''.join(map(_figure, report.sample))}</html>"
    )
    write_atomically(out, lambda file: file.write(page.encode()))


def _table(title: str, counts: Counter, most: int = 20) -> str:
    rows: Iterable[tuple[str, int]] = counts.most_common(most)
    body = "".join(f"<tr><td>{escape(name)}</td><td>{count}</td></tr>" for name, count in rows)
    rest = f"<tr><td>{len(counts) - most} others</td><td></td></tr>" if len(counts) > most else ""
    return f"<h2>{escape(title)}</h2><table>{body}{rest}</table>"


def _tone(row: Row) -> str:
    """The apparent skin tone; empty where it cannot be measured."""
    try:
        return appearance.measure(open_file(row.path)).tone_name
    except InputError:
        return ""


def _figure(row: Row) -> str:
    image, buffer = open_file(row.path).convert("RGB"), io.BytesIO()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(buffer, "JPEG", quality=80)
    address = base64.b64encode(buffer.getvalue()).decode()
    said = escape(", ".join(filter(None, (row.label, row.values.get("diagnosis")))))
    return f'<figure><img src="data:image/jpeg;base64,{address}" alt="{said}"><figcaption>{said}</figcaption></figure>'
