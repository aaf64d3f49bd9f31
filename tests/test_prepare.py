"""Words of the owners of sets, brought to those of manifests."""

import pytest

from dermaflux.data.prepare import find_sex, find_site, find_tone
from dermaflux.lesion import SITES


@pytest.mark.parametrize("text", ["anterior torso", "head/neck", "UPPER EXTREMITY", "Foot", "oral/genital", "", "nail"])
def test_places_on_the_body_are_sites_or_nothing(text):
    assert find_site(text) in ("", *SITES)
    assert (find_site(text) == "") == (text in ("", "nail"))


@pytest.mark.parametrize(
    ("text", "scale", "meant"),
    [
        ("III", "Fitzpatrick", "Fitzpatrick III"),
        ("iv ", "Fitzpatrick", "Fitzpatrick IV"),
        ("3.0", "Fitzpatrick", "Fitzpatrick III"),
        ("34", "Fitzpatrick", "Fitzpatrick III-IV"),
        ("7", "Fitzpatrick", ""),
        ("0", "Fitzpatrick", ""),
        ("17", "Fitzpatrick", ""),
        ("", "Fitzpatrick", ""),
        ("nan", "Fitzpatrick", ""),
        ("0", "MILK10k class", "MILK10k class 0"),
        ("2.0", "MILK10k class", "MILK10k class 2"),
        ("", "MILK10k class", ""),
    ],
)
def test_a_skin_tone_names_its_scale(text, scale, meant):
    assert find_tone(text, scale) == meant


@pytest.mark.parametrize(
    ("text", "meant"), [("FEMALE", "female"), ("m", "male"), ("UNK", ""), ("", ""), ("Intersex", "intersex")]
)
def test_sex_is_written_in_one_way_over_all_sets(text, meant):
    assert find_sex(text) == meant
