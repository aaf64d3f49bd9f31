"""Reading free descriptions: wording, negation, contradiction, what stays unread, and time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermaflux.caption import caption, read
from dermaflux.lesion import EXAMPLES, LesionAttributes

_READS = {
    "A malignant melanoma, asymmetric in two axes, irregular border in 5 segments, black and dark brown, 8 mm": dict(
        label="malignant", diagnosis="melanoma", asymmetry=2, border=5, colours=("dark brown", "black"), size_mm=8
    ),
    "asymmetry: 2, border: 5/8, colors: red, white; structures: network, dots; diameter: 12 mm; MST-7": dict(
        asymmetry=2, border=5, colours=("white", "red"), structures=("network", "dots"), size_mm=12, tone=7
    ),
    "ASYMMETRICAL ALONG ONE AXIS. BORDER CUT-OFF IN 4 SEGMENTS": dict(asymmetry=1, border=4),
    "The lesion is roughly symmetrical. Its edges are smooth. It is a uniform tan color.": dict(
        asymmetry=0, border=0, colours=("light brown",)
    ),
    "A 0.8 cm melanocytic naevus on the left forearm, bluish-gray": dict(
        diagnosis="nevus", size_mm=8, site="upper extremity", colours=("blue-grey",)
    ),
    "light to dark brown, 10 x 8 millimetres, with globular pattern": dict(
        colours=("light brown", "dark brown"), size_mm=10, structures=("globules",)
    ),
    "Typical pigment network and irregular streaks, homogeneous areas": dict(
        structures=("network", "structureless areas", "branched streaks")
    ),
    "Three colours: black, pink and white": dict(colours=("white", "red", "black")),
    "two-axis asymmetry; five cut-off segments, eleven-mm": dict(asymmetry=2, border=5, size_mm=11),
    "The border ends abruptly in all segments, skin tone 4/10": dict(border=8, tone=4),
    "A clinical photo of a seborrhoeic keratosis on the back of the hand": dict(
        diagnosis="seborrheic keratosis", site="upper extremity", capture="clinical"
    ),
    "Black hair, dark brown skin, Monk 8; dark vignetting; a red lesion": dict(
        artefacts=("hair", "dark corners"), tone=8, colours=("red",)
    ),
    "Dermoscopic features: streaks. Benign-looking mole.": dict(structures=("branched streaks",), label="benign"),
}


@pytest.mark.parametrize("text", _READS)
def test_free_wording_is_read(text):
    reading = read(text)
    assert reading.attributes == LesionAttributes(**_READS[text])
    assert reading.unread == ()


_NEGATED = {
    "No streaks, not asymmetric, without hair.": dict(asymmetry=0),
    "no streaks, dots or globules": {},
    "Neither dots nor globules are seen": {},
    "Streaks and dots are absent. Globules are not visible.": {},
    "Streaks are absent; dots present": dict(structures=("dots",)),
    "It does not have branched streaks but shows globules": dict(structures=("globules",)),
    "No network, dark brown in colour, 5 mm": dict(colours=("dark brown",), size_mm=5),
    "There is no blue, grey or white": {},
    "not black but light brown": dict(colours=("light brown",)),
    "hair-free, hair removed, hairless": {},
    "Hair: no, ruler: yes": dict(artefacts=("ruler",)),
    "No abrupt cut-off. No dark corners or hair but a ruler": dict(border=0, artefacts=("ruler",)),
    "It does not end abruptly in any segment": dict(border=0),
    "The lesion isn't symmetrical in either axis": dict(asymmetry=2),
    "A benign lesion with no signs of malignancy": dict(label="benign"),
}


@pytest.mark.parametrize("text", _NEGATED)
def test_what_is_negated_is_not_read_as_present(text):
    reading = read(text)
    assert reading.attributes == LesionAttributes(**_NEGATED[text])
    assert reading.unread == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The lesion is neither benign nor malignant.", {}),
        ("It is neither malignant nor a melanoma.", {}),
        ("not benign or malignant", {}),
        ("It is neither a nevus nor a melanoma.", {}),
        ("No melanoma or basal cell carcinoma is seen.", {}),
        ("without melanoma, basal cell carcinoma or dermatofibroma", {}),
        ("No malignant melanoma is seen.", {}),
        ("It is not a nevus, melanoma is suspected.", {}),
        ("This benign lesion is neither a melanoma nor a basal cell carcinoma.", dict(label="benign")),
        ("No melanoma but a nevus or a dermatofibroma.", dict(diagnosis="nevus")),
        ("No melanoma and a benign nevus, 6 mm", dict(label="benign", diagnosis="nevus", size_mm=6)),
    ],
)
def test_of_labels_and_diagnoses_that_are_negated_together_none_is_read(text, said):
    reading = read(text)
    assert reading.attributes == LesionAttributes(**said)
    assert bool(reading.unread) == ("and a benign" not in text)


@pytest.mark.parametrize(
    "text",
    [
        "The mole is asymmetrical, with one half not matching the other",
        "The border is irregular and jagged",
        "Well-defined border",
        "a brown lesion",
        "blue-white veil",
        "reddish-brown papule",
        "negative network",
        "on fair skin",
        "Fitzpatrick skin type IV",
        "larger than 6 mm",
        "6-8 mm",
        "five to six segments",
        "7.5 mm",
        "-5 mm",
        "25 mm",
        "twenty-two mm",
        "Monk tone 12",
        "abrupt in three of ten segments",
        "abrupt in 9 segments",
        "The border fades in three of eight segments",
        "It does not end abruptly in three segments",
        "streaks in three segments",
        "Breslow thickness 2 mm",
        "lentigo maligna",
        "not benign",
        "Ruled out melanoma",
        "病変は悪性です",
        "<script>alert(1)</script>",
    ],
)
def test_what_is_vague_or_outside_the_vocabulary_is_unread_and_unspecified(text):
    reading = read(text)
    assert reading.attributes == LesionAttributes()
    assert reading.unread == (text,)


def test_unread_clauses_come_in_order_beside_what_was_read():
    reading = read(
        "The mole is asymmetrical, with one half not matching the other. The color is dark brown with black areas. "
        "Amelanotic melanoma with a blue-white veil and dots."
    )
    assert reading.attributes == LesionAttributes(
        diagnosis="melanoma", colours=("dark brown", "black"), structures=("dots",)
    )
    assert reading.unread == (
        "The mole is asymmetrical, with one half not matching the other",
        "Amelanotic",
        "a blue-white veil",
    )


@pytest.mark.parametrize(
    ("text", "kept", "unread"),
    [
        ("Benign. Malignant.", dict(label="benign"), ("Malignant",)),
        ("Asymmetric in one axis. Asymmetric in both axes.", dict(asymmetry=1), ("Asymmetric in both axes",)),
        ("6 mm, then 9 mm", dict(size_mm=6), ("then 9 mm",)),
        ("nevus or melanoma", dict(diagnosis="nevus"), ("melanoma",)),
        ("Dots are seen. No dots.", dict(structures=("dots",)), ("No dots",)),
        ("No hair. Hair over the lesion.", {}, ("Hair over the lesion",)),
        ("Regular border, cut off in one segment", dict(border=1), ("Regular border",)),
    ],
)
def test_of_two_values_the_first_is_kept_and_the_other_is_unread(text, kept, unread):
    reading = read(text)
    assert reading.attributes == LesionAttributes(**kept)
    assert reading.unread == unread


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(sorted(_READS) + sorted(_NEGATED)), max_size=4).map(" ".join))
def test_any_text_is_read_without_error_and_unread_parts_stand_in_it(text):
    reading = read(text)
    places, start = [], 0
    for part in reading.unread:
        start = text.index(part, start)
        places.append(start)
        start += len(part)
    assert places == sorted(places)


@pytest.mark.parametrize(
    "unit",
    [
        "no streaks, dots, ",
        "not a ",
        "8 mm",
        "! ",
        "-",
        "light, ",
        "1",
        "é",
        caption(EXAMPLES["Early melanoma"], 3) + " ",
    ],
)
def test_a_very_long_text_is_read_to_its_end(unit):
    text = (unit * (20_000 // len(unit) + 1))[:20_000]
    found = read(text + " It measures 9 mm.")
    assert found.attributes.size_mm == 9 or found.unread
