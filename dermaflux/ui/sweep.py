"""The Compare & sweep tab: settings or features varied into a labelled grid, everything else held fixed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from dermaflux import sweep
from dermaflux.errors import InputError
from dermaflux.grid import save_grid, value_labels
from dermaflux.images import open_untrusted, read_provenance, save_synthetic
from dermaflux.lesion import LesionAttributes
from dermaflux.models import ModelSpec, SamplingOptions
from dermaflux.sweep import AXES, OPTIONS, Base, Drawn, Plan, Progress
from dermaflux.ui import compare, folders, runs, stage, table
from dermaflux.ui.context import Context, Run, Suited, images_of, say
from dermaflux.ui.form import LIVE, Form

START = "border"
AXIS_INPUTS = 6
NOTHING = Base("", LesionAttributes(), SamplingOptions())
"""Stands in for the form where only the number of cells matters."""
WELCOME = "The grid fills here, image by image. Choose what varies, then press Draw sweep."


@dataclass(frozen=True)
class Swept:
    """A visitor's last sweep: its plan, and the index and PNG of each finished cell."""

    plan: Plan | None = None
    cells: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Along:
    """The components of one axis: which it is, its values as ticks or as numbers in text, and which these are for."""

    axis: gr.Dropdown
    chosen: gr.CheckboxGroup
    typed: gr.Textbox
    last: gr.State

    @property
    def inputs(self) -> list:
        return [self.axis, self.chosen, self.typed]


def build(context: Context, form: Form, tab: gr.Tab) -> list[Suited]:
    """Lay out both sections inside `tab` and connect them; both use the lesion and settings of `form`."""
    held = gr.HTML(table.unusable("The lesion and settings of the Draw tab are used."), elem_id="df-held")
    tab.select(lambda *values: _held(context, values), form.inputs, held, **LIVE)
    compared = compare.build(context, form)
    gr.HTML(
        f'{table.style()}<h2 class="df-heading">Sweep</h2><p class="df-hint">Vary one or two things; the seed and all '
        f"else stay as they are in the Draw tab. Up to {sweep.MAX_CELLS} images.</p>"
    )
    with gr.Row(elem_classes="df-axes", equal_height=False):
        across, down = _along(context.spec, "Vary across", START), _along(context.spec, "And down", "")
    with gr.Row(elem_classes="df-actions"):
        draw = gr.Button("Draw sweep", variant="primary", elem_id="df-sweep-draw", scale=3, min_width=160)
        stop = gr.Button("Stop", variant="stop", elem_id="df-sweep-stop", interactive=False, scale=1, min_width=100)
    status = gr.HTML(stage.status(f"{len(AXES[START].start)} images."), elem_id="df-sweep-status")
    shown = gr.HTML(table.empty(WELCOME), elem_id="df-sweep-grid")
    with gr.Row():
        download = gr.DownloadButton("Download grid PNG", elem_id="df-sweep-png", interactive=False, min_width=200)
    gr.HTML('<p class="df-hint">The PNG is labelled, holds every image pixel for pixel, and carries its recipe.</p>')
    swept, axes = gr.State(Swept(), delete_callback=forget), [*across.inputs, *down.inputs]
    for place, along in ((0, across), (3, down)):
        chosen = [along.chosen, along.typed, along.last, status]
        along.axis.input(_turned(place), [along.last, *axes], chosen, **LIVE)
        gr.on([along.chosen.input, along.typed.change], _size, axes, status, **LIVE)
    runs.connect(
        [(draw, [swept, *axes, *form.inputs])],
        stop,
        status,
        _runner(context),
        [shown, swept, download, held],
        Run(say(_stopped), [swept], [status, download]),
    )
    choices = lambda spec: [gr.Dropdown(choices=_axes(spec, start)) for start in (START, "")]
    return [compared, Suited([across.axis, down.axis], choices)]


def forget(swept: Swept) -> None:
    """Remove the files of a visitor who left."""
    folders.remove(path for _, path in swept.cells)


def _along(spec: ModelSpec, label: str, start: str) -> Along:
    ticks, text = _offered(start)
    with gr.Column(min_width=300, elem_classes="df-axis"):
        axis = gr.Dropdown(_axes(spec, start), value=start, label=label)
        chosen = gr.CheckboxGroup(**ticks, label=f"{label}: values", elem_classes="df-chips df-plain")
        typed = gr.Textbox(**text, label=f"{label}: values", max_length=400)
    return Along(axis, chosen, typed, gr.State(start))


def _axes(spec: ModelSpec, start: str) -> list[tuple[str, str]]:
    """Titles and names of the axes, saying which of them the model does not honour; none as well where `start` is."""
    titles = [] if start else [("Nothing", "")]
    for name, axis in AXES.items():
        changes = axis.changes(NOTHING)
        may = changes <= OPTIONS or changes & spec.honours or not spec.documented
        heard = spec.lora is not None if name == "lora_strength" else may
        titles.append((axis.title if heard else f"{axis.title} (not honoured by the loaded model)", name))
    return titles


def _offered(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the ticks and the text of the axis called `name` show at first; both are hidden for no axis."""
    axis = AXES.get(name)
    ticks, numbers = bool(axis and axis.values), bool(axis and not axis.values)
    low, high = axis.limits if numbers else (0, 0)
    return (
        dict(
            choices=list(zip(value_labels(axis.values), axis.values, strict=True)) if ticks else [],
            value=list(axis.start) if ticks else [],
            visible=True if ticks else "hidden",
        ),
        dict(
            value=", ".join(value_labels(axis.start)) if numbers else "",
            info=f"Numbers from {low:.10g} to {high:.10g}, separated by commas",
            visible=True if numbers else "hidden",
        ),
    )


def _turned(place: int) -> Callable:
    """What another choice of the axis at `place` among the axes' inputs does: its values start anew."""

    def turn(last: str, *axes):
        name = axes[place]
        if name == last:
            return [gr.skip()] * 4
        ticks, text = _offered(name)
        axes = (*axes[:place], name, ticks["value"], text["value"], *axes[place + 3 :])
        return gr.CheckboxGroup(**ticks), gr.Textbox(**text), name, _size(*axes)

    return turn


def _plan(base: Base, x: str, x_chosen: list, x_typed: str, y: str, y_chosen: list, y_typed: str) -> Plan:
    across = x_chosen if sweep.find_axis(x).values else x_typed
    down = (y_chosen if sweep.find_axis(y).values else y_typed) if y else ()
    return sweep.plan(base, x, across, y or None, down)


def _size(*axes) -> str:
    try:
        count = len(_plan(NOTHING, *axes).cells)
    except InputError as error:
        return stage.status(str(error))
    return stage.status("1 image." if count == 1 else f"{count} images.")


def _held(context: Context, values) -> str:
    try:
        return table.held(compare.base(context, values), context.spec.lora is not None)
    except InputError as error:
        return table.unusable(f"The Draw tab's form cannot be used yet. {error}")


def _runner(context: Context) -> Callable:
    def run(swept: Swept, *values) -> Iterator[tuple]:
        axes, values = values[:AXIS_INPUTS], values[AXIS_INPUTS:]
        base = compare.base(context, values)
        plan = _plan(base, *axes)
        still, off = gr.skip(), gr.DownloadButton(interactive=False)
        yield stage.status("Preparing the model.", 0), still, still, still, _held(context, values)
        folder, thumbnails, former, swept = None, {}, swept, Swept(plan)
        count = len(plan.cells) + images_of(base.source)
        try:
            for item in context.limits.drawing(count, sweep.run(context.generator(), plan)):
                if folder is None:
                    folder = folders.new_folder(kept=True)
                    forget(former)
                    yield still, table.grid(plan, {}), swept, off, still
                if isinstance(item, Progress):
                    yield compare.progress(item), still, still, still, still
                    continue
                path = save_synthetic(item.image, item.provenance, folder / f"cell-{item.index + 1:02d}.png")
                swept = replace(swept, cells=(*swept.cells, (item.index, str(path))))
                thumbnails[item.index] = table.thumbnail(item.image)
                yield still, table.grid(plan, thumbnails), swept, still, still
        except Exception:
            if swept.cells:
                yield still, still, still, _file(swept), still
            raise
        reworded = " The edited caption was worded anew for each feature." if plan.reworded else ""
        yield stage.status(f"Done: {_images(swept)}.{reworded}"), still, still, _file(swept), still

    return run


def _images(swept: Swept) -> str:
    return "1 image" if len(swept.cells) == 1 else f"{len(swept.cells)} images"


def _file(swept: Swept) -> gr.DownloadButton:
    """The download button with the labelled grid of the finished cells, made from their files."""
    drawn = [Drawn(index, open_untrusted(path), read_provenance(path)) for index, path in swept.cells]
    names = "-".join(filter(None, (swept.plan.x, swept.plan.y)))
    path = save_grid(swept.plan, drawn, folders.new_folder() / f"dermaflux-sweep-{names}.png")
    return gr.DownloadButton(value=str(path), interactive=True)


def _stopped(swept: Swept):
    if swept.cells:
        return stage.status(f"Stopped. {_images(swept)} of {len(swept.plan.cells)} kept."), _file(swept)
    return stage.status("Stopped before an image was finished."), gr.skip()
