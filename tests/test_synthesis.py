"""Many samples to a folder: orders, batches, resuming."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from dermaflux import ordering, synthesis
from dermaflux.caption import parse
from dermaflux.data import manifest
from dermaflux.errors import DataError, InputError
from dermaflux.images import read_provenance
from dermaflux.lesion import LABELS, LesionAttributes, plausible
from dermaflux.models import MAX_SEED, SamplingOptions

BENIGN, MALIGNANT = (LesionAttributes(label=label, asymmetry=1) for label in LABELS)


@pytest.fixture
def options(tiny_folder) -> SamplingOptions:
    return SamplingOptions.defaults(tiny.spec(tiny_folder), seeds=(5,), steps=2)


def write(path: Path, columns: str, *rows: str) -> Path:
    path.write_text("\n".join((columns, *rows)) + "\n", encoding="utf-8")
    return path


def pixels(folder: Path) -> dict[str, bytes]:
    return {path.name: np.asarray(Image.open(path)).tobytes() for path in folder.glob("*.png")}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_order_becomes_a_png_with_its_recipe_and_a_row(tiny_generator, options, tmp_path):
    orders = ordering.of_attributes((BENIGN, MALIGNANT), 4, options)
    outcomes = list(synthesis.synthesise(tiny_generator, orders, tmp_path))
    assert [outcome.error for outcome in outcomes] == [None] * 4
    rows = manifest.read(tmp_path / "manifest.csv")
    assert [row.label for row in rows] == ["benign", "malignant"] * 2
    for order, row in zip(orders, rows, strict=True):
        recipe = read_provenance(row.path)
        assert (recipe.caption, recipe.attributes) == (order.caption, order.attributes)
        assert str(recipe.seed) == row.values["seed"]
        assert row.values["source"] == "synthetic" and row.values["licence"] == tiny_generator.spec.licence
    assert sorted(row.path for row in rows) == sorted(tmp_path.glob("*.png"))


def test_seeds_are_consecutive_and_wrap_at_the_highest(options):
    orders = ordering.of_attributes((BENIGN,), 3, replace(options, seeds=(MAX_SEED - 1,)))
    assert [order.options.seeds for order in orders] == [(MAX_SEED - 1,), (MAX_SEED,), (0,)]
    assert len({order.file for order in orders}) == 3


def test_wording_varies_over_a_long_run_and_always_says_the_same(options):
    orders = ordering.of_attributes((plausible(3),), 160, options)
    assert len({order.caption for order in orders}) > 3
    assert {parse(order.caption) for order in orders} == {plausible(3)}


def test_an_image_is_the_same_whatever_else_is_drawn_with_it(tiny_generator, options, tmp_path):
    for count, name in ((1, "one"), (9, "nine")):
        orders = ordering.of_caption("A dark brown mole.", count, options)
        assert len(list(synthesis.synthesise(tiny_generator, orders, tmp_path / name))) == count
    [(name, first)] = pixels(tmp_path / "one").items()
    assert pixels(tmp_path / "nine")[name] == first


def test_images_of_several_captions_drawn_at_once_are_those_drawn_alone(tiny_generator, options):
    texts = ("A dark mole.", "A pale mole with 2 asymmetric axes.", "A dark mole.")
    asked = replace(options, seeds=(4, 5, 6))
    lesions = (LesionAttributes("benign"), LesionAttributes("malignant"), LesionAttributes())
    together = list(tiny_generator.sample_each(texts, asked, lesions))
    assert [sample.index for sample in together] == [0, 1, 2]
    for text, lesion, seed, sample in zip(texts, lesions, asked.seeds, together, strict=True):
        *_, alone = tiny_generator.sample(text, replace(asked, seeds=(seed,)), attributes=lesion)
        assert np.array_equal(alone.image, sample.image) and alone.provenance == sample.provenance


def test_an_interrupted_run_lists_what_is_finished_and_continues(tiny_generator, options, tmp_path):
    orders = ordering.of_attributes((BENIGN, MALIGNANT), 4, options)
    run = synthesis.synthesise(tiny_generator, orders, tmp_path / "cut")
    first = next(run).order.file
    run.close()
    assert [row["file"] for row in table(tmp_path / "cut")] == [first]
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {first, "manifest.csv"}
    kept = (tmp_path / "cut" / first).stat().st_mtime_ns
    outcomes = list(synthesis.synthesise(tiny_generator, orders, tmp_path / "cut"))
    assert Counter(outcome.kept for outcome in outcomes) == {True: 1, False: 3}
    assert (tmp_path / "cut" / first).stat().st_mtime_ns == kept
    list(synthesis.synthesise(tiny_generator, orders, tmp_path / "whole"))
    assert pixels(tmp_path / "cut") == pixels(tmp_path / "whole")
    assert table(tmp_path / "cut") == table(tmp_path / "whole")


def test_a_run_can_be_extended(tiny_generator, options, tmp_path):
    for count, fresh in ((2, 2), (5, 3)):
        orders = ordering.of_attributes((BENIGN,), count, options)
        outcomes = list(synthesis.synthesise(tiny_generator, orders, tmp_path))
        assert sum(not outcome.kept for outcome in outcomes) == fresh
    assert len(table(tmp_path)) == 5


def test_a_file_cut_short_is_drawn_again(tiny_generator, options, tmp_path):
    orders = ordering.of_attributes((BENIGN,), 1, options)
    list(synthesis.synthesise(tiny_generator, orders, tmp_path))
    path, before = tmp_path / orders[0].file, pixels(tmp_path)
    path.write_bytes(path.read_bytes()[:-2000])
    assert [outcome.kept for outcome in synthesis.synthesise(tiny_generator, orders, tmp_path)] == [False]
    assert pixels(tmp_path) == before


@pytest.mark.parametrize("changed, said", [({"seeds": (7,)}, "another plan"), ({"steps": 9}, r"steps \d+, now 9: say")])
def test_a_folder_of_another_plan_is_refused_and_left_alone(changed, said, tiny_generator, options, tmp_path):
    list(synthesis.synthesise(tiny_generator, ordering.of_attributes((BENIGN,), 1, options), tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    orders = ordering.of_attributes((BENIGN,), 1, replace(options, **changed))
    with pytest.raises(InputError, match=said):
        list(synthesis.synthesise(tiny_generator, orders, tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_cannot_be_drawn_is_reported_and_the_rest_is_drawn(tiny_generator, options, tmp_path):
    wild = ordering.of_caption("wild", 1, replace(options, seeds=(1,)))[0]
    sound = ordering.of_attributes((BENIGN,), 1, options)[0]
    embedding = tiny_generator._encode(wild.caption, 1.0)
    (key,) = (key for key in tiny_generator._prompts if key[0] == wild.caption)
    tiny_generator._prompts[key] = tuple(part * float("nan") for part in embedding)
    try:
        outcomes = list(synthesis.synthesise(tiny_generator, [wild, sound], tmp_path))
    finally:
        del tiny_generator._prompts[key]
    assert {outcome.order.file: outcome.error is None for outcome in outcomes} == {wild.file: False, sound.file: True}
    assert [row["file"] for row in table(tmp_path)] == [sound.file]


def test_a_plan_takes_captions_attributes_and_settings(tiny_generator, options, tmp_path):
    path = write(
        tmp_path / "plan.csv",
        "caption,label,colours,border,seed,steps",
        '"A mole with 2 asymmetric axes.",benign,,,9,',
        '"",malignant,"red; black",7,,3',
    )
    first, second = ordering.of_plan(path, None, options, tiny_generator.spec)
    assert first.caption == "A mole with 2 asymmetric axes." and first.options.seeds == (9,)
    assert first.attributes == LesionAttributes("benign", asymmetry=2)
    assert second.attributes == LesionAttributes("malignant", colours=("red", "black"), border=7)
    assert parse(second.caption) == second.attributes
    assert (second.options.seeds, second.options.steps, first.options.steps) == ((6,), 3, 2)


def test_the_manifest_of_a_folder_draws_the_folder_again(tiny_generator, options, tmp_path, caplog):
    rare = dict(first_block_cache=0.2, eta=0.5, eta_below=0.9, contrast=0.5, postfilter=0.5)
    rare |= dict(early_guidance=1.3, guidance_below=0.5)
    given = replace(options, negative="hair", true_cfg=2.0, noise="authors", **rare)
    orders = ordering.of_attributes((plausible(1), plausible(2)), 3, given)
    list(synthesis.synthesise(tiny_generator, orders, tmp_path / "first"))
    plain = SamplingOptions.defaults(tiny_generator.spec)
    again = ordering.of_plan(tmp_path / "first" / "manifest.csv", None, plain, tiny_generator.spec)
    list(synthesis.synthesise(tiny_generator, again, tmp_path / "second"))
    assert [replace(one.options, seeds=options.seeds) for one in again] == [given] * 3
    assert pixels(tmp_path / "first") == pixels(tmp_path / "second")
    assert "draws it" not in caplog.text


def test_a_caption_that_looks_like_a_formula_is_drawn_again_from_its_manifest(tiny_generator, options, tmp_path):
    texts = ("- benign lesion with brown pigment", "=1+1", "'-5", "'Nevus'", "''")
    given = replace(options, negative="-hair", true_cfg=2.0)
    orders = [ordering.of_caption(text, 1, replace(given, seeds=(seed,)))[0] for seed, text in enumerate(texts)]
    list(synthesis.synthesise(tiny_generator, orders, tmp_path))
    assert [row["caption"] for row in table(tmp_path)] == [f"'{text}" for text in texts[:3]] + list(texts[3:])
    known = [values for _, values in manifest.lines(tmp_path / "manifest.csv")]
    assert [(row["caption"], row["negative"]) for row in known] == [(text, "-hair") for text in texts]
    manifest.write(tmp_path / "again.csv", known)
    assert (tmp_path / "again.csv").read_text().count("'-hair") == len(texts)
    for name in ("manifest.csv", "again.csv"):
        again = ordering.of_plan(tmp_path / name, None, options, tiny_generator.spec)
        assert [(one.caption, one.options) for one in again] == [(one.caption, one.options) for one in orders]


def test_a_plan_with_fewer_rows_than_are_asked_for_is_refused(options, tiny_generator, tmp_path):
    (tmp_path / "plan.csv").write_text("caption\nA mole.\nAnother.\n")
    with pytest.raises(DataError, match=r"plan\.csv holds 2 rows, an image each; --count 10 asks for more"):
        ordering.of_plan(tmp_path / "plan.csv", 10, options, tiny_generator.spec)


def test_that_a_plan_is_of_another_model_is_said(options, tiny_generator, tmp_path, caplog):
    path = write(tmp_path / "plan.csv", "label,model", "benign,flux1-dev", "malignant,")
    assert len(ordering.of_plan(path, None, options, tiny_generator.spec)) == 2
    assert f"names flux1-dev; {tiny_generator.spec.name} draws it" in caplog.text


@pytest.mark.parametrize(
    ("columns", "row", "what"),
    [
        ("captoin", "x", "line 1: the column “captoin”"),
        ("label", "", "no rows"),
        ("label,caption", "benign,A mole, dark brown", "line 2: there are more cells than columns"),
        ("label,seed,label", "benign,1,malignant", "line 1: the column “label” is there twice"),
        ("label,border", "benign,many", "line 2: the border “many” is not a whole number"),
        ("label,border", "benign,9", "line 2: border must be a whole number from 0 to 8"),
        ("label", "sick", "line 2: “sick” is not a known label"),
        ("label,colours", "benign,red;green", "line 2: “green” is not one of the colours"),
        ("label,seed", "benign,-1", "line 2: The seed must be"),
        ("label,size", "benign,100", "line 2: .* draws at"),
        ("label,guidance", "benign,nan", "line 2: Guidance must be"),
        ("caption,seed", ",3", "line 2: there is neither a caption nor an attribute"),
        ("label,varied_from", "benign,{}", "line 2: a variation"),
    ],
)
def test_a_wrong_plan_is_refused_by_line(columns, row, what, tiny_generator, options, tmp_path):
    with pytest.raises(DataError, match=what):
        ordering.of_plan(write(tmp_path / "plan.csv", columns, row), None, options, tiny_generator.spec)
