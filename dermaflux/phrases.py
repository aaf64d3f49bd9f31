"""The wording of captions as data: several phrasings for each level of each attribute.

Captions are what text encoders are trained on: a changed phrasing asks for new training.
"""

OPENING = "This photo depicts a {label}lesion. Here's a description of the mole:"
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")

ASYMMETRY = {
    0: (
        "It is symmetric in both axes.",
        "The shape is symmetrical.",
        "Its halves match in both axes.",
        "It is symmetrical along both axes.",
    ),
    1: (
        "It is asymmetric in one axis.",
        "It is asymmetrical along one axis.",
        "Its halves differ in one axis.",
        "It has one asymmetric axis.",
    ),
    2: (
        "It is asymmetric in both axes.",
        "It is asymmetrical along two axes.",
        "Its halves differ in both axes.",
        "It has two asymmetric axes.",
    ),
}
_SEGMENTS = (
    "The border ends abruptly in {n} of eight segments.",
    "The irregular border breaks off in {n} segment{plural}.",
    "{N} of eight border segments end{s} abruptly.",
    "The border is cut off in {n} segment{plural}.",
)
BORDER = {
    0: (
        "The border fades gradually all around.",
        "The regular border has no abrupt segment.",
        "None of eight border segments ends abruptly.",
        "The border fades without abrupt cut-off.",
    ),
    **{
        count: tuple(
            phrase.format(n=word, N=word.capitalize(), s="s" if count == 1 else "", plural="" if count == 1 else "s")
            for phrase in _SEGMENTS
        )
        for count, word in enumerate(NUMBERS[:8])
        if count
    },
    8: (
        "The border ends abruptly in all eight segments.",
        "The irregular border breaks off in every segment.",
        "All eight border segments end abruptly.",
        "The border is cut off in eight segments.",
    ),
}
COLOUR = (
    "The colour is {list}.",
    "It is uniformly {list}.",
    "Its only colour is {list}.",
    "The pigment is {list}.",
)
COLOURS = (
    "The colours are {list}.",
    "It is {list}.",
    "Its colours include {list}.",
    "The pigment is {list}.",
)
STRUCTURES = (
    "Structures include {list}.",
    "It contains {list}.",
    "It shows {list}.",
    "Dermoscopic structures: {list}.",
)
STRUCTURE_NAMES = {
    "network": ("a pigment network", "a network"),
    "structureless areas": ("structureless areas",),
    "branched streaks": ("branched streaks",),
    "dots": ("dots",),
    "globules": ("globules",),
}
SIZE = (
    "It measures {mm} mm.",
    "It is {mm} mm across.",
    "Diameter {mm} mm.",
    "It is {mm} mm wide.",
)
SITE = (
    "It is on the {site}.",
    "It sits on the {site}.",
    "The site is the {site}.",
    "On the {site}.",
)
SITE_NAMES = {"anogenital": "anogenital area"}
TONE = (
    "{Word} skin, Monk tone {tone}.",
    "On {word} skin, Monk {tone}.",
    "The skin is {word}, Monk {tone}.",
    "Skin: {word}, Monk tone {tone}.",
)
TONE_WORDS = {
    1: ("very light", "very fair"),
    2: ("very light", "fair"),
    3: ("light", "fair"),
    4: ("light", "beige"),
    5: ("medium", "intermediate"),
    6: ("tan", "olive"),
    7: ("brown", "medium brown"),
    8: ("deep brown", "dark"),
    9: ("dark", "deep"),
    10: ("very dark", "very deep"),
}
CAPTURE = (
    "{Capture} view.",
    "{Capture} image.",
    "The view is {capture}.",
    "{Capture} photograph.",
)
ARTEFACTS = (
    "The frame shows {list}.",
    "Also note {list}.",
    "In view: {list}.",
    "The image includes {list}.",
)
ARTEFACT_NAMES = {"hair": "hair", "ruler": "a ruler", "dark corners": "dark corners"}
DIAGNOSIS = (
    "Overall, the appearance is that of a {diagnosis}.",
    "Overall, it looks like a {diagnosis}.",
    "Overall, it suggests a {diagnosis}.",
    "Overall, it resembles a {diagnosis}.",
)
LABEL = (
    "Overall, the lesion appears {label}.",
    "Overall, the appearance is {label}.",
    "Overall, it looks {label}.",
    "Overall, it suggests a {label} lesion.",
)
NEITHER = ("Overall, it is a skin lesion.",)
