"""How far measured lesions agree with what is known or was asked for: on phantoms, and on a generator's images."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dermaflux import background, phantom
from dermaflux.appearance import Appearance, measure
from dermaflux.errors import DataError
from dermaflux.evaluation.figures import Figure, f1, resampled, spearman, undefined
from dermaflux.files import pngs
from dermaflux.lesion import LesionAttributes

FIRST_PHANTOM, FIRST_REQUEST = 5_000_000, 10_000
"""Seeds from where on phantoms and requests are drawn: none that trainings of seed 0 use, as the shipped models'."""
ITA_WITHIN = 5.0
FEWEST = 2
"""Of images of which colours were asked, and of different values of another attribute, for a figure."""


@dataclass(frozen=True)
class Pair:
    """What a lesion should be, and what was measured."""

    wanted: LesionAttributes
    found: Appearance


def of_phantoms(count: int) -> list[Figure]:
    """The measures' agreement with `count` phantoms of every tone, with and without artefacts."""
    pairs, dice, skin = [], [], []
    for seed in range(FIRST_PHANTOM, FIRST_PHANTOM + count):
        drawn = phantom.draw(phantom.random_attributes(seed), seed)
        found = measure(drawn.image)
        pairs.append(Pair(drawn.attributes, found))
        dice.append(2 * (found.mask & drawn.mask).sum() / (found.mask.sum() + drawn.mask.sum()))
        lightness, _, yellow = background.to_lab(np.float32(drawn.skin).reshape(1, 1, 3))[0, 0]
        skin.append(abs(found.ita - math.degrees(math.atan2(lightness - 50, abs(yellow)))) <= ITA_WITHIN)
    exact = [pair.wanted.asymmetry == pair.found.asymmetry for pair in pairs]
    return [
        resampled("Dice of the lesion", np.mean, dice, aim=0.92),
        resampled("Asymmetry exact, share", np.mean, exact, aim=0.8),
        _ranks("Border segments, Spearman", pairs, "border", 0.8),
        _colours(pairs, 0.85),
        _ranks("Size, Spearman", pairs, "size_mm", None),
        resampled(f"ITA within {ITA_WITHIN:g} degrees, share", np.mean, skin, aim=0.9),
    ]


def requests(count: int) -> list[LesionAttributes]:
    """`count` lesions whose label and attributes are drawn independently; none has an artefact or a diagnosis."""
    drawn = (phantom.random_attributes(seed) for seed in range(FIRST_REQUEST, FIRST_REQUEST + count))
    return [replace(one, diagnosis=None, site=None, capture=None, artefacts=()) for one in drawn]


def of_images(wanted: Sequence[LesionAttributes], images: Iterable[np.ndarray]) -> list[Figure]:
    """The agreement of `images`, each (H, W, 3) uint8 RGB, with what was asked for.

    An image without a lesion counts as of no asymmetry, border, colour and size. An attribute is judged on the images
    of which it was asked; n says how many they are.
    """
    pairs = [Pair(one, measure(image)) for one, image in zip(wanted, images, strict=True)]
    return [
        resampled("A lesion is found, share", np.mean, [pair.found.found for pair in pairs]),
        _ranks("Asymmetry, Spearman", pairs, "asymmetry", 0.5),
        _ranks("Border, Spearman", pairs, "border", 0.5),
        _colours(pairs, 0.7),
        _ranks("Size, Spearman", pairs, "size_mm", 0.8),
        _ranks("Tone, Spearman", pairs, "tone", 0.8),
    ]


def drawn_folder(folder: Path) -> tuple[list[LesionAttributes], Iterator[np.ndarray]]:
    """What the recipes of a folder's synthetic PNGs asked for, and their images. Raises InputError without a
    recipe, DataError if there are none."""
    from dermaflux.images import open_untrusted, read_provenance

    paths = pngs(folder)
    if not paths:
        raise DataError(f"{folder} holds no PNG.")
    return [read_provenance(path).attributes for path in paths], (np.asarray(open_untrusted(path)) for path in paths)


def _ranks(name: str, pairs: Sequence[Pair], attribute: str, aim: float | None) -> Figure:
    asked = [pair for pair in pairs if getattr(pair.wanted, attribute) is not None]
    wanted = [getattr(pair.wanted, attribute) for pair in asked]
    if len(set(wanted)) < FEWEST:
        return undefined(name, len(asked), aim)
    return resampled(name, spearman, wanted, [getattr(pair.found, attribute) for pair in asked], aim=aim)


def _colours(pairs: Sequence[Pair], aim: float) -> Figure:
    asked = [pair for pair in pairs if pair.wanted.colours]
    if len(asked) < FEWEST:
        return undefined("Colours, F1", len(asked), aim)
    sets = [(set(pair.wanted.colours), set(pair.found.colours)) for pair in asked]
    counts = zip(*((len(a & b), len(b - a), len(a - b)) for a, b in sets), strict=True)
    return resampled("Colours, F1", f1, *counts, aim=aim)
