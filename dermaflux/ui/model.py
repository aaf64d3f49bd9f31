"""The menu of models: what each is for and takes, said before it is fetched, and the exchange of the one in use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from dermaflux import memory
from dermaflux.errors import InputError, ModelUnavailable
from dermaflux.memory import AUTO, WAYS
from dermaflux.models import LoraSpec, ModelSpec
from dermaflux.settings import names
from dermaflux.slot import Choice
from dermaflux.ui import stage
from dermaflux.ui.context import LIVE, MODEL_EVENT, PRIVATE, Context, Suited, say, sentence
from dermaflux.ui.runs import OFF, ON, QUIET

if TYPE_CHECKING:
    from dermaflux.downloads import Progress

OWN, NONE = "own", "none"
LOOK_EVERY = 15.0
ASKED, FETCHING = "asked", "fetching"
STOPPED = "The download is stopped. Files that came whole are kept; Load goes on with the others."
DOWNLOAD_EVENT = dict(concurrency_id="downloads", concurrency_limit=1)
"""Keyword arguments of a listener that downloads: beside the model's events, so that the model in use can be used."""
BUSY = "Too many visitors wait for the model. Try again in a moment."


@dataclass(frozen=True)
class Chooser:
    """The components of the menu."""

    model: gr.Dropdown
    lora: gr.Dropdown
    memory: gr.Dropdown
    facts: gr.HTML
    load: gr.Button
    stop: gr.Button
    status: gr.HTML

    @property
    def inputs(self) -> list:
        return [self.model, self.lora, self.memory]


def build(context: Context) -> Chooser | None:
    """Lay out the menu; None where the owner of the page offers nothing to choose between."""
    settings, spec = context.settings, context.spec
    if len(settings.offered) < 2 and not settings.loras:
        return None
    with gr.Accordion("Model", open=False):
        chooser = Chooser(
            model=gr.Dropdown(
                [(one.title, one.name) for one in _offers(context)], value=spec.name, label="Model", elem_id="df-model"
            ),
            lora=gr.Dropdown(_loras(context, spec), value=_worn(context), label="LoRA", elem_id="df-lora"),
            memory=gr.Dropdown(
                [("Chosen for this machine", AUTO), *((WAYS[name].title, name) for name in _ways(context))],
                value=context.generator.choice.memory,
                label="How weights are kept",
                elem_id="df-memory",
            ),
            facts=gr.HTML(facts(spec), elem_id="df-facts"),
            load=gr.Button("Load", elem_id="df-load", min_width=120),
            stop=gr.Button("Stop the download", elem_id="df-load-stop", interactive=False, min_width=120),
            status=gr.HTML(stage.status("In use."), elem_id="df-load-status"),
        )
    return chooser


def wire(context: Context, app: gr.Blocks, chooser: Chooser, suited: Sequence[Suited]) -> None:
    """Connect the menu; what `suited` names follows the model in use, on every page, within LOOK_EVERY seconds."""
    components = [component for one in suited for component in one.components]
    follow = lambda: [value for one in suited for value in one.values(context.spec)]
    seen, task = gr.State(context.generator.choice), gr.State(None)
    own, still = [seen, *chooser.inputs, chooser.facts], [gr.skip()] * (len(components) + 1)

    def tell(*chosen) -> str:
        choice = _choice(context, *chosen)
        return facts(choice.spec, outlook(context, choice.spec, choice.memory))

    def turn(name: str, worn: str, kept: str) -> tuple:
        spec = _offered(context, name)
        worn = OWN if spec.lora else NONE
        return gr.Dropdown(choices=_loras(context, spec), value=worn), tell(name, worn, kept)

    def fetch(name: str, worn: str, kept: str) -> Iterator[list]:
        """Values of status, both buttons and the task, which in the end is what to load, or none."""
        try:
            choice = _choice(context, name, worn, kept)
            yield [stage.status(f"Looking for {choice.spec.title}.", 0), OFF, ON, FETCHING]
            for progress in context.generator.fetch(choice):
                share = progress.done / progress.total if progress.total else 0
                yield [stage.status(_coming(choice.spec, progress), share), *[gr.skip()] * 3]
            yield [stage.status("Waiting for the model.", 0), OFF, OFF, choice]
        except Exception as error:
            yield [refuse(error), ON, OFF, None]

    def load(choice: Choice | str | None) -> Iterator[list]:
        if not isinstance(choice, Choice):
            yield [gr.skip(), gr.skip(), *still]
            return
        try:
            yield [stage.status(f"Loading {choice.spec.title}.", 0), OFF, *still]
            used = context.generator.exchange(choice)
            said = [f"{choice.spec.title} is in use. {used.plan.sentence}", used.adapter.warning, used.remark]
            yield [stage.status(" ".join(filter(None, said))), ON, choice, *follow()]
        except Exception as error:
            yield [refuse(error), ON, *still]

    def refuse(error: Exception) -> str:
        refused = sentence(error)
        gr.Warning(refused.message, title=refused.title)
        kept = f"{context.spec.title} stays in use. " if isinstance(error, ModelUnavailable) else ""
        return stage.status(f"{kept}{refused.message}")

    def stopped(task: Choice | str | None) -> list:
        """A download that was stopped, or found no place, has not said so itself, nor given back the buttons."""
        if task not in (ASKED, FETCHING):
            return [gr.skip()] * 4
        said = BUSY if task == ASKED else f"{context.spec.title} stays in use. {STOPPED}"
        return [stage.status(said), ON, OFF, None]

    def look(known: Choice) -> list:
        choice = context.generator.choice
        if choice == known:
            return [gr.skip()] * (len(own) + len(components))
        lora = gr.Dropdown(choices=_loras(context, choice.spec), value=_worn(context))
        return [choice, choice.spec.name, lora, choice.memory, facts(choice.spec), *follow()]

    chooser.model.input(say(turn), chooser.inputs, [chooser.lora, chooser.facts], **LIVE)
    gr.on([chooser.lora.input, chooser.memory.input], say(tell), chooser.inputs, chooser.facts, **LIVE)
    at_hand = [chooser.status, chooser.load, chooser.stop, task]
    began = [stage.status("Waiting for the model.", 0), OFF, OFF, ASKED]
    fetched = chooser.load.click(lambda: began, None, at_hand, **QUIET).then(
        fetch, chooser.inputs, at_hand, show_progress="hidden", **DOWNLOAD_EVENT, **PRIVATE
    )
    used = [chooser.status, chooser.load, seen, *components]
    loaded = fetched.success(load, task, used, show_progress="hidden", **MODEL_EVENT, **PRIVATE)
    for ended in (fetched.then, fetched.failure):
        ended(stopped, task, at_hand, **QUIET)
    chooser.stop.click(None, None, None, cancels=fetched, queue=False, **PRIVATE)
    loaded.failure(lambda: [stage.status(BUSY), ON, OFF, None], None, at_hand, **QUIET)
    for happens in (app.load, gr.Timer(LOOK_EVERY).tick):
        happens(look, seen, [*own, *components], **QUIET)


def facts(spec: ModelSpec, expected: str = "") -> str:
    """What is known of a model before it is fetched, as HTML; expected: the memory that it would take."""
    title = f"{escape(spec.title)}, {escape(spec.licence)}. {escape(spec.licence_note)}"
    page = f"https://huggingface.co/{escape(spec.source)}"
    gated = f' Its licence is accepted at <a href="{page}" target="_blank" rel="noopener">its page</a>.'
    gated = gated if spec.gated and not Path(spec.source).is_absolute() else ""
    lora = f"<p>LoRA: {escape(spec.lora.title)}, {escape(spec.lora.licence)}.</p>" if spec.lora else ""
    needs = f"<p>Download: {download(spec)}. {escape(expected)}</p>"
    return f'<div class="df-hint" role="status" aria-live="polite"><p>{title}{gated}</p>{lora}{needs}</div>'


def _coming(spec: ModelSpec, progress: "Progress") -> str:
    so_far = f": {progress.done / memory.GB:.2f} of {progress.total / memory.GB:.2f} GB" if progress.total else ""
    return f"Downloading {spec.title}{so_far}. The model in use can be used meanwhile."


def download(spec: ModelSpec) -> str:
    """How much would be fetched for the model of `spec` and its LoRA."""
    model = spec.weights.total if spec.weights else 0.0
    if spec.lora is None or Path(spec.lora.source).exists():
        return f"about {model:.1f} GB, once" if model else "none"
    if spec.lora.gigabytes:
        return f"about {model + spec.lora.gigabytes:.1f} GB with the LoRA, once"
    return f"about {model:.1f} GB and the LoRA, once" if model else "the LoRA, once"


def outlook(context: Context, spec: ModelSpec, asked: str) -> str:
    """How the model of `spec` would be loaded on this machine as it is now, or why it cannot be."""
    loaded = context.generator.loaded
    try:
        free = memory.Free.now(context.settings.torch_device or memory.best_device())
    except ModelUnavailable as error:
        return str(error)
    return memory.outlook(spec, free.with_released(loaded.plan if loaded else None), asked)


def _choice(context: Context, name: str, lora: str, kept: str) -> Choice:
    """What is chosen. Raises InputError for what the owner of the page does not offer."""
    spec = _offered(context, name)
    if lora not in (value for _, value in _loras(context, spec)):
        raise InputError("This page does not offer that LoRA.")
    if kept not in (AUTO, *_ways(context)):
        raise InputError(f"The memory plan must be one of {', '.join((AUTO, *_ways(context)))}.")
    if lora == OWN:
        return Choice(spec, kept)
    return Choice(replace(spec, lora=None if lora == NONE else LoraSpec.at(lora)), kept)


def _ways(context: Context) -> list[str]:
    """The ways to keep weights that may be asked for: all of one's own machine, on other pages that of its owner."""
    return list(WAYS) if context.settings.alone else [name for name in WAYS if name == context.settings.memory]


def _offers(context: Context) -> tuple[ModelSpec, ...]:
    """The models to choose between, that in use among them."""
    offered = context.settings.offered
    return offered if context.spec.name in (one.name for one in offered) else (context.spec, *offered)


def _offered(context: Context, name: str) -> ModelSpec:
    for spec in _offers(context):
        if spec.name == name:
            return spec
    raise InputError("This page does not offer that model.")


def _loras(context: Context, spec: ModelSpec) -> list[tuple[str, str]]:
    """Titles and values of the LoRAs to choose from for the model called as `spec`."""
    own = _offered(context, spec.name).lora
    return [
        *([(own.title, OWN)] if own else []),
        ("None", NONE),
        *((LoraSpec.at(one).title, one) for one in names(context.settings.loras)),
    ]


def _worn(context: Context) -> str:
    """The value of the LoRA in use."""
    lora = context.spec.lora
    if lora is None:
        return NONE
    return lora.source if lora.source in names(context.settings.loras) else OWN
