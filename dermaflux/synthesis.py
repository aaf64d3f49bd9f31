"""Many samples to a folder: orders are drawn in batches, and gone on with where they were interrupted.

An image that a screen refuses goes to the folder `rejected`, with the reason in that folder's manifest.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dermaflux.candidates import seed_of
from dermaflux.data import manifest
from dermaflux.errors import DermaFluxError, InputError, shown
from dermaflux.files import MANIFEST, REJECTED, write_atomically
from dermaflux.images import MANIFEST_COLUMNS, Provenance, manifest_row, open_untrusted, read_provenance, save_synthetic
from dermaflux.models import MAX_IMAGES, SamplingOptions
from dermaflux.ordering import Order
from dermaflux.screening import Apart

if TYPE_CHECKING:
    from PIL import Image

    from dermaflux.generator import Generator
    from dermaflux.screening import Screen

REASONS, HOW = "reasons.csv", "how.json"
NUMBERED = "[0-9]*-*-*.png"
COLUMNS = (*MANIFEST_COLUMNS, "licence")


@dataclass(frozen=True)
class Outcome:
    """What became of an order. kept: its file was there already. refused: why it is among the rejected. error: why
    there is no file."""

    order: Order
    kept: bool = False
    refused: str = ""
    error: DermaFluxError | None = None


def synthesise(
    generator: "Generator",
    orders: Sequence[Order],
    out: Path,
    screens: Sequence["Screen"] = (),
    part: tuple[int, int] = (0, 1),
    how: Mapping[str, str] | None = None,
    distinct: bool = False,
) -> Iterator[Outcome]:
    """Draw `orders` into the folder `out`, yielding an Outcome for each; at the end write its manifests.

    Images that are there already from the same model and orders are kept, so that a run can be interrupted and
    repeated, or extended. Every file is written whole or not at all. part: of how many processes that share the orders
    this is which; where there are several, `gather` is called when all have ended. how: what else decides which images
    there are, by name, such as the screens' settings; it is kept in `out`. distinct: when all are drawn, reject those
    that look like one of an earlier order. Raises InputError before anything is drawn where `out` holds images of other
    orders or models, or was drawn otherwise.
    """
    done = _Folder(out).found(generator, orders)
    if how is not None:
        done.settle(how)
    share = min(MAX_IMAGES, -(-len(orders) // part[1]))
    mine = [order for batch in list(_batches(orders, share))[part[0] :: part[1]] for order in batch]
    try:
        for order in mine:
            if order in done.kept or order in done.rejected:
                yield Outcome(order, kept=True, refused=done.reasons.get(order.file, ""))
        known = {**done.kept, **done.rejected}
        for batch in _batches([order for order in mine if order not in known]):
            yield from _draw(generator, batch, done, screens)
        if distinct and part[1] == 1:
            done.reject_alike(orders)
    finally:
        if part[1] == 1:
            done.write_manifests(generator, orders)


def gather(generator: "Generator", orders: Sequence[Order], out: Path, distinct: bool = False) -> None:
    """End what several processes have drawn into `out`, as `synthesise` ends what one has, by the same errors."""
    done = _Folder(out).found(generator, orders)
    if distinct:
        done.reject_alike(orders)
    done.write_manifests(generator, orders)


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
            there = {row.get("file") for row in _rows(place / MANIFEST)} | {one.name for one in place.glob(NUMBERED)}
            if there - {order.file for order in orders}:
                raise foreign
            for order in (order for order in orders if (place / order.file).exists()):
                try:
                    recipe = read_provenance(place / order.file)
                    open_untrusted(place / order.file)
                except InputError:
                    continue
                drawn = (recipe.caption, recipe.attributes, recipe.model_hash, recipe.lora_hash or "")
                ordered = (order.caption, order.attributes, generator.model_hash, generator.adapter.hash)
                if drawn != ordered or recipe.source is not None:
                    raise foreign
                if told := _differences(recipe, order.options):
                    how = "say the same, or choose an empty folder"
                    raise InputError(f"The images in {self.path} were drawn with {told}: {how}.")
                if recipe.seed not in map(partial(seed_of, order.options.seeds[0]), range(order.options.candidates)):
                    raise foreign
                if recipe.arithmetic != generator.arithmetic:
                    ways = f"{recipe.arithmetic or 'an earlier version'}, now {generator.arithmetic}"
                    raise InputError(f"The images in {self.path} were drawn with {ways}; choose an empty folder.")
                recipes[order] = recipe
        told = _rows(self.path / REJECTED / REASONS)
        self.reasons = {row["file"]: row["reason"] for row in told if row.get("reason")}
        return self

    def settle(self, how: Mapping[str, str]) -> None:
        """Keep `how` images are drawn. Raises InputError where those that are there were drawn otherwise."""
        path = self.path / HOW
        try:
            before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else dict(how)
        except ValueError:
            raise InputError(f"{path} is damaged; choose an empty folder, or delete it.") from None
        other = [name for name in dict.fromkeys((*before, *how)) if before.get(name, "") != how.get(name, "")]
        if other and (self.kept or self.rejected):
            told = "; ".join(f"{name}: {before.get(name) or 'none'}, now {how.get(name) or 'none'}" for name in other)
            raise InputError(f"The images in {self.path} were drawn otherwise ({told}); choose an empty folder.")
        text = json.dumps(dict(how), indent=2, ensure_ascii=False) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))

    def add(self, order: Order, image: "Image.Image", recipe: Provenance, refused: str) -> None:
        """Save a drawn image; of one that is refused the reason first, so that no image there lacks one."""
        if refused:
            self._note(order, refused)
        place, recipes = (self.path / REJECTED, self.rejected) if refused else (self.path, self.kept)
        place.mkdir(parents=True, exist_ok=True)
        save_synthetic(image, recipe, place / order.file)
        recipes[order] = recipe

    def reject_alike(self, orders: Sequence[Order]) -> None:
        """Reject what looks like a kept image of an earlier order: the same ones however many processes drew them."""
        known = Apart()
        for order in (order for order in orders if order in self.kept):
            image = open_untrusted(self.path / order.file)
            if refused := known.refusal(image, order.attributes):
                self._note(order, refused)
                (self.path / order.file).replace(self.path / REJECTED / order.file)
                self.rejected[order] = self.kept.pop(order)
            else:
                known.add(image)

    def _note(self, order: Order, refused: str) -> None:
        """Keep the reason why the image of `order` is rejected."""
        self.reasons[order.file] = refused
        place = self.path / REJECTED
        place.mkdir(parents=True, exist_ok=True)
        with (place / REASONS).open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ("file", "reason"))
            if stream.tell() == 0:
                writer.writeheader()
            writer.writerow({"file": order.file, "reason": refused})

    def write_manifests(self, generator: "Generator", orders: Sequence[Order]) -> None:
        """Write manifest.csv of the kept images, and one of the rejected, in the order of `orders`; what others noted
        there in columns of their own stays, what a killed run left half-written goes."""
        for place, recipes in ((self.path, self.kept), (self.path / REJECTED, self.rejected)):
            for half in place.glob(".*.part"):
                half.unlink()
            rows = [manifest_row(order.file, recipes[order]) for order in orders if order in recipes]
            licence = {"licence": generator.spec.licence}
            marked = [row | licence | {"reason": self.reasons.get(row["file"], "")} for row in rows]
            if marked:
                columns = COLUMNS if place == self.path else (*COLUMNS, "reason")
                noted = {row["file"]: row for row in _rows(place / MANIFEST) if row.get("file")}
                more = [name for row in noted.values() for name in row if name not in (*columns, None)]
                marked = [{name: noted.get(row["file"], {}).get(name) for name in more} | row for row in marked]
                manifest.write(place / MANIFEST, marked, dict.fromkeys((*columns, *more)))


def _differences(recipe: Provenance, options: SamplingOptions) -> str:
    """Which settings that change pixels, beside the seed, `recipe` has otherwise than `options`, in words.

    Of how many candidates it is does not count where it is the first one's, nor up to which level no noise is renewed,
    nor the early guidance where there is none.
    """
    alone = options.candidates == 1 and recipe.seed == options.seeds[0]
    was = vars(replace(recipe.options(), candidates=1 if alone else recipe.candidates))
    idle = {} if recipe.eta or options.eta else {"eta_below": recipe.eta_below}
    if recipe.guidance_below == options.guidance_below == 1:
        idle["early_guidance"] = recipe.early_guidance
    now = vars(replace(options, **idle))
    names = [name for name in was if name != "seeds" and was[name] != now[name]]
    return "; ".join(f"{name} {shown(was[name]) or 'none'}, now {shown(now[name]) or 'none'}" for name in names)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        return list(csv.DictReader(stream))
