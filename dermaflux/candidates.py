"""Draw an image several times, and keep the candidate that is best: by how near its measured lesion is to the one asked
for, and, where the model can tell, by how like a photograph it is.

Most noises become a lopsided lesion, whatever the caption says; of several, one more often becomes what it does say.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from dermaflux.appearance import measure, misfit
from dermaflux.lesion import LesionAttributes
from dermaflux.samples import Preview, Sample

Draw = Callable[[Sequence[int], Sequence[int]], Iterator[Preview | Sample]]
"""Draws of each image, by its place, candidates of some numbers from 0: the first of every image, then the second."""
Alike = Callable[[Image.Image], float]
"""How like a photograph an image is, in standard deviations of drawn images from their mean; see `likeness`."""
WORTH, ENOUGH = 0.3, 0.5
"""The misfit that one standard deviation of likeness makes up for, 0.6 axes of asymmetry; and the
likeness from which on no further candidate is drawn of an image that is all that was asked for."""
AT_ONCE = 3
"""So many candidates are drawn together of an image that is alone: it takes three quarters as long as when they are
drawn one after another; more would often be drawn in vain."""


def seed_of(seed: int, candidate: int) -> int:
    """The seed, 0 to 2^32 - 1, of a candidate counted from 0; the first one's is `seed`."""
    return int(np.random.SeedSequence((seed, candidate)).generate_state(1)[0]) if candidate else seed


def chosen(
    draw: Draw,
    asked: Sequence[LesionAttributes],
    candidates: int,
    alike: Alike = lambda image: ENOUGH,
    batch: int = 1,
) -> Iterator[Preview | Sample]:
    """Of each image the sample with the least misfit to what is `asked`, less WORTH of its likeness: as soon as one is
    all that was asked for and ENOUGH like a photograph, or all `candidates` are drawn; until then, not yet settled, the
    best so far.

    One candidate is taken as it comes. alike: where it is not given, all images are equally alike. batch: as many as
    can be drawn at once; which candidate is kept does not depend on it.
    """
    if candidates == 1:
        yield from draw(range(len(asked)), range(1))
        return
    left, number, judged = list(range(len(asked))), 0, Counter()
    best: dict[int, tuple[float, Sample]] = {}
    while left:
        together = min(batch, AT_ONCE) if len(left) == 1 else 1
        turn = range(number, min(number + together, candidates))
        for item in draw(left, turn):
            if isinstance(item, Preview):
                yield item
                continue
            place = item.index
            found, likeness = misfit(asked[place], measure(item.image)), alike(item.image)
            judged[place] += 1
            far = found - WORTH * likeness
            better = place not in best or far < best[place][0]
            if better:
                best[place] = far, item
            if (not found and likeness >= ENOUGH) or judged[place] == candidates:
                left = [other for other in left if other != place]
                yield best.pop(place)[1]
                if not left:
                    return
            elif better:
                yield replace(item, settled=False)
        number = turn.stop
