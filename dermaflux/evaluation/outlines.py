"""Measured outlines drawn on real images, for looking at: where no true outline is known, eyes must judge."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dermaflux.data import manifest
from dermaflux.data.pixels import measured, open_rgb
from dermaflux.evaluation.figures import Figure, resampled
from dermaflux.files import write_atomically

LINE, MISSING = (0, 255, 120), (255, 0, 0)


def save_outlines(rows: Sequence[manifest.Row], out: Path, columns: int = 12, side: int = 128) -> list[Figure]:
    """Write a sheet of the images of `rows`, each with its lesion's outline, or in a red frame where none is found;
    gives the share with one."""
    sheet = Image.new("RGB", (columns * side, -(-len(rows) // columns) * side))
    found = []
    for index, row in enumerate(rows):
        rgb = np.asarray(open_rgb(row))
        mask = measured(row, rgb).mask
        found.append(bool(mask.any()))
        small = np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.LANCZOS)).copy()
        outline = cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA)
        contours, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(small, contours, -1, LINE, 1)
        if not found[-1]:
            cv2.rectangle(small, (0, 0), (side - 1, side - 1), MISSING, 3)
        sheet.paste(Image.fromarray(small), (index % columns * side, index // columns * side))
    write_atomically(out, lambda file: sheet.save(file, "png"))
    return [resampled("A lesion is found, share", np.mean, found)]
