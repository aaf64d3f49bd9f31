"""Captions with other attributes, from which guidance leads away."""

from dataclasses import replace

from dermaflux import phantom
from dermaflux.caption import caption, parse
from dermaflux.lesion import COLOURS
from dermaflux.rewording import contrary, lopsided, recoloured, worst


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


def test_the_worst_lesion_is_lopsided_of_the_opposite_border_and_of_other_colours():
    for seed in range(200):
        asked = phantom.random_attributes(seed)
        text = caption(asked, seed)
        other = parse(worst(text, seed))
        border = parse(contrary(text, seed)).border
        colours = parse(recoloured(text, seed)).colours
        assert other == replace(asked, asymmetry=2, border=border, colours=colours)
        assert parse(lopsided(text, seed)) == replace(asked, asymmetry=2)
        bare = caption(replace(asked, asymmetry=None, border=None, colours=()), seed)
        assert worst(bare, seed) == bare


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
