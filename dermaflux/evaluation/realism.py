"""How close drawn images lie to real ones in a feature space, and whether they copy them.

kid: the kernel inception distance (see `distances`, where the others are too). coverage: the share of real images that
have a drawn one within the distance of their fifth real neighbour (Naeem et al., arXiv 2002.09797). copies: the share
of drawn images that lie nearer (cosine) to a training image than all but the nearest 1 % of held-out real images do.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from dermaflux.data import manifest
from dermaflux.data.curate import rows_of
from dermaflux.data.features import Backbone, Features
from dermaflux.data.pixels import open_rgb
from dermaflux.errors import DataError
from dermaflux.evaluation.distances import NEIGHBOURS, cmmd, covered, halves, kid, of_halves, some
from dermaflux.evaluation.figures import Figure, resampled
from dermaflux.files import pngs
from dermaflux.grid import save_marked
from dermaflux.images import open_untrusted, read_provenance

MOST = 500
AIMS = {"KID": 140.0, "coverage": 0.7, "copies": 0.02}
PAPER, GAP = "#ffffff", 2


@dataclass(frozen=True)
class Sets:
    """Features (N, F) of one label's training images, held-out images and drawn images."""

    train: np.ndarray
    held_out: np.ndarray
    drawn: np.ndarray


def compare(real: Path, drawn: Path, features: Features | Backbone, every: bool = False) -> list[Figure]:
    """The figures of the folder `drawn` for each label, and their means, against the manifest `real`.

    every: those of `every_of_sets` too, which take longer.
    """
    found = {}
    for label in manifest.LABELS:
        sets = _sets(label, real, drawn, features)
        found[label] = of_sets(sets, label) + (every_of_sets(sets, label) if every else [])
    each = list(zip(*found.values(), strict=True))
    return [figure for figures in found.values() for figure in figures] + [_mean(pair) for pair in each]


def of_sets(sets: Sets, label: str) -> list[Figure]:
    """KID, its floor (held-out against training images), coverage and copies."""
    nearest = cosine_similarity(sets.held_out, sets.train).max(1)
    near = cosine_similarity(sets.drawn, sets.train).max(1) > np.quantile(nearest, 0.99)
    return [
        kid(f"KID, {label}", sets.train, sets.drawn, AIMS["KID"]),
        kid(f"floor of KID, {label}", sets.train, sets.held_out),
        resampled(
            f"coverage, {label}", np.mean, covered(some(sets.train, MOST), some(sets.drawn, MOST)), aim=AIMS["coverage"]
        ),
        resampled(f"copies, {label}", np.mean, near, aim=AIMS["copies"], most=True),
    ]


def every_of_sets(sets: Sets, label: str) -> list[Figure]:
    """The distance of CMMD with its floor (held-out against training images), and the figures of `distances.of_halves`,
    whose real images are the training images."""
    return [
        cmmd(f"CMMD, {label}", sets.train, sets.drawn),
        cmmd(f"floor of CMMD, {label}", sets.train, sets.held_out),
        *of_halves(halves(sets.train, sets.drawn), label),
    ]


def save_nearest(
    real: Path, drawn: Path, features: Features | Backbone, out: Path, count: int = 16, side: int = 112
) -> list[str]:
    """Write a sheet of `count` drawn images, each with its nearest training image at its right; gives the names and
    cosines of those in the same order."""
    paths, rows = pngs(drawn), rows_of([real], "train")
    if len(paths) < count:
        raise DataError(f"{drawn} holds {len(paths)} images; {count} are needed.")
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, count).astype(int)]
    near = cosine_similarity(
        features.of(open_untrusted(path) for path in paths), features.of(open_rgb(row) for row in rows)
    )
    columns, pitch = 4, 2 * side + 4 * GAP
    sheet = Image.new("RGB", (columns * pitch, -(-count // columns) * (side + 4 * GAP)), PAPER)
    recipes, names = [], []
    for index, (path, nearest) in enumerate(zip(paths, near.argmax(1), strict=True)):
        row, column = divmod(index, columns)
        for k, image in enumerate((open_untrusted(path), open_rgb(rows[nearest]))):
            small = image.resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(small, (column * pitch + k * (side + GAP), row * (side + 4 * GAP)))
        recipes.append((row, column, read_provenance(path)))
        names.append(f"{path.name}: {rows[nearest].path.stem}, cosine {near[index, nearest]:.3f}")
    title = f"{count} synthetic skin lesions, each with the nearest training photograph at its right."
    save_marked(sheet, title, recipes, out)
    return names


def _sets(label: str, real: Path, drawn: Path, features: Features | Backbone) -> Sets:
    rows = [[row for row in manifest.read(real, split) if row.label == label] for split in ("train", "val")]
    rows.append([row for row in manifest.read(drawn / "manifest.csv") if row.label == label])
    for one, what in zip(rows, (f"train images in {real}", f"val images in {real}", f"images in {drawn}"), strict=True):
        if len(one) <= NEIGHBOURS:
            raise DataError(f"There are only {len(one)} {label} {what}; at least {NEIGHBOURS + 1} are needed.")
    return Sets(*(features.of(open_rgb(row) for row in one) for one in rows))


def _mean(pair: tuple[Figure, ...]) -> Figure:
    """The mean of the labels' figures, taken as independent; no end of its interval lies beyond the mean of theirs."""
    each = ((one.value, *one.interval) for one in pair)
    value, low, high = (sum(ends) / len(pair) for ends in zip(*each, strict=True))
    half = sum(((one.interval[1] - one.interval[0]) / 2) ** 2 for one in pair) ** 0.5 / len(pair)
    interval = max(low, value - half), min(high, value + half)
    name = pair[0].name.split(",")[0] + ", mean"
    return Figure(name, value, interval, sum(one.n for one in pair), pair[0].aim, pair[0].most)
