"""Boxes and points that readers drew on what looks wrong: found among readings, and drawn on pictures."""

import io
import json
from collections import defaultdict
from collections.abc import Iterable

import pandas as pd
from PIL import Image, ImageDraw

from dermaflux.errors import InputError
from dermaflux.study.answers import Box, boxes
from dermaflux.study.estimates import first_showings

POINT = 0.01
"""A box that is smaller than this share of the side is a point, as on the readers' page."""
RADIUS, LINE = 0.03, 0.014
"""Of a point's circle and of a line's width, in shares of the side, so that both show on a thumbnail."""


def of_cases(readings: pd.DataFrame) -> dict[str, tuple[Box, ...]]:
    """The places that readers marked on each case; what is no list of places is passed over."""
    first, found = first_showings(readings), defaultdict(list)
    for case, text in zip(first["case"].astype(str), first["marked"].astype("string").fillna(""), strict=True):
        try:
            found[case] += boxes("marked", json.loads(text or "[]"))
        except (ValueError, RecursionError, InputError):
            continue
    return {case: tuple(of) for case, of in found.items() if of}


def small(png: bytes, marked: Iterable[Box], side: int) -> Image.Image:
    """A picture, at most `side` px wide and high, with these places drawn on it in white on black."""
    with Image.open(io.BytesIO(png)) as image:
        shown = image.convert("RGB")
    pen, most, places = ImageDraw.Draw(shown), max(shown.size), list(marked)
    width = max(1, round(LINE * most))
    for colour, line in (("black", 2 * width), ("white", width)):
        for x0, y0, x1, y1 in places:
            edge = (line - 1) // 2
            if max(x1 - x0, y1 - y0) < POINT:
                x, y, radius = x0 * shown.width, y0 * shown.height, RADIUS * most + edge
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=line)
            else:
                left, top, right, low = x0 * shown.width, y0 * shown.height, x1 * shown.width, y1 * shown.height
                pen.rectangle((left - edge, top - edge, right + edge, low + edge), outline=colour, width=line)
    shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    return shown
