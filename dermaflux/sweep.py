"""Sweep: one or two things varied into a grid of images with everything else held fixed."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from dermaflux import models
from dermaflux.caption import caption
from dermaflux.errors import InputError
from dermaflux.images import Provenance
from dermaflux.lesion import (
    ARTEFACTS,
    CAPTURES,
    COLOURS,
    DIAGNOSES,
    LABELS,
    RANGES,
    SITES,
    STRUCTURES,
    LesionAttributes,
)
from dermaflux.models import MAX_IMAGES, SamplingOptions

if TYPE_CHECKING:
    from dermaflux.generator import Generator

MAX_VALUES, MAX_CELLS = 12, 64
OPTIONS = frozenset(field.name for field in fields(SamplingOptions))


@dataclass(frozen=True)
class Base:
    """What a sweep starts from.

    text: the caption, kept unless an attribute is varied. wording: the seed by which captions are worded anew.
    options: of their seeds the first is used. source: the recipe of an image that every cell varies.
    """

    text: str
    attributes: LesionAttributes
    options: SamplingOptions
    wording: int = 0
    source: Provenance | None = None


@dataclass(frozen=True)
class Axis:
    """Something that can be varied: an attribute of the lesion or a sampling option.

    values: those to choose from; empty for numbers within `limits`. start: the values offered first.
    put: from a value and the base, the fields of LesionAttributes or SamplingOptions with what they become.
    """

    title: str
    put: Callable[[Any, Base], dict[str, Any]]
    values: tuple = ()
    start: tuple = ()
    limits: tuple[float, float] = (0, 0)
    whole: bool = True

    def changes(self, base: Base) -> set[str]:
        """The names of the fields that this axis changes."""
        return set(self.put(self.start[0], base))


def _choice(title: str, name: str, values: Sequence, start: Sequence = ()) -> Axis:
    return Axis(title, lambda value, base: {name: value}, tuple(values), tuple(start or values))


def _one_of(title: str, name: str, values: Sequence[str]) -> Axis:
    """The names of a set one at a time, and none."""
    put = lambda value, base: {name: () if value == "none" else (value,)}
    return Axis(title, put, ("none", *values), tuple(values))


def _count_of(title: str, name: str, values: Sequence[str]) -> Axis:
    """How many names of a set: first those of the base, then the others in the vocabulary's order."""

    def put(value: int, base: Base) -> dict[str, Any]:
        chosen = getattr(base.attributes, name)
        return {name: (*chosen, *(other for other in values if other not in chosen))[:value]}

    counts = tuple(range(1, len(values) + 1))
    return Axis(title, put, counts, counts)


def _number(title: str, name: str, start: Sequence[float], limits: tuple[float, float], whole: bool = True) -> Axis:
    return Axis(title, lambda value, base: {name: value}, (), tuple(start), limits, whole)


def _levels(name: str) -> range:
    return range(RANGES[name][0], RANGES[name][1] + 1)


AXES: Mapping[str, Axis] = {
    "label": Axis("Lesion", lambda value, base: {"label": value, "diagnosis": None}, LABELS, LABELS),
    "diagnosis": Axis(
        "Diagnosis",
        lambda value, base: {"diagnosis": value, "label": DIAGNOSES[value].label},
        tuple(DIAGNOSES),
        ("nevus", "seborrheic keratosis", "melanoma"),
    ),
    "asymmetry": _choice("Asymmetry", "asymmetry", _levels("asymmetry")),
    "border": _choice("Border", "border", _levels("border"), (0, 2, 4, 6, 8)),
    "colours": _one_of("Only colour", "colours", tuple(COLOURS)),
    "colour_count": _count_of("Number of colours", "colours", tuple(COLOURS)),
    "structures": _one_of("Only structure", "structures", STRUCTURES),
    "structure_count": _count_of("Number of structures", "structures", STRUCTURES),
    "size_mm": _number("Largest diameter (mm)", "size_mm", (4, 8, 12, 16), RANGES["size_mm"]),
    "site": _choice("Body site", "site", SITES),
    "tone": _choice("Skin tone (Monk)", "tone", _levels("tone"), (1, 4, 7, 10)),
    "capture": _choice("Capture", "capture", CAPTURES),
    "artefacts": replace(_one_of("Artefact", "artefacts", ARTEFACTS), start=("none", *ARTEFACTS)),
    "lora_strength": _number(
        "LoRA strength", "lora_strength", (0, 0.5, 1, 1.5), (0, models.MAX_LORA_STRENGTH), whole=False
    ),
    "guidance": _number("Guidance", "guidance", (1, 2, 3, 5), (0, models.MAX_GUIDANCE), whole=False),
    "early_guidance": _number("Early guidance", "early_guidance", (1, 1.5, 2), (0, models.MAX_GUIDANCE), whole=False),
    "guidance_below": _number("Guidance up to level", "guidance_below", (0.5, 0.75, 1), (0, 1), whole=False),
    "eta": _number("Fresh noise", "eta", (0, 0.5, 1, 1.5), (0, models.MAX_ETA), whole=False),
    "eta_below": _number("Fresh noise up to level", "eta_below", (0.2, 0.5, 0.75, 1), (models.FINEST, 1), whole=False),
    "contrast": _number("Contrast", "contrast", (0, 0.5, 1, 2), (0, models.MAX_CONTRAST), whole=False),
    "postfilter": _number("Post-filter", "postfilter", (0, 0.5, 1), (0, 1), whole=False),
    "steps": _number("Steps", "steps", (5, 10, 20, 40), (1, models.MAX_STEPS)),
    "seed": Axis("Seed", lambda value, base: {"seeds": (value,)}, (), (0, 1, 2, 3), (0, models.MAX_SEED)),
}


@dataclass(frozen=True)
class Cell:
    """One image of a sweep: its place, and what draws it (`options` has one seed)."""

    row: int
    column: int
    text: str
    attributes: LesionAttributes
    options: SamplingOptions


@dataclass(frozen=True)
class Plan:
    """A sweep: its axes by their names in AXES, their values, and its cells row by row. y is None for a single row."""

    base: Base
    x: str
    x_values: tuple
    y: str | None
    y_values: tuple
    cells: tuple[Cell, ...]

    @property
    def changes(self) -> set[str]:
        """The names of the fields that vary."""
        return set().union(*(AXES[name].changes(self.base) for name in (self.x, self.y) if name))

    @property
    def reworded(self) -> bool:
        """Whether the base's caption was not the worded one, so that varying attributes replaces it."""
        return not self.changes <= OPTIONS and self.base.text != caption(self.base.attributes, self.base.wording)


def find_axis(name: str) -> Axis:
    """The axis called `name`. Raises InputError, naming the known ones."""
    if name not in AXES:
        raise InputError(f"“{str(name)[:40]}” cannot be varied. Choose one of: {', '.join(AXES)}.")
    return AXES[name]


def read(axis: Axis, given: str | Sequence) -> tuple:
    """The values that `given`, a list or comma-separated text, stands for, each once. Raises InputError."""
    parts = given.replace(";", ",").split(",") if isinstance(given, str) else list(given or ())
    parts = [str(part).strip() for part in parts if str(part).strip()]
    if not parts:
        raise InputError(f"{axis.title} has no values. Choose at least one.")
    values = tuple(dict.fromkeys((_chosen if axis.values else _numeral)(axis, part) for part in parts))
    if len(values) > MAX_VALUES:
        raise InputError(f"{axis.title} has {len(values)} values; a sweep shows at most {MAX_VALUES} along an axis.")
    return values


def _chosen(axis: Axis, part: str) -> Any:
    known = {str(value): value for value in axis.values}
    if part not in known:
        raise InputError(f"{axis.title}: “{part[:40]}” is not one of {', '.join(known)}.")
    return known[part]


def _numeral(axis: Axis, part: str) -> float:
    low, high = axis.limits
    example = ", ".join(f"{value:g}" for value in axis.start)
    try:
        number = float(part)
    except ValueError:
        raise InputError(
            f"{axis.title}: “{part[:40]}” is not a number. Write numbers separated by commas, such as {example}."
        ) from None
    if not math.isfinite(number) or not low <= number <= high:
        raise InputError(f"{axis.title} goes from {low:.10g} to {high:.10g}; {part[:40]} is outside.")
    if axis.whole and number != int(number):
        raise InputError(f"{axis.title} takes whole numbers, such as {example}; {part[:40]} is not one.")
    return int(number) if axis.whole else number


def plan(base: Base, x: str, x_values: str | Sequence, y: str | None = None, y_values: str | Sequence = ()) -> Plan:
    """The cells in which `x` (and `y`) take their values, all else as in `base`: same seed, same wording.

    x, y: names in AXES. Raises InputError for an unknown axis or value, for two axes that change the same thing, and
    for more than MAX_CELLS cells.
    """
    across, down = find_axis(x), find_axis(y) if y else None
    columns = read(across, x_values)
    rows = read(down, y_values) if down else (None,)
    if down and across.changes(base) & down.changes(base):
        raise InputError(f"{across.title} and {down.title} change the same thing. Choose another second axis.")
    if len(columns) * len(rows) > MAX_CELLS:
        raise InputError(
            f"{len(columns)} × {len(rows)} values make {len(columns) * len(rows)} images; a sweep draws at most "
            f"{MAX_CELLS}. Choose fewer values."
        )
    start = replace(base, options=replace(base.options, seeds=base.options.seeds[:1], candidates=1))
    cells = []
    for row, below in enumerate(rows):
        line = _put(start, down, below) if down else start
        cells += [_cell(row, column, _put(line, across, value)) for column, value in enumerate(columns)]
    return Plan(start, x, columns, y or None, rows if down else (), tuple(cells))


def _put(base: Base, axis: Axis, value: Any) -> Base:
    changed = axis.put(value, base)
    if set(changed) <= OPTIONS:
        return replace(base, options=replace(base.options, **changed))
    attributes = replace(base.attributes, **changed)
    return replace(base, attributes=attributes, text=caption(attributes, base.wording))


def _cell(row: int, column: int, base: Base) -> Cell:
    return Cell(row, column, base.text, base.attributes, base.options)


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: finished cells of `cells`, share of the work done (0 to 1), estimate of the time left."""

    finished: int
    cells: int
    share: float
    seconds_left: float


@dataclass(frozen=True)
class Drawn:
    """A finished cell: its index in the plan's cells, its pixels, its recipe."""

    index: int
    image: Image.Image
    provenance: Provenance


def run(generator: "Generator", plan: Plan) -> Iterator[Progress | Drawn]:
    """Draw the cells of `plan`: a Progress after every step, a Drawn for every finished cell.

    Cells that differ in nothing but their seed are drawn in one run. Closing the iterator ends the sweep within a step.
    Raises ModelUnavailable as Generator.sample does.
    """
    from dermaflux.generator import Preview

    groups = _groups(plan)
    total = sum(len(group) * plan.cells[group[0]].options.steps for group in groups)
    started, before, finished, source = time.perf_counter(), 0.0, 0, None
    if plan.base.source is not None:
        for item in generator.redraw(plan.base.source):
            if isinstance(item, Preview):
                yield Progress(0, len(plan.cells), 0.0, item.seconds_left)
            else:
                source = (item.image, plan.base.source)
    for group in groups:
        cell = plan.cells[group[0]]
        seeds = tuple(plan.cells[index].options.seeds[0] for index in group)
        options = replace(cell.options, seeds=seeds)
        for item in generator.sample(cell.text, options, attributes=cell.attributes, source=source):
            if isinstance(item, Preview):
                done = before + cell.options.steps * (item.indices[0] + len(item.indices) * item.step / item.steps)
                left = (time.perf_counter() - started) * (total / done - 1)
                yield Progress(finished, len(plan.cells), done / total, left)
            else:
                finished += 1
                yield Drawn(group[item.index], item.image, item.provenance)
        before += len(group) * cell.options.steps


def _groups(plan: Plan) -> list[list[int]]:
    """The indices of cells that differ in their seed only, at most as many together as a run draws."""
    alike: dict[tuple, list[int]] = {}
    for index, cell in enumerate(plan.cells):
        alike.setdefault((cell.text, cell.attributes, replace(cell.options, seeds=(0,))), []).append(index)
    return [group[at : at + MAX_IMAGES] for group in alike.values() for at in range(0, len(group), MAX_IMAGES)]
