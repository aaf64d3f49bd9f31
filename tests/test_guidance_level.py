"""Up to which noise level guidance counts."""

from dataclasses import replace

import pytest

from dermaflux import generator as drawing
from dermaflux import grid, ordering
from dermaflux.errors import InputError
from dermaflux.generator import Generator, Sample
from dermaflux.images import read_provenance, save_synthetic
from dermaflux.lesion import LesionAttributes
from dermaflux.models import MODELS, SamplingOptions
from dermaflux.provenance import Provenance, parameters
from dermaflux.schedule import flux_schedule, guidance_at
from dermaflux.sweep import Base
from dermaflux.synthesis import synthesise

TOKENS = 64


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_spec(MODELS["nano"], "cpu")


def draw(generator, **changes) -> Sample:
    options = SamplingOptions.defaults(generator.spec, seeds=(3,), **dict(steps=4, candidates=1) | changes)
    *_, sample = generator.sample("A benign mole.", options)
    return sample


def same(one: Sample, other: Sample) -> bool:
    return one.image.tobytes() == other.image.tobytes()


def test_guidance_counts_up_to_its_level_and_not_above():
    assert [guidance_at(level, 3.5, 1.1, 0.75) for level in (0.0, 0.75, 0.76, 1.0)] == [3.5, 3.5, 1.1, 1.1]
    assert guidance_at(1.0, 3.5, 1.1, 1.0) == 3.5, "everywhere"


def test_the_embedded_model_is_guided_late_and_flux_everywhere():
    options = {name: SamplingOptions.defaults(spec) for name, spec in MODELS.items()}
    assert (options["nano"].guidance, options["nano"].early_guidance) == (1.5, 1.1)
    levels = {name: one.guidance_below for name, one in options.items()}
    assert levels == {"nano": 0.75, "flux1-dev": 1.0, "flux1-schnell": 1.0}


def test_each_step_is_guided_by_its_own_noise_level(generator, monkeypatch):
    given, velocity_of = [], drawing.velocity_of

    def noted(pipe, x, t, prompt, guidance):
        given.append(guidance)
        return velocity_of(pipe, x, t, prompt, guidance)

    monkeypatch.setattr(drawing, "velocity_of", noted)
    draw(generator, steps=8, guidance=4.0, early_guidance=1.2, guidance_below=0.6)
    levels = flux_schedule(generator.pipe.scheduler, 8, TOKENS).sigmas[:-1].tolist()
    assert given == [4.0 if level <= 0.6 else 1.2 for level in levels]
    assert {1.2, 4.0} == set(given)


def test_what_is_guided_everywhere_nowhere_and_late_differs(generator):
    late = draw(generator, guidance=4.0, guidance_below=0.6)
    everywhere, nowhere = (draw(generator, guidance=4.0, early_guidance=1.2, guidance_below=at) for at in (1.0, 0.0))
    assert not same(late, everywhere) and not same(late, nowhere)
    assert same(nowhere, draw(generator, guidance=1.2, guidance_below=1.0))


def test_a_recipe_draws_its_image_again_from_its_png(generator, tmp_path):
    sample = draw(generator, guidance=4.0, early_guidance=1.2, guidance_below=0.6)
    recipe = read_provenance(save_synthetic(sample.image, sample.provenance, tmp_path / "one.png"))
    assert (recipe.early_guidance, recipe.guidance_below) == (1.2, 0.6)
    assert "Early guidance: 1.2, Guidance below: 0.6" in parameters(recipe)
    assert "Guidance below: 0.0" in parameters(replace(recipe, guidance_below=0))
    *_, again = generator.redraw(recipe)
    assert same(again, sample)


def test_a_recipe_of_before_is_guided_everywhere(generator):
    sample = draw(generator, guidance=4.0, early_guidance=1.0, guidance_below=1.0)
    old = sample.provenance.to_json().replace(',"early_guidance":1.0,"guidance_below":1.0', "")
    assert "guidance_below" not in old and "early" not in old and Provenance.from_json(old) == sample.provenance
    assert "Early guidance" not in parameters(sample.provenance)
    *_, again = generator.redraw(Provenance.from_json(old))
    assert same(again, sample)


@pytest.mark.parametrize(
    "wrong",
    [dict(guidance_below=value) for value in (-0.1, 1.1, float("nan"), "1", None, True)]
    + [dict(early_guidance=value) for value in (-0.1, 10.1, float("inf"), "1", None, True)],
)
def test_what_is_out_of_range_is_refused(wrong, generator):
    with pytest.raises(InputError, match=r"guidance_below|Early guidance"):
        SamplingOptions(**wrong)
    with pytest.raises(InputError):
        replace(draw(generator, steps=1).provenance, **wrong)


def test_a_folder_guided_throughout_goes_on_whatever_the_early_guidance(tiny_generator, tmp_path):
    options = SamplingOptions.defaults(tiny_generator.spec, steps=1, early_guidance=1.0)
    orders = ordering.of_attributes((LesionAttributes("benign"),), 1, options)
    list(synthesise(tiny_generator, orders, tmp_path))
    now = lambda **changes: [replace(order, options=replace(order.options, **changes)) for order in orders]
    assert all(outcome.kept for outcome in synthesise(tiny_generator, now(early_guidance=1.1), tmp_path))
    with pytest.raises(InputError, match=r"early_guidance 1.0, now 1.1"):
        list(synthesise(tiny_generator, now(early_guidance=1.1, guidance_below=0.6), tmp_path))


def test_what_counts_above_the_level_is_said_beside_it():
    said = lambda **changes: grid.described(Base("A mole.", LesionAttributes(), SamplingOptions(**changes)))
    late = said(guidance_below=0.6, early_guidance=1.0)
    assert (late["guidance up to level"], late["early guidance"]) == ("0.6", "1")
    assert "early guidance" not in said(early_guidance=2.0)
