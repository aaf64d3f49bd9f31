"""A classifier on one split of a manifest: figures in all and by subgroup, beside other models: CSV, Markdown, PNG."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dermaflux.errors import InputError
from dermaflux.evaluation import classifier_plots as plots
from dermaflux.evaluation.answers import Asked, absent, parts
from dermaflux.evaluation.delong import Comparison, compare
from dermaflux.evaluation.figures import RESAMPLES, Figure, between, said, table
from dermaflux.evaluation.scores import BINS, FEWEST, Answers, figures
from dermaflux.files import write_atomically

NOTICE = "Research demonstration. Not a medical device; not for diagnosis."


@dataclass(frozen=True)
class Group:
    """The figures of the answers to the images of one subgroup."""

    kind: str
    value: str
    answers: Answers
    figures: list[Figure]


@dataclass(frozen=True)
class Result:
    """The classifier called `name` in all and by subgroup; peers: the probabilities (N,) and DeLong's comparison of
    other models, by their names; about: sentences that head the report."""

    name: str
    asked: Asked
    overall: list[Figure]
    groups: list[Group]
    peers: Mapping[str, tuple[np.ndarray, Comparison]] = field(default_factory=dict)
    about: tuple[str, ...] = ()
    resamples: int = RESAMPLES

    @property
    def answers(self) -> Answers:
        return self.asked.answers


def measure(
    name: str,
    asked: Asked,
    peers: Mapping[str, np.ndarray] | None = None,
    about: tuple[str, ...] = (),
    resamples: int = RESAMPLES,
) -> Result:
    """All figures of `asked`; peers: other models' probabilities of the same images, by name."""
    answers = asked.answers
    groups = []
    for part in parts(asked):
        own = answers.of(part.chosen)
        groups.append(Group(part.kind, part.value, own, figures(own, resamples)))
    compared = {
        peer: (p, compare(answers.malignant, answers.p, p, answers.clusters)) for peer, p in (peers or {}).items()
    }
    return Result(name, asked, figures(answers, resamples), groups, compared, about, resamples)


def write(result: Result, out: Path) -> None:
    """Write report.md, figures.csv, answers.csv, comparisons.csv where there are peers, and roc.png, reliability.png
    and confusion.png into the folder `out`, each whole or not at all. Raises InputError where that cannot be done."""
    files = {"figures.csv": _figures_csv(result), "answers.csv": _answers_csv(result)}
    if result.peers:
        files["comparisons.csv"] = _comparisons_csv(result)
    files |= _plots(result)
    files["report.md"] = markdown(result).encode()
    try:
        for name, content in files.items():
            write_atomically(out / name, lambda file, content=content: file.write(content))
    except OSError as error:
        raise InputError(f"The report cannot be written to {out}: {error.strerror}; choose another folder.") from error


def markdown(result: Result) -> str:
    """The report's text."""
    answers = result.answers
    lines = [f"# {_escaped(result.name)}", f"*{NOTICE}*", *map(_escaped, result.about), _who(answers)]
    lines += ["## All images", table(result.overall)]
    if result.peers:
        lines += ["## Against other models", comparisons(result)]
    if both(answers):
        lines.append("![ROC](roc.png)")
    lines += ["![Reliability](reliability.png)", "![Confusion](confusion.png)", "## By subgroup"]
    for kind in dict.fromkeys(group.kind for group in result.groups):
        lines.append(f"### By {kind}\n\n{_group_table([group for group in result.groups if group.kind == kind])}")
    if missing := absent(result.asked):
        lines.append(f"The manifest does not record: {', '.join(missing)}.")
    lines += ["## How to read it", *_notes(result)]
    return "\n\n".join(lines) + "\n"


def comparisons(result: Result) -> str:
    """The AUCs of the other models, less that of the classifier, as a Markdown table."""
    rows = ["| Model | AUC | AUC less the classifier's | 95 % interval | z | p | n |", "|---|---|---|---|---|---|---|"]
    for name, (_, one) in result.peers.items():
        cells = [name.replace("|", "/"), said(one.areas[1]), _signed(one.difference), between(one.interval)]
        rows.append("| " + " | ".join([*cells, _number(one.z, ".2f"), _p(one.p), str(one.n)]) + " |")
    return "\n".join(rows)


def both(answers: Answers) -> bool:
    """Whether there are images of both classes."""
    return bool(answers.malignant.any() and (~answers.malignant).any())


def _plots(result: Result) -> dict[str, bytes]:
    answers = result.answers
    [error] = [one for one in result.overall if one.name == "Expected calibration error"]
    found = {
        "reliability.png": plots.reliability(answers, f"{error.name} {error.value:.3f}, {BINS} bins"),
        "confusion.png": plots.confusion(answers),
    }
    if both(answers):
        [area] = [one for one in result.overall if one.name == "AUC"]
        spread = f" ({between(area.interval)})" if between(area.interval) else ""
        curves = {result.name: answers.p} | {name: p for name, (p, _) in result.peers.items()}
        captions = {result.name: f"{result.name}: AUC {area.value:.3f}{spread}"}
        captions |= {name: f"{name}: AUC {one.areas[1]:.3f}" for name, (_, one) in result.peers.items()}
        found["roc.png"] = plots.roc(answers, curves, captions)
    return found


def _who(answers: Answers) -> str:
    lesions = len(np.unique(answers.clusters))
    return (
        f"{len(answers.p)} images of {lesions} patients or lesions, {int(answers.malignant.sum())} malignant. "
        f"“Malignant” is said from p = {answers.threshold:.4f} on, as the classifier's card has it."
    )


def _notes(result: Result) -> list[str]:
    notes = [
        f"Intervals are of 95 %, by {result.resamples} bootstrap resamples of patients or lesions, whichever the "
        f"manifest knows. There is none where fewer than {FEWEST} are there of a class that a figure needs. One "
        "without width, from 1.000 to 1.000, says that no resample differed, not that the figure is certain.",
        "“Not defined”: the subgroup has images of one class only. No correction was made for the number of figures.",
        f"The expected calibration error has {BINS} bins of equal width and is above 0 by chance in small sets.",
    ]
    if result.peers:
        notes.append("The AUCs are compared by DeLong's test, for clustered images as Obuchowski.")
    return notes


def _group_table(groups: list[Group]) -> str:
    names = [figure.name for figure in groups[0].figures]
    rows = ["| | n | Malignant | " + " | ".join(names) + " |", "|---" * (len(names) + 3) + "|"]
    for group in groups:
        cells = (f"{said(one.value)} {_bracketed(one)}".strip() for one in group.figures)
        counts = f"{len(group.answers.p)} | {int(group.answers.malignant.sum())}"
        rows.append(f"| {_escaped(group.value)} | {counts} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _bracketed(figure: Figure) -> str:
    return f"({between(figure.interval)})" if between(figure.interval) else ""


def _figures_csv(result: Result) -> bytes:
    groups = [Group("all", "all", result.answers, result.overall), *result.groups]
    head = ("subgroup", "value", "figure", "estimate", "low", "high", "n", "images", "malignant", "patients_or_lesions")
    rows = []
    for group in groups:
        counts = len(group.answers.p), int(group.answers.malignant.sum()), len(np.unique(group.answers.clusters))
        rows += [
            (group.kind, group.value, one.name, *map(_cell, (one.value, *one.interval)), one.n, *counts)
            for one in group.figures
        ]
    return _csv(head, rows)


def _answers_csv(result: Result) -> bytes:
    asked, answers = result.asked, result.answers
    head = ("file", "label", "p_malignant", "decision", "lesion_like", "apparent_skin_tone", *result.peers)
    decisions = np.where(answers.called, "malignant", "benign")
    columns = (answers.p, decisions, asked.lesion_like, asked.tones, *(p for p, _ in result.peers.values()))
    rows = [
        (row.values["file"], row.label, _cell(p), decision, bool(like), tone, *map(_cell, rest))
        for row, p, decision, like, tone, *rest in zip(asked.rows, *columns, strict=True)
    ]
    return _csv(head, rows)


def _comparisons_csv(result: Result) -> bytes:
    head = ("model", "auc", "auc_of_classifier", "difference", "low", "high", "z", "p", "n")
    rows = [
        (name, *map(_cell, (one.areas[1], one.areas[0], one.difference, *one.interval, one.z, one.p)), one.n)
        for name, (_, one) in result.peers.items()
    ]
    return _csv(head, rows)


def _csv(head: tuple[str, ...], rows: list[tuple]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode()


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


def _signed(value: float) -> str:
    return "not defined" if np.isnan(value) else f"{value:+.3f}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else _number(value, ".4f")


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def _escaped(text: str) -> str:
    """Text of manifests and cards, with no sign that Markdown or HTML reads."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
