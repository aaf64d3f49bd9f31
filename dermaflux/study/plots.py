"""The plots of a study's report. None shows a picture, and names are drawn as they are, never read as formulas."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dermaflux.study.discrimination import Answers, Skill, roc
from dermaflux.study.estimates import Estimate
from dermaflux.study.ratings import Match, Rating

SYNTHETIC, REAL, ALL, FAINT = "#0f747d", "#8a6d3b", "#1d2b2e", "#a9b7ba"
COLOURS = {"synthetic": SYNTHETIC, "real": REAL}
ANSWERS = {"yes": "#0f747d", "partly": "#8fc3c7", "no": "#c98a10", "cannot tell": "#d9dfe0"}
WIDTH, ROW, DPI = 5.2, 0.27, 160
"""Width of a plot and height of a row, in inches; narrow, so that its words can be read on a telephone."""
MOST_READERS, MOST_LETTERS = 40, 18


def png(figure: Figure) -> bytes:
    """A plot as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def forest(skills: Sequence[Skill], pooled: Skill) -> Figure:
    """The accuracy of each reader and of all, with 95 % intervals, about chance; of many readers the first ones."""
    shown = list(skills[:MOST_READERS])
    rows = [*((skill.who, skill.accuracy, SYNTHETIC) for skill in shown), ("all readers", pooled.accuracy, ALL)]
    figure, axes = _axes(ROW * len(rows) + 0.9)
    _intervals(axes, rows)
    axes.axvline(0.5, color=FAINT, linewidth=1, zorder=0)
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy (0.5: chance), 95 % interval")
    return figure


def curves(found: Answers, auc: Estimate) -> Figure:
    """The ROC of all answers together, with those of the readers behind it."""
    figure, axes = _axes(4.2)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":")
    for reader in sorted(set(found.readers), key=str)[:MOST_READERS]:
        own = found.of(found.readers == reader)
        if 0 < own.synthetic.sum() < len(own.synthetic):
            axes.plot(*roc(own), color=FAINT, linewidth=0.8)
    axes.plot(*roc(found), color=SYNTHETIC, linewidth=2, marker="o", markersize=4)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel("real images called synthetic, share")
    axes.set_ylabel("synthetic images called synthetic, share")
    axes.set_title(f"AUC {auc.text()}", fontsize=9)
    return figure


def ratings(found: Sequence[Rating]) -> Figure:
    """Mean ratings in five steps, by source and group, with 95 % intervals."""
    groups = list(dict.fromkeys(rating.group for rating in found))
    ordered = sorted(found, key=lambda rating: (groups.index(rating.group), rating.source))
    rows = [(f"{one.group}, {one.source}", one.estimate, COLOURS[one.source]) for one in ordered]
    figure, axes = _axes(ROW * len(rows) + 0.9)
    _intervals(axes, rows)
    axes.set_xlim(1, 5)
    axes.set_xticks(range(1, 6))
    axes.set_xlabel("mean rating, 1 to 5, 95 % interval")
    return figure


def matched(found: Sequence[Match]) -> Figure:
    """For each attribute the shares of the answers whether it was drawn as asked."""
    figure, axes = _axes(0.42 * len(found) + 1.3)
    left = np.zeros(len(found))
    for answer, colour in ANSWERS.items():
        share = np.array([match.counts[answer] / sum(match.counts.values()) for match in found])
        axes.barh(range(len(found)), share, 0.7, left=left, color=colour, label=answer)
        left += share
    axes.set_yticks(range(len(found)), [match.attribute for match in found])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of answers")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def sequence(points: Sequence[tuple[float, Estimate]]) -> Figure:
    """Accuracy over the sequence of cases, in equal parts of it, with 95 % intervals."""
    figure, axes = _axes(3.0)
    middles = [middle for middle, _ in points]
    values = np.array([[part.value, part.low, part.high] for _, part in points])
    axes.axhline(0.5, color=FAINT, linewidth=1)
    axes.errorbar(
        middles,
        values[:, 0],
        [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]],
        fmt="o-",
        color=SYNTHETIC,
        ecolor=FAINT,
        markersize=5,
    )
    axes.set_ylim(0, 1)
    axes.set_xlabel("position in the reader's sequence")
    axes.set_ylabel("accuracy, 95 % interval")
    return figure


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure((WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_size(9)
    return figure, axes


def _intervals(axes: Axes, rows: Sequence[tuple[str, Estimate, str]]) -> None:
    for place, (_, estimate, colour) in enumerate(rows):
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=1.6)
        axes.plot([estimate.value], [place], "o", color=colour, markersize=5)
    axes.set_yticks(range(len(rows)), [_short(name) for name, _, _ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _short(name: str) -> str:
    return name if len(name) <= MOST_LETTERS + 8 else name[:MOST_LETTERS] + "…"
