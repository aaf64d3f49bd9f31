"""Steps against quality: the same lesions drawn with few and with many Euler steps, each judged against real images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure as Plot

from dermaflux import ordering, synthesis
from dermaflux.data.features import Features
from dermaflux.evaluation import realism
from dermaflux.evaluation.figures import Figure
from dermaflux.generator import Generator
from dermaflux.lesion import LABELS, LesionAttributes
from dermaflux.models import SamplingOptions


def compare(
    generator: Generator, real: Path, like: Path, features: Features, out: Path, steps: Sequence[int], count: int
) -> list[Figure]:
    """KID and coverage of `count` images for each number of `steps`, all of the same captions and seeds.

    The lesions are drawn as they are distributed in the manifest `like`, half of each label, into `out/steps-K`, where
    an interrupted run goes on; the curve is drawn to `out/steps.png`. real: the manifest to judge against.
    """
    found = {}
    for k in steps:
        options = SamplingOptions.defaults(generator.spec, steps=k, candidates=1)
        orders = ordering.like_manifest(like, LABELS, LesionAttributes(), count, options)
        for outcome in synthesis.synthesise(generator, orders, out / f"steps-{k}"):
            if outcome.error:
                raise outcome.error
        figures = {one.name: one for one in realism.compare(real, out / f"steps-{k}", features)}
        found[k] = [figures["KID, mean"], figures["coverage, mean"]]
    _plot(found, out / "steps.png")
    return [replace(one, name=f"{one.name}, {k} steps") for k, pair in found.items() for one in pair]


def _plot(found: dict[int, list[Figure]], path: Path) -> None:
    plot = Plot(figsize=(7, 4), layout="constrained")
    for axes, figures in zip(plot.subplots(1, 2), zip(*found.values(), strict=True), strict=True):
        values = [one.value for one in figures]
        reach = zip(*((one.value - one.interval[0], one.interval[1] - one.value) for one in figures), strict=True)
        axes.errorbar(list(found), values, yerr=[list(side) for side in reach], marker="o", capsize=3)
        axes.set(xlabel="steps", ylabel=figures[0].name, xticks=list(found))
    plot.savefig(path, dpi=100)
