"""Many samples to a folder: what to draw as a list of orders, drawn in batches, resumed where it was interrupted.

An image that a screen refuses goes to the folder `rejected`, with the reason in that folder's manifest.
"""

import csv
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dermaflux.caption import caption, clean, read
from dermaflux.data import manifest
from dermaflux.errors import DataError, DermaFluxError, InputError
from dermaflux.images import MANIFEST_COLUMNS, Provenance, manifest_row, open_untrusted, read_provenance, save_synthetic
from dermaflux.lesion import DIAGNOSES, RANGES, SITES, LesionAttributes
from dermaflux.models import MAX_IMAGES, MAX_SEED, ModelSpec, SamplingOptions

if TYPE_CHECKING:
    from PIL import Image

    from dermaflux.generator import Generator
    from dermaflux.screening import Screen

MANIFEST, REJECTED, REASONS = "manifest.csv", "rejected", "reasons.csv"
COLUMNS = (*MANIFEST_COLUMNS, "licence")
REWORDED_EVERY = 32
"""So many seeds in a row share a wording, so that a row of images of one lesion differs by its noise alone."""
_ATTRIBUTES = {field.name: field.default for field in fields(LesionAttributes)}
_SETTINGS = {"steps": int, "guidance": float, "negative": str, "true_cfg": float, "lora_strength": float}
_SETTINGS |= {"size": int, "noise": str, "first_block_cache": float}
_KNOWN = {"diagnosis": DIAGNOSES, "site": SITES}
_PLAN_COLUMNS = frozenset((*_ATTRIBUTES, *_SETTINGS, "caption", "seed", *MANIFEST_COLUMNS, *manifest.COLUMNS))


@dataclass(frozen=True)
class Order:
    """One image to draw: its file's name, caption, attributes and options; the options hold its one seed."""

    file: str
    caption: str
    attributes: LesionAttributes
    options: SamplingOptions


@dataclass(frozen=True)
class Outcome:
    """What became of an order. kept: its file was there already. refused: why it is among the rejected. error: why
    there is no file."""

    order: Order
    kept: bool = False
    refused: str = ""
    error: DermaFluxError | None = None


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
    path: Path, labels: Sequence[str], asked: LesionAttributes, count: int, options: SamplingOptions
) -> list[Order]:
    """`count` images of lesions as in the real set at `path`, each that of a row chosen by the image's seed.

    A row gives its label, diagnosis, site and what its caption says; what `asked` specifies replaces that. labels: the
    labels to take in turn, of either if there are none. Rows of the test split are left alone. Raises DataError.
    """
    rows = [row for row in manifest.read(path) if row.split != "test"]
    pools = [[row for row in rows if row.label == label] for label in labels] or [rows]
    if not all(pools):
        raise DataError(f"{path} has no rows outside the test split{' of each label' if labels else ''} to draw from.")
    orders = []
    for index in range(count):
        seeded = _seeded(options, index)
        row = random.Random(seeded.seeds[0]).choice(pools[index % len(pools)])
        orders.append(_order(index, replace(_lesion(row), **asked.specified()), seeded))
    return orders


def of_plan(path: Path, count: int | None, options: SamplingOptions, spec: ModelSpec) -> list[Order]:
    """The images that the CSV at `path` asks for, one a row, or the first `count` of them.

    Columns: caption, the names of attributes (several colours, structures or artefacts are parted by ; or ,), seed, and
    steps, guidance, negative, true_cfg, lora_strength, size, noise, first_block_cache; an empty cell leaves a thing to
    the caption or `options`. Other columns of a manifest are ignored, so that the manifest of a folder draws the folder
    again. Raises DataError.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            for name in (name for name in reader.fieldnames or () if name not in _PLAN_COLUMNS):
                raise DataError(f"{path}, line 1: the column “{name}” is not known in a plan.")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV plan: {error}.") from error
    if not rows:
        raise DataError(f"{path} holds no rows; give each image one.")
    return [_planned(path, line, index, row, options, spec) for index, (line, row) in enumerate(rows[:count])]


def _order(index: int, attributes: LesionAttributes, options: SamplingOptions, text: str = "") -> Order:
    seed = options.seeds[0]
    text = text or caption(attributes, seed // REWORDED_EVERY)
    return Order(f"{index:05d}-{attributes.label or 'lesion'}-{seed}.png", text, attributes, options)


def _seeded(options: SamplingOptions, index: int) -> SamplingOptions:
    return replace(options, seeds=((options.seeds[0] + index) % (MAX_SEED + 1),))


def _lesion(row: manifest.Row) -> LesionAttributes:
    said = read(clean(row.values["caption"])).attributes if row.values.get("caption") else LesionAttributes()
    known = {name: row.values[name] for name, names in _KNOWN.items() if row.values.get(name) in names}
    return replace(said, label=row.label, **known)


def _planned(path: Path, line: int, index: int, row: Mapping[str, str], options: SamplingOptions, spec: ModelSpec):
    try:
        text = clean(row["caption"]) if row.get("caption") else ""
        given = {name: _attribute(name, row[name]) for name in _ATTRIBUTES if row.get(name)}
        attributes = replace(read(text).attributes if text else LesionAttributes(), **given)
        if row.get("varied_from"):
            raise InputError("a variation of another image cannot be drawn from a plan; leave the row out.")
        changes = {name: _value(name, row[name], kind) for name, kind in _SETTINGS.items() if row.get(name)}
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


def synthesise(
    generator: "Generator",
    orders: Sequence[Order],
    out: Path,
    screens: Sequence["Screen"] = (),
    part: tuple[int, int] = (0, 1),
) -> Iterator[Outcome]:
    """Draw `orders` into the folder `out`, yielding an Outcome for each; at the end write its manifests.

    Images that are there already from the same model and orders are kept, so that a run can be interrupted and
    repeated, or extended. Every file is written whole or not at all. part: of how many processes that share the orders
    this is which; where there are several, `write_manifests` is called when all have ended. Raises InputError before
    anything is drawn where `out` holds images of other orders or models.
    """
    done = _Folder(out).found(generator, orders)
    share = min(MAX_IMAGES, -(-len(orders) // part[1]))
    mine = [order for batch in list(_batches(orders, share))[part[0] :: part[1]] for order in batch]
    try:
        for order in (order for order in orders if order in done.kept):
            for screen in screens:
                screen.keep(open_untrusted(out / order.file))
        for order in mine:
            if order in done.kept or order in done.rejected:
                yield Outcome(order, kept=True, refused=done.reasons.get(order.file, ""))
        known = {**done.kept, **done.rejected}
        for batch in _batches([order for order in mine if order not in known]):
            yield from _draw(generator, batch, done, screens)
    finally:
        if part[1] == 1:
            done.write_manifests(generator, orders)


def write_manifests(generator: "Generator", orders: Sequence[Order], out: Path) -> None:
    """Write the manifests of what is in `out`, drawn by several processes. Raises InputError, see `synthesise`."""
    _Folder(out).found(generator, orders).write_manifests(generator, orders)


def _draw(
    generator: "Generator", batch: list[Order], done: "_Folder", screens: Sequence["Screen"]
) -> Iterator[Outcome]:
    options = replace(batch[0].options, seeds=tuple(order.options.seeds[0] for order in batch))
    texts, asked = [order.caption for order in batch], [order.attributes for order in batch]
    left = list(batch)
    try:
        for sample in generator.sample_each(texts, options, asked):
            order = batch[sample.index]
            refused = next(filter(None, (one.refusal(sample.image, order.attributes) for one in screens)), "")
            done.add(order, sample.image, sample.provenance, refused)
            for screen in () if refused else screens:
                screen.keep(sample.image)
            left.remove(order)
            yield Outcome(order, refused=refused)
    except DermaFluxError as error:
        if len(batch) == 1:
            yield Outcome(batch[0], error=error)
        else:  # what cannot be drawn does not keep the rest from being drawn
            for order in left:
                yield from _draw(generator, [order], done, screens)


def _batches(orders: Sequence[Order], most: int = MAX_IMAGES) -> Iterator[list[Order]]:
    """Orders with the same options but for the seed, at `most` so many at a time."""
    groups: dict[SamplingOptions, list[Order]] = {}
    for order in orders:
        groups.setdefault(replace(order.options, seeds=(0,)), []).append(order)
    for group in groups.values():
        for start in range(0, len(group), most):
            yield group[start : start + most]


class _Folder:
    """What a run has drawn into the folder `path`: recipes of the kept and of the rejected, and why these are."""

    def __init__(self, path: Path):
        self.path = path
        self.kept: dict[Order, Provenance] = {}
        self.rejected: dict[Order, Provenance] = {}
        self.reasons: dict[str, str] = {}

    def found(self, generator: "Generator", orders: Sequence[Order]) -> "_Folder":
        """Take up what is there; a damaged file counts as absent. Raises InputError where it is of other orders."""
        foreign = InputError(f"{self.path} holds images of another plan or model; choose an empty folder.")
        for place, recipes in ((self.path, self.kept), (self.path / REJECTED, self.rejected)):
            if {row.get("file") for row in _rows(place / MANIFEST)} - {order.file for order in orders}:
                raise foreign
            for order in (order for order in orders if (place / order.file).exists()):
                try:
                    recipe = read_provenance(place / order.file)
                    open_untrusted(place / order.file)
                except InputError:
                    continue
                drawn = (recipe.caption, recipe.attributes, recipe.options(), recipe.model_hash, recipe.lora_hash or "")
                ordered = (order.caption, order.attributes, order.options, generator.model_hash, generator.adapter.hash)
                if drawn != ordered or recipe.source is not None:
                    raise foreign
                recipes[order] = recipe
        told = _rows(self.path / REJECTED / REASONS)
        self.reasons = {row["file"]: row["reason"] for row in told if row.get("reason")}
        return self

    def add(self, order: Order, image: "Image.Image", recipe: Provenance, refused: str) -> None:
        """Save a drawn image; of one that is refused the reason first, so that no image there lacks one."""
        place = self.path / REJECTED if refused else self.path
        place.mkdir(parents=True, exist_ok=True)
        if refused:
            self.reasons[order.file] = refused
            with (place / REASONS).open("a", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, ("file", "reason"))
                if stream.tell() == 0:
                    writer.writeheader()
                writer.writerow({"file": order.file, "reason": refused})
        save_synthetic(image, recipe, place / order.file)
        (self.rejected if refused else self.kept)[order] = recipe

    def write_manifests(self, generator: "Generator", orders: Sequence[Order]) -> None:
        """Write manifest.csv of the kept images, and one of the rejected, in the order of `orders`; what a killed run
        left half-written goes."""
        for place, recipes in ((self.path, self.kept), (self.path / REJECTED, self.rejected)):
            for half in place.glob(".*.part"):
                half.unlink()
            rows = [manifest_row(order.file, recipes[order]) for order in orders if order in recipes]
            licence = {"licence": generator.spec.licence}
            marked = [row | licence | {"reason": self.reasons.get(row["file"], "")} for row in rows]
            if marked:
                manifest.write(place / MANIFEST, marked, COLUMNS if place == self.path else (*COLUMNS, "reason"))


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        return list(csv.DictReader(stream))
