"""The form that describes a lesion and how to draw it: attributes, caption and settings, kept in step."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from dermaflux.caption import MAX_CHARACTERS, caption, read
from dermaflux.images import Provenance, read_provenance
from dermaflux.lesion import EXAMPLES, LesionAttributes, plausible
from dermaflux.models import MAX_SEED
from dermaflux.ui import controls as layout
from dermaflux.ui import fields, score
from dermaflux.ui.context import ANSWER, LIVE, Context, Suited, say

if TYPE_CHECKING:
    from dermaflux.generator import Generator


@dataclass(frozen=True)
class Form:
    """The form's components.

    controls: one for each of fields.ATTRIBUTES; settings: one for each of fields.SETTINGS. source: gr.State with the
    recipe of the image to vary, else None. inputs: what `fields.request` takes, in its order. everything: what
    `restored` and `filled` return, in their order.
    """

    controls: dict[str, gr.components.Component]
    settings: dict[str, gr.components.Component]
    caption: gr.Textbox
    wording: gr.State
    agreed: gr.Textbox
    source: gr.State
    score: gr.HTML
    note: gr.HTML
    restore: gr.File
    from_scratch: gr.Button
    suited: Suited

    @property
    def inputs(self) -> list:
        return [*self.controls.values(), self.caption, self.wording, self.agreed, *self.settings.values(), self.source]

    @property
    def everything(self) -> list:
        described = [*self.controls.values(), self.caption, self.agreed, self.wording, self.score, self.note]
        return [*described, self.source, self.from_scratch, *self.settings.values()]


def build(context: Context) -> Form:
    """Lay out the description; the caption and its notes are laid out by `build_caption`."""
    start = EXAMPLES[layout.START]
    with gr.Row(elem_classes="df-start"):
        example = gr.Dropdown(list(EXAMPLES), value=layout.START, label="Start from an example", scale=3, min_width=180)
        surprise = gr.Button("Surprise me", scale=1, min_width=130, elem_id="df-surprise")
    controls = layout.basics()
    card = gr.HTML(score.card(start), elem_id="df-score")
    with gr.Accordion("More about the lesion", open=False):
        controls |= layout.more(context.spec)
    controls = {name: controls[name] for name in fields.ATTRIBUTES}
    with gr.Accordion("Settings", open=False):
        settings = layout.settings(context.spec)
    settings = {name: settings[name] for name in fields.SETTINGS}
    with gr.Accordion("Restore from a PNG", open=False):
        restore = gr.File(label="PNG drawn on this page", height=180, elem_id="df-restore")
        gr.HTML('<p class="df-hint">Its description and every setting come back into the form.</p>')
    form = Form(
        controls,
        settings,
        caption=gr.Textbox(
            caption(start),
            label="Caption that the model reads",
            info="Follows the form. Edit it and the form follows you.",
            lines=4,
            max_lines=8,
            max_length=MAX_CHARACTERS,
            elem_id="df-caption",
            render=False,
        ),
        wording=gr.State(0),
        agreed=gr.Textbox(fields.agreed(caption(start), start), visible="hidden", label="Last in step"),
        source=gr.State(None),
        score=card,
        note=gr.HTML(_note(()), elem_id="df-note", render=False),
        restore=restore,
        from_scratch=gr.Button("Draw from scratch instead", visible=False, size="sm", render=False),
        suited=Suited(
            [(controls | settings)[name] for name in layout.suited(context.spec)],
            lambda spec: [gr.update(**changes) for changes in layout.suited(spec).values()],
        ),
    )
    _keep_in_step(context, form, example, surprise)
    return form


def build_caption(form: Form) -> None:
    """Lay out the caption with its notes."""
    with gr.Column(elem_classes="df-caption", min_width=280):
        form.caption.render()
        reword = gr.Button("Reword", size="sm", min_width=90, elem_id="df-reword")
    form.note.render()
    form.from_scratch.render()
    reword.click(
        _reword, [*form.controls.values(), form.wording], [form.caption, form.agreed, form.wording, form.note], **LIVE
    )
    form.from_scratch.click(
        lambda: (None, gr.Button(visible=False), _note(())), None, [form.source, form.from_scratch, form.note], **LIVE
    )


def _keep_in_step(context: Context, form: Form, example: gr.Dropdown, surprise: gr.Button) -> None:
    controls = list(form.controls.values())
    followers = [form.caption, form.agreed, form.score, form.note, form.controls["label"], form.controls["diagnosis"]]
    changed = [control.input for control in controls]
    gr.on(changed, say(follow_controls), [form.wording, form.agreed, *controls], followers, **LIVE)
    edited = [*controls, form.agreed, form.score, form.note]
    form.caption.change(say(follow_caption), [form.caption, form.agreed], edited, **LIVE)
    example.input(say(lambda name: filled(EXAMPLES[name])), example, form.everything, **LIVE)
    surprise.click(lambda: surprised(random.SystemRandom().randrange(MAX_SEED)), None, form.everything, **LIVE)
    dropped = form.restore.upload(
        say(lambda path: restored(context.generator(), read_provenance(path))), form.restore, form.everything, **ANSWER
    )
    for ended in (dropped.success, dropped.failure):
        ended(lambda: None, None, form.restore, **LIVE)


def follow_controls(wording: int, noted: str, *values) -> tuple:
    """Values of caption, agreed, score, note, label and diagnosis for changed controls."""
    asked = fields.to_attributes(values)
    attributes = fields.agree(asked, noted)
    changed = [name for name in ("label", "diagnosis") if getattr(asked, name) != getattr(attributes, name)]
    said = [
        f"{name.capitalize()} changed to agree: {getattr(attributes, name) or 'not specified'}." for name in changed
    ]
    agreed = (getattr(attributes, name) or "" if name in changed else gr.skip() for name in ("label", "diagnosis"))
    return *worded(attributes, caption(attributes, wording), said), *agreed


def worded(attributes: LesionAttributes, text: str, said: Sequence[str]) -> tuple[str, str, str, str]:
    """Values of caption, agreed, score and note for a caption that is in step with the controls."""
    return text, fields.agreed(text, attributes), score.card(attributes), _note(said)


def follow_caption(text: str, noted: str) -> list:
    """Values of the controls, agreed, score and note for an edited caption, saying what could not be read.

    Changes nothing for a caption that the form itself wrote.
    """
    if text == json.loads(noted)[0]:
        return [gr.skip()] * (len(fields.ATTRIBUTES) + 3)
    reading = read(text[:MAX_CHARACTERS])
    unread = [f"Not read into the form, but given to the model: “{part[:80]}”" for part in reading.unread[:3]]
    return [*fields.to_values(reading.attributes), *worded(reading.attributes, text, unread)[1:]]


def filled(attributes: LesionAttributes, said: Sequence[str] = ()) -> list:
    """The form described by `attributes`, its settings left as they are."""
    text, noted, *shown = worded(attributes, caption(attributes), said)
    described = [*fields.to_values(attributes), text, noted, 0, *shown]
    return [*described, None, gr.Button(visible=False), *(gr.skip() for _ in fields.SETTINGS)]


def surprised(seed: int) -> list:
    """The form described by the plausible lesion of `seed`."""
    return filled(plausible(seed), [f"A plausible lesion drawn at random (number {seed})."])


def restored(generator: "Generator", recipe: Provenance) -> list:
    """The form with the description and every setting of `recipe`, saying what stands in the way of the same pixels."""
    spec, hashes = generator.spec, (generator.model_hash, generator.adapter.hash)
    same = (recipe.model_hash, recipe.lora_hash) == hashes
    if same and recipe.arithmetic not in ("", generator.arithmetic):
        ways = f"drawn with {recipe.arithmetic}; here it is {generator.arithmetic}"
        said = [f"Restored, but {ways}, so that the pixels will differ a little."]
    elif same:
        said = ["Restored. Drawn as it stands, it gives the same pixels."]
    elif recipe.model != spec.name:
        said = [f"Restored, but drawn with {recipe.model}; the loaded {spec.name} will draw another image."]
    else:
        said = ["Restored, but drawn with other weights than the loaded ones, which will draw another image."]
    if recipe.source is not None:
        said.append("This image is a variation: its source is drawn again first, then varied.")
    settings = dict(zip(fields.SETTINGS, fields.to_settings(recipe), strict=True))
    settings["size"] = recipe.size if recipe.size in spec.sizes else spec.size
    settings["candidates"] = gr.skip()  # for new seeds; the recipe's own is drawn alone
    text, noted, *shown = worded(recipe.attributes, recipe.caption, said)
    described = [*fields.to_values(recipe.attributes), text, noted, 0, *shown]
    return [*described, recipe.source, gr.Button(visible=recipe.source is not None), *settings.values()]


def _reword(*values):
    *values, wording = values
    attributes = fields.to_attributes(values)
    text, noted, _, note = worded(attributes, caption(attributes, wording + 1), ())
    return text, noted, wording + 1, note


def _note(sentences: Sequence[str]) -> str:
    lines = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return f'<div class="df-note" role="status" aria-live="polite">{lines}</div>'
