"""Contact sheets: many synthetic images at a glance, as one PNG that carries all their recipes."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from dermaflux.errors import InputError
from dermaflux.grid import save_marked
from dermaflux.images import open_untrusted, read_provenance

GAP, PAPER = 2, "#ffffff"


def save_sheet(paths: Sequence[Path], out: Path, columns: int = 8, side: int = 112) -> Path:
    """Write the synthetic PNGs at `paths` as rows of `columns` images of `side` px each.

    Raises InputError if there are none, or for one that carries no recipe.
    """
    if not paths:
        raise InputError("There are no synthetic PNGs to put on a sheet.")
    rows = -(-len(paths) // columns)
    pitch = side + GAP
    image = Image.new("RGB", (columns * pitch - GAP, rows * pitch - GAP), PAPER)
    places = [(index // columns, index % columns) for index in range(len(paths))]
    for (row, column), path in zip(places, paths, strict=True):
        small = open_untrusted(path).resize((side, side), Image.Resampling.LANCZOS)
        image.paste(small, (column * pitch, row * pitch))
    recipes = [(row, column, read_provenance(path)) for (row, column), path in zip(places, paths, strict=True)]
    return save_marked(image, f"A sheet of {len(paths)} skin lesions.", recipes, out)
