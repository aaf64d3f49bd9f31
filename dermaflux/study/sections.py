"""The shape of a study's results: titled sections of sentences, tables and plots."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table of texts under a caption."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """A plot: its name, which is a file's name too, its caption and what draws it."""

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Exhibit:
    """Pictures that show something: what, and their cases, the best first."""

    caption: str
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A part of the results. headline: what of it belongs into a summary."""

    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    headline: str = ""
    exhibits: tuple[Exhibit, ...] = ()


@dataclass(frozen=True)
class Results:
    """A study's results; verdict: what the equivalence test concludes, empty where there is none. marks: the places
    that readers marked, by case, as boxes in shares of the picture's side."""

    title: str
    verdict: str
    sections: tuple[Section, ...]
    marks: Mapping[str, tuple[tuple[float, float, float, float], ...]] = field(default_factory=dict)

    @property
    def summary(self) -> tuple[str, ...]:
        """The headlines of all sections."""
        return tuple(section.headline for section in self.sections if section.headline)
