"""What the page allows a visitor in an hour, for every listener and endpoint alike."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from gradio.context import LocalContext
from gradio.utils import get_space

from dermaflux.limits import HourlyLimit, Pseudonyms, address
from dermaflux.settings import Settings
from dermaflux.ui.gate import user_of

Item = TypeVar("Item")

CLASSIFIED_PER_DRAWN = 10
"""As many images may be classified or measured as may be drawn, times this: one takes a fraction of the other."""
MAX_RATINGS = 600
"""Ratings an hour, whatever else is allowed, so that nobody fills the disk."""


class Limits:
    """Who a visitor is: their Hugging Face account where they are logged in, or else their address."""

    def __init__(self, settings: Settings):
        self._drawn = HourlyLimit(settings.images_per_hour, "Drawn images")
        self._judged = HourlyLimit(CLASSIFIED_PER_DRAWN * settings.images_per_hour, "Classified or measured images")
        self._rated = HourlyLimit(MAX_RATINGS, "Ratings")
        self._proxied = bool(settings.root_path or get_space())
        self._names = Pseudonyms()

    def drawing(self, count: int, items: Iterable[Item]) -> Iterator[Item]:
        """What a run gives, counted as `count` images of the visitor of the current event before it begins.

        Raises InputError.
        """
        with self._drawn.spending(self._visitor(), count):
            yield from items

    def judging(self, count: int = 1) -> AbstractContextManager:
        """Counts `count` images to be classified or measured. Raises InputError."""
        return self._judged.spending(self._visitor(), count)

    def rating(self) -> AbstractContextManager:
        """Counts a rating. Raises InputError."""
        return self._rated.spending(self._visitor())

    def _visitor(self) -> str:
        """The visitor of the current event; all those of whom nothing is known are one."""
        event = LocalContext.request.get(None)
        request = getattr(event, "request", None)
        if request is None:
            return ""
        user = user_of(request.scope)
        if user:
            return self._names.of(f"user {user.name}")
        peer = request.client.host if request.client else ""
        return self._names.of(address(peer, request.headers.get("x-forwarded-for", ""), self._proxied))
