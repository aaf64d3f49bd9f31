"""Candidates: of several draws the one nearest to what is asked for is kept, and its recipe is that of it alone."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dermaflux import ordering, phantom
from dermaflux.appearance import NO_LESION, compare, measure, misfit
from dermaflux.candidates import AT_ONCE, ENOUGH, WORTH, chosen, seed_of
from dermaflux.caption import caption
from dermaflux.errors import DataError, InputError
from dermaflux.generator import Generator, Preview, Sample
from dermaflux.images import Provenance, read_provenance, save_synthetic
from dermaflux.lesion import LesionAttributes
from dermaflux.likeness import MOST
from dermaflux.models import MAX_CANDIDATES, MAX_SEED, MODELS, SamplingOptions
from dermaflux.synthesis import synthesise

BARE = Image.new("RGB", (256, 256), "#d8b090")
UNLIKELY = LesionAttributes("benign", asymmetry=0, border=8, colours=("white", "red", "blue-grey"), size_mm=5, tone=2)
ASKED = LesionAttributes("malignant", asymmetry=0, border=0, colours=("dark brown", "black"), size_mm=9, tone=3)
RECIPE = Provenance("A mole.", ASKED, 3, 20, 1.5, "", 1.0, 1.0, 256, "nano", "a" * 16, None, None, "0.1.0")


@pytest.fixture(scope="module")
def generator():
    return Generator.load("nano")


def lesion(**changes) -> Image.Image:
    """A phantom as asked for, but for `changes`."""
    whole = replace(phantom.random_attributes(0), **ASKED.specified(), artefacts=(), structures=("globules",))
    return Image.fromarray(phantom.draw(replace(whole, **changes), 4).image)


def drawer(*candidates):
    """Of each candidate what is drawn of every image in its place; notes what was asked for."""

    def draw(rows, numbers):
        draw.asked.append((list(rows), *numbers))
        yield Preview(1, 1, 0.0, tuple(rows), (BARE,) * len(rows), numbers[0] + 1, len(numbers), len(candidates))
        for number in numbers:
            for row in rows:
                draw.finished += 1
                yield Sample(row, candidates[number][row], replace(RECIPE, seed=seed_of(row, number)))

    draw.asked, draw.finished = [], 0
    return draw


def kept(draw, asked, count, **given):
    run = chosen(draw, asked, count, **given)
    return {item.index: item.provenance.seed for item in run if isinstance(item, Sample)}


def test_the_misfit_is_nothing_where_all_agrees_and_grows_with_what_differs():
    as_asked, farther = (measure(lesion(**changes)) for changes in ({}, {"size_mm": 16}))
    assert all(line.agrees is not False for line in compare(ASKED, as_asked))
    assert misfit(ASKED, as_asked) == 0 < misfit(ASKED, farther) < misfit(replace(ASKED, tone=9), farther)
    assert misfit(replace(ASKED, size_mm=None), farther) == 0, "what is not asked for may be as it is"
    assert misfit(LesionAttributes(), measure(BARE)) == NO_LESION > misfit(replace(ASKED, colours=("white",)), farther)


def test_of_several_the_nearest_is_kept():
    draw = drawer([BARE], [lesion(size_mm=16)], [lesion(size_mm=16, colours=("red",))])
    assert kept(draw, [ASKED], 3) == {0: seed_of(0, 1)}
    assert [number for _, number in draw.asked] == [0, 1, 2]


def test_the_nearest_so_far_is_told_until_it_is_settled():
    near, far = lesion(size_mm=16), lesion(size_mm=16, colours=("red",))
    told = [item for item in chosen(drawer([far], [BARE], [near], [far]), [ASKED], 4) if isinstance(item, Sample)]
    seeds = [seed_of(0, number) for number in (0, 2, 2)]
    assert [(item.provenance.seed, item.settled) for item in told] == list(
        zip(seeds, (False, False, True), strict=True)
    )


def test_nothing_more_is_drawn_of_an_image_that_is_as_asked():
    wrong, right = lesion(size_mm=16), lesion()
    draw = drawer([right, wrong, wrong], [None, wrong, right], [None, wrong, None])
    assert kept(draw, [ASKED] * 3, 3) == {0: 0, 2: seed_of(2, 1), 1: 1}
    assert draw.asked == [([0, 1, 2], 0), ([1, 2], 1), ([1], 2)]


def test_candidates_drawn_together_are_judged_in_their_order_and_none_after_one_as_asked():
    wrong, right = lesion(size_mm=16), lesion()
    draw = drawer([wrong], [right], [right], [None])
    assert kept(draw, [ASKED], 4, batch=8) == {0: seed_of(0, 1)}
    assert draw.asked == [([0], *range(AT_ONCE))] and draw.finished == 2, "the third is not even decoded"
    draw = drawer(*[[wrong, right]] * 3, [right, None], [wrong, None], [wrong, None])
    assert kept(draw, [ASKED] * 2, 6, batch=8) == {1: 1, 0: seed_of(0, 3)}
    assert draw.asked == [([0, 1], 0), ([0], 1, 2, 3)], "an image's together once it is alone"
    draw = drawer(*[[wrong]] * 4)
    assert kept(draw, [ASKED], 4, batch=8) == {0: 0} and draw.asked == [([0], 0, 1, 2), ([0], 3)], (
        "and no more than all"
    )
    draw = drawer(*[[wrong]] * 3)
    assert kept(draw, [ASKED], 3, batch=1) == {0: 0} and draw.asked == [([0], 0), ([0], 1), ([0], 2)]


def test_of_those_as_near_the_one_most_like_a_photograph_is_kept():
    plain, like = lesion(size_mm=16), lesion(size_mm=16, structures=())
    alike = lambda image: ENOUGH * (image is like)
    assert kept(drawer([plain], [like], [plain]), [ASKED], 3, alike=alike) == {0: seed_of(0, 1)}


def test_fit_and_likeness_are_weighed_against_each_other():
    wrong, right = lesion(asymmetry=2), lesion()
    makes_up = misfit(ASKED, measure(wrong)) / WORTH
    for more, best in ((0.9 * makes_up, 1), (1.1 * makes_up, 0)):
        alike = lambda image, more=more: ENOUGH - 0.1 - more * (image is right)
        draw = drawer([wrong], [right])
        assert kept(draw, [ASKED], 2, alike=alike) == {0: seed_of(0, best)} and len(draw.asked) == 2


def test_no_likeness_makes_up_for_a_missing_lesion():
    alike = lambda image: MOST if image is BARE else -MOST
    assert kept(drawer([BARE], [lesion(asymmetry=2)]), [ASKED], 2, alike=alike) == {0: seed_of(0, 1)}


def test_of_what_is_as_asked_more_is_drawn_until_one_is_like_photographs():
    unlike, like, never = lesion(), lesion(), lesion()
    alike = lambda image: ENOUGH - 0.1 * (image is unlike)
    draw = drawer([unlike], [like], [never])
    assert kept(draw, [ASKED], 3, alike=alike) == {0: seed_of(0, 1)}
    assert [number for _, number in draw.asked] == [0, 1]


def test_one_candidate_is_taken_as_it_comes():
    assert kept(drawer([BARE, BARE]), [ASKED] * 2, 1) == {0: 0, 1: 1}


def test_seeds_of_candidates_are_seeds_and_all_their_own():
    seeds = [seed_of(seed, number) for seed in (0, 1, MAX_SEED) for number in range(MAX_CANDIDATES)]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed <= MAX_SEED for seed in seeds)
    assert [seed_of(seed, 0) for seed in (0, 1, MAX_SEED)] == [0, 1, MAX_SEED]
    assert seed_of(7, 1) == 369571992, "recipes of earlier runs name them"


@pytest.mark.parametrize(
    ("seeds", "first", "changes"),
    [
        ((5, 6), {1, 2, 3}, {}),
        ((7,), {1}, {}),
        ((7,), {1}, {"contrast": 1.0}),
        ((7,), {1, 2, 3}, {"first_block_cache": 0.1}),
    ],
)
def test_the_generator_keeps_the_nearest_and_draws_it_again_by_its_own_seed(generator, tmp_path, seeds, first, changes):
    options = SamplingOptions.defaults(generator.spec, seeds=seeds, steps=3, candidates=3, **changes)
    asked = UNLIKELY
    items = list(generator.sample(caption(asked), options, attributes=asked))
    drawn = {item.index: item for item in items if isinstance(item, Sample)}
    assert sorted(drawn) == list(range(len(seeds)))
    assert {item.candidate for item in items if isinstance(item, Preview)} == first, "one image's are drawn together"
    for index, sample in drawn.items():
        own = [seed_of(options.seeds[index], number) for number in range(3)]
        each = replace(options, candidates=1, seeds=tuple(own))
        alone = [one for one in generator.sample(caption(asked), each, attributes=asked) if isinstance(one, Sample)]
        far = lambda image: misfit(asked, measure(image)) - WORTH * generator._alike(image)
        found = {seed: far(one.image) for seed, one in zip(own, alone, strict=True)}
        assert len(set(found.values())) > 1, "there is something to choose from"
        assert found[sample.provenance.seed] == min(found.values()) and sample.provenance.candidates == 3
        path = save_synthetic(sample.image, sample.provenance, tmp_path / f"{index}.png")
        *_, again = generator.redraw(read_provenance(path))
        assert (np.asarray(again.image) == np.asarray(sample.image)).all() and again.provenance == sample.provenance


def test_closing_ends_the_run_within_a_step_of_a_later_candidate(generator):
    options = SamplingOptions.defaults(generator.spec, steps=2, candidates=AT_ONCE + 1)
    run = generator.sample("A mole.", options, attributes=UNLIKELY)
    previews = (item for item in run if isinstance(item, Preview))
    assert [next(previews).candidate for _ in range(3)] == [1, 1, AT_ONCE + 1]
    run.close()
    assert not generator._runs


def test_a_folder_of_chosen_images_is_gone_on_with_and_its_manifest_draws_the_same(generator, tmp_path):
    options = SamplingOptions.defaults(generator.spec, steps=4, candidates=3)
    orders = ordering.of_attributes((ASKED, replace(ASKED, asymmetry=2)), 3, options)
    assert not any(outcome.kept or outcome.error for outcome in synthesise(generator, orders, tmp_path / "out"))
    assert all(outcome.kept for outcome in synthesise(generator, orders, tmp_path / "out"))
    fewer = [replace(order, options=replace(order.options, candidates=1)) for order in orders]
    with pytest.raises(InputError, match="drawn with candidates 3, now 1: say the same, or choose an empty folder"):
        list(synthesise(generator, fewer, tmp_path / "out"))
    usual = SamplingOptions.defaults(generator.spec, seeds=(99,))
    planned = ordering.of_plan(tmp_path / "out" / "manifest.csv", None, usual, generator.spec)
    assert [order.options.candidates for order in planned] == [1, 1, 1] and usual.candidates > 1
    list(synthesise(generator, planned, tmp_path / "again"))
    pixels = lambda folder: {one.name: np.asarray(Image.open(one)).tobytes() for one in folder.glob("*.png")}
    assert pixels(tmp_path / "out") == pixels(tmp_path / "again")
    next((tmp_path / "out").glob("00001-*.png")).unlink()
    assert [outcome.kept for outcome in synthesise(generator, planned, tmp_path / "out")] == [True, True, False]
    assert pixels(tmp_path / "out") == pixels(tmp_path / "again")


@pytest.mark.parametrize("count", [0, MAX_CANDIDATES + 1, 2.5, True, "many"])
def test_as_many_candidates_as_cannot_be_drawn_are_refused(count, tmp_path):
    with pytest.raises(InputError, match="number of candidates"):
        SamplingOptions(candidates=count)
    with pytest.raises(InputError, match="number of candidates"):
        replace(RECIPE, candidates=count)
    (tmp_path / "plan.csv").write_text(f"label,candidates\nbenign,{count}\n")
    with pytest.raises(DataError, match="line 2"):
        ordering.of_plan(tmp_path / "plan.csv", None, SamplingOptions(), MODELS["nano"])


def test_a_recipe_of_before_was_chosen_from_none():
    assert Provenance.from_json(RECIPE.to_json().replace(',"candidates":1', "")).candidates == 1
