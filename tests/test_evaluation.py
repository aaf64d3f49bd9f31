"""Figures with intervals: what counts as agreement, and the tables that say so."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sample_recipes import RECIPE
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from dermaflux import phantom
from dermaflux.cli import app
from dermaflux.data import manifest
from dermaflux.errors import DataError, InputError
from dermaflux.evaluation import captions, concordance, figures, outlines, scores, sheets
from dermaflux.grid import CHUNK
from dermaflux.images import save_synthetic
from dermaflux.lesion import LesionAttributes


def test_perfect_agreement_is_one_and_chance_is_near_zero():
    numbers = np.arange(200)
    assert figures.spearman(numbers, numbers) == pytest.approx(1)
    assert abs(figures.spearman(numbers, np.random.default_rng(0).permutation(200))) < 0.2
    assert figures.spearman(numbers, np.zeros(200)) == 0


def test_an_interval_holds_its_value_and_narrows_with_n():
    rng = np.random.default_rng(1)
    few, many = (figures.resampled("mean", np.mean, rng.random(n)) for n in (20, 500))
    for one in (few, many):
        assert one.interval[0] < one.value < one.interval[1]
    assert many.interval[1] - many.interval[0] < few.interval[1] - few.interval[0]


def test_the_auc_of_ranks_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, scores = rng.random(80) < 0.3, [rng.random(80).round(1) for _ in range(3)]
    wanted = np.mean([roc_auc_score(truth, one) for one in scores])
    assert figures.auc(truth, *scores) == pytest.approx(wanted)
    assert figures.auc(truth.astype(float), scores[0]) == pytest.approx(roc_auc_score(truth, scores[0]))
    assert figures.auc(np.ones(4), np.arange(4)) == 0.5


def test_the_table_says_whether_an_aim_is_met():
    text = figures.table([figures.Figure("a", 0.8, (0.7, 0.9), 20, 0.5), figures.Figure("b", 0.4, (0.3, 0.5), 20, 0.5)])
    assert "| a | 0.800 | 0.700 to 0.900 | 20 | >= 0.5 | yes |" in text
    assert text.endswith("| **no** |")


def test_phantoms_drawn_as_requested_agree_and_others_do_not():
    wanted = concordance.requests(24)
    assert {one.diagnosis for one in wanted} == {None} and len({one.tone for one in wanted}) > 5
    drawn = [phantom.draw(one, seed).image for seed, one in enumerate(wanted)]
    agreed = {one.name: one.value for one in concordance.of_images(wanted, drawn)}
    crossed = {one.name: one.value for one in concordance.of_images(wanted, drawn[1:] + drawn[:1])}
    assert agreed["Tone, Spearman"] > 0.9 and agreed["Size, Spearman"] > 0.8
    assert all(crossed[name] < agreed[name] for name in agreed if name != "A lesion is found, share")


def test_an_attribute_is_judged_on_the_images_of_which_it_was_asked():
    wanted = concordance.requests(10)
    drawn = [phantom.draw(one, seed).image for seed, one in enumerate(wanted)]
    of = lambda some: {one.name: one for one in concordance.of_images(some, drawn)}
    whole, part = of(wanted), of([replace(one, border=None) if i < 9 else one for i, one in enumerate(wanted)])
    assert whole["Border, Spearman"].n == 10 and whole["Border, Spearman"].value > 0
    assert (
        part["Border, Spearman"].n == 1 and "| not defined |  | 1 | >= 0.5 |  |" in part["Border, Spearman"].markdown()
    )
    assert part["Size, Spearman"] == whole["Size, Spearman"]
    nothing = of([LesionAttributes("benign")] * 10)
    assert nothing["Colours, F1"].n == 0 and nothing["A lesion is found, share"].value == 1


def test_a_sheet_carries_the_recipe_of_each_image(tmp_path):
    image = Image.new("RGB", (64, 64), "tan")
    paths = [save_synthetic(image, RECIPE, tmp_path / f"{name}.png") for name in "abc"]
    with Image.open(sheets.save_sheet(paths, tmp_path / "sheet.png", columns=2, side=32)) as sheet:
        sheet.load()
        assert sheet.size == (66, 66) and sheet.text[CHUNK].count('"recipe"') == 3
    with pytest.raises(InputError, match="no synthetic PNGs"):
        sheets.save_sheet([], tmp_path / "none.png")


def test_outlines_are_drawn_and_what_has_none_is_framed(tmp_path):
    Image.fromarray(phantom.draw(phantom.random_attributes(3), 3).image).save(tmp_path / "0.png")
    Image.new("RGB", (64, 64), "tan").save(tmp_path / "1.png")
    manifest.write(tmp_path / "m.csv", [{"file": f"{i}.png", "label": "benign"} for i in range(2)])
    where = tmp_path / "new" / "sheet"
    [share] = outlines.save_outlines(manifest.read(tmp_path / "m.csv"), where, columns=2, side=64)
    sheet = np.asarray(Image.open(where))
    assert share.value == 0.5
    assert (sheet[:, :64] == outlines.LINE).all(2).any() and tuple(sheet[0, 64]) == outlines.MISSING


def test_an_image_that_is_too_small_to_measure_is_named(tmp_path):
    Image.new("RGB", (20, 20), "tan").save(tmp_path / "0.png")
    manifest.write(tmp_path / "m.csv", [{"file": "0.png", "label": "benign", "caption": "A lesion."}])
    sentence = r"m\.csv, line 2.*cannot be measured: The image is 20 x 20 pixels"
    with pytest.raises(DataError, match=sentence):
        outlines.save_outlines(manifest.read(tmp_path / "m.csv"), tmp_path / "sheet.png")
    with pytest.raises(DataError, match=sentence):
        captions.compare([tmp_path / "m.csv"])


def test_items_that_cluster_widen_the_interval():
    values = np.repeat([0.0, 1.0, 1.0, 0.0, 1.0], 20)
    alone, together = figures.resampled("x", np.mean, values), scores.share("x", values, np.arange(100) // 20)
    width = lambda one: one.interval[1] - one.interval[0]
    assert alone.value == together.value and together.n == 100 and width(together) > 2 * width(alone)
    each = scores.share("x", values, np.arange(100))
    assert width(each) == pytest.approx(width(alone), rel=0.1)
    assert np.isnan(scores.share("x", values, np.zeros(100)).interval).all()


def test_images_of_a_folder_are_not_drawn_anew(tmp_path):
    for option in (
        ("--count", "20"),
        ("--lora-strength", "0.5"),
        ("--contrast", "0"),
        ("--candidates", "1"),
        ("--postfilter", "0"),
        ("--compile",),
    ):
        result = CliRunner().invoke(app, ["evaluate", "concordance", str(tmp_path), *option])
        assert result.exit_code == 2 and "DIR is measured as it is" in result.stderr.replace("\n", " ")
