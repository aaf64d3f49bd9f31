"""Draw an image several times, and keep the candidate that is best: by how near its measured lesion is to the one asked
for, and, where the model can tell, by how like a photograph it is.

Most noises become a lopsided lesion, whatever the caption says; of several, one more often becomes what it does say.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from dermaflux.appearance import measure, misfit
from dermaflux.lesion import LesionAttributes
from dermaflux.samples import Preview, Sample

Draw = Callable[[Sequence[int], int], Iterator[Preview | Sample]]
Alike = Callable[[Image.Image], float]
"""How like a photograph an image is, in standard deviations of drawn images from their mean; see `likeness`."""
WORTH, ENOUGH = 0.25, 0.5
"""The misfit that one standard deviation of likeness makes up for, half an axis of asymmetry; and the
likeness from which on no further candidate is drawn of an image that is all that was asked for."""


def seed_of(seed: int, candidate: int) -> int:
    """The seed, 0 to 2^32 - 1, of a candidate counted from 0; the first one's is `seed`."""
    return int(np.random.SeedSequence((seed, candidate)).generate_state(1)[0]) if candidate else seed


def chosen(
    draw: Draw, asked: Sequence[LesionAttributes], candidates: int, alike: Alike = lambda image: ENOUGH
) -> Iterator[Preview | Sample]:
    """Of each image the sample with the least misfit to what is `asked`, less WORTH of its likeness: as soon as one is
    all that was asked for and ENOUGH like a photograph, or all `candidates` are drawn; until then, not yet settled, the
    best so far.

    draw: given which images to draw, and the number of their candidate from 0, yields their previews and samples. One
    candidate is taken as it comes. alike: where it is not given, all images are equally alike.
    """
    if candidates == 1:
        yield from draw(range(len(asked)), 0)
        return
    best: dict[int, tuple[float, Sample]] = {}
    left = list(range(len(asked)))
    for number in range(candidates):
        for item in draw(left, number):
            if isinstance(item, Preview):
                yield item
                continue
            found, likeness = misfit(asked[item.index], measure(item.image)), alike(item.image)
            far = found - WORTH * likeness
            better = item.index not in best or far < best[item.index][0]
            if better:
                best[item.index] = far, item
            if (not found and likeness >= ENOUGH) or number == candidates - 1:
                yield best.pop(item.index)[1]
            elif better:
                yield replace(item, settled=False)
        left = sorted(best)
        if not left:
            return
