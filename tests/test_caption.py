"""Captions of attributes, and attributes of captions and of free descriptions."""

import itertools
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermaflux import phrases
from dermaflux.caption import MAX_CHARACTERS, caption, clean, parse, read
from dermaflux.errors import InputError
from dermaflux.lesion import (
    ARTEFACTS,
    CAPTURES,
    COLOURS,
    DIAGNOSES,
    EXAMPLES,
    LABELS,
    RANGES,
    SITES,
    STRUCTURES,
    LesionAttributes,
    plausible,
)


def _maybe(values):
    return st.none() | st.sampled_from(values)


def _subset(values):
    return st.lists(st.sampled_from(values), unique=True).map(tuple)


_WHOLE_SPACE = st.builds(
    LesionAttributes,
    label=_maybe(LABELS),
    diagnosis=_maybe(tuple(DIAGNOSES)),
    site=_maybe(SITES),
    capture=_maybe(CAPTURES),
    colours=_subset(tuple(COLOURS)),
    structures=_subset(STRUCTURES),
    artefacts=_subset(ARTEFACTS),
    **{name: st.none() | st.integers(*limits) for name, limits in RANGES.items()},
)
_FULLEST = LesionAttributes(
    "malignant",
    "basal cell carcinoma",
    2,
    8,
    tuple(COLOURS),
    STRUCTURES,
    20,
    "head and neck",
    8,
    "dermoscopic",
    ARTEFACTS,
)


@settings(max_examples=600, deadline=None)
@given(_WHOLE_SPACE, st.integers(-(2**40), 2**40))
def test_any_caption_reads_back_to_its_attributes_with_nothing_unread(attributes, seed):
    reading = read(caption(attributes, seed))
    assert reading.attributes == attributes
    assert reading.unread == ()


def _subsets(names):
    return itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(1, len(names) + 1))


_SINGLE_VALUES = [
    *(
        (name, value)
        for name, values in {
            "label": LABELS,
            "diagnosis": DIAGNOSES,
            "site": SITES,
            "capture": CAPTURES,
            **{name: range(low, high + 1) for name, (low, high) in RANGES.items()},
        }.items()
        for value in values
    ),
    *(("colours", names) for names in _subsets(tuple(COLOURS))),
    *(("structures", names) for names in _subsets(STRUCTURES)),
    *(("artefacts", names) for names in _subsets(ARTEFACTS)),
]


def test_every_phrasing_of_every_level_of_every_attribute_reads_back():
    for name, value in _SINGLE_VALUES:
        attributes = LesionAttributes(**{name: value})
        texts = {caption(attributes, seed) for seed in range(60)}
        assert len(texts) >= 4, f"{name}={value} has {len(texts)} phrasings"
        for text in texts:
            assert read(text).attributes == attributes, text
            assert read(text).unread == (), text


@pytest.mark.parametrize("name", ["asymmetry", "border"])
def test_each_phrase_of_a_level_belongs_to_that_level_only(name):
    table = {"asymmetry": phrases.ASYMMETRY, "border": phrases.BORDER}[name]
    low, high = RANGES[name]
    assert list(table) == list(range(low, high + 1))
    assert len(set(itertools.chain(*table.values()))) == sum(len(options) for options in table.values())
    for level, options in table.items():
        for phrase in options:
            assert parse(phrase) == LesionAttributes(**{name: level}), phrase


def test_captions_have_the_published_form():
    opening = "This photo depicts a {}lesion. Here's a description of the mole: "
    for attributes in EXAMPLES.values():
        text = caption(attributes, 7)
        assert text.startswith(opening.format(attributes.label + " "))
        assert text.split(". ")[-1].startswith("Overall, ")
        assert text.endswith(f"{attributes.diagnosis}.")
    assert caption(LesionAttributes()).startswith(opening.format(""))
    assert caption(LesionAttributes("benign"), 3).endswith(("benign.", "benign lesion."))


def test_sentences_follow_the_fixed_order():
    order = ("asymmetry", "border", "colours", "structures", "size_mm", "site", "tone", "capture", "artefacts")
    for seed in range(30):
        sentences = caption(_FULLEST, seed).split("mole: ")[1].removesuffix(".").split(". ")
        assert [read(f"{sentence}.").attributes.specified().keys() for sentence in sentences] == [
            {name} for name in (*order, "diagnosis")
        ]


def test_wording_varies_with_the_seed_and_only_with_the_seed():
    attributes = EXAMPLES["Early melanoma"]
    assert len({caption(attributes, seed) for seed in range(100)}) > 90
    code = (
        "from dermaflux.caption import caption; from dermaflux.lesion import EXAMPLES;"
        "print(caption(EXAMPLES['Early melanoma'], 11))"
    )
    for _ in range(2):
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert output.strip() == caption(attributes, 11)


def test_changing_one_attribute_changes_one_sentence():
    first = caption(LesionAttributes("benign", asymmetry=0, border=2, size_mm=5), 5).split(". ")
    second = caption(LesionAttributes("benign", asymmetry=1, border=2, size_mm=5), 5).split(". ")
    assert sum(a != b for a, b in zip(first, second, strict=True)) == 1


def test_captions_are_short():
    lengths = [len(caption(plausible(seed), seed).split()) for seed in range(300)]
    assert sum(lengths) / len(lengths) < 70
    assert max(lengths) <= 82
    assert max(len(caption(_FULLEST, seed).split()) for seed in range(300)) <= 95


def test_clean_makes_one_line_without_control_characters():
    assert clean("  dark\tbrown\r\n\u00a0lesion \u0000\u0007\u202e\u2066\ud800\ufeff ") == "dark brown lesion"
    assert clean("nae\u0308vus") == "n\u0061ëvus"


@pytest.mark.parametrize("text", ["<b>8 mm</b> & 'x'", "病変は悪性", "می‌خواهم", "👩🏽‍⚕️ ок"])
def test_clean_keeps_markup_and_other_scripts_as_they_are(text):
    assert clean(text) == text


@pytest.mark.parametrize(
    "text", ["", "  \n\t", "\u0000\u202e", None, 5, b"mole", "a" * (MAX_CHARACTERS + 1), "é " * 20_000]
)
def test_clean_refuses_what_is_empty_too_long_or_not_text(text):
    with pytest.raises(InputError):
        clean(text)


def test_clean_counts_characters_after_removing_spaces():
    assert len(clean("a" * MAX_CHARACTERS + " " * 5000)) == MAX_CHARACTERS


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=300))
def test_clean_is_idempotent(text):
    try:
        once = clean(text)
    except InputError:
        return
    assert clean(once) == once
