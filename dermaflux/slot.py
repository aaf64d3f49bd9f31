"""Models in use: loaded when first needed; of generators one at a time, released before another takes its place."""

import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from dermaflux.errors import ModelUnavailable
from dermaflux.memory import AUTO
from dermaflux.models import ModelSpec

if TYPE_CHECKING:
    from dermaflux.downloads import Progress
    from dermaflux.generator import Generator

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Choice:
    """A model with its LoRA, and how its weights are kept; see `memory.WAYS`."""

    spec: ModelSpec
    memory: str = AUTO


class GeneratorSlot:
    """Called, it gives the generator of its choice, loading it where it is not; one thread at a time."""

    def __init__(
        self,
        choice: Choice,
        load: "Callable[[Choice], Generator]",
        fetch: Callable[[Choice], "Iterator[Progress]"] = lambda choice: iter(()),
    ):
        """load: gives the generator of a choice, or raises ModelUnavailable, after which the next use tries again.
        fetch: brings here what `load` will read, telling how far it is; to be called before `exchange`. It refuses
        before anything is given up, and closing it ends it."""
        self.choice, self.loaded, self.fetch = choice, None, fetch
        self._load, self._lock = load, threading.RLock()

    @property
    def spec(self) -> ModelSpec:
        return self.choice.spec

    def __call__(self) -> "Generator":
        with self._lock:
            if self.loaded is None:
                _release_memory()
                self.loaded = self._load(self.choice)
            return self.loaded

    def exchange(self, choice: Choice) -> "Generator":
        """Load `choice` in place of what is there; only the LoRA where nothing else changes and it can be exchanged.

        Raises ModelUnavailable; then the former choice stands, to be loaded again when it is next asked for.
        """
        with self._lock:
            if self.loaded is not None and self._only_lora_changes(choice):
                self._change_lora(choice.spec)
            elif self.loaded is None or choice != self.choice:
                if self.loaded is not None:
                    self._release()
                self.loaded = self._load(choice)
            self.choice = choice
            return self.loaded

    def _change_lora(self, spec: ModelSpec) -> None:
        try:
            self.loaded.use_lora(spec.lora)
        except ModelUnavailable:
            raise
        except Exception:
            self._release()  # it may be half applied
            raise

    def _release(self) -> None:
        self.loaded.close()
        self.loaded = None
        _release_memory()

    def _only_lora_changes(self, choice: Choice) -> bool:
        bare = lambda one: replace(one, spec=replace(one.spec, lora=None))
        changed = choice != self.choice and bare(choice) == bare(self.choice)
        return changed and not self.loaded.plan.way.quantised


def _release_memory() -> None:
    """Give back what nobody refers to any more, the card's cache as well."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def once(load: Callable[[], Loaded]) -> Callable[[], Loaded]:
    """`load`, called at the first use only, by one thread at a time; after a failure the next use tries again."""
    lock, loaded = threading.Lock(), []

    def get() -> Loaded:
        with lock:
            if not loaded:
                loaded.append(load())
            return loaded[0]

    return get
