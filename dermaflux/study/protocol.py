"""What a study asks, which cases it holds, and in which order each reader sees them."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise, permutations
from typing import Protocol as Shape
from typing import TypeVar

from dermaflux.errors import InputError

PRACTICE = 3
APART = 3
"""A repeat comes at least one part in so many of the sequence after its first showing."""
MIN_CASES, MAX_CASES, MAX_REPEATS = 2, 2000, 0.3
TONES = {"light": (1, 4), "medium": (5, 7), "dark": (8, 10)}
"""First and last Monk tone of each group (Schumann et al. 2023, Consensus and subjectivity of skin tone annotation)."""
_TRIES, _SWAPS = 4, 10
"""Orders tried before it is said that there is none, and swaps tried in each, as many for each showing."""


@dataclass(frozen=True)
class Questions:
    """Which questions are on. source: real or synthetic, with confidence; it needs pictures of both sources.

    match: stage 2, the caption. Where `source` is on, captions come after the last case, as a caption would tell that
    its picture is synthetic; elsewhere each comes after its case.
    """

    source: bool = True
    realism: bool = True
    diagnosis: bool = True
    attributes: bool = True
    artefacts: bool = True
    match: bool = True

    @classmethod
    def of(cls, names: Iterable[str]) -> "Questions":
        """The questions `names`, and no others. Raises InputError for an unknown one, or none of stage 1."""
        names, known = set(names), [one.name for one in fields(cls)]
        for name in sorted(names - set(known)):
            raise InputError(f"There is no question “{name}”; choose among {', '.join(known)}.")
        if not names - {"match"}:
            raise InputError(f"A study asks at least one question besides match: {', '.join(known[:-1])}.")
        return cls(**{name: name in names for name in known})

    @property
    def captions_last(self) -> bool:
        """Whether captions come in a pass of their own, after the last case."""
        return self.source and self.match


@dataclass(frozen=True)
class Strata:
    """What the numbers of cases are balanced by, besides their source."""

    label: bool = True
    tone: bool = False

    @classmethod
    def of(cls, names: Iterable[str]) -> "Strata":
        """The strata `names`, and no others. Raises InputError for an unknown one."""
        names, known = set(names), [one.name for one in fields(cls)]
        for name in sorted(names - set(known)):
            raise InputError(f"There is no stratum “{name}”; choose among {', '.join(known)}.")
        return cls(**{name: name in names for name in known})

    def key(self, case: "Case") -> tuple[str, ...]:
        """The stratum of a case."""
        return case.source, case.label if self.label else "", tone_group(case.tone) if self.tone else ""


@dataclass(frozen=True)
class Protocol:
    """How a study is run. cases: how many, practice cases not counted; 2 to 2000. repeats: share of the cases that are
    shown again, 0 to 0.3. seed: of the choice of cases and of every reader's order. Raises InputError."""

    cases: int
    questions: Questions = field(default_factory=Questions)
    strata: Strata = field(default_factory=Strata)
    repeats: float = 0.1
    seed: int = 0

    def __post_init__(self):
        if type(self.cases) is not int or not MIN_CASES <= self.cases <= MAX_CASES:
            raise InputError(f"A study has {MIN_CASES} to {MAX_CASES} cases, not {str(self.cases)[:20]}.")
        if not 0 <= self.repeats <= MAX_REPEATS:
            raise InputError(f"The share of repeats lies between 0 and {MAX_REPEATS}, not {self.repeats:g}.")

    def record(self) -> dict[str, object]:
        """The protocol as what JSON can hold."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, object]) -> "Protocol":
        """The protocol that `record` came from."""
        return cls(**{**record, "questions": Questions(**record["questions"]), "strata": Strata(**record["strata"])})


class Case(Shape):
    """A picture as the protocol knows it: group is shared by near-duplicates; caption is empty where there is none."""

    case: str
    source: str
    label: str
    tone: int | None
    caption: str
    group: int


C = TypeVar("C")


@dataclass(frozen=True)
class Place:
    """One showing in a reader's sequence. position: from 1; practice cases come before, up to position 0."""

    position: int
    case: str
    repeat: bool = False


def tone_group(tone: int | None) -> str:
    """light, medium or dark, for a Monk tone from 1 to 10; empty where it is not known."""
    return next((name for name, (low, high) in TONES.items() if tone is not None and low <= tone <= high), "")


def choose(pool: Sequence[C], count: int, strata: Strata, seed: int) -> list[C]:
    """`count` of `pool` at random: as many of each source, and of each stratum within a source, as the pool allows.

    pool: anything with source, label and tone. Raises InputError where it is too small.
    """
    if len(pool) < count:
        raise InputError(f"{count} pictures are needed, practice cases included, but the pool holds {len(pool)}.")
    rng, by_source = random.Random(f"{seed} choose"), defaultdict(lambda: defaultdict(list))
    for case in rng.sample(list(pool), len(pool)):
        by_source[case.source][strata.key(case)].append(case)
    return _in_turn([_in_turn(list(of.values())) for _, of in sorted(by_source.items())])[:count]


def _in_turn(lists: list[list[C]]) -> list[C]:
    """One of each list after another, until all are empty."""
    longest = max(map(len, lists), default=0)
    return [one[place] for place in range(longest) for one in lists if place < len(one)]


def sequence(cases: Sequence[Case], practice: Sequence[Case], protocol: Protocol, reader: int) -> list[Place]:
    """What reader number `reader` (from 0) sees of a study, the same for the same seed.

    Practice cases come first. Kinds (source and label) are mixed by permuted blocks, so that none has a long run, and
    come equally often in either half; so do all cases over two readers, as every second reader sees the order of the
    one before mirrored. Near-duplicates are never adjacent, neither among the cases nor among the captions that may
    follow them. Repeats, other cases for each pair of readers, lie a third of the sequence or more after their first
    showing. Raises InputError where there is no such order.
    """
    rng = random.Random(f"{protocol.seed} {reader // 2}")
    shown = list(cases) + _repeated(cases, round(protocol.repeats * len(cases)), protocol.seed, reader // 2)
    practice = _apart(practice)
    before, captions = practice[-1].group if practice else None, protocol.questions.captions_last
    tried = (_settled(_mixed(shown, rng), before, captions, rng) for _ in range(_TRIES))
    order = next((one for one in tried if one), None)
    if order is None:
        raise InputError(
            "The cases cannot be put in an order in which near-duplicates and repeats are apart; take more cases, "
            "fewer repeats, or leave near-duplicates out."
        )
    order = order[:: -1 if reader % 2 else 1]
    warm = [Place(place - len(practice) + 1, case.case) for place, case in enumerate(practice)]
    seen: set[str] = set()
    for place, case in enumerate(order, 1):
        warm.append(Place(place, case.case, case.case in seen))
        seen.add(case.case)
    return warm


def _kind(case: Case) -> tuple[str, str]:
    return case.source, case.label


def _spread(counts: Mapping[C, int], rng: random.Random) -> list[C]:
    """Each key as often as it counts, evenly spread: by jittered sampling, one in each of its equal intervals."""
    return [key for _, key in sorted(((n + rng.random()) / of, key) for key, of in counts.items() for n in range(of))]


def _kinds(counts: Mapping[tuple, int], rng: random.Random) -> list[tuple]:
    """The kinds along a sequence: each as often in one half as in the other, but for one where its number is odd."""
    odd = [kind for kind in sorted(counts) if counts[kind] % 2]
    middle = [odd.pop(rng.randrange(len(odd)))] if len(odd) % 2 else []
    turn = rng.randrange(2)
    first = {kind: of // 2 + (kind in odd and odd.index(kind) % 2 == turn) for kind, of in counts.items()}
    second = {kind: of - first[kind] - (kind in middle) for kind, of in counts.items()}
    return _spread(first, rng) + middle + _spread(second, rng)


def _repeated(cases: Sequence[Case], count: int, seed: int, pair: int) -> list[Case]:
    """The cases that a pair of readers sees again: of each kind in proportion, all in turn over the pairs."""
    rng, queues = random.Random(f"{seed} repeats"), defaultdict(list)
    for case in rng.sample(list(cases), len(cases)):
        queues[_kind(case)].append(case)
    mixed = [queues[kind].pop() for kind in _spread({kind: len(of) for kind, of in queues.items()}, rng)]
    return [mixed[(pair * count + place) % len(mixed)] for place in range(count)]


def _mixed(shown: Sequence[Case], rng: random.Random) -> list[Case]:
    """The cases in any order whose kinds are mixed."""
    queues = defaultdict(list)
    for case in rng.sample(shown, len(shown)):
        queues[_kind(case)].append(case)
    return [queues[kind].pop() for kind in _kinds(Counter(map(_kind, shown)), rng)]


def _apart(practice: Sequence[Case]) -> list[Case]:
    """The few practice cases, reordered if near-duplicates are adjacent."""
    for order in permutations(practice):
        if all(one.group != other.group for one, other in pairwise(order)):
            return list(order)
    raise InputError("The practice cases look the same; take other pictures or another seed.")


def _settled(order: list[Case], before: int | None, captions: bool, rng: random.Random) -> list[Case] | None:
    """`order` with cases of the same kind swapped until near-duplicates and repeats are apart, and neither end is of
    the group `before`, as every second reader begins with the last; None where that was not reached. captions: whether
    they follow in the same order."""
    places = defaultdict(list)
    for place, case in enumerate(order):
        places[_kind(case)].append(place)
    wrong = _misplaced(order, before, captions)
    for _ in range(_SWAPS * len(order)):
        if not wrong:
            return order
        one = rng.choice(wrong)
        other = rng.choice(places[_kind(order[one])])
        order[one], order[other] = order[other], order[one]
        found = _misplaced(order, before, captions)
        if len(found) > len(wrong):
            order[one], order[other] = order[other], order[one]
        else:
            wrong = found
    return None


def _misplaced(order: Sequence[Case], before: int | None, captions: bool) -> list[int]:
    """Places of cases beside a near-duplicate, or too near their other showing."""
    apart, first = math.ceil(len(order) / APART), {}
    wrong = {place for place in (0, len(order) - 1) if order[place].group == before}
    for one, other in _beside(order, captions):
        if one != other and order[one].group == order[other].group:
            wrong |= {one, other}
    for place, case in enumerate(order):
        if place - first.setdefault(case.case, place - apart) < apart:
            wrong |= {first[case.case], place}
        first[case.case] = place
    return sorted(wrong)


def _beside(order: Sequence[Case], captions: bool) -> Iterator[tuple[int, int]]:
    """Places of cases that one of two readers sees one after the other, the second in the mirrored order."""
    yield from pairwise(range(len(order)))
    captioned = [place for place, case in enumerate(order) if case.caption]
    if captions and captioned:
        yield from pairwise(captioned)
        yield from ((len(order) - 1, captioned[0]), (captioned[-1], 0))
