"""What to draw, as a list of orders: of attributes, of a caption, as in a real set, or of a plan."""

import csv
import logging
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dermaflux.caption import caption, clean, read
from dermaflux.data import manifest
from dermaflux.errors import DataError, InputError
from dermaflux.files import unguard
from dermaflux.images import MANIFEST_COLUMNS, Provenance
from dermaflux.lesion import DIAGNOSES, RANGES, SITES, LesionAttributes
from dermaflux.models import MAX_SEED, ModelSpec, SamplingOptions

log = logging.getLogger("dermaflux")
DRAWN = re.compile(r"\d{5,9}-(benign|malignant|lesion)-\d{1,10}\.png")
"""The names of images in the folders of runs."""
REWORDED_EVERY = 32
"""So many seeds in a row share a wording, so that a row of images of one lesion differs by its noise alone."""
TRAITS = ("asymmetry", "border"), ("colours",), ("size_mm",), ("tone",), ("site", "capture"), ("artefacts",)
"""What a mixed lesion may have from other rows; names in one group stay together."""
_ATTRIBUTES = {field.name: field.default for field in fields(LesionAttributes)}
_SETTINGS = {one.name: one.type for one in fields(SamplingOptions) if one.name not in ("seeds", "strength")}
_ADDED = "early_guidance", "guidance_below", "eta", "eta_below", "contrast", "postfilter"
"""Settings that manifests of earlier versions lack, or have empty beside later ones: as a recipe means them."""
_KNOWN = {"diagnosis": DIAGNOSES, "site": SITES}
_OWN = ("captioner", "caption_faults", manifest.LEFT_OUT, "reason")
"""Further columns of manifests that this program writes."""
_PLAN_COLUMNS = frozenset((*_ATTRIBUTES, *_SETTINGS, "caption", "seed", *MANIFEST_COLUMNS, *manifest.COLUMNS, *_OWN))


@dataclass(frozen=True)
class Order:
    """One image to draw: its file's name, caption, attributes and options; the options hold its one seed."""

    file: str
    caption: str
    attributes: LesionAttributes
    options: SamplingOptions


def of_attributes(lesions: Sequence[LesionAttributes], count: int, options: SamplingOptions) -> list[Order]:
    """`count` images of `lesions` in turn, with consecutive seeds from that of `options`. Raises InputError."""
    chosen = [lesions[index % len(lesions)] for index in range(count)]
    return [_order(index, lesion, _seeded(options, index)) for index, lesion in enumerate(chosen)]


def of_caption(text: str, count: int, options: SamplingOptions) -> list[Order]:
    """`count` images of the caption `text`, with consecutive seeds from that of `options`. Raises InputError."""
    text = clean(text)
    attributes = read(text).attributes
    return [_order(index, attributes, _seeded(options, index), text) for index in range(count)]


def like_manifest(
    path: Path,
    labels: Sequence[str],
    asked: LesionAttributes,
    count: int,
    options: SamplingOptions,
    balance: str | None = None,
    mixed: bool = False,
) -> list[Order]:
    """`count` images of lesions as in the real set at `path`, each that of a row chosen by the image's seed.

    A row gives its label, diagnosis, site and, if no fault was found in it, what its caption says; what `asked`
    specifies replaces that. labels: the labels to take in turn, of either if there are none. balance: a column whose
    values are taken in turn, of each label those it has; rows that leave it empty are left alone. So are those of the
    test split. mixed: half of the TRAITS, chosen anew for each image, are each taken from a row chosen at random of the
    same label, and of the same value of `balance`, which may leave them open. Raises DataError.
    """
    rows = [row for row in manifest.read(path) if row.split != "test" and (not balance or row.values.get(balance))]
    pools = [_by_value([row for row in rows if label in (None, row.label)], balance) for label in labels or (None,)]
    if not all(pools):
        wanted = f"{' of each label' if labels else ''}{f' with “{balance}”' if balance else ''}"
        raise DataError(f"{path} has no rows outside the test split{wanted} to draw from.")
    orders = []
    for index in range(count):
        seeded = _seeded(options, index)
        turn, place = divmod(index, len(pools))
        rng, pool = random.Random(seeded.seeds[0]), pools[place][turn % len(pools[place])]
        row = rng.choice(pool)
        lesion = _mixed(_lesion(row), pool, rng) if mixed else _lesion(row)
        try:
            orders.append(_order(index, replace(lesion, **asked.specified()), seeded))
        except InputError as error:
            raise DataError(f"{row.place}: {error}") from None
    return orders


def _mixed(lesion: LesionAttributes, pool: Sequence[manifest.Row], rng: random.Random) -> LesionAttributes:
    """`lesion` with half of its TRAITS from rows of its label in `pool`."""
    for names in rng.sample(TRAITS, len(TRAITS) // 2):
        while (row := rng.choice(pool)).label != lesion.label:
            pass
        other = _lesion(row)
        lesion = replace(lesion, **{name: getattr(other, name) for name in names})
    return lesion


def _by_value(rows: Sequence[manifest.Row], column: str | None) -> list[list[manifest.Row]]:
    """Rows parted by their values of `column`, if there is one."""
    parted: dict[str, list[manifest.Row]] = {}
    for row in rows:
        parted.setdefault(row.values[column] if column else "", []).append(row)
    return [parted[value] for value in sorted(parted)]


def of_plan(path: Path, count: int | None, options: SamplingOptions, spec: ModelSpec) -> list[Order]:
    """The images that the CSV at `path` asks for, one a row, or the first `count` of them.

    Columns: caption, the names of attributes (several colours, structures or artefacts are parted by ; or ,), seed, and
    steps, guidance, negative, true_cfg, lora_strength, size, noise, first_block_cache, eta, eta_below, contrast,
    candidates, postfilter, early_guidance, guidance_below; an empty cell leaves a thing to the caption or `options`.
    The manifest of a folder draws the folder again, each image by its own name and seed, and as earlier versions drew
    where they noted nothing, but for rows that are marked as left out; its other columns are ignored. That it names
    another model than `spec` is remarked on. Raises DataError.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            names = list(reader.fieldnames or ())
            for place, name in enumerate(names):
                if name not in _PLAN_COLUMNS:
                    raise DataError(f"{path}, line 1: the column “{name}” is not known in a plan.")
                if name in names[:place]:
                    raise DataError(f"{path}, line 1: the column “{name}” is there twice.")
            rows = [(reader.line_num, {name: unguard(cell) for name, cell in row.items()}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV plan: {error}.") from error
    rows = [(line, row) for line, row in rows if row.get(manifest.LEFT_OUT) != "yes"]
    if not rows:
        raise DataError(f"{path} holds no rows; give each image one.")
    if count is not None and count > len(rows):
        raise DataError(f"{path} holds {len(rows)} rows, an image each; --count {count} asks for more.")
    others = sorted({row["model"] for _, row in rows if row.get("model")} - {spec.name})
    if others:
        log.warning("%s names %s; %s draws it, with other pixels.", path, ", ".join(others)[:200], spec.name)
    orders = [_planned(path, line, index, row, options, spec) for index, (line, row) in enumerate(rows[:count])]
    names = [row["file"] for _, row in rows[:count] if row.get("version") and DRAWN.fullmatch(row.get("file") or "")]
    if len(set(names)) < len(orders):
        return orders
    return [replace(order, file=name) for order, name in zip(orders, names, strict=True)]


def _order(index: int, attributes: LesionAttributes, options: SamplingOptions, text: str = "") -> Order:
    seed = options.seeds[0]
    text = text or caption(attributes, seed // REWORDED_EVERY)
    return Order(f"{index:05d}-{attributes.label or 'lesion'}-{seed}.png", text, attributes, options)


def _seeded(options: SamplingOptions, index: int) -> SamplingOptions:
    return replace(options, seeds=((options.seeds[0] + index) % (MAX_SEED + 1),))


def _lesion(row: manifest.Row) -> LesionAttributes:
    text = "" if row.values.get("caption_faults") else row.values.get("caption")
    known = {name: row.values[name] for name, names in _KNOWN.items() if row.values.get(name) in names}
    try:
        said = read(clean(text)).attributes if text else LesionAttributes()
        return replace(said, label=row.label, **known)
    except InputError as error:
        raise DataError(f"{row.place}: {error}") from None


def _planned(path: Path, line: int, index: int, row: Mapping[str, str], options: SamplingOptions, spec: ModelSpec):
    try:
        if None in row:
            raise InputError("there are more cells than columns; put a text with commas between quotes.")
        text = clean(row["caption"]) if row.get("caption") else ""
        given = {name: _attribute(name, row[name]) for name in _ATTRIBUTES if row.get(name)}
        attributes = replace(read(text).attributes if text else LesionAttributes(), **given)
        if row.get("varied_from"):
            raise InputError("a variation of another image cannot be drawn from a plan; leave the row out.")
        lacking = [name for name in _ADDED if not row.get(name)] if row.get("version") else []
        changes = {name: getattr(Provenance, name) for name in lacking}
        changes |= {name: _value(name, row[name], kind) for name, kind in _SETTINGS.items() if row.get(name)}
        if row.get("version"):
            changes["candidates"] = 1  # a manifest names the seed of the one that was chosen
        if row.get("seed"):
            changes["seeds"] = (_value("seed", row["seed"], int),)
        if not text and not given:
            raise InputError("there is neither a caption nor an attribute.")
        return _order(
            index, attributes, SamplingOptions.defaults(spec, **vars(_seeded(options, index)) | changes), text
        )
    except InputError as error:
        raise DataError(f"{path}, line {line}: {error}") from None


def _attribute(name: str, text: str) -> object:
    if name in RANGES:
        return _value(name, text, int)
    return tuple(part.strip() for part in re.split("[;,]", text)) if _ATTRIBUTES[name] == () else text.strip()


def _value(name: str, text: str, kind: type) -> object:
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"the {name} “{text[:40]}” is not a {'whole ' if kind is int else ''}number.") from None
