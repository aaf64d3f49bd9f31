"""The Compare & sweep tab's listeners: what they draw, what they say, what they keep."""

import json
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import tiny
from PIL import Image

from dermaflux.errors import InputError, ModelUnavailable
from dermaflux.grid import CHUNK
from dermaflux.images import open_untrusted, read_provenance
from dermaflux.settings import Settings
from dermaflux.sweep import AXES
from dermaflux.ui import compare, fields, form, sweep, table
from dermaflux.ui.context import Context

AXES_OFF = ("", [], "")


@pytest.fixture(scope="module")
def page(tiny_generator):
    """The context and the form of a page with this tab alone."""
    context = Context(Settings(), tiny.slot(tiny_generator), lambda: pytest.fail("not needed here"))
    with gr.Blocks(analytics_enabled=False):
        described = form.build(context)
        form.build_caption(described)
        described.settings["strength"].render()
        with gr.Tab("Compare & sweep") as tab:
            sweep.build(context, described, tab)
    return context, described


def values(described, **settings):
    """What the form sends when nothing was touched but `settings`."""
    sent = [component.value for component in described.inputs]
    for name, value in settings.items():
        sent[-1 - len(fields.SETTINGS) + fields.SETTINGS.index(name)] = value
    return sent


def swept(page, *axes, **settings):
    """The updates of a sweep, in order."""
    context, described = page
    return list(sweep._runner(context)(sweep.Swept(), *axes, *values(described, **settings)))


def test_a_sweep_fills_the_grid_cell_by_cell(page):
    updates = swept(page, "border", [0, 4, 8], "", *AXES_OFF)
    filled = [update[1].count("<img") for update in updates if isinstance(update[1], str)]
    assert filled == [0, 1, 2, 3]
    kept = [update[2] for update in updates if isinstance(update[2], sweep.Swept)][-1]
    assert [index for index, _ in kept.cells] == [0, 1, 2]
    assert {read_provenance(path).seed for _, path in kept.cells} == {0}
    assert [read_provenance(path).attributes.border for _, path in kept.cells] == [0, 4, 8]
    assert "Done: 3 images." in updates[-1][0]


def test_the_download_holds_the_grid_with_the_recipes(page):
    with Image.open(swept(page, "seed", [], "5, 6", "border", [1, 2], "")[-1][3].value["path"]) as image:
        image.load()
        recipes = json.loads(image.text[CHUNK])
    assert [(one["row"], one["column"], one["recipe"]["seed"]) for one in recipes] == [
        (0, 0, 5),
        (0, 1, 6),
        (1, 0, 5),
        (1, 1, 6),
    ]


def test_a_stopped_sweep_keeps_its_finished_cells(page):
    kept = [update[2] for update in swept(page, "seed", [], "1, 2, 3", *AXES_OFF) if hasattr(update[2], "cells")]
    status, download, *_ = sweep._stopped(kept[1])
    assert "Stopped. 1 image of 3 kept." in status and Path(download.value["path"]).is_file()
    assert "before an image" in sweep._stopped(sweep.Swept())[0]


def test_a_new_sweep_removes_the_files_of_the_last(page):
    context, described = page
    first = swept(page, "seed", [], "1", *AXES_OFF)[-2][2]
    run = sweep._runner(context)(first, "seed", [], "2", *AXES_OFF, *values(described))
    next(run)
    assert all(Path(path).exists() for _, path in first.cells)
    next(run)
    run.close()
    assert not any(Path(path).exists() for _, path in first.cells)


def test_a_sweep_that_cannot_be_drawn_keeps_the_last_one(page):
    context, described = page
    last = swept(page, "seed", [], "1", *AXES_OFF)[-2][2]
    for axes in (
        ("seed", [], "many", *AXES_OFF),
        ("border", [], "", *AXES_OFF),
        ("label", ["benign"], "", *(["x"] * 3)),
    ):
        with pytest.raises(InputError):
            next(sweep._runner(context)(last, *axes, *values(described)))
    assert all(Path(path).exists() for _, path in last.cells)


def test_a_sweep_that_fails_midway_offers_what_is_finished(page, monkeypatch):
    context, described = page
    drawn = sweep.sweep.run

    def failing(generator, plan):
        for item in drawn(generator, plan):
            if getattr(item, "index", 0) == 2:
                raise ModelUnavailable("The card has not enough memory.")
            yield item

    monkeypatch.setattr(sweep.sweep, "run", failing)
    updates = []
    with pytest.raises(ModelUnavailable):
        for update in sweep._runner(context)(
            sweep.Swept(), "border", [0, 4, 8], "", *AXES_OFF, *values(described, steps=1)
        ):
            updates.append(update)
    offered = updates[-1][3]
    assert offered.interactive and Path(offered.value["path"]).is_file()


def test_a_sweep_over_the_hourly_limit_leaves_the_last_one_as_it_is(page):
    context, described = page
    last = swept(page, "seed", [], "1", *AXES_OFF)[-2][2]
    limited = Context(Settings(images_per_hour=1), context.generator, context.classifier)
    run = sweep._runner(limited)(last, "seed", [], "2, 3", *AXES_OFF, *values(described))
    first = next(run)
    with pytest.raises(InputError, match="an hour"):
        next(run)
    assert first[1:4] == (gr.skip(),) * 3 and all(Path(path).exists() for _, path in last.cells)


@pytest.mark.parametrize(
    "axes, said",
    [
        (("border", [0, 8], "", *AXES_OFF), "2 images."),
        (("border", [0], "", *AXES_OFF), "1 image."),
        (("border", [0, 8], "", "guidance", [], "1, 2, 3"), "6 images."),
        (("steps", [], "0", *AXES_OFF), "from 1 to 50"),
        (("border", [0, 8], "", "border", [1], ""), "change the same thing"),
    ],
)
def test_the_number_of_images_is_said_before_drawing(axes, said):
    assert said in sweep._size(*axes)


@pytest.mark.parametrize("name", AXES)
def test_every_axis_offers_values_that_can_be_drawn(name):
    offered = sweep._turned(0)("", name, [], "", *AXES_OFF)
    ticks, text, last, status = offered
    assert last == name and f"{len(AXES[name].start)} image" in status
    assert (ticks.visible is True) != (text.visible is True)
    assert sweep._turned(0)(name, name, [], "", *AXES_OFF) == [gr.skip()] * 4


def test_compare_draws_the_same_seed_without_and_with_the_lora(page, tiny_generator):
    context, described = page
    updates = list(compare._runner(context)((), *values(described, seed=9, lora_strength=1.5)))
    base, adapted = updates[-1][1]
    recipes = [read_provenance(path) for path in (base, adapted)]
    assert [(one.seed, one.lora_strength) for one in recipes] == [(9, 0), (9, 1.5)]
    assert recipes[0].caption == recipes[1].caption
    images = [np.asarray(open_untrusted(path)).astype(int) for path in (base, adapted)]
    assert np.abs(images[0] - images[1]).max() > 0
    *_, plain = tiny_generator.redraw(recipes[0])
    assert np.array_equal(np.asarray(plain.image), images[0])


def test_comparing_at_strength_zero_is_refused_with_a_sentence(page):
    context, described = page
    with pytest.raises(InputError, match="Set it above 0"):
        next(compare._runner(context)((), *values(described, lora_strength=0)))


def test_the_summary_says_what_the_draw_tab_holds(page):
    context, described = page
    said = sweep._held(context, values(described, seed=77))
    assert "<dt>Seed</dt><dd>77</dd>" in said and "light brown + dark brown" in said
    assert "cannot be used yet" in sweep._held(context, values(described, seed=-1))


def test_the_grid_names_each_image_and_escapes_what_it_shows(page):
    context, described = page
    base = compare.base(context, values(described))
    plan = sweep._plan(base, "colours", ["red"], "", "lora_strength", [], "0.5")
    html = table.grid(plan, {0: "data:,"})
    assert 'alt="Synthetic lesion. Only colour: Red. LoRA strength: 0.5."' in html
    assert "&lt;b&gt;" in table.unusable("<b>")
