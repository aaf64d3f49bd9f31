"""The generator in use, and its exchange for another."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from original_lora import written

from dermaflux.errors import ModelUnavailable
from dermaflux.generator import Generator, Sample
from dermaflux.models import SamplingOptions
from dermaflux.slot import Choice, GeneratorSlot

TEXT = "This photo depicts a benign lesion."


class Loads:
    """Loads what is chosen, and counts; refuses models named missing."""

    def __init__(self):
        self.chosen = []

    def __call__(self, choice: Choice) -> Generator:
        self.chosen.append(choice)
        if choice.spec.name == "missing":
            raise ModelUnavailable("There is no network.")
        return Generator.from_spec(choice.spec, "cpu", choice.memory)


@pytest.fixture
def spec(tiny_folder):
    return tiny.spec(tiny_folder)


@pytest.fixture
def slot(spec) -> tuple[GeneratorSlot, Loads]:
    loads = Loads()
    return GeneratorSlot(Choice(spec), loads), loads


def pixels(generator: Generator) -> np.ndarray:
    options = SamplingOptions.defaults(generator.spec, steps=2)
    *_, sample = (item for item in generator.sample(TEXT, options) if isinstance(item, Sample))
    return np.asarray(sample.image)


def test_nothing_is_loaded_before_it_is_asked_for_and_then_once(slot):
    slot, loads = slot
    assert slot.loaded is None and not loads.chosen
    assert slot() is slot() and len(loads.chosen) == 1


def test_another_model_takes_the_place_and_the_old_one_is_released(slot, spec):
    slot, loads = slot
    old = weakref.ref(slot().pipe.transformer)
    used = slot.exchange(Choice(replace(spec, name="other"), "bf16"))
    gc.collect()
    assert old() is None
    assert slot() is used and slot.spec.name == "other" and used.plan.way.name == "bf16"
    assert len(loads.chosen) == 2


def test_another_lora_is_put_on_without_loading_the_base_again(slot, spec):
    slot, loads = slot
    generator = slot()
    with_lora = pixels(generator)
    without = slot.exchange(Choice(replace(spec, lora=None)))
    assert without is generator and len(loads.chosen) == 1 and slot.spec.lora is None
    assert not np.array_equal(pixels(without), with_lora)
    assert np.array_equal(pixels(slot.exchange(Choice(spec))), with_lora)
    assert len(loads.chosen) == 1


def test_the_same_choice_loads_nothing(slot, spec):
    slot, loads = slot
    generator = slot()
    assert slot.exchange(Choice(spec)) is generator and len(loads.chosen) == 1


def test_after_a_failure_the_former_model_is_there_when_it_is_asked_for(slot, spec):
    slot, loads = slot
    before = pixels(slot())
    with pytest.raises(ModelUnavailable, match="no network"):
        slot.exchange(Choice(replace(spec, name="missing")))
    assert slot.spec is spec and slot.loaded is None
    assert np.array_equal(pixels(slot()), before)
    assert [choice.spec.name for choice in loads.chosen] == ["tiny", "missing", "tiny"]


def test_fetching_gives_nothing_up(slot, spec):
    former, _ = slot
    generator = former()
    coming = GeneratorSlot(former.choice, lambda choice: generator, lambda choice: iter([choice.spec.name]))
    assert coming() is generator
    assert list(coming.fetch(Choice(replace(spec, name="other")))) == ["other"]
    assert coming.loaded is generator and coming.spec is spec and pixels(generator).size


def test_a_run_left_unfinished_does_not_keep_the_old_model(slot, spec):
    slot, _ = slot
    generator = slot()
    unfinished = generator.sample(TEXT, SamplingOptions.defaults(spec, steps=4))
    next(unfinished)
    old = weakref.ref(generator.pipe.transformer)
    slot.exchange(Choice(replace(spec, name="other")))
    gc.collect()
    assert old() is None
    unfinished.close()


def test_a_lora_that_cannot_be_read_changes_nothing(slot, spec, tmp_path):
    slot, _ = slot
    generator, before = slot(), pixels(slot())
    with pytest.raises(ModelUnavailable):
        slot.exchange(Choice(replace(spec, lora=replace(spec.lora, source=str(tmp_path)))))
    assert slot() is generator and slot.spec is spec
    assert np.array_equal(pixels(generator), before)


def test_a_damaged_lora_does_not_cost_the_model_that_is_loaded(slot, spec, tmp_path):
    slot, loads = slot
    generator = slot()
    key = "transformer.transformer_blocks.0.attn.to_q.lora_{}.weight"
    damaged = written(tmp_path, {key.format("A"): torch.ones(4), key.format("B"): torch.ones(4)})
    with pytest.raises(ModelUnavailable, match="is damaged"):
        slot.exchange(Choice(replace(spec, lora=damaged)))
    assert slot.loaded is generator and len(loads.chosen) == 1
