"""The first-block cache: faster, slightly different pictures, the same for the same recipe, and no trace after."""

from dataclasses import replace

import numpy as np
import pytest

from dermaflux.errors import InputError
from dermaflux.generator import Generator, Sample
from dermaflux.images import Provenance, read_provenance, save_synthetic
from dermaflux.models import SamplingOptions

TEXT = "This photo depicts a malignant lesion. Its colours are red and black."
THRESHOLD = 0.3


@pytest.fixture(scope="module")
def nano():
    return Generator.load("nano", device="cpu")


class Blocks:
    """Counts how often the first and the last block of a transformer are computed."""

    def __init__(self, generator):
        transformer = generator.pipe.transformer
        self.first, self.last = 0, 0
        inner = transformer.transformer_blocks[0].attn, transformer.single_transformer_blocks[-1].attn
        self._hooks = [one.register_forward_hook(self._count(i)) for i, one in enumerate(inner)]

    def _count(self, last):
        return lambda *_: setattr(self, *(("last", self.last + 1) if last else ("first", self.first + 1)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()


def run(generator, **changes):
    usual = dict(
        steps=8, candidates=1, eta_below=0.5
    )  # of 8 steps that renew noise at higher levels too, none is cut short
    return generator.sample(TEXT, SamplingOptions.defaults(generator.spec, **usual | changes))


def draw(generator, **changes):
    return [item for item in run(generator, **changes) if isinstance(item, Sample)]


def same(one, other):
    return np.array_equal(np.asarray(one.image), np.asarray(other.image))


def test_steps_that_change_little_are_cut_short_and_the_picture_changes_slightly(nano):
    whole = draw(nano)[0]
    with Blocks(nano) as blocks:
        short = draw(nano, first_block_cache=THRESHOLD)[0]
    assert blocks.first == 8 and 1 <= blocks.last < 8
    apart = np.abs(np.asarray(short.image).astype(int) - np.asarray(whole.image)).mean()
    assert 0 < apart < 12


def test_after_it_nothing_is_left_on_the_model(nano):
    before = draw(nano)[0]
    draw(nano, first_block_cache=THRESHOLD)
    assert not nano.pipe.transformer.is_cache_enabled
    unfinished = run(nano, first_block_cache=THRESHOLD)
    next(unfinished)
    unfinished.close()
    assert not nano.pipe.transformer.is_cache_enabled
    assert same(draw(nano)[0], before)


def test_runs_with_and_without_it_may_be_interleaved_and_one_left_unfinished(nano):
    asked = [dict(first_block_cache=THRESHOLD), {}, dict(first_block_cache=0.1, seeds=(3,)), dict(true_cfg=2.0)]
    alone = [draw(nano, **one)[0] for one in asked]
    left = run(nano, first_block_cache=THRESHOLD, seeds=(9,))
    next(left)
    runs, done = [run(nano, **one) for one in asked], {}
    while len(done) < len(asked):
        for place, one in enumerate(runs):
            item = next(one, None)
            if isinstance(item, Sample):
                done[place] = item
    assert all(same(done[place], one) for place, one in enumerate(alone))
    left.close()


def test_a_picture_is_the_same_alone_beside_others_and_from_its_png(nano, tmp_path):
    together = draw(nano, first_block_cache=THRESHOLD, true_cfg=1.5, seeds=(4, 5))
    assert same(draw(nano, first_block_cache=THRESHOLD, true_cfg=1.5, seeds=(5,))[0], together[1])
    path = save_synthetic(together[1].image, together[1].provenance, tmp_path / "one.png")
    recipe = read_provenance(path)
    assert recipe.first_block_cache == THRESHOLD
    *_, again = nano.redraw(recipe)
    assert same(again, together[1])
    assert not same(draw(nano, true_cfg=1.5, seeds=(5,))[0], together[1])


def test_a_recipe_of_before_there_was_one_is_without_it(nano):
    recipe = draw(nano, steps=1)[0].provenance
    old = recipe.to_json().replace(',"first_block_cache":0.0', "").replace(',"arithmetic":"float32 on cpu"', "")
    assert "first_block_cache" not in old and Provenance.from_json(old) == replace(recipe, arithmetic="")
    with pytest.raises(InputError):
        replace(recipe, first_block_cache=0.9)


@pytest.mark.parametrize("threshold", [-0.1, 0.51, float("nan"), "0.1", None, True])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(InputError, match="first-block cache"):
        SamplingOptions(first_block_cache=threshold)
