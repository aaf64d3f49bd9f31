"""A sweep as one labelled PNG that says it is synthetic and carries the recipe of every cell."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from dermaflux import __version__
from dermaflux.errors import InputError
from dermaflux.files import write_atomically
from dermaflux.models import SamplingOptions
from dermaflux.provenance import Provenance, xmp
from dermaflux.sweep import AXES, Base, Drawn, Plan

CHUNK = "dermaflux-grid"
NOTICE = "Synthetic images, drawn by a generative model. They show no patient."
MARGIN, GAP, ROW_LABELS, MIN_WIDTH = 20, 8, 150, 520
TITLE, LABEL, NOTE = 19, 17, 15
INK, SUBDUED, EMPTY, PAPER = "#17262b", "#526469", "#eef2f3", "#ffffff"
NAMES = {
    "label": "lesion",
    "size_mm": "largest diameter (mm)",
    "site": "body site",
    "tone": "skin tone (Monk)",
    "seeds": "seed",
    "negative": "negative caption",
    "true_cfg": "true CFG",
    "lora_strength": "LoRA strength",
    "size": "size (px)",
    "strength": "variation strength",
    "first_block_cache": "first-block cache",
    "early_guidance": "early guidance",
    "guidance_below": "guidance up to level",
    "eta": "fresh noise (eta)",
    "eta_below": "fresh noise up to level",
    "postfilter": "post-filter",
}
RARE = ("noise", "first_block_cache", "eta", "eta_below", "contrast", "postfilter")
"""Options that are told where they are not as usual."""


def value_labels(values: Sequence) -> list[str]:
    """The labels of an axis' values: numbers at their shortest, names capitalised."""
    return [f"{value:.10g}" if isinstance(value, float) else str(value).capitalize() for value in values]


def described(base: Base, varied: Collection[str] = (), lora: bool = True) -> dict[str, str]:
    """`base` in words, name by name: attributes, then settings. lora: whether the model has one.

    varied: names of fields to leave out.
    """
    options = base.options
    given = dict(base.attributes.specified()) | {"seeds": options.seeds[0], "steps": options.steps}
    given["guidance"] = options.guidance
    if options.guidance_below < 1 or "guidance_below" in varied:
        given |= {"guidance_below": options.guidance_below, "early_guidance": options.early_guidance}
    given |= {"true_cfg": options.true_cfg, "size": options.size}
    if options.true_cfg > 1:
        given["negative"] = options.negative or "none"
    if lora:
        given["lora_strength"] = options.lora_strength
    if base.source is not None:
        given["strength"] = options.strength
    usual = SamplingOptions()
    given |= {name: value for name in RARE if (value := getattr(options, name)) != getattr(usual, name)}
    if not options.eta and "eta" not in varied:
        given.pop("eta_below", None)
    return {NAMES.get(name, name): _said(value) for name, value in given.items() if name not in varied}


def held(plan: Plan, lora: bool = True) -> dict[str, str]:
    """What every cell of `plan` shares, as `described` says it."""
    cell = plan.cells[0]
    return described(replace(plan.base, attributes=cell.attributes, options=cell.options), plan.changes, lora)


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return " + ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def grid(plan: Plan, drawn: Sequence[Drawn]) -> Image.Image:
    """The labelled grid: finished cells pixel for pixel, the others empty, and below what was held fixed.

    Raises InputError if no cell is finished.
    """
    if not drawn:
        raise InputError("No image of the sweep is finished yet; draw it first.")
    return _Sheet(plan, drawn).image


def save_grid(plan: Plan, drawn: Sequence[Drawn], path: str | Path) -> Path:
    """Write the grid as PNG, whole or not at all; returns its path.

    Its iTXt chunk `dermaflux-grid` holds a JSON list with row, column and recipe of each finished cell. The bytes
    depend on `plan` and `drawn` alone. Raises InputError if no cell is finished.
    """
    drawn = sorted(drawn, key=lambda one: one.index)
    axes = " by ".join(AXES[name].title for name in (plan.x, plan.y) if name)
    cells = ((plan.cells[one.index], one.provenance) for one in drawn)
    recipes = [(cell.row, cell.column, recipe) for cell, recipe in cells]
    return save_marked(grid(plan, drawn), f"A grid of skin lesions: {axes}.", recipes, path)


def save_marked(
    image: Image.Image, description: str, recipes: Iterable[tuple[int, int, Provenance]], path: str | Path
) -> Path:
    """Write an image made of synthetic ones as a PNG that says so and holds each one's row, column and recipe."""
    software, description = f"DermaFlux {__version__}", f"{NOTICE} {description}"
    records = [{"row": row, "column": column, "recipe": json.loads(one.to_json())} for row, column, one in recipes]
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", software)
    info.add_text("Description", description)
    info.add_itxt(CHUNK, json.dumps(records, ensure_ascii=False, separators=(",", ":")))
    info.add_itxt("XML:com.adobe.xmp", xmp(software, description))
    return write_atomically(Path(path), lambda file: image.save(file, "PNG", pnginfo=info))


class _Sheet:
    """Lays the grid out and paints it: axis titles, value labels, cells, footer."""

    def __init__(self, plan: Plan, drawn: Sequence[Drawn]):
        self.fonts = {size: ImageFont.load_default(size=size) for size in (TITLE, LABEL, NOTE)}
        self.measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
        self.x_title = AXES[plan.x].title
        columns = value_labels(plan.x_values)
        rows = value_labels(plan.y_values) if plan.y else [""]
        size = plan.cells[0].options.size
        words = [word for label in columns for word in label.split()]
        self.pitch = max(size, *(int(self._width(word, LABEL)) + 1 for word in words)) + GAP
        self.left = MARGIN + (ROW_LABELS if plan.y else 0)
        self.width = max(MIN_WIDTH, self.left + len(columns) * self.pitch - GAP + MARGIN)
        y_title = self._wrap(AXES[plan.y].title, TITLE, ROW_LABELS - GAP) if plan.y else []
        headings = [self._wrap(label, LABEL, self.pitch - GAP) for label in columns]
        x_title = self._wrap(self.x_title, TITLE, self.width - self.left - MARGIN)
        below = MARGIN + self._height(x_title, TITLE) + GAP
        top = max(below + max(self._height(lines, LABEL) for lines in headings), MARGIN + self._height(y_title, TITLE))
        top += GAP
        notes = [line for note in _notes(plan, drawn) for line in self._wrap(note, NOTE, self.width - 2 * MARGIN)]
        foot = top + len(rows) * (size + GAP) + GAP
        self.image = Image.new("RGB", (self.width, foot + self._height(notes, NOTE) + MARGIN), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self._write(x_title, TITLE, self.left, MARGIN)
        self._write(y_title, TITLE, MARGIN, top - GAP - self._height(y_title, TITLE))
        for column, lines in enumerate(headings):
            self._write(lines, LABEL, self.left + column * self.pitch, top - GAP - self._height(lines, LABEL))
        for row, label in enumerate(rows):
            self._write(self._wrap(label, LABEL, ROW_LABELS - GAP), LABEL, MARGIN, top + row * (size + GAP))
        finished = {one.index: one.image for one in drawn}
        for index, cell in enumerate(plan.cells):
            corner = (self.left + cell.column * self.pitch, top + cell.row * (size + GAP))
            self.image.paste(finished.get(index, EMPTY), (*corner, corner[0] + size, corner[1] + size))
        self._write(notes, NOTE, MARGIN, foot, SUBDUED)

    def _width(self, text: str, size: int) -> float:
        return self.measure.textlength(text, font=self.fonts[size])

    def _height(self, lines: Sequence[str], size: int) -> int:
        return len(lines) * round(1.3 * size)

    def _wrap(self, text: str, size: int, width: float) -> list[str]:
        lines: list[str] = []
        for word in text.split():
            if lines and self._width(f"{lines[-1]} {word}", size) <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return lines

    def _write(self, lines: Sequence[str], size: int, left: float, top: float, ink: str = INK) -> None:
        for place, line in enumerate(lines):
            self.pen.text((left, top + place * round(1.3 * size)), line, fill=ink, font=self.fonts[size])


def _notes(plan: Plan, drawn: Sequence[Drawn]) -> list[str]:
    recipe = drawn[0].provenance
    model = f"Model {recipe.model} ({recipe.model_hash})"
    model += f", LoRA {recipe.lora} ({recipe.lora_hash})" if recipe.lora else ", no LoRA"
    fixed = ", ".join(f"{name} {value}" for name, value in held(plan, bool(recipe.lora)).items())
    varied = ["Every cell varies one source image."] if plan.base.source else []
    return [NOTICE, f"{model}, DermaFlux {recipe.version}.", *varied, f"Held fixed: {fixed}."]
