"""The patterns that descriptions of lesions are read by, as data. `caption.read` applies them.

Patterns are matched on canonical words, one space between them: in lower case, hyphens inside words left out, numbers
as digits, variants replaced by description.CANONICAL, sentences ended by a newline. Every gap is bounded and within a
sentence: reading takes linear time.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from dermaflux.lesion import COLOURS, LABELS, MAX_BORDER, RANGES


@dataclass(frozen=True)
class Rule:
    """Where `pattern` matches, `attribute` has `value`: a constant, or what a function makes of the match.

    attribute "skip": understood, nothing to note; "unread": like the words of a later rule, but not to be read as such.
    kind "claim"; "fallback": counts after all claims; "weak": tells no value, but is read where the function `value`
    says that it agrees with the known one. A value of None cannot be read. Earlier rules take words from later ones.
    """

    attribute: str
    pattern: re.Pattern
    value: object | Callable = None
    kind: str = "claim"


def _rule(attribute: str, pattern: str, value: object = None, kind: str = "claim") -> Rule:
    return Rule(attribute, re.compile(rf"(?<= )(?:{pattern})(?= )"), value, kind)


def _whole(name: str, text: str, scale: int = 1) -> int | None:
    low, high = RANGES[name]
    number = float(text) * scale if re.fullmatch(r"[0-9]{1,4}(?:\.[0-9]{1,4})?", text) else -1.0
    return round(number) if abs(number - round(number)) < 1e-6 and low <= number <= high else None


_AXES = {"0": 0, "no": 0, "none": 0, "neither": 0, "1": 1, "single": 1, "2": 2, "both": 2, "each": 2, "all": 2}
_ASYMMETRIC_AXES = {
    ("asymmetric", False): _AXES,
    ("symmetric", False): {**{word: 2 - axes for word, axes in _AXES.items()}, "either": 0, "any": 0},
    ("asymmetric", True): {"either": 0, "any": 0},
    ("symmetric", True): {"either": 2, "any": 2, "1": 1, "single": 1},
}
"""(what is said of the axes, negated) -> the axes it is said of -> number of asymmetric axes."""


def _axes(match: re.Match) -> int | None:
    what = "asymmetric" if match["what"] in ("asymmetric", "asymmetry", "differ") else "symmetric"
    return _ASYMMETRIC_AXES[what, bool(match["neg"])].get(match["n"])


def _segments(match: re.Match) -> int | None:
    named = {"no": 0, "none": 0, "neither": 0, "all": MAX_BORDER, "every": MAX_BORDER, "each": MAX_BORDER}
    if match["m"] not in (None, str(MAX_BORDER)):
        return None
    return named[match["n"]] if match["n"] in named else _whole("border", match["n"])


def _size(match: re.Match) -> int | None:
    sizes = [_whole("size_mm", match[name], 10 if match["unit"] == "cm" else 1) for name in "ab" if match[name]]
    return None if None in sizes else max(sizes)


_N = r"[0-9][0-9.,]*"
_NOT = r"(?:(?P<neg>no|not|without|never|neither|lack|absence|absent|free) )?"
_SLACK = r"(?:(?:any|a|an|the|is|quite|fully|perfectly|clear|clearly|completely|evidence|signs?|of|real) ){0,4}"
_GAP = r"(?:(?!a?symmetr|[,;:] )\S+ ){0,8}?"
_AXIS = (
    r"(?P<n>[0-9]+|both|single|either|neither|no|none|any|each|all) (?:(?:of|the|its|2|perpendicular|main|only) ){0,4}"
)
_SYMMETRY = r"(?P<what>a?symmetric|a?symmetry)"
_COUNT = r"(?P<n>[0-9]+|no|none|all|every|each|neither) "
_OF_EIGHT = r"(?:(?:(?:out|of|the|its|all|/) ){0,3}(?P<m>[0-9]+) )?"
_CUT = r"(?:abrupt|sharp|cutoff|cut off|cut|end|border|segment)"
_COLOUR = r"(?:white|red|brown|tan|blue|grey|black)"
_SHADE = r"(?:(?:light|dark|bright|deep|jet|milky|steel|slate|pure) )?"
_SKIN_TONE = r"(?:very )?W(?:(?: and)? W){0,2}".replace(
    "W", "(?:light|fair|medium|intermediate|beige|tan|olive|brown|deep|dark|black|white|rich|warm|red)"
)
_SKIN = r"skin (?:tone |colour )?(?:(?:around|surrounding) (?:(?:the|it|lesion|mole) ){0,2})?(?:is|:)"
_QUALITY = r"(?:(?:typical|atypical|regular|irregular|fine|coarse|prominent|delicate|faint|pigment|pigmented) ){0,2}"
_PLACE = (
    r"(?:the|a|his|her|their|patient's|left|right|upper|lower|mid|inner|outer|lateral|medial|anterior|posterior|dorsal)"
)
_ON = (
    rf"(?:(?:on|of|at|from|in|to|over|near) (?:{_PLACE} ){{1,4}}|: (?:{_PLACE} ){{0,3}}|(?:left|right|upper|lower) )"
    rf"(?:(?:back|dorsum|side|top|palm|sole|tip|bridge|nape) of (?:{_PLACE} ){{0,3}})?"
)
_LIMIT = r"(?:least|most|more|less|greater|fewer|larger|smaller|bigger|wider|exceeding|>|<|≥|≤)"
_NAMED = r"(?:melanoma|nevus|malignant|benign|carcinoma|keratosis|lentigo|dermatofibroma|angioma)"

_DOUBTFUL = tuple(
    _rule("unread", pattern)
    for pattern in (
        rf"{_N} (?:mm )?(?:-|–|to|or) {_N} (?:\S+ ){{0,3}}?(?:mm|cm|segment|axis)",
        rf"between {_N} and {_N}",
        rf"(?:monk|tone) (?:\S+ ){{0,3}}?{_N} (?:-|–|to|or) {_N}",
        rf"{_LIMIT} (?:(?:than|or|equal|to) ){{0,3}}{_N} (?:\S+ ){{0,4}}?(?:mm|cm|segment|axis)",
        rf"(?:over|under|above|below|almost) {_N} (?:mm|cm)",
        rf"{_N} (?:\S+ ){{0,3}}?(?:mm|cm|segment|axis) or (?:more|less|larger|greater|smaller|wider|bigger|fewer)",
        rf"(?:thickness|depth|breslow|radius|border) (?:\S+ ){{0,3}}?{_N} (?:mm|cm)",
        rf"{_N} (?:mm|cm) (?:thick|thickness|deep|depth|border|ruler|scale|marks?|breslow|intervals?|2|²)",
        rf"(?:streak|dot|globule|network|hair|colour) (?:\S+ ){{0,3}}?(?:in|within) {_COUNT}{_OF_EIGHT}segment",
        rf"(?:rule[ds]? out|ruling out|instead of|rather than|history of|risk of|excludes?) (?:\S+ ){{0,3}}?{_NAMED}",
        rf"(?:(?:{_COLOUR}|light|dark|milky|shiny|and) ){{1,4}}(?:veil|ink|marker|pen|sticker|patch(?:es)?|background)",
        r"(?:shiny )?white (?:\S+ )?(?:line|streak|network)",
        r"black and white photo",
        r"(?:negative|inverse|inverted|vascular) (?:pigment )?network",
        r"(?:dot|globule|network|streak) vessel",
        r"hair follicles?",
        rf"(?!(?:blue grey|grey blue) ){_COLOUR}(?: {_COLOUR})+(?! (?:hair|skin|nevus))",
        r"(?:partly|partially|barely|hardly) symmetric",
    )
)
_DIAGNOSES = tuple(
    _rule("diagnosis", pattern, name)
    for name, pattern in {
        "melanoma": "melanoma",
        "basal cell carcinoma": "basal cell (?:carcinoma|cancer)|bcc",
        "squamous cell carcinoma": "squamous cell (?:carcinoma|cancer)|scc",
        "nevus": "(?:blue |melanocytic )?nevus",
        "seborrheic keratosis": "seborrheic (?:keratosis|wart)",
        "solar lentigo": "(?:solar|senile) (?:lentigo|lentigines)",
        "dermatofibroma": "dermatofibroma|histiocytoma",
        "vascular lesion": "vascular lesion|angioma|angiokeratoma",
    }.items()
)
_ASYMMETRY = (
    _rule("asymmetry", rf"{_NOT}{_SLACK}{_SYMMETRY} (?:[:(,] )?{_GAP}{_AXIS}axis", _axes),
    _rule("asymmetry", rf"{_AXIS}axis (?:(?:of|is) ){{0,2}}(?:(?P<neg>not) )?{_SYMMETRY}", _axes),
    _rule("asymmetry", rf"{_AXIS}{_SYMMETRY} (?P<neg>\n)?axis", _axes),
    _rule("asymmetry", rf"half (?:is )?(?:(?P<neg>not) )?(?P<what>match|differ) {_GAP}{_AXIS}axis", _axes),
    _rule(
        "asymmetry",
        r"asymmetry (?:(?:feature|of|is|:|=) ){0,3}(?P<n>[0-9]+)(?! (?:mm|cm|segment|colour|of|/))",
        lambda match: _whole("asymmetry", match["n"]),
    ),
    _rule("asymmetry", rf"(?:no|not|without|lack of|absence of|free of) {_SLACK}asymmetr(?:ic|y)", 0),
    _rule(
        "asymmetry",
        r"symmetric(?! (?:\S+ )?(?:border|network|colour|pigment\S*|distribut\S+|pattern|globule|dot|streak|feature))|"
        r"(?:is|good|perfect|with|complete) symmetry|half (?:is )?match(?: (?:each|the) other)?",
        0,
        "fallback",
    ),
    _rule(
        "asymmetry",
        r"asymmetric|asymmetry|(?:(?:1|2|the) )?half (?:is )?(?:not match|differ)(?: (?:the|each|other|1)){0,3}",
        lambda axes: axes > 0,
        "weak",
    ),
)
_BORDER = (
    _rule(
        "border",
        rf"(?:no|not|without|none|0|lack|absence|free) "
        rf"(?:(?:is|any|of|the|its|8|clear|a|an|in|evidence|signs?|{_CUT}) ){{0,6}}"
        rf"(?:abrupt|cutoff|cut off)(?: {_CUT}){{0,3}}(?! (?:\S+ ){{0,3}}?(?:[0-9]|all|every|each))",
        0,
    ),
    _rule("border", r"(?:fade|gradual|regular) (?:\S+ ){0,3}?(?:all|every|each) (?:\S+ ){0,3}?segment", 0),
    _rule("unread", r"(?:fade|gradual|regular|blends?) (?:\S+ ){0,3}?[0-9]+ (?:\S+ ){0,3}?segment"),
    _rule("unread", r"[0-9]+ (?:\S+ ){0,3}?segment (?:\S+ ){0,3}?(?:fade|gradual|regular|blends?)"),
    _rule("border", rf"{_COUNT}{_OF_EIGHT}(?:(?:of|the|its|off|irregular|{_CUT}) ){{0,5}}segment", _segments),
    _rule(
        "border",
        r"(?:border|abrupt|irregular|cutoff|off) (?:: )?(?:[^\s,;:]+ ){0,4}?"
        r"(?P<n>[0-9]+) (?:(?:out|of|the|its|/) ){1,3}(?P<m>8)",
        _segments,
    ),
    _rule(
        "border",
        r"border (?:irregular )?(?:feature (?:(?:of|is|:|=) )?|[:=] )(?P<n>[0-9]+)(?P<m>\n)?(?! (?:mm|cm|of|/|colour))",
        _segments,
    ),
    _rule(
        "border",
        r"border (?:is )?(?:gradual )?fade(?: (?:out|off|away|gradual|all|around)){0,4}|"
        r"(?:gradual|soft) (?:fade )?border|"
        r"regular (?:(?:,|and|well|defined|round|oval|distinct|clear) ){0,4}border|"
        r"border (?:(?:,|is|very|quite|fairly|relatively|mostly|and|well|defined|round|distinct) ){1,5}regular"
        r"(?: and regular)?",
        0,
        "fallback",
    ),
)
_SIZE = (
    _rule("size_mm", rf"(?<! x )(?<! by )(?P<a>{_N}) (?:(?:mm|cm) )?(?:x|×|by) (?P<b>{_N}) (?P<unit>mm|cm)", _size),
    _rule("size_mm", rf"(?<!tens )(?<![0-9×x] )(?<! by )(?P<a>{_N})(?P<b>\n)? (?P<unit>mm|cm)", _size),
)
_TONE = (
    _rule(
        "tone",
        r"monk (?:(?:skin|tone|scale|type|shade|level|value|number|no|of|is|the|a|[:=#(]) ){0,5}(?P<n>[0-9]+)"
        r"(?: (?:/|of|out of) 10)?(?! (?:mm|cm|segment))|"
        r"(?P<on>[0-9]+)(?: (?:/|of|out of) 10)? (?:on|in|of) (?:the )?monk(?: (?:skin|tone|scale)){0,3}|"
        r"tone (?:(?:number|level|of|is|[:=#]) ){0,2}(?P<bare>[0-9]+)(?: (?:/|of|out of) 10)?"
        r"(?! (?:mm|cm|segment|of|axis))",
        lambda match: _whole("tone", match["n"] or match["on"] or match["bare"]),
    ),
    _rule(
        "tone",
        rf"{_SKIN_TONE} (?:tone |coloured )?skin(?! (?:lesion|mole|spot|growth))|{_SKIN} {_SKIN_TONE}",
        lambda tone: True,
        "weak",
    ),
)
_ANYWHERE = {
    "head and neck": "head (?:and|/|&) neck|scalp|forehead",
    "trunk": "trunk|torso|abdomen",
    "upper extremity": "upper extremity|forearm",
    "lower extremity": "lower extremity|thigh",
    "anogenital": "anogenital|genital|perianal",
}
_WITH_PLACE = {
    "head and neck": "face|cheeks?|nose|neck|ear|eyelid|eyebrow|temple|chin|lip|jaw|head",
    "trunk": "back|chest|breast|flank|belly",
    "upper extremity": "arm|hand|finger|wrist|elbow|palm|thumb",
    "lower extremity": "leg|calf|shin|foot|ankle|knee|toe|heel",
    "anogenital": "genitals|genitalia|vulva|penis|scrotum|perineum",
}
_BODY = "|".join((*_ANYWHERE.values(), *_WITH_PLACE.values()))
_SITES = tuple(
    _rule(
        "site",
        rf"(?:{_ON})?(?:{_ANYWHERE[site]})|{_ON}(?:{words})(?! (?:side|of (?:{_PLACE} ){{0,3}}(?:{_BODY})))",
        site,
    )
    for site, words in _WITH_PLACE.items()
)
_CAPTURE = (
    _rule("skip", r"(?:dermoscopic|clinical) (?:feature|pattern|diagnosis|examination|impression)"),
    _rule("capture", r"dermoscopic", "dermoscopic"),
    _rule("capture", r"(?:clinical|macroscopic) (?:\S+ )?photo|photo (?:is|:) (?:a )?clinical", "clinical"),
)
_ARTEFACTS = (
    _rule("skip", "hairless"),
    _rule("artefacts", rf"(?:(?:{_COLOUR}|light|dark|fine|thick|thin|terminal|blonde?) ){{0,3}}hair", ("hair",)),
    _rule("artefacts", r"(?:measuring |mm |white |black )?ruler|measuring (?:scale|tape)|scale bar", ("ruler",)),
    _rule("artefacts", r"(?:dark|black) (?:photo |frame )?corner|(?:dark |black )?vignette", ("dark corners",)),
)
_STRUCTURES = tuple(
    _rule("structures", pattern, (name,))
    for name, pattern in {
        "network": rf"{_QUALITY}(?:reticular )?network|reticular (?:pattern|line)|reticulation",
        "structureless areas": r"structureless(?: (?:area|pattern|part))?|homogen(?:e)?ous area",
        "branched streaks": rf"{_QUALITY}(?:(?:branched|branching|radial|peripheral) )?streak",
        "dots": rf"{_QUALITY}dot",
        "globules": rf"{_QUALITY}globule(?: (?:pattern|feature))?",
    }.items()
)
_COLOURS = (
    _rule(
        "colours",
        r"(?:light|dark)(?: (?:,|and|to|or|/|medium)){1,3} (?:light|dark) brown",
        ("light brown", "dark brown"),
    ),
    _rule("colours", r"light brown|(?:light )?tan", ("light brown",)),
    _rule("colours", r"(?:dark|deep) brown", ("dark brown",)),
    _rule("colours", rf"{_SHADE}(?:blue grey|grey blue|blue|grey)", ("blue-grey",)),
    *(_rule("colours", rf"{_SHADE}{name}", (name,)) for name in ("white", "red", "black")),
)
_WEAK = (
    _rule("border", r"irregular", lambda segments: segments > 0, "weak"),
    _rule("border", r"abrupt|sharp|cut|cutoff|off|end|fade|gradual", lambda segments: True, "weak"),
    *(
        _rule("colours", rf"{n} (?:main |different |distinct )?colour", lambda found, n=n: len(found) == n, "weak")
        for n in range(1, len(COLOURS) + 1)
    ),
    _rule("colours", r"uniform(?:ly)?|varied|variegated|varying|different|ranges?|ranging|mix|mixture", bool, "weak"),
)
RULES = (
    *_DOUBTFUL,
    *_DIAGNOSES,
    *(_rule("label", label, label) for label in LABELS),
    *_ASYMMETRY,
    *_BORDER,
    *_SIZE,
    *_TONE,
    *_SITES,
    *_CAPTURE,
    *_ARTEFACTS,
    *_STRUCTURES,
    *_COLOURS,
    *_WEAK,
)
"""Every rule, in the order in which they take words."""
