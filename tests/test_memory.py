"""From free memory to a way of loading a model that fits, or a sentence that none does."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny

from dermaflux import memory
from dermaflux.errors import InputError, ModelUnavailable
from dermaflux.memory import WAYS, Free, plan, smaller
from dermaflux.models import MODELS, NANO

FLUX, EMBEDDED = MODELS["flux1-dev"], MODELS["nano"]


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """As if all packages that ways of loading may need were installed."""
    monkeypatch.setattr(memory, "_installed", lambda way: True)


@pytest.mark.parametrize(
    ("card", "way"),
    [
        (6, None),
        (8, None),
        (10, None),
        (12, None),
        (16, "int8-offload"),
        (20, "int4"),
        (24, "bf16-offload"),
        (32, "bf16-offload"),
        (40, "bf16"),
        (48, "bf16"),
        (80, "bf16"),
        (96, "bf16"),
    ],
)
@pytest.mark.parametrize("taken", [0.0, 0.2])
def test_flux_is_loaded_as_well_as_a_card_allows(card, way, taken):
    free = Free(card - taken, ram=64)
    if way is None:
        with pytest.raises(ModelUnavailable, match=r"FLUX.1-dev does not fit: .* nano"):
            plan(FLUX, free)
    else:
        assert plan(FLUX, free).way.name == way


def test_a_card_of_24_gb_that_a_desktop_uses_too_takes_8_bits():
    assert plan(FLUX, Free(23.0, ram=64)).way.name == "int8"


def test_a_plan_never_takes_more_than_is_free():
    for card in range(1, 100):
        for ram in (8, 16, 32, 64):
            for spec in (FLUX, EMBEDDED):
                try:
                    one = plan(spec, Free(card, ram))
                except ModelUnavailable:
                    continue
                assert one.card < card and one.ram < ram


def test_too_little_memory_in_the_machine_rules_ways_out():
    assert plan(FLUX, Free(24, ram=64)).way.name == "bf16-offload"
    with pytest.raises(ModelUnavailable, match="does not fit"):
        plan(FLUX, Free(24, ram=16))


def test_without_a_card_there_must_be_memory_for_32_bits():
    assert plan(FLUX, Free(None, ram=128)).way.name == "float32"
    with pytest.raises(ModelUnavailable, match="no card and 23"):
        plan(FLUX, Free(None, ram=23))
    assert plan(EMBEDDED, Free(None, ram=2)).way.name == "float32"
    assert plan(EMBEDDED, Free(4, ram=2)).way.name == "bf16"


@pytest.mark.parametrize("asked", WAYS)
def test_what_is_asked_for_overrides_what_fits(asked):
    one = plan(FLUX, Free(1, ram=1), asked)
    assert one.way.name == asked
    assert one.sentence.startswith(WAYS[asked].title[0].upper()) and "GB" in one.sentence


def test_the_outlook_says_how_a_model_would_be_loaded_or_why_not():
    assert "23.3 GB on the card" in memory.outlook(FLUX, Free(24, 64))
    assert "does not fit" in memory.outlook(FLUX, Free(None, 8))


@pytest.mark.parametrize(("limit", "used", "stat"), memory.CONTAINERS)
def test_a_container_has_no_more_memory_than_is_left_to_it(tmp_path, monkeypatch, limit, used, stat):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * memory.GB))
    assert memory.free_ram(tmp_path) == 100
    (tmp_path / limit).parent.mkdir(exist_ok=True)
    (tmp_path / used).write_text(str(5 * memory.GB))
    (tmp_path / stat).write_text(f"anon 7\ninactive_file {memory.GB}\nactive_file {memory.GB}\n")
    for text, left in ((str(16 * memory.GB), 13), (str(2**63 - 4096), 100), ("max", 100), (str(memory.GB), 0)):
        (tmp_path / limit).write_text(text + "\n")
        assert memory.free_ram(tmp_path) == left


def test_an_unknown_way_is_refused():
    with pytest.raises(InputError, match="bf16-offload"):
        plan(FLUX, Free(24, 64), "int2")


def test_ways_whose_package_is_missing_are_passed_over_and_named(monkeypatch):
    monkeypatch.setattr(memory, "_installed", lambda way: not way.package)
    with pytest.raises(ModelUnavailable, match="pip install bitsandbytes torchao"):
        plan(FLUX, Free(16, 64))
    with pytest.raises(ModelUnavailable, match="pip install torchao"):
        plan(FLUX, Free(16, 64), "int8")
    assert plan(FLUX, Free(48, 64)).way.name == "bf16"
    assert plan(FLUX, Free(16, 64), installable=True).way.name == "int8-offload"


def test_a_way_that_is_asked_for_counts_as_installed_on_a_machine_yet_to_be_set_up(monkeypatch):
    monkeypatch.setattr(memory, "_installed", lambda way: not way.package)
    assert plan(FLUX, Free(24, 64), "int4", installable=True).way.name == "int4"


@pytest.mark.parametrize("device", ["foo", "meta", "hpu", "cuda:99", ""])
def test_a_device_on_which_nothing_can_be_computed_has_nothing_free(device):
    with pytest.raises(ModelUnavailable, match=f"The device “{device}” cannot be used here. Choose cpu, or auto."):
        Free.now(device)


def test_a_smaller_way_takes_less_and_the_smallest_has_none():
    one, seen = plan(FLUX, Free(96, 64)), []
    while one:
        seen.append(one.card)
        one = smaller(one, FLUX)
    assert seen == sorted(seen, reverse=True) and len(seen) > 3


def test_the_weights_of_a_folder_are_counted_at_16_bits(tiny_folder):
    pipe = tiny.pipeline()
    weights = memory.weights_of(tiny_folder / "pipeline")
    count = lambda *models: sum(parameter.numel() for model in models for parameter in model.parameters())
    assert weights.transformer * memory.GB == pytest.approx(2 * count(pipe.transformer), rel=0.01)
    assert weights.text * memory.GB == pytest.approx(2 * count(pipe.text_encoder, pipe.text_encoder_2), rel=0.05)
    assert memory.weights_of(NANO).total < 0.2


def test_a_model_of_unknown_weights_is_measured_by_its_folder(tiny_folder):
    spec = replace(tiny.spec(tiny_folder), weights=None)
    assert 0 < plan(spec, Free(8, 8)).card < 1
