"""The results of a study, for the report and the dashboard alike."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from dermaflux.errors import DataError
from dermaflux.study import agreement, asked, discrimination, learning, marks, plots, ratings
from dermaflux.study.discrimination import MARGIN, Skill
from dermaflux.study.estimates import RESAMPLES, Estimate, first_showings, numbers, wilson
from dermaflux.study.methods import methods
from dermaflux.study.readings import COLUMNS
from dermaflux.study.sections import Exhibit, Plot, Results, Section, Table

FEW_READERS, FEW_READINGS = 5, 30
MOST_CASES, MOST_SHOWN, MOST_COMMENTS = 12, 4, 500
INTERVAL = "Value (95 % interval)"


def compute(readings: pd.DataFrame, margin: float = MARGIN, resamples: int = RESAMPLES, seed: int = 0) -> Results:
    """All results of a table of readings; `resamples` of the bootstrap are drawn by `seed`.

    What the readings do not allow is said in a sentence. Raises DataError for a table that lacks a column, and
    InputError for a margin that is not between 0 and 0.5.
    """
    absent = [name for name in COLUMNS if name not in readings.columns]
    if absent:
        raise DataError(f"The readings lack the column “{absent[0]}”; export them again.")
    test = discrimination.equivalence(Estimate(np.nan, np.nan, np.nan, 0), margin)
    readings = readings.reset_index(drop=True)
    names = ", ".join(sorted(set(readings["study"].astype(str))))
    title = f"Reader study: {names}" if names else "Reader study"
    if readings.empty:
        return Results(title, "", (Section("Readings", ("There are no readings yet.",)),))
    options = {"resamples": resamples, "seed": seed}
    told, verdict = _told_apart(readings, test.margin, options)
    values = asked.by_value(readings, **options)
    sections = (
        told,
        _realism(readings, values, options),
        _match(readings, values, options),
        _diagnosis(readings, options),
        _artefacts(readings, options),
        _left_out(readings),
        _agreement(readings, options),
        _learning(readings),
        _readers(readings),
        Section("Methods", tuple(methods(readings, margin, resamples))),
        _comments(readings),
    )
    kept = tuple(section for section in sections if section.sentences or section.tables)
    return Results(title, verdict, kept, marks.of_cases(readings))


def _told_apart(readings: pd.DataFrame, margin: float, options: dict) -> tuple[Section, str]:
    title, found = "Real or synthetic", discrimination.answers(readings)
    if not len(found.said):
        return Section(title, ("Readers were not asked whether images are real or synthetic.",)), ""
    absent = "real" if found.synthetic.all() else "synthetic" if not found.synthetic.any() else ""
    if absent:
        said = wilson(int(found.said.sum()), len(found.said))
        sentence = f"The readings are of no {absent} images, so that telling the sources apart is not assessed."
        called = f"Images were called synthetic in {said.text()} of {said.n} readings (Wilson's interval)."
        return Section(title, (sentence, called), headline=sentence), ""
    pooled, skills = discrimination.pooled(found, **options), discrimination.of_readers(found, **options)
    test = discrimination.equivalence(pooled.balanced, margin)
    figures = {
        "Accuracy": pooled.accuracy,
        "Balanced accuracy": pooled.balanced,
        "Sensitivity: synthetic called synthetic": pooled.sensitivity,
        "Specificity: real called real": pooled.specificity,
        "AUC from confidence": pooled.auc,
        "d'": pooled.dprime,
        "Criterion": pooled.criterion,
    }
    tables = (
        Table("All readers", ("Figure", INTERVAL, "n"), _lines(figures.items())),
        Table(
            "Each reader (Wilson's intervals; AUC: bootstrap over cases)",
            ("Reader", "Accuracy", "Sensitivity", "Specificity", "AUC", "n"),
            tuple(_skill(skill) for skill in skills),
        ),
    )
    drawn = (
        Plot("accuracy", "Accuracy of each reader and of all.", lambda: plots.forest(skills, pooled)),
        Plot("roc", "ROC of all answers (dots) and of each reader (faint).", lambda: plots.curves(found, pooled.auc)),
    )
    sentences = (test.sentence, _leaning(pooled.criterion), *_cautions(found.readers, len(found.said)))
    return Section(title, tuple(filter(None, sentences)), tables, drawn, test.sentence), test.verdict


def _leaning(criterion: Estimate) -> str:
    if np.isnan(criterion.low) or criterion.low <= 0 <= criterion.high:
        return "No leaning towards either answer is shown."
    return f"Readers leaned towards “{'real' if criterion.low > 0 else 'synthetic'}”."


def _cautions(readers: Iterable[str], n: int) -> list[str]:
    count, found = len(set(readers)), []
    if count == 1:
        found.append("There is one reader: the intervals are over images alone and say nothing about other readers.")
    elif count < FEW_READERS:
        found.append(f"There are only {count} readers: what holds for them may not hold for others.")
    if n < FEW_READINGS:
        found.append(f"There are only {n} readings: take every interval as rough.")
    return found


def _skill(skill: Skill) -> tuple[str, ...]:
    figures = (skill.accuracy, skill.sensitivity, skill.specificity, skill.auc)
    return (skill.who, *(figure.text() for figure in figures), str(skill.accuracy.n))


def _realism(readings: pd.DataFrame, values: list[asked.Asked], options: dict) -> Section:
    found, apart = ratings.rated(readings, "realism", **options), ratings.rated_apart(readings, "realism", **options)
    if not found:
        return Section("Realism", ("Realism was not rated.",))
    said = _apart("Realism", apart) if apart else ""
    drawn = Plot("realism", "Realism by source and group.", lambda: plots.ratings(found))
    tables = [_rated("Realism, 1 to 5", found)]
    values = [one for one in values if one.realism.n and one.attribute != ratings.ATTRIBUTES["match_tone"]]
    rows = tuple((one.attribute, one.value, one.realism.text(), str(one.realism.n)) for one in values)
    if rows:
        head = ("Attribute", "Asked for", "Mean (95 % interval)", "n")
        tables.append(Table("Realism of synthetic images by what was asked for", head, rows))
    return Section("Realism", (said,) if said else (), tuple(tables), (drawn,), said)


def _match(readings: pd.DataFrame, values: list[asked.Asked], options: dict) -> Section:
    title, found = "Match to the caption", ratings.matches(readings, **options)
    overall = [one for one in ratings.rated(readings, "match", **options) if one.source == "synthetic"]
    if not found and not overall:
        return Section(title, ("Whether images match their captions was not asked, or not answered yet.",))
    tables, drawn, said = [], (), ""
    if overall:
        tables.append(_rated("Overall match, 1 to 5", overall))
    if found:
        head = ("Attribute", "Drawn as asked", "n", "Yes", "Partly", "No", "Cannot tell")
        rows = tuple(
            (one.attribute, one.drawn.text(), str(one.drawn.n), *map(str, one.counts.values())) for one in found
        )
        tables.append(Table("Drawn as asked: share of yes among yes, partly and no", head, rows))
        drawn = (Plot("match", "Whether attributes were drawn as asked.", lambda: plots.matched(found)),)
        judged = [one for one in found if one.drawn.n]
        if judged:
            best, worst = (f"{one.attribute} {one.drawn.text()}" for one in (judged[0], judged[-1]))
            said = f"Drawn as asked, share of yes (95 % interval): most often {best}"
            said += f", least often {worst}." if len(judged) > 1 else "."
    rows = tuple(
        (o.attribute, o.value, o.drawn.text(), str(o.drawn.n), o.match.text(), str(o.match.n))
        for o in values
        if o.drawn.n or o.match.n
    )
    if rows:
        head = ("Attribute", "Asked for", "Drawn as asked", "n", "Overall match", "n")
        tables.append(Table("Match by what was asked for (95 % intervals)", head, rows))
    return Section(title, (said,) if said else (), tuple(tables), drawn, said)


def _diagnosis(readings: pd.DataFrame, options: dict) -> Section:
    found, apart = ratings.diagnosed(readings, **options), ratings.diagnosed_apart(readings, **options)
    if not found:
        return Section("Diagnosis", ("No diagnosis or label can be compared with the truth.",))
    rows = tuple((one.group, one.source, one.estimate.text(), str(one.estimate.n)) for one in found)
    said = [_apart(name.capitalize(), one) for name, one in apart.items()]
    table = Table("Right answers; of a synthetic image the truth is what was asked for", _HEAD, rows)
    return Section("Diagnosis", tuple(said), (table,))


_HEAD = ("Figure", "Source", INTERVAL, "n")


def _artefacts(readings: pd.DataFrame, options: dict) -> Section:
    found, first = ratings.artefacts(readings, **options), first_showings(readings)
    marked = int((~first["marked"].astype("string").fillna("").isin(("", "[]"))).sum())
    said = f"Readers drew on what looks wrong in {marked} of {len(first)} readings."
    said += " Where a picture is shown, so is what they drew on it." if marked else ""
    if not found:
        return Section("Artefacts", (f"No artefact was reported in {len(first)} readings.", said))
    sources = [source for source in ("real", "synthetic") if any(source in one.shares for one in found)]
    head = ("Artefact", *(f"{source.capitalize()}: seen / n, share" for source in sources), "Cases (readings)")
    rows = tuple(
        (
            one.tag,
            *(f"{one.counts[name]} / {one.shares[name].n}, {one.shares[name].text()}" for name in sources),
            _cases(one.cases),
        )
        for one in found
    )
    top = f"The artefact seen most is {found[0].tag}, in {sum(found[0].counts.values())} of {len(first)} readings."
    shown = tuple(Exhibit(one.tag, tuple(case for case, _ in one.cases[:MOST_SHOWN])) for one in found)
    return Section(
        "Artefacts", (top, said), (Table("Artefacts, most seen first", head, rows),), exhibits=shown, headline=top
    )


def _left_out(readings: pd.DataFrame) -> Section:
    title, found = "Left out of synthesis", ratings.left_out(readings)
    if not found:
        return Section(title)
    synthetic = readings.loc[readings["source"] == "synthetic", "case"].nunique()
    said = f"Readers want {len(found)} of {synthetic} synthetic images left out of synthesis."
    rows = tuple((case, str(out), str(of)) for case, out, of in found)
    table = Table("Images that readers want left out, by the most first", ("Case", "Readers who want it", "n"), rows)
    shown = Exhibit("Left out", tuple(case for case, *_ in found[:MOST_CASES]))
    return Section(title, (said,), (table,), exhibits=(shown,), headline=said)


def _cases(cases: tuple[tuple[str, int], ...]) -> str:
    shown = ", ".join(f"{case} ({count})" for case, count in cases[:MOST_CASES])
    return shown + (f" and {len(cases) - MOST_CASES} more" if len(cases) > MOST_CASES else "")


def _agreement(readings: pd.DataFrame, options: dict) -> Section:
    between, within = agreement.between(readings, **options), agreement.within(readings, **options)
    sentences, tables = [], []
    if between:
        tables.append(_agreed("Between readers (bootstrap over cases, for these readers)", between))
    else:
        sentences.append("Agreement between readers cannot be estimated: no case has answers of two readers.")
    if within:
        tables.append(_agreed("Within readers, on repeated cases", within))
        each = agreement.within_each(readings)
        rows = tuple((reader, one.text(), str(one.n)) for reader, one in each.items())
        if rows:
            caption = "Real or synthetic: like answers of each reader (Wilson's intervals)"
            tables.append(Table(caption, ("Reader", INTERVAL, "n"), rows))
    else:
        sentences.append("Agreement of readers with themselves cannot be estimated: no repeated case is answered.")
    return Section("Agreement", tuple(sentences), tuple(tables))


def _agreed(caption: str, found: list[agreement.Agreement]) -> Table:
    head = ("Question", "Coefficient", INTERVAL, "n", "Cases")
    rows = ((o.question.words, o.coefficient, o.estimate.text(), str(o.estimate.n), str(o.cases)) for o in found)
    return Table(caption, head, tuple(rows))


def _learning(readings: pd.DataFrame) -> Section:
    found = learning.trends(readings)
    rows = _lines((f"{one.what}: factor for each {learning.STEP} cases", one.factor) for one in found)
    points, drawn = learning.accuracy_over_positions(readings), ()
    if len(points) > 1:
        drawn = (Plot("sequence", "Accuracy over the sequence of cases.", lambda: plots.sequence(points)),)
    table = Table("Over the sequence", ("Figure", INTERVAL, "n"), rows)
    return Section("Learning and fatigue", tuple(one.sentence for one in found), (table,), drawn)


def _readers(readings: pd.DataFrame) -> Section:
    rows = []
    for reader, own in readings.groupby("reader", sort=True):
        background, again = own.iloc[0], int(own["repeat"].astype("boolean").fillna(False).sum())
        years, seconds = numbers(own["years"])[0], numbers(own["seconds"])
        trained = background["trained"]
        rows.append(
            (
                str(reader),
                str(background["role"]),
                "" if np.isnan(years) else f"{years:g}",
                "" if pd.isna(trained) else ("yes" if trained else "no"),
                str(len(own) - again),
                str(again),
                "" if np.isnan(seconds).all() else f"{np.nanmedian(seconds):.0f}",
            )
        )
    head = ("Reader", "Role", "Years", "Dermoscopy training", "Cases", "Repeats", "Median seconds")
    return Section("Readers", (), (Table("Readers, under pseudonyms", head, tuple(rows)),))


def _comments(readings: pd.DataFrame) -> Section:
    said = readings[readings["comment"].astype("string").fillna("").str.strip() != ""]
    rows = tuple(zip(*(said[name].astype(str) for name in ("case", "reader", "source", "comment")), strict=True))
    more = (f"The first {MOST_COMMENTS} of {len(rows)} comments.",) if len(rows) > MOST_COMMENTS else ()
    table = Table("What readers wrote", ("Case", "Reader", "Source", "Comment"), rows[:MOST_COMMENTS])
    return Section("Comments", more, (table,)) if rows else Section("Comments")


def _lines(figures: Iterable[tuple[str, Estimate]]) -> tuple[tuple[str, ...], ...]:
    return tuple((name, estimate.text(), str(estimate.n)) for name, estimate in figures)


def _rated(caption: str, found: list[ratings.Rating]) -> Table:
    rows = tuple((one.source, one.group, one.estimate.text(), str(one.estimate.n)) for one in found)
    return Table(caption, ("Source", "Group", "Mean (95 % interval)", "n"), rows)


def _apart(what: str, apart: Estimate) -> str:
    if np.isnan(apart.low) or apart.low <= 0 <= apart.high:
        return f"{what}: no difference between synthetic and real images is shown, difference {apart.text()}."
    word = "higher" if apart.low > 0 else "lower"
    return f"{what}: {word} for synthetic than for real images, difference {apart.text()}."
