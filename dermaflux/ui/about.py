"""The About tab: what this is and is not, the loaded models with their licences, and how to read what is shown."""

from collections.abc import Callable

import gradio as gr

from dermaflux import __version__
from dermaflux.feedback import dataset, described
from dermaflux.lesion import BANDS
from dermaflux.memory import AUTO
from dermaflux.models import MODELS, ModelSpec
from dermaflux.ui.context import NOTICE, PRIVATE, Context, Suited
from dermaflux.ui.model import download, outlook

WHAT = """
## What this is

DermaFlux describes a skin lesion, draws it with a rectified-flow model, classifies it with a vision transformer and
shows where that classifier looked. It follows the method of *DermaFlux* (arXiv 2603.16392): lesions are worded by the
ABCD features that dermatologists use, and synthetic images serve to study and train classifiers.

## What it is not

- **Not a medical device.** No image, score, probability or heat map here may be used to diagnose or treat anyone.
- **Not a record of patients.** Every drawn image is synthetic; its PNG says so in its metadata.
- **Not proof of a feature.** A heat map shows what moved one model's answer, not where disease is.

## Your images

Drawn and uploaded images stay on the machine that runs this page, are kept while the page is open, and are deleted on
a schedule after that. They are sent to nobody, and no usage statistics are collected.
Do not upload identifiable images.
"""

MODELS_HEAD = """
## Models

The owner of the page chooses one with `--model` when starting it, and says with `--models` which others the Draw tab
offers; nothing is downloaded before. What each would take on this machine as it is now:
"""


def build(context: Context, tab: gr.Tab) -> Suited:
    """Lay out the tab; call it inside `tab`."""
    with gr.Column(elem_id="df-about"):
        gr.Markdown(f"**{NOTICE}**\n{WHAT}\n{_ratings(context)}")
        loaded = gr.Markdown(_loaded(context.spec))
        models = gr.Markdown(_models(lambda spec: ""))
        gr.Markdown(f"{_score()}\n\nDermaFlux {__version__}, licence Apache-2.0.")
    tab.select(lambda: _models(_outlook(context)), None, models, queue=False, show_progress="hidden", **PRIVATE)
    return Suited([loaded], lambda spec: [_loaded(spec)])


def _ratings(context: Context) -> str:
    """Where ratings are kept, for visitors: the folder's name is told only to who sits at the machine."""
    place, alone = context.settings.ratings, context.settings.alone
    if context.ratings is None or place is None:
        return ""
    where = described(place) if alone or dataset(place) else "a folder of the machine that runs this page"
    return (
        f"Where you rate an image, your score and remark are kept with its recipe in {where}; not who you are, nor "
        "your address."
    )


def _loaded(spec: ModelSpec) -> str:
    honoured = ", ".join(sorted(name.replace("_mm", "").replace("_", " ") for name in spec.honours)) or "none"
    honoured = honoured if spec.documented else "not known"
    lora = f"{spec.lora.title}, {spec.lora.licence}" if spec.lora else "none"
    return f"""
## The model in use

**{spec.title}**, {spec.licence}. {spec.licence_note}

- LoRA: {lora}
- Attributes it was trained to honour: {honoured}
- Diagnoses in its training images: {", ".join(sorted(spec.diagnoses)) or "none named"}
"""


def _models(outlook: Callable[[ModelSpec], str]) -> str:
    lines = [
        f"- **{spec.title}**, {spec.licence}. {spec.licence_note} Download: {download(spec)}. {outlook(spec)}"
        for spec in MODELS.values()
    ]
    return "\n".join((MODELS_HEAD, *lines))


def _outlook(context: Context) -> Callable[[ModelSpec], str]:
    """What is said of each model on this machine as it is now."""
    choice, loaded = context.generator.choice, context.generator.loaded

    def said(spec: ModelSpec) -> str:
        if loaded and spec.name == choice.spec.name:
            return f"Loaded. {loaded.plan.sentence}"
        return outlook(context, spec, choice.memory if spec.name == choice.spec.name else AUTO)

    return said


def _score() -> str:
    low, middle, _ = BANDS
    return f"""
## The total dermoscopy score

Score = 1.3 A + 0.1 B + 0.5 C + 0.5 D (Stolz et al. 1994): A counts asymmetric axes (0-2), B abruptly cut border
segments (0-8), C colours (1-6) and D structures (1-5). Below 4.75 reads {low.name}, up to {middle.upto} {middle.name},
above that highly suspicious of melanoma. It holds for melanocytic lesions seen through a dermatoscope.
"""
