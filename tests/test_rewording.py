"""Captions with other attributes, from which guidance leads away."""

from dataclasses import replace

from dermaflux import phantom
from dermaflux.caption import caption, parse
from dermaflux.lesion import COLOURS
from dermaflux.training.rewording import contrary, is_lopsided, other_symmetry, recoloured


def test_a_contrary_caption_differs_in_asymmetry_and_border_alone():
    for seed in range(200):
        asked = phantom.random_attributes(seed)
        other = parse(contrary(caption(asked, seed), seed))
        end = seed % 2
        asymmetry = {0: 2, 1: 2 * end, 2: 0}[asked.asymmetry]
        border = 8 * end if asked.border == 4 else 8 - asked.border
        assert other == replace(asked, asymmetry=asymmetry, border=border)
        bare = replace(asked, asymmetry=None, border=None)
        assert contrary(caption(bare, seed), seed) == caption(bare, seed)


def test_another_symmetry_is_lopsided_where_it_was_not_and_the_other_way_round():
    for seed in range(200):
        asked = phantom.random_attributes(seed)
        text = caption(asked, seed)
        other = parse(other_symmetry(text, seed))
        assert other == replace(asked, asymmetry=seed % 2 if asked.asymmetry == 2 else 2)
        assert is_lopsided(text) == (asked.asymmetry == 2)
        bare = caption(replace(asked, asymmetry=None), seed)
        assert other_symmetry(bare, seed) == bare and not is_lopsided(bare)


def test_a_recoloured_lesion_has_as_many_colours_that_it_had_not_or_as_there_are():
    for seed in range(200):
        asked = phantom.random_attributes(seed)
        other = parse(recoloured(caption(asked, seed), seed))
        assert replace(other, colours=asked.colours) == asked
        left = len(COLOURS) - len(asked.colours)
        assert not left or len(other.colours) == min(len(asked.colours), left)
        assert not left or not set(other.colours) & set(asked.colours)


def test_a_lesion_of_all_colours_or_none_that_are_named_is_not_recoloured():
    for colours in ((), tuple(COLOURS)):
        text = caption(replace(phantom.random_attributes(0), colours=colours), 0)
        assert recoloured(text, 0) == text
    assert recoloured("A mole, red as a cherry.", 0) == "A mole, red as a cherry."
