"""A description as canonical words, and the claims that the rules of reading find in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter

from dermaflux.phrases import NUMBERS
from dermaflux.reading import RULES, Rule


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_TEENS = "nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
_VARIANTS = {
    "asymmetric": "asymmetrical asymmetrically asymetric asymetrical assymetric assymetrical unsymmetrical",
    "asymmetry": "asymmetries asymetry assymetry",
    "symmetric": "symmetrical",
    "axis": "axes",
    "half": "halves",
    "match": "matches matching mirror mirrors",
    "differ": "differs differing",
    "border": "borders edge edges margin margins outline boundary boundaries perimeter contour",
    "segment": "segments eighth eighths sector sectors octant octants",
    "abrupt": "abruptly",
    "sharp": "sharply",
    "end": "ends ending ended stop stops stopping break breaks breaking broken",
    "cut": "cuts",
    "cutoff": "cutoffs",
    "fade": "fades fading faded",
    "gradual": "gradually",
    "irregular": "irregularly irregularity irregularities jagged notched ragged scalloped uneven",
    "regular": "smooth even",
    "colour": "color colors colours coloured colored coloration colouration hue hues shade shades",
    "grey": "gray greyish grayish",
    "blue": "bluish blueish",
    "white": "whitish",
    "black": "blackish",
    "red": "reddish pink pinkish",
    "brown": "brownish",
    "light": "lighter pale paler",
    "dark": "darker",
    "area": "areas zone zones region regions",
    "network": "networks",
    "streak": "streaks streaking",
    "dot": "dots",
    "globule": "globules globular",
    "line": "lines",
    "vessel": "vessels",
    "mm": "millimetre millimetres millimeter millimeters",
    "cm": "centimetre centimetres centimeter centimeters",
    "monk": "mst",
    "tone": "tones",
    "hair": "hairs",
    "ruler": "rulers",
    "corner": "corners",
    "vignette": "vignetting vignetted vignettes",
    "photo": "photos photograph photographs image images picture pictures view views snapshot",
    "dermoscopic": "dermatoscopic dermoscopy dermatoscopy dermoscope dermatoscope dermoscopically",
    "feature": "features criterion criteria finding findings structure structures score scores",
    "extremity": "extremities limb limbs",
    "nevus": "nevi naevus naevi",
    "melanoma": "melanomas",
    "keratosis": "keratoses",
    "seborrheic": "seborrhoeic",
    "angioma": "angiomas hemangioma haemangioma hemangiomas haemangiomas",
    "malignant": "malignancy",
    "is": "are was were be been being appear appears appearing looks look looking seem seems do does did has have "
    "having can could show shows showing shown present visible seen include includes including contain contains",
    "not": "isn't aren't wasn't weren't doesn't don't didn't hasn't haven't cannot can't couldn't non",
    "lack": "lacks lacking",
    "absent": "missing removed",
    "without": "w/o",
    "tens": "thirty forty fifty sixty seventy eighty ninety hundred",
    **{str(number): word for number, word in enumerate((*NUMBERS, *_words(_TEENS)))},
}
CANONICAL = {variant: word for word, variants in _VARIANTS.items() for variant in _words(variants)}
"""Variant of a word -> the word that the rules of reading use."""

END = "\n"
"""Stands for the end of a sentence."""
NEGATORS = frozenset(_words("no not without never neither nor none lack absence absent unlike free"))
ABSENT = frozenset(_words("absent free"))
"""Negators that may follow what they negate."""
CLAUSE_ENDS = frozenset(_words("but with although though however except while whereas despite yet ; : ( )")) | {END}
"""Words and marks that no negation reaches across."""
JOINTS = frozenset(
    _words("and or nor but with without while whereas although though however which , ; : ( ) / – — -")
) | {END}
"""Words and marks at which a sentence divides into parts, each of which may be unread by itself."""
FILLERS = NEGATORS | frozenset(
    _words(
        "a an the this that these those there there's here here's yes it its it's he she they of in on at by to from "
        "for as into over out up within around along across throughout through between about approximately roughly "
        "approx circa some any all each every both other overall also only just very mostly mainly quite rather "
        "clearly fairly nearly almost generally relatively bilaterally predominantly largest greatest maximum longest "
        "diameter size wide width long length measures measure measuring measured depict depicts depicted note noted "
        "located location lies lying sits site set frame found observed photo lesion lesions mole moles spot skin "
        "tone surrounding description appearance like resembles resembling suggest suggests suggesting suggestive "
        "fits consistent likely impression diagnosis colour pigment pigmented pigmentation feature area shape form "
        "border segment patient patient's body is mark marks mm main whole part parts side sides entire entirely well "
        "will would few many several multiple numerous scattered evidence presence sign signs artefact artefacts "
        "artifact artifacts dermoscopic"
    )
)
"""Words that say nothing by themselves."""


@dataclass(frozen=True)
class Word:
    text: str
    start: int
    end: int


@dataclass(eq=False)
class Claim:
    """Words start to end of a description, taken by `rule`. denied: whether they are negated; None: unclear."""

    rule: Rule
    start: int
    end: int
    value: object
    denied: bool | None = False
    read: bool = False


_TOKEN = re.compile(r"(?:(?<![\w.,])[-−])?[0-9]+(?:[.,][0-9]+)*|w/o|[^\W\d_]+(?:['’][^\W\d_]+)*|\S", re.IGNORECASE)
_HYPHENS = "-‐‑–"
_QUOTES = "\"'“”‘’«»*_`#•"
_REACH = 40
"""How many words a negation may lie from what it negates, at most."""


def _split(text: str) -> Iterator[Word]:
    for match in _TOKEN.finditer(text):
        token = match[0].lower().replace("’", "'")
        if token in ".!?。":
            yield Word(END, *match.span())
        elif token not in _QUOTES and not (token in _HYPHENS and _inside_word(text, match.start())):
            yield Word(CANONICAL.get(token, token), *match.span())


def _inside_word(text: str, hyphen: int) -> bool:
    before, after = text[max(hyphen - 1, 0) : hyphen], text[hyphen + 1 : hyphen + 2]
    return before.isalnum() and after.isalnum() and not (before.isdigit() and after.isdigit())


class Description:
    """The canonical words of a text and the claims that the rules find in them, in order."""

    def __init__(self, text: str):
        self.text = text
        self.words = list(_split(text))
        self.owners: list[Claim | None] = [None] * len(self.words)
        starts = accumulate((len(word.text) + 1 for word in self.words), initial=1)
        index = {start: number for number, start in enumerate(starts)}
        line = f" {' '.join(word.text for word in self.words)} "
        for rule in RULES:
            for match in rule.pattern.finditer(line):
                self._take(rule, match, index[match.start()], index[match.end() + 1])
        self.claims = [claim for claim in dict.fromkeys(self.owners) if claim]
        for claim in self.claims:
            claim.denied = self._denied_after(claim) or self._denied_before(claim)

    def _take(self, rule: Rule, match: re.Match, start: int, end: int) -> None:
        if not any(self.owners[start:end]):
            value = rule.value(match) if callable(rule.value) and rule.kind != "weak" else rule.value
            self.owners[start:end] = [Claim(rule, start, end, value)] * (end - start)

    def _denied_before(self, claim: Claim) -> bool | None:
        """Whether a negator reaches `claim` from before, also through a list: no streaks, dots or globules."""
        name, joint, comma, at = claim.rule.attribute, "", False, claim.start - 1
        while at >= max(0, claim.start - _REACH):
            word, owner = self.words[at].text, self.owners[at]
            if owner and owner.rule.kind != "weak":
                several, other = isinstance(claim.value, tuple), owner.rule.attribute != name
                beside = owner.rule.attribute == "label" and self.owners[at + 1]  # not a malignant melanoma
                if (other and joint in (",", "and")) or (joint in ("", "and") and not several and not beside):
                    return False
                joint, at = "", owner.start - 1
                continue
            if word in CLAUSE_ENDS or (joint and word == "is"):
                return False
            if word in ("or", "nor", ",", "and"):
                comma |= word == ","
                joint = joint if joint in ("or", "nor") else word
            elif joint in (",", "and"):
                return False
            elif word in NEGATORS:
                if self._word(at + 1) in ("only", "just"):
                    return False
                return True if not comma or self._alternatives(at, claim) else None
            at -= 1
        return False

    def _alternatives(self, at: int, claim: Claim) -> bool:
        """Whether the list of claims like `claim` that the negator at `at` begins ends in or/nor, not in and."""
        end = min(len(self.words), claim.end + _REACH)
        while at < end:
            at += 1
            owner, word = self.owners[at] if at < len(self.words) else None, self._word(at)
            if word in ("or", "nor"):
                return True
            if word == "and" or not (word == "," or word in FILLERS or owner):
                return False
        return False

    def _denied_after(self, claim: Claim) -> bool:
        """Whether a negator that follows reaches `claim`: streaks and dots are absent, hair: no."""
        verb, colon, joint, at = False, False, False, claim.end
        while at < min(len(self.words), claim.end + _REACH):
            word, owner = self._word(at), self.owners[at]
            if owner:
                if verb or (joint and owner.rule.attribute != claim.rule.attribute):
                    return False
                joint, at = False, owner.end
                continue
            if word in ABSENT or word == "not" or (colon and word in ("no", "none")):
                following = self.owners[at + 1] if at + 1 < len(self.words) else None
                return not joint and not following and self._word(at + 1) not in ("only", "just", "of")
            if word in ("and", "or", ","):
                if verb:
                    return False
                joint = True
            elif word == "is":
                verb = True
            elif word == ":":
                colon = True
            elif word not in FILLERS or word in NEGATORS:
                return False
            at += 1
        return False

    def _word(self, at: int) -> str:
        return self.words[at].text if at < len(self.words) else ""

    def unread(self) -> tuple[str, ...]:
        """What no rule could read, as it stands in the text: sentences, parts or words of them, in order."""
        spans, whole = [], False
        for part in self._parts():
            told = [at for at in part if self.owners[at] or self.words[at].text not in FILLERS]
            missed = [not (self.owners[at] and self.owners[at].read) for at in told]
            if told and all(missed):
                start = spans.pop()[0] if whole else part[0]
                spans.append((start, part[-1]))
            else:
                runs = [list(run) for lost, run in groupby(zip(missed, told, strict=True), itemgetter(0)) if lost]
                spans += [(run[0][1], run[-1][1]) for run in runs]
            whole = bool(part) and all(missed) and (whole or bool(told))
        return tuple(self.text[self.words[first].start : self.words[last].end] for first, last in spans)

    def _parts(self) -> Iterator[list[int]]:
        """The words between joints, as indices; an empty part stands between sentences."""
        part = []
        for at, word in enumerate(self.words):
            if word.text in JOINTS and not self.owners[at]:
                if part:
                    yield part
                if word.text == END:
                    yield []
                part = [at] if word.text == "without" else []
            else:
                part.append(at)
        if part:
            yield part
