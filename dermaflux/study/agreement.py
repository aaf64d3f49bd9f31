"""How far readers agree with one another, and with themselves."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa

from dermaflux.study.estimates import RESAMPLES, Estimate, first_showings, mean, wilson
from dermaflux.study.readings import COLUMNS


@dataclass(frozen=True)
class Question:
    """A question whose answers are compared: its column, its words, and whether its answers have an order."""

    column: str
    words: str
    ordinal: bool = False


QUESTIONS = (
    Question("said_synthetic", "real or synthetic"),
    Question("said_label", "benign or malignant"),
    Question("said_diagnosis", "diagnosis"),
    Question("realism", "realism", ordinal=True),
    Question("match", "overall match", ordinal=True),
    Question("seen_asymmetry", "asymmetry seen", ordinal=True),
    Question("seen_border", "border seen", ordinal=True),
)


@dataclass(frozen=True)
class Agreement:
    """A coefficient of agreement for a question's answers."""

    question: Question
    coefficient: str
    estimate: Estimate
    cases: int


def cohen(table: np.ndarray, ordinal: bool = False) -> float:
    """Cohen's kappa of a (categories, categories) table of pairs of answers; weighted by squared distance where they
    have an order (Cohen 1960, 1968). NaN where all answers are alike."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(cohens_kappa(table, wt="quadratic" if ordinal else None, return_results=False))


def fleiss(counts: np.ndarray) -> float:
    """Fleiss' kappa of (cases, categories) counts, with as many answers to each case (Fleiss 1971). NaN where all
    answers are alike."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(fleiss_kappa(counts))


def krippendorff(counts: np.ndarray, ordinal: bool = False) -> float:
    """Krippendorff's alpha of (cases, categories) counts; cases may have any number of answers.

    Categories are in their order if `ordinal`. NaN where all answers are alike. Krippendorff, Computing Krippendorff's
    Alpha-Reliability (2011).
    """
    counts = counts[counts.sum(1) > 1].astype(float)
    each = counts / np.maximum(counts.sum(1, keepdims=True) - 1, 1)
    pairs = each.T @ counts - np.diag(each.sum(0))
    totals = pairs.sum(0)
    if ordinal:
        ranks = totals.cumsum() - totals / 2
        distance = (ranks[:, None] - ranks[None, :]) ** 2
    else:
        distance = 1 - np.eye(len(totals))
    expected = (np.outer(totals, totals) * distance).sum() / max(totals.sum() - 1, 1)
    return float(1 - (pairs * distance).sum() / expected) if expected else np.nan


def gwet(counts: np.ndarray, ordinal: bool = False) -> float:
    """Gwet's AC1 of (cases, categories) counts, or his AC2 with ordinal weights if the categories are all steps of a
    scale in their order; cases may have any number of answers, categories none.

    NaN without a case of two answers or with one category. Gwet, Computing inter-rater reliability and its variance in
    the presence of high agreement (2008), and for missing answers and weights his Handbook of Inter-Rater Reliability
    (2014).
    """
    counts = counts[counts.sum(1) > 0].astype(float)
    sizes, categories = counts.sum(1), counts.shape[1]
    several = sizes > 1
    if categories < 2 or not several.any():
        return np.nan
    weights = ordinal_weights(categories) if ordinal else np.eye(categories)
    alike = (counts * (counts @ weights - 1)).sum(1)[several] / (sizes * (sizes - 1))[several]
    shares = (counts / sizes[:, None]).mean(0)
    chance = weights.sum() * (shares * (1 - shares)).sum() / (categories * (categories - 1))
    return float((alike.mean() - chance) / (1 - chance))


def ordinal_weights(categories: int) -> np.ndarray:
    """Gwet's ordinal weights, (categories, categories): 1 on the diagonal, 0 between the ends of the scale, and between
    them 1 less the share of the pairs of steps that the two span (Handbook of Inter-Rater Reliability, 2014)."""
    spanned = 1 + np.abs(np.subtract.outer(np.arange(categories), np.arange(categories)))
    return 1 - spanned * (spanned - 1) / (categories * (categories - 1))


def bootstrapped(
    statistic: Callable[[np.ndarray], float], table: np.ndarray, n: int, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """`statistic` of a table with a case a row, with the percentile interval over resampled cases, for these readers.
    Resamples without a statistic are left out; there is no interval where they are most, or where all are alike."""
    value = statistic(table) if len(table) else np.nan
    if np.isnan(value):
        return Estimate(np.nan, np.nan, np.nan, n)
    rng = np.random.default_rng(seed)
    found = np.array([statistic(table[rng.integers(len(table), size=len(table))]) for _ in range(resamples)])
    found = found[~np.isnan(found)]
    if len(found) <= resamples / 2 or not np.ptp(found):
        return Estimate(value, np.nan, np.nan, n)
    return Estimate(value, *map(float, np.quantile(found, (0.025, 0.975))), n)


def between(readings: pd.DataFrame, resamples: int = RESAMPLES, seed: int = 0) -> list[Agreement]:
    """What readers agree on: for each question that two readers or more answered on the same cases, Krippendorff's
    alpha; Cohen's kappa for two readers; Gwet's AC1, or AC2 for answers with an order; for those without one Fleiss'
    kappa over the cases that all readers answered. n counts the answers."""
    first, found = first_showings(readings), []
    for question in QUESTIONS:
        codes, categories = _codes(first, question)
        counts = _counts(codes, categories)
        shared = counts[counts.sum(1) > 1]
        if not len(shared):
            continue
        add = lambda name, statistic, table, answers, question=question: found.append(
            Agreement(question, name, bootstrapped(statistic, table, answers, resamples, seed), len(table))
        )
        alpha = lambda table, question=question: krippendorff(table, question.ordinal)
        add("Krippendorff's alpha", alpha, shared, int(shared.sum()))
        complete = codes[(codes >= 0).all(1)]
        if codes.shape[1] == 2:
            kappa = lambda tables, question=question: cohen(tables.sum(0), question.ordinal)
            add(_kappa(question), kappa, _tables(np.arange(len(complete)), complete, categories), complete.size)
        if not question.ordinal and len(complete):
            add("Fleiss' kappa", fleiss, _counts(complete, categories), complete.size)
        ac = lambda table, question=question: gwet(table, question.ordinal)
        add("Gwet's AC2, ordinal weights" if question.ordinal else "Gwet's AC1", ac, shared, int(shared.sum()))
    return found


def repeated(readings: pd.DataFrame, column: str) -> pd.DataFrame:
    """The answers of a reader to both showings of a case: study, reader, case, first, second, where both are there."""
    keys = ["study", "reader", "case"]
    again = readings["repeat"].astype("boolean").fillna(False).astype(bool)
    kept = readings[[*keys, column]][_answered(readings[column])]
    first, second = (kept[again[kept.index] == flag].drop_duplicates(keys) for flag in (False, True))
    return first.rename(columns={column: "first"}).merge(second.rename(columns={column: "second"}), on=keys)


def within(readings: pd.DataFrame, resamples: int = RESAMPLES, seed: int = 0) -> list[Agreement]:
    """How far readers agree with themselves on repeated cases: the share of like answers, clustered by reader and case,
    and Cohen's kappa over all readers, with cases resampled whole. n counts the pairs."""
    found = []
    for question in QUESTIONS:
        pairs = repeated(readings, question.column)
        if pairs.empty:
            continue
        alike = (pairs["first"] == pairs["second"]).to_numpy(float)
        codes, names = _numbered(pd.concat([pairs["first"], pairs["second"]]), question)
        tables = _tables(pd.factorize(pairs["case"])[0], codes.reshape(2, -1).T, names)
        kappa = lambda tables, question=question: cohen(tables.sum(0), question.ordinal)
        for name, estimate in (
            ("share of like answers", mean(alike, pairs, resamples=resamples, seed=seed)),
            (_kappa(question), bootstrapped(kappa, tables, len(pairs), resamples, seed)),
        ):
            found.append(Agreement(question, name, estimate, len(tables)))
    return found


def within_each(readings: pd.DataFrame, column: str = "said_synthetic") -> dict[str, Estimate]:
    """The share of like answers to repeated cases of each reader, with Wilson's interval."""
    pairs = repeated(readings, column)
    return {
        str(reader): wilson(int((rows["first"] == rows["second"]).sum()), len(rows))
        for reader, rows in pairs.groupby("reader", sort=True)
    }


def _answered(column: pd.Series) -> pd.Series:
    return column.notna() & (column.astype("string").fillna("") != "")


def _kappa(question: Question) -> str:
    return "Cohen's kappa, quadratic weights" if question.ordinal else "Cohen's kappa"


def _numbered(answers: pd.Series, question: Question) -> tuple[np.ndarray, int]:
    """Answers as category numbers and how many categories: where they have an order, all steps of the scale."""
    if question.ordinal:
        scale = COLUMNS[question.column]
        return answers.astype(int).to_numpy() - scale.low, scale.high - scale.low + 1
    values, names = pd.factorize(answers, sort=True)
    return values, len(names)


def _tables(cases: np.ndarray, pairs: np.ndarray, categories: int) -> np.ndarray:
    """Each case's pairs of answers as a table, (cases, categories, categories)."""
    tables = np.zeros((int(cases.max(initial=-1)) + 1, categories, categories))
    np.add.at(tables, (cases, pairs[:, 0], pairs[:, 1]), 1)
    return tables


def _codes(first: pd.DataFrame, question: Question) -> tuple[np.ndarray, int]:
    """Answers as (cases, readers) category numbers in their order, -1 where there is none, and how many categories."""
    kept = first[_answered(first[question.column])]
    values, categories = _numbered(kept[question.column], question)
    rows, cases = pd.factorize(kept["study"].astype(str) + "\0" + kept["case"].astype(str))
    columns, readers = pd.factorize(kept["reader"])
    codes = np.full((len(cases), len(readers)), -1)
    codes[rows, columns] = values
    return codes, categories


def _counts(codes: np.ndarray, categories: int) -> np.ndarray:
    """How many answers of each category a case has, (cases, categories)."""
    return np.stack([(codes == category).sum(1) for category in range(categories)], 1) if categories else codes[:, :0]
