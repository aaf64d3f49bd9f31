"""What every tab is given, and how an error becomes a sentence on the page."""

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from dermaflux.errors import DermaFluxError
from dermaflux.models import ModelSpec, SamplingOptions
from dermaflux.settings import Settings
from dermaflux.slot import GeneratorSlot
from dermaflux.ui.visitors import Limits

if TYPE_CHECKING:
    from dermaflux.classifier import Classifier
    from dermaflux.feedback import Ratings
    from dermaflux.provenance import Provenance
    from dermaflux.study.store import Store

NOTICE = "Research demonstration. Not a medical device; not for diagnosis. Do not upload identifiable images."
SYNTHETIC = "Synthetic image, drawn by a model. It shows no patient."
UNEXPECTED = "Something went wrong inside the app and nothing was changed. Please try again; the log has the details."

MODEL_QUEUE = "models"
"""The concurrency id of every event that uses a model: one at a time."""
MODEL_EVENT = dict(concurrency_id=MODEL_QUEUE, concurrency_limit=1)
"""Keyword arguments of a listener that uses a model."""
PRIVATE = dict(api_visibility="private")
"""Keyword arguments of a listener that is not part of the named API."""
LIVE = dict(queue=False, show_progress="hidden", trigger_mode="always_last", **PRIVATE)
"""Keyword arguments of the listeners that keep a form in step: at once, outside the queue. Their errors stay unseen."""
ANSWER = dict(show_progress="hidden", concurrency_limit=None, **PRIVATE)
"""Keyword arguments of quick listeners that may refuse what they are given: through the queue, which shows errors."""

log = logging.getLogger("dermaflux")


@dataclass(frozen=True)
class Context:
    """Settings, the generator, which may be exchanged, and the classifier, a callable that loads once.

    ratings: opens where visitors' ratings are kept; None where they are not asked for any. studies: opens the store of
    reader studies; None where there is none.
    """

    settings: Settings
    generator: GeneratorSlot
    classifier: "Callable[[], Classifier]"
    ratings: "Callable[[], Ratings] | None" = None
    studies: "Callable[[], Store] | None" = None

    @cached_property
    def limits(self) -> Limits:
        """What a visitor may ask for in an hour."""
        return Limits(self.settings)

    @property
    def spec(self) -> ModelSpec:
        """That of the generator in use."""
        return self.generator.spec


@dataclass(frozen=True)
class Suited:
    """Components that depend on the model in use, and what gives their values or updates for one, in their order."""

    components: Sequence[Component]
    values: Callable[[ModelSpec], Sequence]


@dataclass(frozen=True)
class Run:
    """An event handler with its components, to be chained after something else: `event.then(*run)`."""

    fn: Callable
    inputs: Sequence[Any]
    outputs: Sequence[Any]

    def __iter__(self):
        return iter((self.fn, list(self.inputs), list(self.outputs)))


@dataclass(frozen=True)
class ClassifyTab:
    """What the classify tab offers to the others.

    image: its gr.Image(type="filepath"). requested: gr.State with the images.Provenance of a synthetic image or None.
    run: classify and explain what is in `image`. measure: measure it only; None where `run` measures as well.
    """

    image: gr.Image
    requested: gr.State
    run: Run
    measure: Run | None = None
    tab_id: str = "classify"


def images_of(source: "Provenance | None") -> int:
    """How many images must be drawn to have the one that the recipe `source` tells, itself included."""
    return 0 if source is None else 1 + images_of(source.source)


def counted(options: SamplingOptions, spec: ModelSpec) -> int:
    """As how many images a run counts: as many times as many as candidates go beyond the model's own number."""
    return len(options.seeds) * -(-options.candidates // spec.candidates)


def say(fn: Callable) -> Callable:
    """Wrap a listener, plain or generator, so that what goes wrong reaches the visitor as a clear sentence.

    A DermaFluxError is shown as it stands; anything else is logged with its traceback and shown as UNEXPECTED.
    """
    if inspect.isgeneratorfunction(fn):

        @functools.wraps(fn)
        def stream(*args, **kwargs):
            try:
                yield from fn(*args, **kwargs)
            except Exception as error:
                raise sentence(error) from None

        return stream

    @functools.wraps(fn)
    def call(*args, **kwargs):
        try:
            return fn(*args, **kwargs)
        except Exception as error:
            raise sentence(error) from None

    return call


def sentence(error: Exception) -> gr.Error:
    """The gr.Error that says what `error` means to the visitor."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, DermaFluxError):
        return gr.Error(str(error), title="Please check", print_exception=False)
    log.error("A listener failed", exc_info=error)
    return gr.Error(UNEXPECTED, title="Something went wrong", print_exception=False)
