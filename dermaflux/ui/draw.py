"""Draw: the caption, the Draw and Stop buttons, and the stage on which a run appears step by step."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from dermaflux.images import Provenance, open_untrusted, read_provenance, save_synthetic
from dermaflux.models import MAX_SEED, ModelSpec
from dermaflux.ui import fields, folders, runs, stage
from dermaflux.ui.context import SYNTHETIC, Context, Run, Suited, counted, images_of
from dermaflux.ui.form import Form, build_caption
from dermaflux.ui.theme import SCROLL_TO_STAGE

if TYPE_CHECKING:
    from dermaflux.generator import Preview, Sample

WELCOME = "Your lesion appears here. Choose its features, then press Draw."


@dataclass(frozen=True)
class Kept:
    """A visitor's images, the newest first, as paths of synthetic PNGs; the first `run` of them are the last run's."""

    paths: tuple[str, ...] = ()
    run: int = 0


@dataclass(frozen=True)
class DrawArea:
    """The components of the drawing area. kept: gr.State with Kept. selected: gr.State with the path shown, or None."""

    draw: gr.Button
    stop: gr.Button
    stage: gr.HTML
    status: gr.HTML
    kept: gr.State
    selected: gr.State
    suited: Suited


def build(context: Context, form: Form) -> DrawArea:
    """Lay out the drawing area, in the column beside the form."""
    build_caption(form)
    with gr.Row(elem_classes="df-actions"):
        draw = gr.Button("Draw", variant="primary", elem_id="df-draw", scale=3, min_width=160)
        stop = gr.Button("Stop", variant="stop", elem_id="df-stop", interactive=False, scale=1, min_width=100)
    picture = gr.HTML(stage.empty(WELCOME), elem_id="df-stage")
    status = gr.HTML(stage.status("Ready."), elem_id="df-status")
    licence = gr.HTML(_licence(context.spec))
    suited = Suited([licence], lambda spec: [_licence(spec)])
    return DrawArea(draw, stop, picture, status, gr.State(Kept(), delete_callback=forget), gr.State(None), suited)


def _licence(spec: ModelSpec) -> str:
    return (
        f'<p class="df-licence">{SYNTHETIC} Model: {escape(spec.title)}, {escape(spec.licence)}. '
        f"{escape(spec.licence_note)}</p>"
    )


def wire(context: Context, form: Form, area: DrawArea, gallery: gr.Gallery, vary: gr.Button, shown: Run) -> None:
    """Connect Draw, Vary and Stop; `shown` runs after a run to show the recipe of its newest image."""
    inputs = [area.kept, *form.inputs]
    ends = runs.connect(
        [(area.draw, [gr.State(None), *inputs]), (vary, [area.selected, *inputs])],
        area.stop,
        area.status,
        _runner(context),
        [area.stage, area.kept, area.selected, gallery, form.settings["seed"]],
        Run(_stopped, [area.kept], [area.status, area.stage]),
        js=SCROLL_TO_STAGE,
    )
    for end in ends:
        end.then(*shown, **runs.QUIET)


def gallery_items(kept: Kept) -> list[tuple[str, str]]:
    """The images of `kept` with their captions, as gr.Gallery takes them."""
    return [(path, f"Seed {read_provenance(path).seed}") for path in kept.paths]


def line(recipe: Provenance) -> str:
    """The line under an image: its seed and label."""
    label = f" · {recipe.attributes.label}" if recipe.attributes.label else ""
    varied = " · varied" if recipe.source else ""
    return f"Seed {recipe.seed}{label}{varied}"


def view(path: str) -> str:
    """The stage with the one finished image at `path`."""
    return stage.show([_done(path)])


def forget(kept: Kept) -> None:
    """Remove the files of a visitor who left."""
    folders.remove(kept.paths)


def _runner(context: Context):
    def run(varied: str | None, kept: Kept, *values) -> Iterator[tuple]:
        asked = fields.request(context.spec, values)
        if asked.randomise:
            first = secrets.randbelow(MAX_SEED + 1)
            asked = replace(asked, options=replace(asked.options, seeds=fields.seeds(first, len(asked.options.seeds))))
        seeds, drawn_first = asked.options.seeds, 0 if varied else images_of(asked.source)
        count = counted(asked.options, context.spec) + drawn_first
        cells = [stage.Cell("", f"Seed {seed}", "") for seed in seeds]
        kept, still = replace(kept, run=0), gr.skip()
        yield stage.status("Preparing the model.", 0), stage.show(cells), kept, still, still, seeds[0]
        folder, there, done = None, {}, 0
        for item in context.limits.drawing(count, _items(context, asked, varied)):
            if not hasattr(item, "provenance"):
                cells = _previewed(cells, item)
                yield _progress(item, len(seeds)), stage.show(cells), still, still, still, still
                continue
            folder = folder or folders.new_folder(kept=True)
            name = f"dermaflux-{item.provenance.attributes.label or 'lesion'}-{item.provenance.seed}.png"
            path = str(save_synthetic(item.image, item.provenance, folder / name))
            former, there[item.index] = there.get(item.index), path
            kept = _with(kept, path, former)
            cells = [_done(path) if place == item.index else cell for place, cell in enumerate(cells)]
            done += item.settled
            said = stage.status(_finished(done, len(seeds))) if item.settled else still
            own = item.index == 0 and item.provenance.candidates > 1
            seed = item.provenance.seed if own else still  # of candidates, that of the best
            yield said, stage.show(cells), kept, kept.paths[0], gallery_items(kept), seed
            if former not in (None, path):  # not before the visitor's state names another
                folders.remove([former])

    return run


def _items(context: Context, asked: fields.Request, varied: str | None) -> "Iterator[Preview | Sample]":
    """The previews and samples of a run; a source that is only known by its recipe is drawn again first."""
    generator = context.generator()
    if generator.adapter.warning:
        gr.Warning(generator.adapter.warning, title="LoRA")
    source = (open_untrusted(varied), read_provenance(varied)) if varied else None
    if source is None and asked.source is not None:
        for item in generator.redraw(asked.source):
            if hasattr(item, "provenance"):
                source = (item.image, asked.source)
            else:
                yield item
    yield from generator.sample(asked.text, asked.options, attributes=asked.attributes, source=source)


def _previewed(cells: list[stage.Cell], item: "Preview") -> list[stage.Cell]:
    cells = list(cells)
    for place, image in zip(item.indices, item.images, strict=True):
        alt = f"Preview of a synthetic lesion, step {item.step} of {item.steps}"
        line = f"Candidate {item.candidate}" if item.candidates > 1 else cells[place].line
        cells[place] = stage.Cell(stage.preview(image), line, alt)
    return cells


def _with(kept: Kept, path: str, former: str | None) -> Kept:
    """`kept` with the image at `path`, in the place of the one at `former` if there is one."""
    if former is None:
        return Kept((path, *kept.paths), kept.run + 1)
    return replace(kept, paths=tuple(path if one == former else one for one in kept.paths))


def _done(path: str) -> stage.Cell:
    recipe = read_provenance(path)
    return stage.Cell(stage.finished(path), line(recipe), f"Synthetic lesion. {recipe.caption}")


def _progress(item: "Preview", count: int) -> str:
    first, final = item.indices[0], item.indices[-1]
    images = f"Image {first + 1}" + (f" to {final + 1}" if final > first else "") + f" of {count}. "
    if final - first >= len(item.indices):  # some between them are settled
        images = f"{len(item.indices)} of {count} images. "
    last = item.candidate + item.together - 1
    some = f"Candidates {item.candidate} to {last}" if item.together > 1 else f"Candidate {last}"
    drawn = f"{some} of at most {item.candidates}. "
    left = f"About {item.seconds_left:.0f} s left." if item.seconds_left >= 1 else "Almost done."
    here = item.step / item.steps  # of several candidates of the one image that is left
    here = here if item.together > 1 else (first + len(item.indices) * here) / count
    share = (item.candidate - 1 + item.together * here) / item.candidates
    said = (images if count > 1 else "") + (drawn if item.candidates > 1 else "")
    return stage.status(f"{said}Step {item.step} of {item.steps}. {left}", share)


def _finished(done: int, count: int) -> str:
    if done < count:
        return f"{done} of {count} images finished."
    return f"Done: {count} images." if count > 1 else "Done."


def _stopped(kept: Kept) -> tuple[str, str]:
    if kept.run:
        said = f"Stopped. {kept.run} finished image{'s' if kept.run > 1 else ''} kept."
        return stage.status(said), stage.show([_done(path) for path in reversed(kept.paths[: kept.run])])
    return stage.status("Stopped."), stage.empty("Stopped before an image was finished.")
