"""A line of the benchmarks' table, and how its times are taken. After importing it, the package can be imported."""

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

FRESH = 1000
"""Captions from this seed on were not drawn before, so that none of their embeddings is at hand."""


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, in which unit, and the most that it may be, where that was said."""

    what: str
    measured: float
    target: float | None
    unit: str

    def markdown(self) -> str:
        """The line in Markdown."""
        if self.target is None:
            return f"| {self.what} | | {self.measured:.3g} {self.unit} | | |"
        met = "yes" if self.measured <= self.target else "**no**"
        measured, target = (
            f"{value:.0f}" if value >= 100 else f"{value:.2f}" for value in (self.measured, self.target)
        )
        share = f"{self.measured / self.target:.2f}"
        return f"| {self.what} | {target} {self.unit} | {measured} {self.unit} | {share} | {met} |"


def seconds(action: Callable[..., object], *arguments: object) -> float:
    """How long one call of `action` takes."""
    start = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - start


def median_seconds(action: Callable[[int], object], arguments: Iterable[int]) -> float:
    """The median of how long the calls of `action` take."""
    return statistics.median(seconds(action, one) for one in arguments)


def alternated(one: Callable[[int], object], other: Callable[[int], object], repeats: int) -> float:
    """Median over `repeats` of the time of `one(i)` over that of `other(i)`, each going first every other time."""
    ratios = []
    for i in range(FRESH, FRESH + repeats + 1):
        order = (one, other) if i % 2 else (other, one)
        times = {action: seconds(action, i) for action in order}
        ratios.append(times[one] / times[other])
    return statistics.median(ratios[1:])
