"""Llama 3.2 on the page: it words the form freely, and describes an uploaded image; where it is not set up, why."""

from html import escape

import gradio as gr

from dermaflux.errors import InputError
from dermaflux.lesion import LABELS
from dermaflux.slot import once
from dermaflux.text_models import VISION, WRITER, find_text_model
from dermaflux.ui import fields
from dermaflux.ui.classify import picture
from dermaflux.ui.context import MODEL_EVENT, PRIVATE, Context, say
from dermaflux.ui.form import Form, worded

ABSENT = "Llama 3.2 is not set up on this page: its owner starts it with <code>--{flag} {source}</code>."


def build_writer(context: Context, form: Form) -> None:
    """Lay out and connect what words the form freely; the template's wording stays until it has."""
    source = context.settings.writer
    with gr.Accordion("Word it with Llama 3.2", open=False):
        hint = "Free prose of the form's attributes. What it adds or changes is named below the caption."
        button = gr.Button("Word it", elem_id="df-word", interactive=bool(source), min_width=120)
        gr.HTML(_hint(hint, source, "writer", WRITER))
    if not source:
        return
    writer = once(lambda: _writer(context))

    def word(*values) -> tuple:
        attributes = fields.to_attributes(values)
        with context.limits.judging():
            found = writer().word(attributes)
        return worded(attributes, found.text, found.faults)

    outputs = [form.caption, form.agreed, form.score, form.note]
    button.click(
        say(word), list(form.controls.values()), outputs, show_progress_on=form.caption, **MODEL_EVENT, **PRIVATE
    )


def build_describer(context: Context, image: gr.Image) -> None:
    """Lay out and connect what describes the image on the Classify tab, once without and once with a label."""
    source = context.settings.describer
    with gr.Accordion("Describe with Llama 3.2", open=False):
        hint = (
            "Asked as the method asks. A label in the question is often restated instead of what is visible: "
            "compare the two answers."
        )
        gr.HTML(_hint(hint, source, "describer", VISION))
        label = gr.Radio([(name.capitalize(), name) for name in LABELS], value=LABELS[0], label="Label in the question")
        button = gr.Button("Describe this image", elem_id="classify-describe", interactive=bool(source))
        plain, told = (
            gr.Textbox(label=f"Answer {how} the label", lines=4, interactive=False) for how in ("without", "with")
        )
    if not source:
        return
    describer = once(lambda: _describer(context))

    def describe(value, name: str) -> list[str]:
        if name not in LABELS:
            raise InputError(f"The label must be one of {', '.join(LABELS)}.")
        shown = picture(value)
        with context.limits.judging():
            found = [describer().describe([shown], [one])[0] for one in (None, name)]
        return ["\n".join((one.text, *(f"[{fault}]" for fault in one.faults))) for one in found]

    button.click(say(describe), [image, label], [plain, told], preprocess=False, **MODEL_EVENT, **PRIVATE)


def _writer(context: Context):
    from dermaflux.llama import Writer

    return Writer(find_text_model(context.settings.writer), context.settings.torch_device)


def _describer(context: Context):
    from dermaflux.llama import Describer

    return Describer(find_text_model(context.settings.describer), context.settings.torch_device)


def _hint(hint: str, source: str, flag: str, known: str) -> str:
    if not source:
        return f'<p class="df-hint">{ABSENT.format(flag=flag, source=known)}</p>'
    spec = find_text_model(source)
    return f'<p class="df-hint">{hint} Model: {escape(spec.title)}, {escape(spec.licence)}.</p>'
