"""What a study asks, which cases it holds, the orders of its readers, and what counts as an answer."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermaflux.errors import InputError
from dermaflux.lesion import LABELS, LesionAttributes
from dermaflux.study import answers, protocol
from dermaflux.study.protocol import Protocol, Questions, Strata, choose, sequence

FIRST = {"said_synthetic": True, "confidence": 3, "realism": 4, "said_diagnosis": "nevus", "said_label": "benign"}


@dataclass(frozen=True)
class Case:
    case: str
    source: str
    label: str
    tone: int | None
    caption: str
    group: int


def cases(count: int, malignant: int = 2, twins: int = 1) -> list[Case]:
    """Cases of both sources, one in `malignant` of them malignant, `twins` of each group."""
    return [
        Case(
            f"c{i}",
            ("real", "synthetic")[i % 2],
            "benign" if i // 2 % malignant else "malignant",
            i % 10 + 1,
            "A lesion." if i % 2 else "",
            i // twins,
        )
        for i in range(count)
    ]


PRACTICE = [Case(f"p{i}", "real", "benign", 1, "", -1 - i) for i in range(3)]


def order(some: list[Case], practice: list[Case], reader: int = 0, **protocol):
    return sequence(some, practice, Protocol(len(some), **protocol), reader)


def shown(some: list[Case], reader: int, seed: int = 0, repeats: float = 0.1) -> tuple[list[Case], list[bool]]:
    """The cases that a reader sees, practice left out, and which are repeats."""
    by_name = {one.case: one for one in some}
    places = [one for one in order(some, PRACTICE, reader, repeats=repeats, seed=seed) if one.position > 0]
    assert [one.position for one in places] == list(range(1, len(places) + 1))
    return [by_name[one.case] for one in places], [one.repeat for one in places]


def longest(values) -> int:
    return max(len(list(run)) for _, run in groupby(values))


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 150), st.integers(2, 5), st.integers(1, 3), st.integers(0, 9), st.integers(0, 99))
def test_every_order_keeps_its_promises(count, malignant, twins, reader, seed):
    some = cases(count, malignant, twins)
    seen, repeats = shown(some, reader, seed)
    assert Counter(one.case for one, again in zip(seen, repeats, strict=True) if not again) == Counter(
        one.case for one in some
    )
    assert sum(repeats) == round(0.1 * count)
    captions = [one for one in seen if one.caption]
    assert all(one.group != other.group for one, other in pairwise([*seen, *captions]))
    first = {}
    for place, one in enumerate(seen):
        assert place - first.setdefault(one.case, place) in {0, *range(-(-len(seen) // 3), len(seen))}
    kinds = [(one.source, one.label) for one in seen]
    half = len(seen) // 2
    before, after = Counter(kinds[:half]), Counter(kinds[-half:])
    assert all(abs(before[kind] - after[kind]) <= 1 for kind in kinds)
    assert longest(one.source for one in seen) <= 6 and longest(kind for kind in kinds if kind[1] == "malignant") <= 6


def test_practice_comes_first_and_is_not_counted():
    places = order(cases(20), PRACTICE)
    assert [(one.case, one.position) for one in places[:3]] == [("p0", -2), ("p1", -1), ("p2", 0)]
    assert not {"p0", "p1", "p2"} & {one.case for one in places[3:]}


def test_no_reader_begins_with_what_looks_like_the_last_practice_case():
    some = cases(20)
    groups = {one.case: one.group for one in some}
    for reader in range(40):
        practice = [*PRACTICE[:2], replace(PRACTICE[2], group=reader // 2)]
        first = order(some, practice, reader)[3]
        assert first.position == 1 and groups[first.case] != reader // 2


def test_practice_cases_that_look_the_same_are_not_shown_one_after_the_other():
    alike = [replace(one, group=-min(place, 1)) for place, one in enumerate(PRACTICE)]
    assert [one.case for one in order(cases(20), alike)[:3]] == ["p1", "p0", "p2"]
    with pytest.raises(InputError, match="practice cases look the same"):
        order(cases(20), [replace(one, group=-1) for one in PRACTICE])


def test_captions_are_kept_apart_only_where_they_come_in_a_pass_of_their_own():
    """Two drawn pictures that look the same, one of each label, beside many photographs."""
    photographs = [replace(one, source="real", caption="") for one in cases(18)]
    drawn = [
        replace(one, case=f"d{one.case}", label=label, group=99)
        for one, label in zip(cases(4)[1::2], LABELS, strict=True)
    ]
    for questions in (Questions(match=False), Questions(source=False)):
        places = order([*photographs, *drawn], [], repeats=0, questions=questions)
        assert {"dc1", "dc3"} <= {one.case for one in places}
    with pytest.raises(InputError, match="cannot be put in an order"):
        order([*photographs, *drawn], [], repeats=0)


def test_orders_differ_between_readers_and_come_again_with_their_seed():
    some = cases(60)
    orders = {tuple(one.case for one in shown(some, reader)[0]) for reader in range(6)}
    assert len(orders) == 6
    assert shown(some, 3) == shown(some, 3) != shown(some, 3, seed=1)


def test_every_second_reader_sees_the_mirrored_order_so_that_halves_balance_over_readers():
    some = cases(60)
    for pair in range(4):
        assert shown(some, 2 * pair)[0] == shown(some, 2 * pair + 1)[0][::-1]


def test_all_cases_come_to_be_repeated_over_the_readers():
    some = cases(40)
    counts = Counter()
    for reader in range(0, 20, 2):
        seen, repeats = shown(some, reader)
        counts.update(one.case for one, again in zip(seen, repeats, strict=True) if again)
    assert set(counts.values()) == {1} and len(counts) == 40


def test_cases_that_cannot_be_kept_apart_are_refused_in_a_sentence():
    some = [replace(one, group=0) for one in cases(20)]
    with pytest.raises(InputError, match="cannot be put in an order"):
        order(some, [])


def test_cases_are_chosen_alike_from_each_source_and_stratum():
    pool = cases(400, malignant=8)
    for strata, key in ((Strata(), lambda one: one.label), (Strata.of(["tone"]), lambda one: one.tone > 4)):
        chosen = choose(pool, 60, strata, 1)
        assert Counter(one.source for one in chosen) == {"real": 30, "synthetic": 30}
        counts = Counter((one.source, key(one)) for one in chosen)
        assert max(counts.values()) - min(counts.values()) <= 11, counts
    balanced = Counter((one.source, one.label) for one in choose(pool, 60, Strata(), 1))
    assert set(balanced.values()) == {15}
    assert choose(pool, 60, Strata(), 1) == choose(pool, 60, Strata(), 1) != choose(pool, 60, Strata(), 2)
    with pytest.raises(InputError, match="the pool holds 400"):
        choose(pool, 401, Strata(), 1)


def test_monk_tones_make_three_groups():
    groups = [protocol.tone_group(tone) for tone in (None, *range(1, 11))]
    assert groups == ["", *["light"] * 4, *["medium"] * 3, *["dark"] * 3]


def test_a_protocol_outlives_its_record():
    one = Protocol(50, Questions.of(["realism", "match"]), Strata(False, True), 0.2, 7)
    assert Protocol.of(one.record()) == one


@pytest.mark.parametrize(
    "changes", [{"cases": 1}, {"cases": 2001}, {"cases": "9"}, {"repeats": 0.5}, {"repeats": -1.0}]
)
def test_a_protocol_out_of_range_is_refused(changes):
    with pytest.raises(InputError):
        Protocol(**{"cases": 10} | changes)


def test_unknown_questions_and_strata_are_refused():
    with pytest.raises(InputError, match="no question “colour”"):
        Questions.of(["source", "colour"])
    with pytest.raises(InputError, match="at least one question"):
        Questions.of(["match"])
    with pytest.raises(InputError, match="no stratum “age”"):
        Strata.of(["age"])


def test_an_answer_is_read_with_its_vocabulary_in_order_and_its_text_cleaned():
    more = {"seen_colours": ["black", "white"], "artefacts": ["other", "hair", "hair"], "seen_border": 8}
    marked = {"marked": [[0.5, 0.9, 0.2, 0.9]], "comment": " a\r\nb\0\x1b[31m <b>'; DROP TABLE answers;-- "}
    found = answers.first(FIRST | more | marked, Questions())
    assert found.seen_colours == ("white", "black") and found.artefacts == ("hair", "other")
    assert found.comment == "a\nb[31m <b>'; DROP TABLE answers;--" and found.marked == ((0.2, 0.9, 0.5, 0.9),)
    assert (found.seen_border, found.seen_asymmetry) == (8, None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"confidence": 6}, "confidence"),
        ({"confidence": True}, "confidence"),
        ({"confidence": 2.0}, "confidence"),
        ({"realism": None}, "realism"),
        ({"said_synthetic": 1}, "said_synthetic"),
        ({"said_label": "sick"}, "said_label"),
        ({"said_diagnosis": ["nevus"]}, "said_diagnosis"),
        ({"seen_asymmetry": 3}, "seen_asymmetry"),
        ({"seen_colours": "white"}, "seen_colours"),
        ({"seen_colours": [{}]}, "seen_colours"),
        ({"artefacts": ["dragon"]}, "artefacts"),
        ({"comment": "x" * 2001}, "comment"),
        ({"marked": [[0, 0, 1, float("nan")]]}, "marked"),
        ({"marked": [[0, 0, 1, 2]]}, "marked"),
        ({"marked": [[0, 0, 1, 1]] * 21}, "marked"),
        ({"match": 3}, "match"),
        ({"__proto__": 3}, "__proto__"),
    ],
)
def test_a_wrong_answer_is_refused_by_its_field(changes, field):
    with pytest.raises(InputError, match=f"^{field}: "):
        answers.first(FIRST | changes, Questions())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from([name for names in answers.FIELDS.values() for name in names] + ["match", "consent", "years"])


@settings(max_examples=200, deadline=None)
@given(JSON | st.dictionaries(FIELDS, JSON).map(lambda extra: FIRST | extra))
def test_anything_at_all_is_an_answer_or_an_input_error(values):
    for read in (
        lambda: answers.first(values, Questions()),
        lambda: answers.second(values, ("border",)),
        lambda: answers.background(values),
    ):
        try:
            read()
        except InputError as error:
            assert str(error)


def test_questions_that_are_off_are_neither_asked_nor_taken():
    some = Questions.of(["realism"])
    assert answers.first({"realism": 2}, some).said_synthetic is None
    with pytest.raises(InputError, match="said_label: this is not asked"):
        answers.first({"realism": 2, "said_label": "benign"}, some)


def test_stage_two_asks_about_what_the_caption_says():
    names = answers.asked(LesionAttributes("benign", border=2, colours=("red",), size_mm=5))
    assert names == ("border", "colours", "size")
    given = {"match": 4} | {f"match_{name}": "partly" for name in names}
    assert answers.second(given, names).match_size == "partly"
    for wrong in ({"match_size": ""}, {"match_tone": "yes"}, {"match": 0}):
        with pytest.raises(InputError):
            answers.second(given | wrong, names)


@pytest.mark.parametrize(
    "changes", [{"consent": False}, {"consent": 1}, {"role": "king"}, {"years": -1}, {"years": "9"}]
)
def test_nobody_reads_without_consent_and_background(changes):
    sound = {"consent": True, "role": "nurse", "years": 2, "trained": False}
    assert answers.background(sound) == answers.Background("nurse", 2.0, False)
    with pytest.raises(InputError):
        answers.background(sound | changes)
