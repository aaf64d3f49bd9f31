"""Pictures of a study: pools of real and synthetic images, made alike so that nothing but the picture tells them apart.

File names are not kept.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from PIL import Image

from dermaflux import appearance
from dermaflux.caption import clean, read
from dermaflux.data import manifest
from dermaflux.data.check import BITS, alike, near_pairs, perceptual_hash
from dermaflux.errors import DataError, InputError
from dermaflux.files import pngs, read_bytes
from dermaflux.images import manifest_row, open_untrusted, read_provenance
from dermaflux.intake import SUFFIXES
from dermaflux.lesion import DIAGNOSES, MONK_TONES, LesionAttributes
from dermaflux.study import answers
from dermaflux.study.protocol import PRACTICE, Protocol, Strata, choose

MAX_SIDE = 512
QUALITY = 95
MAX_DIAGNOSIS = 200
"""The column of a manifest that says, by “yes”, that an image is not to be used again."""


@dataclass(frozen=True)
class Candidate:
    """An image of a pool. where: its place in words, for messages. path: its file."""

    where: str
    path: Path
    source: str
    label: str
    tone: int | None
    caption: str
    attributes: LesionAttributes
    diagnosis: str


@dataclass(frozen=True)
class Picture:
    """A picture as readers see it. case: identifier from its content. data: PNG. group: shared by near-duplicates.

    origin: SHA-256 of the file of a synthetic image, by which it is found again; empty for a real one.
    """

    case: str
    data: bytes
    source: str
    label: str
    tone: int | None
    caption: str
    attributes: LesionAttributes
    diagnosis: str
    group: int
    origin: str
    look: int
    practice: bool = False


@dataclass(frozen=True)
class Near:
    """Two images that look the same: the case, the other case or “training image N”, and how many of 64 bits of their
    perceptual hashes differ."""

    case: str
    other: str
    bits: int

    def line(self) -> str:
        """The pair, for people."""
        return f"{self.case} and {self.other} look the same: {self.bits} of {BITS} bits differ."


def synthetic_pool(path: Path) -> list[Candidate]:
    """The synthetic images of a folder, each with its recipe, or of a manifest, which gives what a recipe lacks.

    Rows that are marked as left out are passed over. Raises DataError for none at all, and for an image of a folder
    without a recipe.
    """
    if path.is_dir():
        found = [_of_file(one) for one in pngs(path)]
    else:
        found = [_synthetic(row, place) for place, row in _kept(path)]
    if not found:
        raise DataError(f"{path} holds no synthetic images: give a folder of PNGs with recipes, or a manifest.")
    return found


def real_pool(path: Path) -> list[Candidate]:
    """The real images of a manifest, or of a folder, where nothing but the picture is known of them.

    Raises DataError where there are none.
    """
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES)
        known = ("real", "", None, "", LesionAttributes(), "")
        found = [Candidate(f"{path}, image {place}", one, *known) for place, one in enumerate(files, 1)]
    else:
        found = [_real(row, f"{path}, image {place}") for place, row in _kept(path)]
    if not found:
        raise DataError(f"{path} holds no images.")
    return found


def _real(row: manifest.Row, where: str) -> Candidate:
    if row.values.get("source") == "synthetic":
        raise DataError(f"{where} is marked as synthetic; a pool of real images holds real ones only.")
    tone = _tone(row.values.get("skin_tone"))
    diagnosis = answers.clean(row.values.get("diagnosis") or "")
    if len(diagnosis) > MAX_DIAGNOSIS:
        raise DataError(f"{where}: a diagnosis has up to {MAX_DIAGNOSIS} characters; shorten it.")
    lesion = LesionAttributes(label=row.label, tone=tone)
    return Candidate(where, row.path, "real", row.label, tone, "", lesion, diagnosis)


def _kept(path: Path) -> list[tuple[int, manifest.Row]]:
    rows = enumerate(manifest.read(path, left_out=True), 1)  # so that an image's place is its row's
    return [(place, row) for place, row in rows if row.values.get(manifest.LEFT_OUT) != "yes"]


def _of_file(path: Path) -> Candidate:
    try:
        recipe = read_provenance(path)
    except InputError as error:
        raise DataError(f"{path}: {error} Give a manifest of the images instead of their folder.") from None
    return _described(str(path), path, recipe.caption, recipe.attributes)


def _synthetic(row: manifest.Row, place: int) -> Candidate:
    where = f"{row.path.parent}, image {place} of the manifest"
    try:
        recipe = read_provenance(row.path)
        caption, lesion = recipe.caption, recipe.attributes
    except InputError:
        try:
            caption = clean(row.values["caption"]) if row.values.get("caption") else ""
        except InputError as error:
            raise DataError(f"{where}: {error}") from None
        lesion = read(caption).attributes if caption else LesionAttributes()
    known = {} if lesion.tone else {"tone": _tone(row.values.get("tone") or row.values.get("skin_tone"))}
    if not lesion.diagnosis and row.values.get("diagnosis") in DIAGNOSES:
        known["diagnosis"] = row.values["diagnosis"]
    return _described(where, row.path, caption, replace(lesion, label=row.label, **known))


def _described(where: str, path: Path, caption: str, lesion: LesionAttributes) -> Candidate:
    return Candidate(where, path, "synthetic", lesion.label or "", lesion.tone, caption, lesion, lesion.diagnosis or "")


def _tone(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and 1 <= int(text) <= len(MONK_TONES) else None


def prepare(synthetic: Sequence[Candidate], real: Sequence[Candidate], protocol: Protocol) -> list[Picture]:
    """The cases of a study, chosen at random, made alike, and grouped by near-duplicates; practice cases come first.

    Raises InputError for too few images, or where real or synthetic is asked of one source alone, and DataError for an
    image that cannot be read or comes twice.
    """
    if protocol.questions.source and not (synthetic and real):
        raise InputError("Real or synthetic can be asked of pictures of both sources only; add some or leave it out.")
    if not synthetic and protocol.questions.match:
        raise InputError("The match with a caption can be asked of synthetic pictures only; add some or leave it out.")
    pool = [*synthetic, *real]
    chosen = choose(pool, PRACTICE + protocol.cases, protocol.strata, protocol.seed)
    opened = [_opened(one) for one in chosen]
    side = min(MAX_SIDE, *(min(image.size) for image, _ in opened))
    made = [_made(one, image, origin, side) for one, (image, origin) in zip(chosen, opened, strict=True)]
    first: dict[str, str] = {}
    for one, picture in zip(chosen, made, strict=True):
        if first.setdefault(picture.case, one.where) != one.where:
            raise DataError(f"{one.where} is the same picture as {first[picture.case]}; leave one out.")
    groups = alike([picture.look for picture in made])
    return _practised([replace(one, group=group) for one, group in zip(made, groups, strict=True)], protocol.strata)


def _practised(shown: list[Picture], strata: Strata) -> list[Picture]:
    """The first pictures as practice cases, each exchanged for the next of its stratum that looks like no other picture
    if it looks like one, as its feedback would tell of that one too."""
    alone = Counter(one.group for one in shown)
    for place, one in enumerate(shown[:PRACTICE]):
        if alone[one.group] > 1:
            rest = range(PRACTICE, len(shown))
            fits = (at for at in rest if alone[shown[at].group] == 1 and strata.key(shown[at]) == strata.key(one))
            other = next(fits, place)
            shown[place], shown[other] = shown[other], one
    return [replace(one, practice=place < PRACTICE) for place, one in enumerate(shown)]


def _opened(one: Candidate) -> tuple[Image.Image, str]:
    try:
        data = read_bytes(one.path)
        image = open_untrusted(data)
    except InputError as error:
        raise DataError(f"{one.where}: {error}") from None
    if one.source == "synthetic":
        return image, sha256(data).hexdigest()
    if _carries_recipe(data):
        raise DataError(f"{one.where} is synthetic, as it says itself; a pool of real images holds real ones only.")
    return image, ""


def _carries_recipe(data: bytes) -> bool:
    try:
        return bool(read_provenance(data))
    except InputError:
        return False


def _made(one: Candidate, image: Image.Image, origin: str, side: int) -> Picture:
    square, data = _square(image), encode(image, side)
    tone = one.tone or appearance.measure(square).tone
    case = sha256(data).hexdigest()[:16]
    look = perceptual_hash(square)
    return Picture(case, data, one.source, one.label, tone, one.caption, one.attributes, one.diagnosis, 0, origin, look)


def encode(image: Image.Image, side: int) -> bytes:
    """The middle square of `image` as a PNG of `side` px whose size in bytes depends on `side` alone.

    The pixels pass through a JPEG of one quantisation table, so that those of photographs and of drawn images are
    quantised alike, and are stored without compression, so that how smooth they are does not show in the size.
    """
    shown = _square(image).resize((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    quantised, stored = io.BytesIO(), io.BytesIO()
    shown.save(quantised, "JPEG", quality=QUALITY, subsampling=0)
    with Image.open(quantised) as decoded:
        Image.frombytes("RGB", decoded.size, decoded.tobytes()).save(stored, "PNG", compress_level=0)
    return stored.getvalue()


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def near_duplicates(pictures: Sequence[Picture]) -> list[Near]:
    """The pairs of pictures that look the same."""
    pairs = near_pairs([one.look for one in pictures], map(str, range(len(pictures))))
    return [Near(pictures[one].case, pictures[other].case, bits) for one, other, bits in pairs]


def near_training(pictures: Sequence[Picture], training: Path, workers: int | None = None) -> list[Near]:
    """For each synthetic picture that looks like a training image: the nearest one of the manifest at `training`.

    Raises DataError for a training image that cannot be read.
    """
    drawn = [one for one in pictures if one.source == "synthetic"]
    with ThreadPoolExecutor(workers) as pool:
        looks = list(pool.map(_look, (row.path for row in manifest.read(training))))
    for place, look in enumerate(looks, 1):
        if isinstance(look, str):
            raise DataError(f"{training}, image {place}: {look}")
    hashes, kinds = [one.look for one in drawn] + looks, ["case"] * len(drawn) + ["training"] * len(looks)
    nearest: dict[int, tuple[int, int]] = defaultdict(lambda: (BITS + 1, 0))
    for one, other, bits in near_pairs(hashes, kinds):
        nearest[one] = min(nearest[one], (bits, other))
    return [
        Near(drawn[one].case, f"training image {other - len(drawn) + 1}", bits)
        for one, (bits, other) in sorted(nearest.items())
    ]


def _look(path: Path) -> int | str:
    try:
        return perceptual_hash(_square(open_untrusted(path)))
    except InputError as error:
        return str(error)


def marked(path: Path, left_out: Iterable[str]) -> list[dict[str, object]]:
    """The rows of a folder or manifest of images, marked as left out where they are of `left_out`, by hash."""
    if path.is_dir():
        rows = [(one, manifest_row(one.name, read_provenance(one))) for one in pngs(path)]
    else:
        rows = [(row.path, row.values) for row in manifest.read(path, left_out=True)]
    known = set(left_out)
    out = [(values, sha256(read_bytes(file)).hexdigest() in known) for file, values in rows]
    column = manifest.LEFT_OUT
    return [values | {column: "yes" if found else values.get(column, "")} for values, found in out]
