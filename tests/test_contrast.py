"""Leading away from lesions of another asymmetry and other colours: whom it concerns, what it adds, and its recipes."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from dermaflux.caption import caption, parse
from dermaflux.conditioning import velocity_of
from dermaflux.contrast import AWAY_FROM, Lead, leads, led_share
from dermaflux.errors import InputError
from dermaflux.generator import Generator, Preview, Sample
from dermaflux.images import Provenance, read_provenance, save_synthetic
from dermaflux.latents import Noise
from dermaflux.lesion import LesionAttributes
from dermaflux.models import SamplingOptions
from dermaflux.schedule import flux_schedule

ROUND = caption(LesionAttributes("malignant", asymmetry=0, border=0, colours=("red", "black")))
LOPSIDED = caption(LesionAttributes("benign", asymmetry=2, colours=("light brown",)))
PLAIN = "A mole on pale skin."


@pytest.fixture(scope="module")
def generator(tiny_folder):
    return Generator.from_spec(tiny.spec(tiny_folder), "cpu")


def draw(generator, *texts, seeds=(0,), source=None, **changes):
    options = SamplingOptions.defaults(generator.spec, seeds=seeds, **changes)
    if len(texts) > 1:
        return list(generator.sample_each(texts, options, [LesionAttributes()] * len(texts)))
    return [item for item in generator.sample(*texts, options, source=source) if isinstance(item, Sample)]


def same(one, other):
    return np.array_equal(np.asarray(one.image), np.asarray(other.image))


def prompt_of(text):
    return torch.full([1, 4, 2], float(len(text))), torch.zeros(1, 2), torch.zeros(4, 3)


def test_a_lesion_is_led_away_from_what_its_caption_denies():
    read = []
    found = leads([ROUND, LOPSIDED, PLAIN], (5, 6, 7), 1.0, lambda text: read.append(text) or prompt_of(text))
    assert [lead.rows.tolist() for lead in found] == [[0], [0, 1]]  # lopsided is what the second is to be
    assert [lead.weight for lead in found] == [weight for _, weight, _ in AWAY_FROM]
    assert [led_share(level, found, 3) for level in (0.9, 0.1)] == [1.0, pytest.approx(1 / 3)]  # colours settle early
    lopsided, *recoloured = map(parse, read)
    assert lopsided == replace(parse(ROUND), asymmetry=2)
    for asked, other in zip((parse(ROUND), parse(LOPSIDED)), recoloured, strict=True):
        assert len(other.colours) == len(asked.colours) and not set(other.colours) & set(asked.colours)
        assert other.border == {0: 8, None: None}[asked.border]
        assert replace(other, colours=asked.colours, border=asked.border) == asked


def test_nothing_is_led_at_a_contrast_of_zero_or_where_a_caption_names_neither():
    assert leads([ROUND], (0,), 0.0, prompt_of) == leads([PLAIN, ""], (0, 1), 1.0, prompt_of) == []


def test_a_led_step_adds_the_differences_of_the_velocities_most_where_they_are_largest(generator):
    options = SamplingOptions.defaults(generator.spec, seeds=(3,), steps=1, contrast=0.5)
    pipe = generator.pipe
    encode = lambda text: pipe.encode_prompt(text, max_sequence_length=generator.spec.max_sequence_length)
    with torch.inference_mode():
        x = Noise(pipe, (3,), options, torch.device("cpu")).draw()
        t = flux_schedule(pipe.scheduler, 1, x.shape[1]).timesteps[0]
        own = velocity_of(pipe, x, t, encode(ROUND), options.guidance)
        by = own.clone()
        for change, weight, _ in AWAY_FROM:
            away = own - velocity_of(pipe, x, t, encode(change(ROUND, 3)), options.guidance)
            most = max(token.norm() for token in away[0])
            for place, token in enumerate(away[0]):
                by[0, place] += 0.5 * weight * token.norm() / most * token
        by_hand = generator._decode(x - by, options)
    [drawn] = draw(generator, ROUND, seeds=(3,), steps=1, contrast=0.5)
    distance = np.abs(np.asarray(drawn.image, float) - np.asarray(by_hand, float)).max()
    assert distance <= 1
    assert not same(draw(generator, ROUND, seeds=(3,), steps=1)[0], drawn)


def test_captions_that_are_answered_alike_lead_nowhere():
    lead = Lead("lopsided", torch.tensor([0]), prompt_of(ROUND), 4.0, 0.0)
    assert torch.equal(lead.added(torch.zeros(1, 4, 2)), torch.zeros(1, 4, 2))


def test_colours_are_led_at_high_noise_levels_alone_and_asymmetry_at_all(generator):
    source = (draw(generator, ROUND)[0].image, draw(generator, ROUND)[0].provenance)
    low = dict(source=source, steps=4, strength=0.25)
    sigmas = flux_schedule(generator.pipe.scheduler, 4, 16).sigmas.tolist()
    assert sigmas[3] < max(above for *_, above in AWAY_FROM) < sigmas[0]
    assert same(draw(generator, LOPSIDED, contrast=1.0, **low)[0], draw(generator, LOPSIDED, **low)[0])
    assert not same(draw(generator, ROUND, contrast=1.0, **low)[0], draw(generator, ROUND, **low)[0])


def test_an_image_is_the_same_alone_and_beside_others_of_other_captions(generator):
    texts, seeds = (PLAIN, ROUND, LOPSIDED), (4, 5, 6)
    together = draw(generator, *texts, seeds=seeds, contrast=1.0)
    for text, seed, sample in zip(texts, seeds, together, strict=True):
        assert same(draw(generator, text, seeds=(seed,), contrast=1.0)[0], sample)
    assert same(draw(generator, PLAIN, seeds=(4,))[0], together[0])
    assert not same(draw(generator, LOPSIDED, seeds=(6,))[0], together[2])


@pytest.mark.parametrize("more", [dict(negative="hair", true_cfg=2.0), dict(eta=1.0), dict(noise="authors")])
def test_it_goes_together_with_other_settings(generator, more):
    [led] = draw(generator, ROUND, contrast=1.0, **more)
    assert not same(led, draw(generator, ROUND, **more)[0])
    assert same(led, draw(generator, ROUND, contrast=1.0, **more)[0])


def test_the_first_block_cache_keeps_captions_and_their_contraries_apart(generator):
    full = np.asarray(draw(generator, ROUND, steps=12, contrast=1.0)[0].image, float)
    [cached] = draw(generator, ROUND, steps=12, contrast=1.0, first_block_cache=0.02)
    assert np.abs(np.asarray(cached.image, float) - full).mean() < 12
    assert same(cached, draw(generator, ROUND, steps=12, contrast=1.0, first_block_cache=0.02)[0])


def test_previews_go_on_being_told_with_time_left(generator):
    options = SamplingOptions.defaults(generator.spec, seeds=(0, 1), steps=6, contrast=1.0)
    list(generator.sample(ROUND, options))
    finishing = generator._finishing
    previews = [item for item in generator.sample(ROUND, options) if isinstance(item, Preview)]
    assert [one.step for one in previews] == [1, 2, 3, 4, 5, 6] and previews[0].steps == 6
    assert previews[0].seconds_left > previews[-1].seconds_left == pytest.approx(2 * finishing)


def test_the_recipe_keeps_it_and_draws_it_again(generator, tmp_path):
    [drawn] = draw(generator, ROUND, contrast=0.7)
    kept = read_provenance(save_synthetic(drawn.image, drawn.provenance, tmp_path / "one.png"))
    assert kept == drawn.provenance and kept.contrast == 0.7
    again = [item for item in generator.redraw(kept) if isinstance(item, Sample)]
    assert same(again[0], drawn)


def test_recipes_of_before_it_was_there_mean_none(generator):
    recipe = draw(generator, ROUND, steps=1)[0].provenance
    old = recipe.to_json().replace(',"contrast":0.0', "")
    assert "contrast" not in old and Provenance.from_json(old) == recipe


@pytest.mark.parametrize("contrast", [-0.1, 2.01, float("nan"), "1", None, True])
def test_a_contrast_out_of_range_is_refused(contrast):
    with pytest.raises(InputError, match="Contrast"):
        SamplingOptions(contrast=contrast)
