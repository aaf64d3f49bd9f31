"""A sweep varies what its axes name and nothing else, and its grid says what it shows."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
from PIL import Image

from dermaflux import __version__, grid, sweep
from dermaflux.caption import caption, parse
from dermaflux.errors import InputError
from dermaflux.images import Provenance, read_provenance
from dermaflux.lesion import DIAGNOSES, EXAMPLES, LesionAttributes
from dermaflux.models import SamplingOptions
from dermaflux.sweep import AXES, Base, Drawn, Progress, plan

LESION = EXAMPLES["Early melanoma"]
OPTIONS = SamplingOptions(seeds=(11, 12), steps=2, size=tiny.SIZE)
BASE = Base(caption(LESION, 5), LESION, OPTIONS, wording=5)


def changed(one, other):
    """The names of the fields in which two dataclasses differ."""
    return {name for name in vars(one) if getattr(one, name) != getattr(other, name)}


def drawn(generator, planned):
    return [item for item in sweep.run(generator, planned) if isinstance(item, Drawn)]


def pixels(image):
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", AXES)
def test_an_axis_changes_what_it_names_and_nothing_else(name):
    axis = AXES[name]
    planned = plan(BASE, name, axis.start)
    assert [(cell.row, cell.column) for cell in planned.cells] == [(0, column) for column in range(len(axis.start))]
    for cell in planned.cells:
        differing = changed(cell.attributes, LESION) | changed(cell.options, replace(OPTIONS, seeds=(11,)))
        assert differing <= axis.changes(BASE)
    assert len(set(planned.cells)) == len(axis.start)
    assert len({(cell.text, cell.options) for cell in planned.cells}) == len(axis.start)


@pytest.mark.parametrize("name", [name for name, axis in AXES.items() if axis.values])
def test_every_value_to_choose_from_makes_a_caption_that_says_it(name):
    planned = plan(BASE, name, AXES[name].values)
    for cell in planned.cells:
        assert parse(cell.text) == cell.attributes
        assert cell.text == caption(cell.attributes, 5)


@pytest.mark.parametrize("name", ["seed", "steps", "guidance", "lora_strength"])
def test_a_setting_keeps_the_caption_even_an_edited_one(name):
    edited = replace(BASE, text="A lesion in words of my own.")
    planned = plan(edited, name, AXES[name].start)
    assert {cell.text for cell in planned.cells} == {"A lesion in words of my own."}
    assert not planned.reworded
    assert plan(edited, "border", [0, 8]).reworded and not plan(BASE, "border", [0, 8]).reworded


def test_two_axes_make_rows_and_columns():
    planned = plan(BASE, "border", "0, 4, 8", "lora_strength", "0; 1.5")
    assert [(cell.row, cell.column) for cell in planned.cells] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert [cell.attributes.border for cell in planned.cells] == [0, 4, 8, 0, 4, 8]
    assert [cell.options.lora_strength for cell in planned.cells] == [0, 0, 0, 1.5, 1.5, 1.5]
    assert planned.y_values == (0, 1.5)


def test_colours_come_one_at_a_time_or_as_a_growing_set_from_the_lesions_own():
    alone = plan(BASE, "colours", ["none", "red", "black"]).cells
    assert [cell.attributes.colours for cell in alone] == [(), ("red",), ("black",)]
    growing = plan(BASE, "colour_count", [1, 3, 4]).cells
    assert growing[0].attributes.colours == LESION.colours[:1]
    assert growing[1].attributes.colours == LESION.colours
    assert set(growing[2].attributes.colours) == {*LESION.colours, "white"}


def test_a_diagnosis_brings_its_label_and_a_varied_label_drops_the_diagnosis():
    for cell in plan(BASE, "diagnosis", list(DIAGNOSES)).cells:
        assert cell.attributes.label == DIAGNOSES[cell.attributes.diagnosis].label
    assert {cell.attributes.diagnosis for cell in plan(BASE, "label", "benign, malignant").cells} == {None}


@pytest.mark.parametrize(
    "axes, sentence",
    [
        (("no such thing", "1"), "cannot be varied"),
        (("steps", ""), "no values"),
        (("steps", " , ;"), "no values"),
        (("steps", "5, ten"), "“ten” is not a number"),
        (("steps", "5, 51"), "from 1 to 50; 51"),
        (("steps", "2.5"), "whole numbers"),
        (("guidance", "nan"), "outside"),
        (("guidance", "1e999"), "outside"),
        (("seed", "-1"), "from 0 to 4294967295; -1"),
        (("seed", str(2**40)), "outside"),
        (("lora_strength", "1.6"), "from 0 to 1.5"),
        (("tone", [0]), "“0” is not one of"),
        (("colours", ["mauve"]), "mauve"),
        (("seed", list(range(13))), "at most 12"),
        (("seed", list(range(9)), "border", list(range(8))), "72 images; a sweep draws at most 64"),
        (("label", ["benign"], "diagnosis", ["nevus"]), "change the same thing"),
        (("colours", ["red"], "colour_count", [1]), "change the same thing"),
        (("steps", "5", "steps", "5"), "change the same thing"),
    ],
)
def test_a_sweep_that_cannot_be_drawn_is_refused_with_a_sentence(axes, sentence):
    with pytest.raises(InputError, match=sentence):
        plan(BASE, *axes)


def test_values_are_read_from_text_or_list_and_kept_once():
    assert sweep.read(AXES["guidance"], "1; 2.5,2.5 ,1.0,") == (1, 2.5)
    assert sweep.read(AXES["border"], [8, "0", 8]) == (8, 0)
    assert sweep.read(AXES["seed"], [4294967295, 0]) == (4294967295, 0)


def test_sixty_four_cells_are_allowed():
    assert len(plan(BASE, "seed", list(range(8)), "border", list(range(8))).cells) == 64


def test_a_cell_is_the_image_that_the_generator_draws_alone(tiny_generator):
    planned = plan(BASE, "border", [0, 8], "seed", [3, 4])
    for one in drawn(tiny_generator, planned):
        cell = planned.cells[one.index]
        *_, alone = tiny_generator.sample(cell.text, cell.options, attributes=cell.attributes)
        assert np.abs(pixels(one.image) - pixels(alone.image)).max() == 0
        assert one.provenance == alone.provenance


def test_cells_that_share_all_but_the_seed_are_drawn_together(tiny_generator):
    calls = []
    hook = tiny_generator.pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    try:
        assert len(drawn(tiny_generator, plan(BASE, "seed", list(range(10))))) == 10
        assert len(calls) == 2 * OPTIONS.steps, "ten seeds are two runs, of eight and of two"
    finally:
        hook.remove()


def test_progress_grows_to_the_whole_and_counts_finished_cells(tiny_generator):
    items = list(sweep.run(tiny_generator, plan(BASE, "steps", [1, 3])))
    progress = [item for item in items if isinstance(item, Progress)]
    assert [item.share for item in progress] == [0.25, 0.5, 0.75, 1.0]
    assert [item.finished for item in progress] == [0, 1, 1, 1]
    assert [item.seconds_left > 0 for item in progress] == [True, True, True, False]


def test_closing_a_sweep_stops_the_model_and_frees_it(tiny_generator):
    calls = []
    hook = tiny_generator.pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    try:
        run = sweep.run(tiny_generator, plan(BASE, "border", [0, 4, 8]))
        next(run)
        run.close()
        assert len(calls) == 1
    finally:
        hook.remove()
    assert len(drawn(tiny_generator, plan(BASE, "border", [0]))) == 1


def test_a_variation_is_swept_from_its_source(tiny_generator):
    *_, source = tiny_generator.sample(BASE.text, replace(OPTIONS, seeds=(1,)))
    varied = replace(BASE, source=source.provenance)
    planned = plan(varied, "seed", [5])
    one = drawn(tiny_generator, planned)[0]
    assert (one.provenance.source, one.provenance.strength) == (source.provenance, OPTIONS.strength)
    *_, again = tiny_generator.redraw(one.provenance)
    assert np.abs(pixels(one.image) - pixels(again.image)).max() == 0
    assert grid.held(planned)["variation strength"] == f"{OPTIONS.strength:g}"


def painted(planned, indices=None):
    """Finished cells of plain colours, without a model."""
    recipe = Provenance(
        BASE.text, LESION, 11, 2, 3.0, "", 1.0, 1.0, OPTIONS.size, "tiny", "ab12", "tiny-lora", "cd34", "0.1.0"
    )
    indices = range(len(planned.cells)) if indices is None else indices
    paint = lambda index: Image.new("RGB", (OPTIONS.size,) * 2, (index * 3, 255 - index * 3, 90))
    return [
        Drawn(index, paint(index), replace(recipe, attributes=planned.cells[index].attributes)) for index in indices
    ]


def chunks(path):
    with Image.open(path) as image:
        image.load()
        return image.text


def test_the_grid_holds_every_cell_pixel_for_pixel(tmp_path):
    planned = plan(BASE, "border", list(range(8)), "tone", list(range(1, 9)))
    image = np.asarray(grid.grid(planned, painted(planned)))
    for index in range(64):
        here = (image == (index * 3, 255 - index * 3, 90)).all(-1)
        assert here.sum() == OPTIONS.size**2
        rows, columns = np.nonzero(here)
        assert np.ptp(rows) == np.ptp(columns) == OPTIONS.size - 1


def test_the_grid_keeps_the_order_of_rows_and_columns():
    planned = plan(BASE, "border", [0, 8], "tone", [1, 10])
    image = np.asarray(grid.grid(planned, painted(planned)))
    where = [np.argwhere((image == (index * 3, 255 - index * 3, 90)).all(-1))[0].tolist() for index in range(4)]
    (top, left), (_, right), (bottom, _), last = where
    assert left < right and top < bottom and last == [bottom, right]


def test_a_stopped_grid_leaves_the_rest_empty_and_none_is_refused():
    planned = plan(BASE, "border", [0, 4, 8])
    assert grid.grid(planned, painted(planned, [0])).size == grid.grid(planned, painted(planned)).size
    with pytest.raises(InputError, match="draw it first"):
        grid.grid(planned, [])


@pytest.mark.parametrize("name", AXES)
def test_labels_stay_inside_the_grid(name):
    planned = plan(BASE, name, AXES[name].start)
    image = np.asarray(grid.grid(planned, painted(planned)))
    edge = grid.MARGIN // 2
    assert (image[:, -edge:] == 255).all() and (image[-edge:] == 255).all() and (image[:, :edge] == 255).all()


def test_the_grid_file_says_it_is_synthetic_and_carries_every_recipe(tmp_path):
    planned = plan(BASE, "border", [0, 8], "seed", [1, 2])
    cells = painted(planned)
    path = grid.save_grid(planned, cells[::-1], tmp_path / "new" / "grid.png")
    text = chunks(path)
    assert "Synthetic" in text["Description"] and text["Software"] == f"DermaFlux {__version__}"
    assert "trainedAlgorithmicMedia" in text["XML:com.adobe.xmp"]
    records = json.loads(text[grid.CHUNK])
    assert [(record["row"], record["column"]) for record in records] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    recipes = [Provenance.from_json(json.dumps(record["recipe"])) for record in records]
    assert recipes == [cell.provenance for cell in cells]
    with pytest.raises(InputError, match="carries no recipe"):
        read_provenance(path)
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]


def test_the_grid_file_has_the_same_bytes_each_time(tmp_path):
    planned = plan(BASE, "guidance", [1, 2])
    files = [grid.save_grid(planned, painted(planned), tmp_path / f"{name}.png") for name in "ab"]
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1


def test_what_is_held_fixed_leaves_out_what_varies():
    said = grid.held(plan(BASE, "border", [0, 8], "seed", [1, 2]))
    assert "seed" not in said and "border" not in said
    assert (said["lesion"], said["steps"], said["LoRA strength"]) == ("malignant", "2", "1")
    assert "LoRA strength" not in grid.held(plan(BASE, "seed", [1]), lora=False)
    steered = replace(BASE, options=replace(OPTIONS, true_cfg=2.0, negative="hair"))
    assert grid.held(plan(steered, "seed", [1]))["negative caption"] == "hair"


def test_an_empty_lesion_can_be_swept():
    planned = plan(Base(caption(LesionAttributes()), LesionAttributes(), OPTIONS), "colour_count", [1, 2])
    assert [cell.attributes.colours for cell in planned.cells] == [("white",), ("white", "red")]


def test_what_changes_pixels_and_is_not_as_usual_is_said_to_be_held():
    usual = grid.described(Base("A mole.", LesionAttributes(), SamplingOptions()))
    rare = grid.described(
        Base(
            "A mole.",
            LesionAttributes(),
            SamplingOptions(
                early_guidance=1.25,
                guidance_below=0.75,
                noise="authors",
                first_block_cache=0.25,
                eta=1.0,
                eta_below=0.75,
                contrast=0.5,
                postfilter=0.5,
            ),
        )
    )
    assert rare == usual | {
        "early guidance": "1.25",
        "guidance up to level": "0.75",
        "noise": "authors",
        "first-block cache": "0.25",
        "fresh noise (eta)": "1",
        "fresh noise up to level": "0.75",
        "contrast": "0.5",
        "post-filter": "0.5",
    }
