"""Draw an image several times, and keep the candidate whose measured lesion is nearest to the one asked for.

Most noises become a lopsided lesion, whatever the caption says; of several, one more often becomes what it does say.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from dermaflux.appearance import measure, misfit
from dermaflux.lesion import LesionAttributes
from dermaflux.samples import Preview, Sample

Draw = Callable[[Sequence[int], int], Iterator[Preview | Sample]]


def seed_of(seed: int, candidate: int) -> int:
    """The seed, 0 to 2^32 - 1, of a candidate counted from 0; the first one's is `seed`."""
    return int(np.random.SeedSequence((seed, candidate)).generate_state(1)[0]) if candidate else seed


def nearest(draw: Draw, asked: Sequence[LesionAttributes], candidates: int) -> Iterator[Preview | Sample]:
    """Of each image the sample nearest to what is `asked`, as soon as one is all that, or all `candidates` are drawn;
    until then, not yet settled, the nearest so far.

    draw: given which images to draw, and the number of their candidate from 0, yields their previews and samples. One
    candidate is taken as it comes.
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
            found = misfit(asked[item.index], measure(item.image))
            nearer = item.index not in best or found < best[item.index][0]
            if nearer:
                best[item.index] = found, item
            if not found or number == candidates - 1:
                yield best.pop(item.index)[1]
            elif nearer:
                yield replace(item, settled=False)
        left = sorted(best)
        if not left:
            return
