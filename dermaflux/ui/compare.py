"""Compare: one lesion drawn by the base model alone and with its LoRA, from the same seed, in an image slider."""

from collections.abc import Callable, Iterator

import gradio as gr

from dermaflux import sweep
from dermaflux.errors import InputError
from dermaflux.images import save_synthetic
from dermaflux.sweep import Base, Progress
from dermaflux.ui import fields, folders, runs, stage
from dermaflux.ui.context import SYNTHETIC, Context, Run, Suited, images_of
from dermaflux.ui.form import Form

NO_LORA = "The loaded model has no LoRA, so there is nothing to compare."
SAME = "The LoRA strength in the Draw tab is 0, so both images would be the same. Set it above 0 in Settings there."
MIDDLE = 50
NAME_IMAGES = """() => setTimeout(() => document.querySelectorAll('#df-compare-slider img').forEach((image, place) => {
  image.alt = 'Synthetic lesion, ' + (place ? 'with LoRA' : 'base model');
}), 300)"""


def build(context: Context, form: Form) -> Suited:
    """Lay out the section and connect it; it draws the lesion of `form`."""
    adapter = context.spec.lora
    gr.HTML(
        '<h2 class="df-heading">Base and LoRA, same seed</h2><p class="df-hint">Draws the lesion twice: without the '
        "LoRA, and with it at the strength set in the Draw tab.</p>"
    )
    with gr.Row(elem_classes="df-compare", equal_height=False):
        with gr.Column(scale=5, min_width=300):
            with gr.Row(elem_classes="df-actions"):
                draw = gr.Button(
                    "Compare",
                    variant="primary",
                    elem_id="df-compare-draw",
                    interactive=adapter is not None,
                    scale=3,
                    min_width=160,
                )
                stop = gr.Button(
                    "Stop", variant="stop", elem_id="df-compare-stop", interactive=False, scale=1, min_width=100
                )
            status = gr.HTML(stage.status("Ready." if adapter else NO_LORA), elem_id="df-compare-status")
            with gr.Row():
                base_file = gr.DownloadButton("Download base PNG", interactive=False, min_width=150)
                lora_file = gr.DownloadButton("Download LoRA PNG", interactive=False, min_width=150)
            gr.HTML(f'<p class="df-licence">{SYNTHETIC}</p>')
        with gr.Column(scale=6, min_width=300, elem_classes="df-slider-side"):
            slider = gr.ImageSlider(
                label="Left: base model. Right: with LoRA",
                show_label=False,
                type="filepath",
                format="png",
                interactive=False,
                slider_position=MIDDLE,
                max_height=460,
                buttons=["fullscreen"],
                elem_id="df-compare-slider",
            )
            sides = gr.HTML(_sides("Base", "With LoRA"), elem_id="df-compare-sides")
            divider = gr.Slider(0, 100, MIDDLE, step=1, label="Divider, % from the left", elem_id="df-compare-divider")
    kept = gr.State((), delete_callback=folders.remove)
    divider.input(
        lambda share: gr.ImageSlider(slider_position=share), divider, slider, trigger_mode="always_last", **runs.QUIET
    )
    ends = runs.connect(
        [(draw, [kept, *form.inputs])],
        stop,
        status,
        _runner(context),
        [slider, sides, base_file, lora_file, kept],
        Run(lambda: [stage.status("Stopped.")], [], [status]),
    )
    ends[0].then(None, None, None, js=NAME_IMAGES)
    ready = lambda spec: stage.status("Ready." if spec.lora else NO_LORA)
    return Suited([draw, status], lambda spec: [gr.Button(interactive=spec.lora is not None), ready(spec)])


def base(context: Context, values) -> Base:
    """What the form asks for, as the base of a sweep; values: those of Form.inputs. Raises InputError."""
    asked = fields.request(context.spec, values)
    wording = values[len(fields.ATTRIBUTES) + 1]
    return Base(asked.text, asked.attributes, asked.options, wording, asked.source)


def progress(item: Progress) -> str:
    """The status line of a sweep under way."""
    left = f"About {item.seconds_left:.0f} s left." if item.seconds_left >= 1 else "Almost done."
    return stage.status(f"Image {min(item.finished + 1, item.cells)} of {item.cells}. {left}", item.share)


def _runner(context: Context) -> Callable:
    def run(kept: tuple[str, ...], *values) -> Iterator[tuple]:
        asked = base(context, values)
        if asked.options.lora_strength == 0:
            raise InputError(SAME)
        planned = sweep.plan(asked, "lora_strength", [0, asked.options.lora_strength])
        still = [gr.skip()] * 5
        yield stage.status("Preparing the model.", 0), *still
        folder, paths, count = None, [], len(planned.cells) + images_of(asked.source)
        for item in context.limits.drawing(count, sweep.run(context.generator(), planned)):
            if isinstance(item, Progress):
                yield progress(item), *still
                continue
            folder = folder or folders.new_folder(kept=True)
            name = f"dermaflux-{'lora' if item.index else 'base'}-{item.provenance.seed}.png"
            paths.append(str(save_synthetic(item.image, item.provenance, folder / name)))
        folders.remove(kept)
        done = [gr.DownloadButton(value=path, interactive=True) for path in paths]
        sides = _sides("Base", f"With LoRA, strength {asked.options.lora_strength:g}")
        said = stage.status(f"Done. Seed {asked.options.seeds[0]}, left without and right with the LoRA.")
        yield said, tuple(paths), sides, *done, tuple(paths)

    return run


def _sides(left: str, right: str) -> str:
    return f'<p class="df-sides"><span>{left}</span><span>{right}</span></p>'
