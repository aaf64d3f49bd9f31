"""Fresh noise in each step: how much there is, that it changes no distribution, and that recipes keep it."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch

from dermaflux import ordering
from dermaflux.data import manifest
from dermaflux.errors import InputError
from dermaflux.generator import Generator, Sample
from dermaflux.images import Provenance, manifest_row, read_provenance, save_synthetic
from dermaflux.lesion import LesionAttributes
from dermaflux.models import MODELS, SamplingOptions
from dermaflux.schedule import ancestral, renewed
from dermaflux.synthesis import synthesise

TEXT = "This photo depicts a malignant lesion. Its colours are red and black."
LEVELS = [(1.0, 0.5), (0.7, 0.45), (0.5, 0.4), (0.3, 0.21)]


@pytest.fixture(scope="module")
def generator(tiny_folder):
    return Generator.from_spec(tiny.spec(tiny_folder), "cpu")


def draw(generator, source=None, **changes):
    options = SamplingOptions.defaults(generator.spec, **changes)
    return [item for item in generator.sample(TEXT, options, source=source) if isinstance(item, Sample)]


def same(one, other):
    return np.array_equal(np.asarray(one.image), np.asarray(other.image))


@pytest.mark.parametrize("sigma, following", LEVELS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, 1.5])
def test_image_and_noise_end_at_the_level_that_follows(sigma, following, eta):
    level, scale, fresh = ancestral(sigma, following, eta)
    assert 0 <= level <= following and scale * (1 - level) == pytest.approx(1 - following)
    assert math.hypot(scale * level, fresh) == pytest.approx(following)
    assert (fresh > 0) == (eta > 0)


@pytest.mark.parametrize("sigma, following", LEVELS)
def test_a_greater_eta_renews_more(sigma, following):
    fresh = [ancestral(sigma, following, eta)[2] for eta in (0, 0.25, 0.5, 0.75, 1)]
    assert fresh == sorted(fresh) and len(set(fresh)) == 5


@pytest.mark.parametrize("sigma, following", [(0.25, 0.19), (0.1, 0.0)])
def test_the_last_steps_add_no_noise(sigma, following):
    assert ancestral(sigma, following, 1.0) == (following, 1.0, 0.0)


@pytest.mark.parametrize("below", [0.2, 0.5, 0.75])
def test_steps_that_end_above_the_level_add_no_noise(below):
    assert ancestral(1.0, below + 0.01, 1.0, below) == (below + 0.01, 1.0, 0.0)
    assert ancestral(1.0, below, 1.0, below) == ancestral(1.0, below, 1.0) != (below, 1.0, 0.0)


@pytest.mark.parametrize("eta, below", [(0.0, 1.0), (0.5, 0.5), (1.0, 1.0), (1.3, 0.75), (1.3, 1.0)])
def test_what_is_drawn_has_the_spread_of_the_data(eta, below):
    """Of numbers with a standard deviation of 0.5 the velocity is known: E[noise - x | x_t]."""
    torch.manual_seed(0)
    x, variance = torch.randn(20_000), 0.25
    sigmas = torch.linspace(1, 0, 1001).tolist()
    for sigma, following in pairwise(sigmas):
        velocity = x * (sigma - (1 - sigma) * variance) / ((1 - sigma) ** 2 * variance + sigma**2)
        x = renewed(x, velocity, sigma, following, eta, below, lambda: torch.randn(20_000))
    assert float(x.std()) == pytest.approx(0.5, rel=0.03)


def test_the_embedded_model_renews_and_flux_does_not():
    options = SamplingOptions.defaults(MODELS["nano"])
    assert (options.eta, options.eta_below) == (1.3, 0.75)
    assert (
        SamplingOptions.defaults(MODELS["flux1-dev"]).eta == SamplingOptions.defaults(MODELS["flux1-schnell"]).eta == 0
    )


def test_a_picture_is_the_same_alone_beside_others_and_from_its_png(generator, tmp_path):
    together = draw(generator, seeds=(4, 5), eta=0.8, eta_below=0.9)
    assert same(draw(generator, seeds=(5,), eta=0.8, eta_below=0.9)[0], together[1])
    recipe = read_provenance(save_synthetic(together[1].image, together[1].provenance, tmp_path / "one.png"))
    assert (recipe.eta, recipe.eta_below) == (0.8, 0.9)
    *_, again = generator.redraw(recipe)
    assert same(again, together[1])
    assert not same(draw(generator, seeds=(5,), eta=0.4, eta_below=0.9)[0], together[1])
    assert not same(draw(generator, seeds=(5,), eta=0.8, eta_below=0.3)[0], together[1])


@pytest.mark.parametrize("noise", ["packed", "authors"])
def test_a_variation_renews_its_noise_and_is_drawn_again(generator, noise):
    first = draw(generator, eta=1.0)[0]
    source = first.image, first.provenance
    varied = draw(generator, source, seeds=(3,), eta=1.0, strength=0.5, noise=noise)[0]
    *_, again = generator.redraw(varied.provenance)
    assert same(again, varied)
    assert not same(draw(generator, source, seeds=(3,), eta=0.0, strength=0.5, noise=noise)[0], varied)


def test_a_recipe_of_before_renews_nothing(generator):
    recipe = draw(generator, steps=1, eta=0.0, eta_below=0.5)[0].provenance
    old = recipe.to_json().replace(',"eta":0.0', "").replace(',"eta_below":0.5', "")
    assert "eta" not in old and Provenance.from_json(old) == recipe
    for wrong in (dict(eta=1.6), dict(eta_below=0.1), dict(eta_below=1.1), dict(eta_below=None)):
        with pytest.raises(InputError):
            replace(recipe, **wrong)


def test_a_recipe_of_before_there_were_levels_renews_up_to_the_middle(generator):
    drawn = draw(generator, eta=1.3, eta_below=0.5)[0]
    old = drawn.provenance.to_json().replace(',"eta_below":0.5', "")
    assert "eta_below" not in old
    *_, again = generator.redraw(Provenance.from_json(old))
    assert same(again, drawn)


def test_a_folder_drawn_without_fresh_noise_goes_on_at_whatever_level(generator, tmp_path):
    options = SamplingOptions.defaults(generator.spec, steps=1, eta=0.0, eta_below=0.5)
    orders = ordering.of_attributes((LesionAttributes("benign"),), 1, options)
    list(synthesise(generator, orders, tmp_path))
    level = lambda **changes: [replace(order, options=replace(order.options, **changes)) for order in orders]
    assert all(outcome.kept for outcome in synthesise(generator, level(eta_below=0.75), tmp_path))
    with pytest.raises(InputError, match=r"drawn with eta 0.0, now 1.3; eta_below 0.5, now 0.75: say the same"):
        list(synthesise(generator, level(eta=1.3, eta_below=0.75), tmp_path))


def test_rows_of_before_beside_later_ones_are_drawn_as_before(generator, tmp_path):
    """A merged manifest has the columns of all its sets; what a set lacks is empty."""
    drawn = draw(generator, steps=1, eta=1.3, eta_below=0.9)[0]
    rows = [manifest_row(name, drawn.provenance) for name in ("a.png", "b.png")]
    manifest.write(tmp_path / "m.csv", [rows[0] | {"eta": "", "eta_below": ""}, rows[1]], list(rows[0]))
    plain = SamplingOptions.defaults(generator.spec, eta=1.0, eta_below=0.75)
    found = [order.options for order in ordering.of_plan(tmp_path / "m.csv", None, plain, generator.spec)]
    assert [(one.eta, one.eta_below) for one in found] == [(0.0, 0.5), (1.3, 0.9)]


def test_a_manifest_that_lacks_later_settings_is_drawn_again_without_them(generator, tmp_path):
    before = dict(guidance_below=1.0, early_guidance=1.0, eta=0.0, eta_below=0.5, contrast=0.0, postfilter=0.0)
    drawn = draw(generator, seeds=(5,), steps=1, **before)[0]
    row = manifest_row("a.png", drawn.provenance)
    manifest.write(tmp_path / "m.csv", [row], [name for name in row if name not in before])
    now = dict(guidance_below=0.5, early_guidance=2.0, eta=1.3, eta_below=0.9, contrast=1.0, postfilter=1.0)
    now = SamplingOptions.defaults(generator.spec, **now)
    [again] = ordering.of_plan(tmp_path / "m.csv", None, now, generator.spec)
    assert again.options == drawn.provenance.options()


@pytest.mark.parametrize("eta", [-0.1, 1.51, float("nan"), "1", None, True])
def test_a_share_out_of_range_is_refused(eta):
    with pytest.raises(InputError, match=r"\(eta\)"):
        SamplingOptions(eta=eta)


@pytest.mark.parametrize("level", [0.19, 1.01, float("nan"), "1", None, True])
def test_a_level_out_of_range_is_refused(level):
    with pytest.raises(InputError, match="eta_below"):
        SamplingOptions(eta_below=level)
