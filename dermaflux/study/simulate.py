"""Simulated readers of known skill and bias, to try a study's statistics on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from scipy.stats import norm

from dermaflux.errors import InputError
from dermaflux.lesion import (
    COLOURS,
    DIAGNOSES,
    LABELS,
    MAX_ASYMMETRY,
    MAX_BORDER,
    MAX_SIZE_MM,
    MIN_SIZE_MM,
    STRUCTURES,
)
from dermaflux.study.ratings import ATTRIBUTES
from dermaflux.study.readings import COLUMNS, KINDS, MATCHES, SOURCES, TEXT

CONFIDENCE_EDGES = (0.25, 0.5, 1.0, 1.5)
"""Distances of the evidence from the criterion at which confidence rises by a step."""
REALISM_CASE, REALISM_NOISE = 0.5, 0.8
"""Standard deviations of realism among cases, and of one rating."""
START = datetime(2026, 1, 5, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Reader:
    """A reader's skill and habits.

    dprime: distance of the evidence of synthetic from that of real images, in standard deviations. criterion: how far
    the reader leans towards “real”. realism: of real images, in steps 1-5 before rounding; realism_bias: synthetic less
    real. tremor: probability that a repeated case is answered the other way. diagnosis: probabilities of a right
    diagnosis of real and synthetic images. artefacts: probabilities by tag, of real and synthetic images. matches:
    probabilities of yes, partly, no and cannot tell by attribute. learning: d' gained in 100 cases. seconds: median for
    a case; pace: its factor every ten cases.
    """

    dprime: float = 0.5
    criterion: float = 0.1
    realism: float = 3.8
    realism_bias: float = -0.5
    tremor: float = 0.15
    diagnosis: tuple[float, float] = (0.7, 0.6)
    artefacts: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: {
            "hair": (0.2, 0.1),
            "texture repetition": (0.03, 0.18),
            "implausible border": (0.04, 0.12),
            "blur": (0.08, 0.1),
        }
    )
    matches: Mapping[str, tuple[float, float, float, float]] = field(
        default_factory=lambda: {
            "asymmetry": (0.7, 0.15, 0.1, 0.05),
            "border": (0.45, 0.25, 0.2, 0.1),
            "colours": (0.8, 0.1, 0.05, 0.05),
            "structures": (0.35, 0.25, 0.25, 0.15),
            "size": (0.6, 0.2, 0.1, 0.1),
            "skin tone": (0.85, 0.1, 0.03, 0.02),
        }
    )
    learning: float = 0.0
    seconds: float = 22.0
    pace: float = 0.98


def panel(seed: int, count: int, reader: Reader | None = None, spread: float = 0.2) -> list[Reader]:
    """`count` readers whose d', criterion and realism scatter about those of `reader` with the standard deviation
    `spread`."""
    reader, rng = reader or Reader(), np.random.default_rng(seed)
    return [
        replace(reader, dprime=reader.dprime + a, criterion=reader.criterion + b, realism=reader.realism + c)
        for a, b, c in rng.normal(0, spread, (count, 3))
    ]


def readings(
    seed: int,
    readers: Sequence[Reader],
    cases: int = 120,
    real_share: float = 0.5,
    repeats: float = 0.1,
    case_share: float = 0.1,
    missing: float = 0.0,
    study: str = "simulated",
) -> pd.DataFrame:
    """The readings of a study in which each of `readers` reads all `cases`, in an order of their own.

    real_share: share of real images. repeats: share of cases shown twice, the second time at the end. case_share: share
    of the variance of the evidence that cases have in common for all readers. missing: share of readings left out at
    random. Raises InputError for a share out of range.
    """
    for name, share in (("real", real_share), ("repeated", repeats), ("case", case_share), ("missing", missing)):
        if not 0 <= share <= 1:
            raise InputError(f"The {name} share must lie between 0 and 1, not {share:g}.")
    rng = np.random.default_rng(seed)
    shown = _cases(rng, cases, real_share)
    tables = [
        _read(np.random.default_rng((seed, index)), reader, shown, repeats, case_share).assign(
            reader=f"R{index + 1:02d}", years=float(2 + index % 20), trained=index % 3 > 0
        )
        for index, reader in enumerate(readers)
    ]
    table = pd.concat(tables, ignore_index=True).assign(study=study, role="dermatologist")
    lost = table.loc[rng.random(len(table)) < missing, ["reader", "case"]]
    table = table[~pd.MultiIndex.from_frame(table[["reader", "case"]]).isin(pd.MultiIndex.from_frame(lost))]
    return table[list(COLUMNS)].astype({name: KINDS[of.kind] for name, of in COLUMNS.items()}).reset_index(drop=True)


def expected(reader: Reader) -> dict[str, float]:
    """What a study of many cases measures of `reader`: the probabilities and means behind the answers, without
    learning, where half of the images are synthetic."""
    sensitivity, specificity = (float(norm.cdf(reader.dprime / 2 - sign * reader.criterion)) for sign in (1, -1))
    real, synthetic = (_levels(sign * reader.dprime / 2, reader.criterion) for sign in (-1, 1))
    below = real.cumsum() - real / 2
    found = {
        "dprime": reader.dprime,
        "criterion": reader.criterion,
        "accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "auc": float((synthetic * below).sum()),
        "like answers": 1 - reader.tremor,
    }
    for source, share, bias in zip(SOURCES, reader.diagnosis, (0, reader.realism_bias), strict=True):
        found[f"realism, {source}"] = _rounded(reader.realism + bias)
        found[f"right diagnosis, {source}"] = share
    for tag, shares in reader.artefacts.items():
        found |= {f"{tag}, {source}": share for source, share in zip(SOURCES, shares, strict=True)}
    for attribute, (yes, partly, no, _) in reader.matches.items():
        found[f"{attribute} as asked"] = yes / (yes + partly + no)
    return found


def _levels(evidence: float, criterion: float) -> np.ndarray:
    """Probabilities of the ten steps from surely real to surely synthetic."""
    edges = np.array(CONFIDENCE_EDGES)
    edges = np.concatenate([criterion - edges[::-1], [criterion], criterion + edges])
    return np.diff(np.concatenate([[0], norm.cdf(edges - evidence), [1]]))


def _rounded(mean: float) -> float:
    """The mean rating of a normal rating about `mean` that is rounded and kept in 1 to 5."""
    spread = np.hypot(REALISM_CASE, REALISM_NOISE)
    return float(1 + norm.sf((np.arange(1.5, 5) - mean) / spread).sum())


def _cases(rng: np.random.Generator, cases: int, real_share: float) -> dict[str, np.ndarray]:
    """Cases of both sources and labels in turn, with what all readers see of them alike."""
    (asked,) = rng.spawn(1)
    place = rng.permutation(cases)
    synthetic = place >= round(cases * real_share)
    label = np.array(LABELS)[place % 2]
    names = {name: [of.name for of in DIAGNOSES.values() if of.label == name] for name in LABELS}
    return {
        "case": np.array([f"case-{index:04d}" for index in range(cases)]),
        "source": np.where(synthetic, "synthetic", "real"),
        "label": label,
        "diagnosis": np.array([rng.choice(names[one]) for one in label], dtype=object),
        "tone": rng.integers(1, 11, cases),
        "evidence": rng.normal(size=cases),
        "looks": rng.normal(size=cases),
        "asymmetry": rng.integers(0, MAX_ASYMMETRY + 1, cases),
        "border": rng.integers(0, MAX_BORDER + 1, cases),
        "size": asked.integers(MIN_SIZE_MM, MAX_SIZE_MM + 1, cases),
        "colours": _some(asked, tuple(COLOURS), cases),
        "structures": _some(asked, STRUCTURES, cases),
    }


def _some(rng: np.random.Generator, names: Sequence[str], cases: int) -> np.ndarray:
    """One to three of `names` for each case, in their order, joined."""
    chosen = (np.sort(rng.choice(len(names), rng.integers(1, 4), replace=False)) for _ in range(cases))
    return np.array([";".join(names[one] for one in some) for some in chosen], dtype=object)


def _read(
    rng: np.random.Generator, reader: Reader, shown: dict[str, np.ndarray], repeats: float, case_share: float
) -> pd.DataFrame:
    count = len(shown["case"])
    order = rng.permutation(count)
    case = {name: values[order] for name, values in shown.items()}
    synthetic, position = case["source"] == "synthetic", np.arange(1, count + 1)
    noise = np.sqrt(case_share) * case["evidence"] + np.sqrt(1 - case_share) * rng.normal(size=count)
    dprime = reader.dprime + reader.learning * (position - 1) / 100
    evidence = np.where(synthetic, dprime, -dprime) / 2 + noise - reader.criterion
    looks = reader.realism + reader.realism_bias * synthetic + REALISM_CASE * case["looks"]
    wrong = rng.random(count) >= np.where(synthetic, reader.diagnosis[1], reader.diagnosis[0])
    said = np.where(wrong, [_other(rng, name) for name in case["diagnosis"]], case["diagnosis"])
    tags = [
        ";".join(tag for tag, shares in reader.artefacts.items() if rng.random() < shares[is_synthetic])
        for is_synthetic in synthetic.astype(int)
    ]
    columns = {name: case[name] for name in ("case", "source", "label", "diagnosis", "tone")} | {
        "said_synthetic": evidence > 0,
        "confidence": 1 + np.searchsorted(CONFIDENCE_EDGES, np.abs(evidence)),
        "realism": np.rint(looks + REALISM_NOISE * rng.normal(size=count)).clip(1, 5).astype(int),
        "said_diagnosis": said,
        "said_label": [DIAGNOSES[name].label for name in said],
        "seen_asymmetry": _near(rng, case["asymmetry"], MAX_ASYMMETRY),
        "seen_border": _near(rng, case["border"], MAX_BORDER),
        "seen_colours": [";".join(rng.choice(list(COLOURS), 2, replace=False)) for _ in range(count)],
        "seen_structures": rng.choice(STRUCTURES, count),
        "artefacts": tags,
        "marked": [_box(rng) if text else "" for text in tags],
        "left_out": [is_synthetic and ";" in text for is_synthetic, text in zip(synthetic, tags, strict=True)],
        "match": [_overall(rng) if is_synthetic else pd.NA for is_synthetic in synthetic],
        "seconds": reader.seconds * reader.pace ** (position / 10) * rng.lognormal(0, 0.4, count),
    }
    for column, attribute in ATTRIBUTES.items():
        columns[column] = np.where(synthetic, rng.choice(MATCHES, count, p=reader.matches[attribute]), "")
    for name, nothing in {"asymmetry": pd.NA, "border": pd.NA, "size": pd.NA, "colours": "", "structures": ""}.items():
        columns[f"asked_{name}"] = np.where(synthetic, case[name].astype(object), nothing)
    table = pd.DataFrame(columns)
    table = pd.concat([table.assign(repeat=False), _again(rng, table, reader, round(count * repeats))])
    table["position"] = np.arange(1, len(table) + 1)
    table["answered_at"] = [(START + timedelta(seconds=float(at))).isoformat() for at in table["seconds"].cumsum()]
    return table.assign(**{name: "" for name, of in COLUMNS.items() if of.kind == TEXT and name not in table})


def _again(rng: np.random.Generator, table: pd.DataFrame, reader: Reader, count: int) -> pd.DataFrame:
    """The first `count` cases answered once more, with tremor."""
    again = table.head(count).copy()
    turned = rng.random(count) < reader.tremor
    again["said_synthetic"] = again["said_synthetic"].to_numpy() ^ turned
    steps = np.where(rng.random(count) < reader.tremor, rng.choice((-1, 1), count), 0)
    again["realism"] = (again["realism"] + steps).clip(1, 5)
    other = rng.random(count) < reader.tremor
    again["said_diagnosis"] = [
        _other(rng, name) if turn else name for name, turn in zip(again["said_diagnosis"], other, strict=True)
    ]
    again["said_label"] = [DIAGNOSES[name].label for name in again["said_diagnosis"]]
    return again.assign(repeat=True, seconds=again["seconds"] * 0.8)


def _other(rng: np.random.Generator, diagnosis: str) -> str:
    return str(rng.choice([name for name in DIAGNOSES if name != diagnosis]))


def _near(rng: np.random.Generator, true: np.ndarray, highest: int) -> np.ndarray:
    return (true + rng.integers(-1, 2, len(true))).clip(0, highest)


def _overall(rng: np.random.Generator) -> int:
    return int(rng.choice((1, 2, 3, 4, 5), p=(0.05, 0.1, 0.25, 0.35, 0.25)))


def _box(rng: np.random.Generator) -> str:
    left, top = rng.uniform(0.1, 0.6, 2).round(3)
    return json.dumps([[left, top, round(left + 0.2, 3), round(top + 0.2, 3)]])
