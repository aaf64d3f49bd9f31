"""Captions in the published form with other attributes: what guidance is to lead away from.

What a caption does not name stays away, and what it words otherwise stays as it is.
"""

import random
from collections.abc import Sequence

from dermaflux import phrases
from dermaflux.caption import listed, read
from dermaflux.lesion import COLOURS

MOST_AXES, MOST_SEGMENTS = 2, 8


def contrary(caption: str, seed: int) -> str:
    """A caption in the published form with the sentences on asymmetry and border of the opposite lesion: 2 axes for
    0, 8 segments for 0, and so on. seed: decides which end is opposite to the middle. What is not there stays away."""
    return recut(_swapped(caption, phrases.ASYMMETRY, _opposite(MOST_AXES, seed)), seed)


def lopsided(caption: str, seed: int) -> str:
    """A caption in the published form of the lesion asymmetric in both axes, as most are that are drawn, whatever was
    asked for."""
    return _swapped(caption, phrases.ASYMMETRY, [MOST_AXES] * (MOST_AXES + 1))


def worst(caption: str, seed: int) -> str:
    """A caption in the published form of the `lopsided` lesion, recoloured and recut."""
    return recoloured_and_recut(lopsided(caption, seed), seed)


def recoloured_and_recut(caption: str, seed: int) -> str:
    """A caption in the published form of the lesion of other colours, `recoloured`, and of another border, `recut`."""
    return recoloured(recut(caption, seed), seed)


def recut(caption: str, seed: int) -> str:
    """A caption in the published form of the lesion of the opposite border: 8 segments for 0, and so on."""
    return _swapped(caption, phrases.BORDER, _opposite(MOST_SEGMENTS, seed))


def recoloured(caption: str, seed: int) -> str:
    """A caption in the published form with as many colours as it names that it does not name, or as there are left;
    seed: picks them."""
    own = read(caption).attributes.colours
    left = [colour for colour in COLOURS if colour not in own]
    if not own or not left:
        return caption
    picked = random.Random(seed).sample(left, min(len(own), len(left)))
    others = phrases.COLOUR if len(picked) == 1 else phrases.COLOURS
    for number, wording in enumerate(phrases.COLOUR if len(own) == 1 else phrases.COLOURS):
        sentence = wording.format(list=listed(own))
        if sentence in caption:
            return caption.replace(sentence, others[number].format(list=listed(c for c in COLOURS if c in picked)))
    return caption


def _opposite(most: int, seed: int) -> list[int]:
    """What is opposite to each of the values from 0 to `most`; to the middle, the end that `seed` decides."""
    end = most if seed % 2 else 0
    return [end if 2 * value == most else most - value for value in range(most + 1)]


def _swapped(caption: str, wordings: dict[int, tuple[str, ...]], opposite: Sequence[int]) -> str:
    """`caption` with a sentence of `wordings`, if it has one, as it is worded for the opposite of its value."""
    for value, sentences in wordings.items():
        for number, sentence in enumerate(sentences):
            if sentence in caption:
                others = wordings[opposite[value]]
                return caption.replace(sentence, others[number % len(others)])
    return caption
