"""The form's controls: the basics, more about the lesion, and the settings, as gradio components by name."""

from typing import Any

import gradio as gr

from dermaflux.lesion import (
    ARTEFACTS,
    CAPTURES,
    COLOURS,
    DIAGNOSES,
    EXAMPLES,
    LABELS,
    MAX_ASYMMETRY,
    MAX_BORDER,
    MAX_SIZE_MM,
    MIN_SIZE_MM,
    MONK_TONES,
    SITES,
    STRUCTURES,
)
from dermaflux.models import (
    FINEST,
    MAX_CACHE,
    MAX_CANDIDATES,
    MAX_CONTRAST,
    MAX_ETA,
    MAX_GUIDANCE,
    MAX_IMAGES,
    MAX_LORA_STRENGTH,
    MAX_SEED,
    MAX_STEPS,
    MAX_TRUE_CFG,
    ModelSpec,
    SamplingOptions,
)
from dermaflux.ui import fields

START = "Two-tone nevus"
UNSPECIFIED = "Not specified"
_ABOUT = {
    "diagnosis": "",
    "structures": "",
    "size_mm": "",
    "site": "",
    "tone": "Monk scale, 1 lightest to 10 darkest",
    "capture": "",
    "artefacts": "Seen in many real photographs",
}
"""What is said of the attributes that a model may not honour, where it does."""


def basics() -> dict[str, gr.components.Component]:
    """Lay out what everyone sets: label, asymmetry, border and colours."""
    attributes = EXAMPLES[START]
    counts = lambda highest: [(str(count), count) for count in range(highest + 1)]
    return {
        "label": gr.Radio(
            [(label.capitalize(), label) for label in LABELS],
            value=attributes.label,
            label="Lesion",
            elem_classes="df-pills df-wide",
        ),
        "asymmetry": gr.Radio(
            counts(MAX_ASYMMETRY),
            value=attributes.asymmetry,
            label="Asymmetry",
            info="Axes in which the halves do not match",
            elem_classes="df-pills",
        ),
        "border": gr.Radio(
            counts(MAX_BORDER),
            value=attributes.border,
            label="Border",
            info="Segments, of eight, that end abruptly",
            elem_classes="df-pills",
        ),
        "colours": gr.CheckboxGroup(
            [(name.capitalize(), name) for name in COLOURS],
            value=list(attributes.colours),
            label="Colours",
            elem_id="df-colours",
            elem_classes="df-chips",
        ),
    }


def suited(spec: ModelSpec) -> dict[str, dict[str, Any]]:
    """What of the controls depends on the model, by their names: what is said of attributes that it does not honour,
    its default settings, and what it offers."""
    unheard = "The loaded model does not honour this: it is put in the caption only."
    if not spec.documented:
        unheard = "It is not known whether the loaded model honours this: it is put in the caption."
    attributes = {name: dict(info=info if name in spec.honours else unheard) for name, info in _ABOUT.items()}
    heard = lambda name: name in spec.diagnoses or not spec.documented
    trained = lambda name: name if heard(name) else f"{name} (not in the model's training)"
    names = ((trained(name).capitalize(), name) for name in DIAGNOSES)
    attributes["diagnosis"] |= dict(choices=[(UNSPECIFIED, ""), *names])
    return attributes | {
        "steps": dict(value=spec.steps),
        "guidance": dict(value=spec.guidance),
        "early_guidance": dict(value=spec.early_guidance),
        "guidance_below": dict(value=spec.guidance_below),
        "eta": dict(value=spec.eta),
        "eta_below": dict(value=spec.eta_below),
        "candidates": dict(value=spec.candidates),
        "postfilter": dict(value=spec.postfilter),
        "lora_strength": dict(
            value=spec.lora.strength if spec.lora else 0,
            info=spec.lora.title if spec.lora else "The loaded model has no LoRA",
            interactive=spec.lora is not None,
        ),
        "size": dict(choices=[(f"{size} px", size) for size in spec.sizes], value=spec.size),
        "noise": dict(value=SamplingOptions.noise, visible=len(spec.noises) > 1),
    }


def more(spec: ModelSpec) -> dict[str, gr.components.Component]:
    """Lay out the other attributes, saying which of them the loaded model does not honour."""
    values = dict(zip(fields.ATTRIBUTES, fields.to_values(EXAMPLES[START]), strict=True))
    own = suited(spec)
    about = lambda name, label: dict(value=values[name], label=label, **own[name])
    free = lambda empty, names: [(UNSPECIFIED, empty), *((str(name).capitalize(), name) for name in names)]
    return {
        "diagnosis": gr.Dropdown(**about("diagnosis", "Diagnosis")),
        "structures": gr.CheckboxGroup(
            [(name.capitalize(), name) for name in STRUCTURES],
            **about("structures", "Dermoscopic structures"),
            elem_classes="df-chips df-plain",
        ),
        "size_mm": gr.Dropdown(
            [(UNSPECIFIED, 0), *((f"{mm} mm", mm) for mm in range(MIN_SIZE_MM, MAX_SIZE_MM + 1))],
            **about("size_mm", "Largest diameter"),
        ),
        "site": gr.Dropdown(free("", SITES), **about("site", "Body site")),
        "tone": gr.Radio(
            [("Any", 0), *((str(tone), tone) for tone in range(1, len(MONK_TONES) + 1))],
            **about("tone", "Apparent skin tone"),
            elem_id="df-tone",
            elem_classes="df-tones",
        ),
        "capture": gr.Radio(free("", CAPTURES), **about("capture", "Capture"), elem_classes="df-pills df-wide"),
        "artefacts": gr.CheckboxGroup(
            [(name.capitalize(), name) for name in ARTEFACTS],
            **about("artefacts", "Artefacts"),
            elem_classes="df-chips df-plain",
        ),
    }


def settings(spec: ModelSpec) -> dict[str, gr.components.Component]:
    """Lay out how to draw; the variation strength is rendered beside the gallery."""
    own = suited(spec)
    made = {"count": gr.Slider(1, MAX_IMAGES, 1, step=1, label="Images", info="Each has its own seed")}
    with gr.Row():
        made["seed"] = gr.Number(0, label="Seed", precision=0, min_width=140, info=f"0 to {MAX_SEED}")
        made["randomise"] = gr.Checkbox(True, label="New seed each time", min_width=140, elem_classes="df-check")
    made["candidates"] = gr.Slider(
        1,
        MAX_CANDIDATES,
        step=1,
        label="Candidates",
        info="With a new seed: at most so many are drawn, to keep the one that fits best and is most like photographs",
        **own["candidates"],
    )
    made["steps"] = gr.Slider(1, MAX_STEPS, step=1, label="Steps", info="More is finer and slower", **own["steps"])
    made["guidance"] = gr.Slider(
        0,
        MAX_GUIDANCE,
        step=0.05,
        label="Guidance",
        info="How strictly the caption is followed, up to the level below",
        **own["guidance"],
    )
    made["guidance_below"] = gr.Slider(
        0,
        1,
        step=0.05,
        label="Guidance up to level",
        info="1: it counts throughout. Noise levels above a lower one are drawn with the early guidance",
        **own["guidance_below"],
    )
    made["early_guidance"] = gr.Slider(
        0,
        MAX_GUIDANCE,
        step=0.05,
        label="Early guidance",
        info="Above that level, if it is below 1. The lower, the more images vary; 1 is none",
        **own["early_guidance"],
    )
    made["negative"] = gr.Textbox("", label="Negative caption", info="What to steer away from; needs true CFG above 1")
    made["true_cfg"] = gr.Slider(
        1, MAX_TRUE_CFG, 1, step=0.1, label="True CFG", info="1 is off; above 1 doubles the time"
    )
    made["lora_strength"] = gr.Slider(0, MAX_LORA_STRENGTH, step=0.05, label="LoRA strength", **own["lora_strength"])
    made["size"] = gr.Radio(label="Image size", elem_classes="df-pills", **own["size"])
    made["strength"] = gr.Slider(
        0.05,
        1,
        SamplingOptions.strength,
        step=0.05,
        label="Variation strength",
        info="How far a variation may move from its image",
        render=False,
    )
    made["noise"] = gr.Radio(
        [("DermaFlux, the same on every machine", "packed"), ("As the authors' demo draws it", "authors")],
        label="Initial noise of a seed",
        **own["noise"],
    )
    made["first_block_cache"] = gr.Slider(
        0,
        MAX_CACHE,
        SamplingOptions.first_block_cache,
        step=0.01,
        label="Faster, slightly different",
        info="First-block cache: 0 is off; from about 0.12, steps that change little are cut short",
    )
    made["eta"] = gr.Slider(
        0,
        MAX_ETA,
        step=0.05,
        label="Fresh noise",
        info="Eta: how much noise each step renews; 0 follows the flow alone",
        **own["eta"],
    )
    made["eta_below"] = gr.Slider(
        FINEST,
        1,
        step=0.05,
        label="Fresh noise up to level",
        info="1 is noise alone; below 0.2 none is renewed. Higher changes more, with fresh noise above 0",
        **own["eta_below"],
    )
    made["contrast"] = gr.Slider(
        0,
        MAX_CONTRAST,
        SamplingOptions.contrast,
        step=0.1,
        label="Contrast",
        info="How far to lead away from other asymmetry, border and colours than asked for; 0 is off, and faster",
    )
    made["postfilter"] = gr.Slider(
        0,
        1,
        step=0.1,
        label="Post-filter",
        info="Leaves out a faint pattern and the colour noise that the autoencoder draws in all images; 0 is off",
        **own["postfilter"],
    )
    return made
