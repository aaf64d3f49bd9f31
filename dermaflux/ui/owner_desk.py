"""What guards the Study tab: one password, and listeners that ask each time whether the session gave it.

Hidden components protect nothing, as any listener can be called over HTTP; so each one checks again. The mark that a
session is unlocked is kept on the server, in a gr.State that no caller can set.
"""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gradio as gr
from gradio.events import Dependency

from dermaflux.errors import InputError
from dermaflux.settings import Settings
from dermaflux.ui.context import ANSWER, say

if TYPE_CHECKING:
    from dermaflux.study.store import Store

HOURS = 8
"""For so long a session stays unlocked."""
LOCKED = "This tab is locked. Reload the page and give the owner's password."
BUSY = "Another password is being checked. Try again in a few seconds."
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
HEAVY = dict(concurrency_id="studies", concurrency_limit=1)
"""Keyword arguments of listeners that compute for long: one at a time."""


@dataclass
class Lock:
    """Tells whether a password is `password`. A wrong one is answered late, the later the more there were since the
    last right one. Meanwhile any other is refused unseen, so that many connections guess no faster than one and hold no
    more than one thread."""

    password: str
    pause: Callable[[float], None] = time.sleep
    _wrong: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def admits(self, given: object) -> bool:
        """Whether `given` is the password. Raises InputError while another one awaits its answer."""
        if not self._turn.acquire(blocking=False):
            raise InputError(BUSY)
        try:
            if secrets.compare_digest(str(given or "").encode("utf-8", "replace"), self.password.encode()):
                self._wrong = 0
                return True
            self.pause(min(FIRST_PAUSE * 2 ** min(self._wrong, 10), LONGEST_PAUSE))
            self._wrong += 1
            return False
        finally:
            self._turn.release()


@dataclass(frozen=True)
class Desk:
    """What each part of the tab is given. unlocked: until when the session is, by time.monotonic. study: the chosen
    one."""

    studies: "Callable[[], Store]"
    settings: Settings
    unlocked: gr.State
    study: gr.Dropdown

    def on(self, happens: Callable, fn: Callable, inputs: Sequence, outputs: Sequence, **how) -> Dependency:
        """Let an event call `fn` with the store and the values of `inputs`, in a session that is unlocked alone."""

        def call(unlocked: float, *values):
            if not is_unlocked(unlocked):
                raise InputError(LOCKED)
            return fn(self.studies(), *values)

        return happens(say(call), [self.unlocked, *inputs], list(outputs), **ANSWER | how)

    def of(self, happens: Callable, fn: Callable, inputs: Sequence, outputs: Sequence, **how) -> Dependency:
        """Like `on`, with the name of the chosen study after the store."""

        def call(store: "Store", name: str | None, *values):
            if not name:
                raise InputError("Choose a study first, or create one.")
            return fn(store, name, *values)

        return self.on(happens, call, [self.study, *inputs], outputs, **how)


def is_unlocked(until: object) -> bool:
    """Whether a session with this mark may act now."""
    return isinstance(until, float) and time.monotonic() < until


def unlocked_until() -> float:
    """The mark of a session that is unlocked now."""
    return time.monotonic() + HOURS * 3600
