"""The ROC, reliability and confusion figures of a classifier, as PNGs."""

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, roc_curve

from dermaflux.evaluation.scores import BINS, Answers, bins
from dermaflux.lesion import LABELS

COLOURS = ("#0f747d", "#c98a10", "#7a4b8c", "#8a3b3b", "#4c6b2f")
FAINT, DPI = "#a9b7ba", 150


def roc(answers: Answers, curves: Mapping[str, np.ndarray], captions: Mapping[str, str]) -> bytes:
    """A curve for each model, the first with its operating point. curves: probabilities (N,) by the models' names;
    captions: what the legend says of each. Needs both classes."""
    figure = Figure(figsize=(5.2, 5.7 + 0.16 * len(curves)), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":")
    for place, (name, p) in enumerate(curves.items()):
        false, true, _ = roc_curve(answers.malignant, p, drop_intermediate=False)
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(false, true, color=colour, linewidth=2 if place == 0 else 1.4, label=_plain(captions[name]))
    called = answers.called
    point = called[~answers.malignant].mean(), called[answers.malignant].mean()
    axes.plot(*point, "o", color=COLOURS[0], markersize=7, label=f"operating point, p ≥ {answers.threshold:.3f}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set(xlabel="benign called malignant (1 − specificity)", ylabel="malignant called malignant (sensitivity)")
    axes.set_title(f"{answers.malignant.sum()} malignant, {(~answers.malignant).sum()} benign images", fontsize=10)
    figure.legend(loc="outside lower center", fontsize=8)
    return _png(figure)


def reliability(answers: Answers, error: str) -> bytes:
    """The share of malignant images over their probability, in the bins of the calibration error, and how many images
    each holds; error: what the title says of it."""
    figure = Figure(figsize=(5.2, 5.8), layout="constrained")
    axes, counts = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    held = np.bincount(bins(answers.p), minlength=BINS)
    full = held > 0
    sums = lambda values: np.bincount(bins(answers.p), values, BINS)[full] / held[full]
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":", label="perfect")
    axes.plot(sums(answers.p), sums(answers.malignant), color=COLOURS[0], linewidth=1)
    axes.scatter(sums(answers.p), sums(answers.malignant), 15 + 200 * held[full] / held.max(), COLOURS[0], alpha=0.7)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share that is malignant")
    axes.set_title(_plain(error), fontsize=10)
    axes.legend(fontsize=8)
    counts.bar((np.arange(BINS) + 0.5) / BINS, held, 0.9 / BINS, color=COLOURS[0])
    counts.set(xlabel="probability of malignancy", ylabel="images")
    return _png(figure)


def confusion(answers: Answers) -> bytes:
    """Truth against decision at the operating point, with counts and shares of each truth."""
    table = confusion_matrix(answers.malignant, answers.called, labels=(False, True))
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="GnBu", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = f"{count}\n{shares[row, column]:.0%}" if table[row].sum() else "none"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=13)
    axes.set(xticks=(0, 1), yticks=(0, 1), xticklabels=LABELS, yticklabels=LABELS, xlabel="called", ylabel="is")
    axes.set_title(f"at p ≥ {answers.threshold:.3f}, n = {table.sum()}", fontsize=10)
    return _png(figure)


def _plain(text: str) -> str:
    """`text` with no sign that matplotlib reads as a formula."""
    return text.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
