"""The results of a study while it runs: the report's tables and plots, and the pictures that were flagged."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import gradio as gr
from gradio.events import Dependency

from dermaflux.ui import owner_html
from dermaflux.ui.owner_desk import HEAVY, Desk

if TYPE_CHECKING:
    import pandas as pd

    from dermaflux.study.store import Store

EVERY = 30.0
"""Seconds between looks at whether there are new answers, while the tab is shown."""
RESAMPLES = 300
"""Fewer than in the report, so that the page stays quick."""
MOST_FLAGGED = 24
LIMIT = "Shown live, with intervals rougher than in the report. Practice cases do not count."


@dataclass(frozen=True)
class Area:
    """The components of the results. seen: what they were last computed of. timer: ticks while the tab is shown."""

    margin: gr.Slider
    refresh: gr.Button
    shown: gr.HTML
    pictures: gr.HTML
    seen: gr.State
    timer: gr.Timer


def build() -> Area:
    """Lay out the results."""
    gr.HTML(f'<h2 class="df-heading">Results</h2><p class="df-hint">{LIMIT}</p>')
    with gr.Row(equal_height=False):
        margin = gr.Slider(0.01, 0.49, value=0.1, step=0.01, label="Margin of equivalence to chance", scale=3)
        refresh = gr.Button("Refresh", elem_id="df-owner-refresh", min_width=140, scale=1)
    return Area(
        margin,
        refresh,
        gr.HTML(elem_id="df-owner-results"),
        gr.HTML(elem_id="df-owner-pictures"),
        gr.State(None),
        gr.Timer(EVERY, active=False),
    )


def wire(desk: Desk, area: Area, changes: list[Dependency]) -> None:
    """Connect the results: they follow the button, the margin, the clock, and each of `changes`."""
    inputs, outputs = [desk.study, area.margin, area.seen], [area.shown, area.pictures, area.seen]
    for done in changes:
        desk.on(done.success, follow, inputs, outputs, **HEAVY)
    desk.on(area.timer.tick, follow, inputs, outputs, **HEAVY)
    desk.on(area.margin.release, follow, inputs, outputs, **HEAVY)
    desk.on(area.refresh.click, compute, inputs[:2], outputs, **HEAVY | dict(show_progress="full"))


def follow(store: "Store", study: str | None, margin: float, seen: tuple | None) -> tuple:
    """The results, if there is anything new since `seen`."""
    if _now(store, study, margin) == seen:
        return gr.skip(), gr.skip(), gr.skip()
    return compute(store, study, margin)


def compute(store: "Store", study: str | None, margin: float) -> tuple:
    """The results of a study, its faulty pictures, and what they were computed of."""
    if not study:
        return "", "", None
    from dermaflux.study import results

    now, readings = _now(store, study, margin), store.readings(study)
    found, said = results.compute(readings, margin, RESAMPLES), cautions(readings)
    small = cache(lambda case: owner_html.small(store.picture(study, case), found.marks.get(case, ())))
    flagged = _flagged(store, study, small)
    if readings.empty:
        return owner_html.lines(said, "note"), flagged, now
    return owner_html.results(found, said, small), flagged, now


def cautions(readings: "pd.DataFrame") -> list[str]:
    """What must be known before figures of few answers are read."""
    from dermaflux.study.results import FEW_READERS, FEW_READINGS

    count, readers = len(readings), readings["reader"].nunique()
    if not count:
        return ["There are no answers yet; practice cases do not count. Tables and plots appear with the first ones."]
    if count >= FEW_READINGS and readers >= FEW_READERS:
        return []
    return [
        f"Too few answers to conclude from: {count} {'reading' if count == 1 else 'readings'} by {readers} "
        f"{'reader' if readers == 1 else 'readers'}. Take what follows as a first look until there are {FEW_READINGS} "
        f"readings or more by at least {FEW_READERS} readers."
    ]


def _now(store: "Store", study: str | None, margin: float) -> tuple | None:
    """What changes when the results may."""
    if not study:
        return None
    one = store.summary(study)
    flags = [(flag.case, flag.readers, flag.owner) for flag in store.flagged(study)]
    return study, one.answers, one.readers, margin, flags


def _flagged(store: "Store", study: str, small: Callable[[str], str]) -> str:
    found = sorted(store.flagged(study), key=lambda one: (not one.owner, -one.readers, one.case))
    title = "Flagged: leave out of synthesis" + (
        f" ({MOST_FLAGGED} of {len(found)})" if len(found) > MOST_FLAGGED else ""
    )
    return owner_html.pictures(title, [(one.case, _by(one.readers, one.owner)) for one in found[:MOST_FLAGGED]], small)


def _by(readers: int, owner: bool) -> str:
    said = [f"by {readers} {'reader' if readers == 1 else 'readers'}"] if readers else []
    return ", ".join(said + (["by you"] if owner else []))
