"""Attributes, the total dermoscopy score and the lesions that the program offers."""

import itertools
from collections import Counter

import pytest

from dermaflux.errors import InputError
from dermaflux.lesion import (
    BANDS,
    COLOURS,
    DIAGNOSES,
    EXAMPLES,
    LABELS,
    MONK_TONES,
    RANGES,
    STRUCTURES,
    LesionAttributes,
    band,
    plausible,
    total_dermoscopy_score,
)


def test_nothing_is_specified_by_default():
    assert LesionAttributes().specified() == {}


def test_specified_attributes_keep_the_order_of_the_fields_and_zero_counts():
    attributes = LesionAttributes(tone=3, asymmetry=0, label="benign", artefacts=("hair",))
    assert list(attributes.specified().items()) == [
        ("label", "benign"),
        ("asymmetry", 0),
        ("tone", 3),
        ("artefacts", ("hair",)),
    ]


def test_sets_are_put_in_the_vocabularys_order_once_each():
    attributes = LesionAttributes(colours=["black", "white", "black"], structures=("dots", "network"))
    assert attributes.colours == ("white", "black")
    assert attributes.structures == ("network", "dots")
    assert attributes == LesionAttributes(colours=("white", "black"), structures=("network", "dots"))
    assert len({attributes, LesionAttributes(colours=("white", "black"), structures=("network", "dots"))}) == 1


@pytest.mark.parametrize("name", RANGES)
def test_whole_numbers_are_accepted_up_to_their_limits_and_no_further(name):
    low, high = RANGES[name]
    for value in (low, high):
        assert getattr(LesionAttributes(**{name: value}), name) == value
    for value in (low - 1, high + 1, float(low), True, "1", float("nan"), 2**40, 10**5000):
        with pytest.raises(InputError, match=f"^{name} must be a whole number from {low} to {high}"):
            LesionAttributes(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label", "Benign"),
        ("label", ""),
        pytest.param("label", 10**5000, id="of 5001 digits"),
        ("diagnosis", "acne"),
        ("site", "moon"),
        ("capture", "x-ray"),
        ("colours", ("green",)),
        ("structures", ("dots", "veil")),
        ("artefacts", ("ink",)),
        ("colours", "red"),
    ],
)
def test_values_outside_the_vocabulary_are_refused(name, value):
    with pytest.raises(InputError):
        LesionAttributes(**{name: value})


def test_a_refusal_names_the_choices_and_shortens_what_was_given():
    with pytest.raises(InputError, match="benign, malignant") as refusal:
        LesionAttributes(label="x" * 5000)
    assert len(str(refusal.value)) < 200


def test_every_diagnosis_implies_a_label():
    assert {diagnosis.label for diagnosis in DIAGNOSES.values()} == set(LABELS)


def _abcd(a, b, c, d):
    return LesionAttributes(asymmetry=a, border=b, colours=tuple(COLOURS)[:c], structures=STRUCTURES[:d])


_COMBINATIONS = list(itertools.product(range(3), range(9), range(1, 7), range(1, 6)))


def test_the_score_follows_its_formula_over_all_combinations():
    assert len(_COMBINATIONS) == 810
    for a, b, c, d in _COMBINATIONS:
        assert total_dermoscopy_score(_abcd(a, b, c, d)) == pytest.approx(1.3 * a + 0.1 * b + 0.5 * c + 0.5 * d)
    assert total_dermoscopy_score(_abcd(0, 0, 1, 1)) == 1.0
    assert total_dermoscopy_score(_abcd(2, 8, 6, 5)) == 8.9


def test_the_bands_hold_365_136_and_309_combinations():
    counts = Counter(band(total_dermoscopy_score(_abcd(*combination))).name for combination in _COMBINATIONS)
    assert counts == {"benign": 365, "suspicious": 136, "highly suspicious of melanoma": 309}


@pytest.mark.parametrize(
    ("score", "name"),
    [
        (1.0, "benign"),
        (4.7, "benign"),
        (4.8, "suspicious"),
        (5.4, "suspicious"),
        (5.5, "highly suspicious of melanoma"),
        (8.9, "highly suspicious of melanoma"),
    ],
)
def test_bands_change_at_4_75_and_5_45(score, name):
    assert band(score).name == name
    assert band(score) in BANDS


def test_a_score_without_all_four_parts_names_the_missing_ones():
    with pytest.raises(InputError, match=r"asymmetry, structures\.$"):
        total_dermoscopy_score(LesionAttributes(border=0, colours=("red",)))


@pytest.mark.parametrize("label", [None, *LABELS])
def test_plausible_lesions_agree_with_their_label(label):
    seen = set()
    for seed in range(500):
        attributes = plausible(seed, label)
        score = total_dermoscopy_score(attributes)
        assert score < 4.75 if attributes.label == "benign" else score > 5.45
        assert DIAGNOSES[attributes.diagnosis].label == attributes.label
        assert label in (None, attributes.label)
        assert attributes == plausible(seed, label)
        seen.add(attributes)
    assert len(seen) > 450
    assert {attributes.label for attributes in seen} == (set(LABELS) if label is None else {label})


def test_examples_are_at_least_eight_different_lesions_with_a_score():
    assert len(EXAMPLES) >= 8
    assert len(set(EXAMPLES.values())) == len(EXAMPLES)
    for attributes in EXAMPLES.values():
        assert DIAGNOSES[attributes.diagnosis].label == attributes.label
        assert 1.0 <= total_dermoscopy_score(attributes) <= 8.9


def test_some_examples_look_unlike_their_label_and_say_so():
    for name, attributes in EXAMPLES.items():
        score = total_dermoscopy_score(attributes)
        discordant = score > 4.75 if attributes.label == "benign" else score < 5.45
        assert discordant == ("discordant" in name), name


def test_monk_swatches_darken_along_the_scale():
    lightness = [sum(int(swatch[i : i + 2], 16) for i in (1, 3, 5)) for swatch in MONK_TONES]
    assert len(MONK_TONES) == 10
    assert lightness[3:] == sorted(lightness[3:], reverse=True)
    assert min(lightness[:3]) > max(lightness[4:])
