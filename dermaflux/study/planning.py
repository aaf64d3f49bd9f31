"""How many cases and readers a study needs before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from dermaflux.errors import InputError
from dermaflux.study.discrimination import ALPHA, CHANCE, MARGIN

READERS = (3, 5, 8, 12, 20)
READER_SHARE, CASE_SHARE = 0.01, 0.05
"""Shares of the variance of a right answer that readers and cases account for; experts' skill differs little."""
MOST_CASES = 1000
"""More than a reader can be asked for."""


@dataclass(frozen=True)
class Size:
    """A study's size: so many readers, each with so many cases, half of them synthetic. cases is None where
    MOST_CASES are too few; design_effect: so many readings count as one independent one."""

    readers: int
    cases: int | None
    design_effect: float | None

    def text(self) -> str:
        """The size in words."""
        if self.cases is None:
            return f"{self.readers} readers: too few, even with {MOST_CASES} cases each."
        return (
            f"{self.readers} readers with {self.cases} cases each, half of them synthetic (design effect "
            f"{self.design_effect:.1f})."
        )


def sample_sizes(
    margin: float = MARGIN,
    power: float = 0.8,
    readers: Sequence[int] = READERS,
    reader_share: float = READER_SHARE,
    case_share: float = CASE_SHARE,
) -> list[Size]:
    """The fewest cases for each number of readers that show equivalence to chance within `margin` with this power,
    where readers are truly at chance.

    The approximation for the equivalence of a share (Chow, Shao & Wang, Sample Size Calculations in Clinical Research):
    the variance must be at most (margin / (q(0.95) + q((1 + power) / 2)))^2. It is 0.25 / answers, times the design
    effect 1 + (cases - 1) reader_share + (readers - 1) case_share of crossed readers and cases. The quantiles q are
    Student's with Satterthwaite's degrees of freedom, as in the test itself; with many readers they are the normal's.
    Raises InputError for values out of range.
    """
    if not 0 < margin < CHANCE:
        raise InputError(f"The margin must lie between 0 and 0.5, not {margin:g}.")
    if not 0 < power < 1:
        raise InputError(f"The power must lie between 0 and 1, not {power:g}.")
    if not (reader_share >= 0 and case_share >= 0 and reader_share + case_share < 1):
        raise InputError("The shares of variance of readers and cases must be 0 or more and add up to less than 1.")
    if any(count < 2 for count in readers):
        raise InputError("A study that speaks for other readers needs 2 readers or more.")
    return [_size(count, margin, power, reader_share, case_share) for count in readers]


def _size(readers: int, margin: float, power: float, reader_share: float, case_share: float) -> Size:
    cases = np.arange(4, MOST_CASES + 1, 2)
    within = (1 - reader_share - case_share) / (readers * cases)
    by_reader, by_case = reader_share / readers + within, case_share / cases + within
    total = by_reader + by_case - within
    spread = by_reader**2 / (readers - 1) + by_case**2 / (cases - 1) + within**2 / ((readers - 1) * (cases - 1))
    df = total**2 / spread
    reach = t.ppf(1 - ALPHA, df) + t.ppf((1 + power) / 2, df)
    enough = np.flatnonzero(CHANCE * (1 - CHANCE) * total * reach**2 <= margin**2)
    if not len(enough):
        return Size(readers, None, None)
    fewest = int(cases[enough[0]])
    return Size(readers, fewest, 1 + (fewest - 1) * reader_share + (readers - 1) * case_share)
