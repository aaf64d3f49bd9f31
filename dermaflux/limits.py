"""How much one visitor may ask for in an hour, and how visitors are told apart without keeping who they are."""

import hashlib
import math
import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

from dermaflux.errors import InputError

HOUR = 3600.0
MAX_VISITORS = 10_000
"""As many visitors are remembered; of more, those who have asked for nothing for longest are forgotten."""


class HourlyLimit:
    """At most so many of something in any hour for each visitor, held in memory. For use by several threads."""

    def __init__(
        self, most: int, things: str, clock: Callable[[], float] = time.monotonic, max_visitors: int = MAX_VISITORS
    ):
        """most: how many, 0 for no limit. things: what they are called, such as “Drawings”. clock: in seconds."""
        self.most, self.things = most, things
        self._clock, self._max_visitors, self._lock = clock, max_visitors, threading.Lock()
        self._spent: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()

    def spend(self, visitor: str, count: int = 1) -> None:
        """Count `count` more of a visitor, all or none. Raises InputError that says how long to wait."""
        if not self.most or not count:
            return
        if count > self.most:
            raise InputError(f"{self.things} are limited to {self.most} an hour for each visitor; ask for fewer.")
        now = self._clock()
        with self._lock:
            spent = self._spent.setdefault(visitor, deque())
            self._spent.move_to_end(visitor)
            while len(self._spent) > self._max_visitors:
                self._spent.popitem(last=False)
            while spent and spent[0][0] <= now - HOUR:
                spent.popleft()
            left = self.most - sum(each for _, each in spent)
            if count > left:
                raise InputError(self._refusal(left, _wait(spent, now, count - left)))
            spent.append((now, count))

    def give_back(self, visitor: str, count: int = 1) -> None:
        """Take back the last `count` that this visitor spent."""
        with self._lock:
            spent = self._spent.get(visitor)
            while spent and count > 0:
                moment, last = spent.pop()
                if last > count:
                    spent.append((moment, last - count))
                count -= last

    @contextmanager
    def spending(self, visitor: str, count: int = 1) -> Iterator[None]:
        """Spend, and give back if what is done meanwhile fails; not if the visitor stops it."""
        self.spend(visitor, count)
        try:
            yield
        except Exception:
            self.give_back(visitor, count)
            raise

    def _refusal(self, left: int, seconds: float) -> str:
        minutes = max(1, math.ceil(seconds / 60))
        return (
            f"{self.things} are limited to {self.most} an hour for each visitor; you have {left} left. "
            f"Try again in {minutes} minute{'s' if minutes > 1 else ''}."
        )


def _wait(spent: deque[tuple[float, int]], now: float, wanted: int) -> float:
    """The seconds until `wanted` of what is spent are an hour old."""
    for moment, count in spent:
        wanted -= count
        if wanted <= 0:
            return moment + HOUR - now
    return HOUR


def address(peer: str, forwarded: str = "", proxied: bool = False) -> str:
    """The address that a request came from.

    peer: who opened the connection. forwarded: the header X-Forwarded-For, to which each proxy adds whom it speaks
    for; anybody can send one, so it counts only where the page is known to be `proxied`, and of it the last public
    address, or the last where none is public: what stands before that the visitor may have written.
    """
    if not proxied:
        return peer
    hops = [hop for hop in map(_without_port, forwarded.split(",")) if _parsed(hop)]
    return next((hop for hop in reversed(hops) if _parsed(hop).is_global), hops[-1] if hops else peer)


def _without_port(hop: str) -> str:
    found = re.fullmatch(r"\[(.+)\](?::\d+)?|([\d.]+):\d+", hop.strip())
    return found[1] or found[2] if found else hop.strip()


def _parsed(text: str):
    try:
        return ip_address(text)
    except ValueError:
        return None


class Pseudonyms:
    """Names that tell visitors apart while this process runs, and from which nobody can be found."""

    def __init__(self):
        self._key = secrets.token_bytes(32)

    def of(self, identity: str) -> str:
        """The name of an account or an address; of IPv6 only the network counts, as a visitor has all of it."""
        found = _parsed(identity)
        if isinstance(found, IPv6Address):
            identity = found.ipv4_mapped.exploded if found.ipv4_mapped else found.exploded[:19]
        return hashlib.blake2b(identity.encode(), key=self._key, digest_size=16).hexdigest()
