"""The methods paragraphs of a study's report."""

from importlib.metadata import version

import pandas as pd

from dermaflux.study.estimates import first_showings, numbers


def methods(readings: pd.DataFrame, margin: float, resamples: int) -> list[str]:
    """What was done, in the past tense of a paper, with the numbers of this table of readings."""
    first = first_showings(readings)
    cases = first.drop_duplicates("case")
    synthetic = int((cases["source"] == "synthetic").sum())
    real, again = len(cases) - synthetic, len(readings) - len(first)
    years = numbers(first.drop_duplicates("reader")["years"])
    years = years[~pd.isna(years)]
    experience = f" with {years.min():g} to {years.max():g} years of experience" if len(years) else ""
    design = (
        f"{_count(first['reader'].nunique(), 'reader')}{experience} read {_count(len(cases), 'image')} ({real} real, "
        f"{synthetic} synthetic) without knowing their source, in {_count(len(first), 'reading')}. "
        f"{_count(again, 'repeated showing')} served for the agreement of readers with themselves and counted nowhere "
        "else. Reading was in two stages: source, confidence, realism, diagnosis and artefacts were locked before the "
        "caption of a synthetic image was shown and its match rated."
    )
    intervals = (
        "Intervals are of 95 %. Those of single readers are Wilson's; those of their AUC come from a bootstrap over "
        "cases. Those of pooled figures allow for other readers and other images: the variance is that of a bootstrap "
        "over readers, plus one over images, less one over readings, with Satterthwaite's degrees of freedom, on the "
        f"logit of the figure's range; {resamples} resamples each. Agreement coefficients have percentile intervals of "
        "a bootstrap over cases. No correction was made for the number of figures."
    )
    told = (
        "A positive is a synthetic image that was called synthetic. The AUC is the mean of the readers', from a scale "
        "of ten steps made of answer and confidence. The balanced accuracy, the mean of sensitivity and specificity, "
        f"was tested for equivalence to chance (0.5) within a margin of {margin:g} by two one-sided tests at 5 % each. "
        "In tables by what was asked for, an image with several colours or structures counts with each of them."
    )
    rest = (
        "Agreement is given as Krippendorff's alpha (nominal or ordinal), Cohen's kappa where there are two readers, "
        "Fleiss' kappa over the cases that all readers answered, and Gwet's AC1, or for answers with an order his AC2 "
        "with ordinal weights. Learning and fatigue were sought by "
        "generalised estimating equations with readers as clusters. Computed by DermaFlux with "
        + ", ".join(f"{name} {version(name)}" for name in ("statsmodels", "scipy", "numpy"))
        + "."
    )
    return [design, intervals, told, rest]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
