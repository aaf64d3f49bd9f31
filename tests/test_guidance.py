"""What is distilled beside the caption: the way from a weaker network, and from captions of worse lesions."""

from dataclasses import replace

import pytest
import tiny
import torch
from test_flow import OPTIONS, losses
from test_lora_training import phantom_pairs, pipeline

from dermaflux.errors import InputError
from dermaflux.rewording import contrary, lopsided, recoloured, worst
from dermaflux.training import flow
from dermaflux.training.flow import Flow
from dermaflux.training.guidance import Contraries, Teacher, Worse
from dermaflux.training.lora import LoraOptions
from dermaflux.training.lora_run import _led
from dermaflux.training.pairs import Pairs

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


@pytest.fixture(scope="module")
def pairs(tiny_folder) -> Pairs:
    return phantom_pairs(tiny_folder)


@pytest.fixture(scope="module")
def contraries(tiny_folder, pairs) -> Contraries:
    return Contraries.of(pairs.captions, pipeline(tiny_folder), 64, contrary)


def test_a_batch_has_one_of_each_caption_and_its_contrary_and_its_counterpart_the_other(pairs, contraries):
    flow_ = Flow(
        None, None, pairs, replace(OPTIONS, batch=32, contrast=1.0), torch.device("cpu"), worse=Worse(None, contraries)
    )
    torch.manual_seed(0)
    batch = flow_.noisy(flow_.draw(0.0), 0)
    one, [(other, _)] = flow_.worse.leads(batch, flow_.options)
    own = pairs.tokens[batch.words,].float()
    against = contraries.tokens[contraries.places[batch.words]].float()
    assert 8 < batch.swapped.sum() < 24
    for i, swapped in enumerate(batch.swapped):
        first, second = (against, own) if swapped else (own, against)
        assert torch.equal(one.tokens[i], first[i]) and torch.equal(other.tokens[i], second[i])
    assert torch.equal(one.x_t, batch.x_t) and not torch.equal(one.pooled, other.pooled)


def test_a_caption_without_asymmetry_and_border_stands_against_itself(tiny_folder, pairs):
    texts = [text if i else "A mole." for i, text in enumerate(pairs.captions)]
    some = Contraries.of(texts, pipeline(tiny_folder), 64, contrary)
    assert some.places.tolist() == [-1, *range(len(texts) - 1)]
    flow_ = Flow(
        None, None, pairs, replace(OPTIONS, batch=32, contrast=1.0), torch.device("cpu"), worse=Worse(None, some)
    )
    batch = flow_.noisy(flow_.draw(0.0), 0)
    one, [(other, _)] = flow_.worse.leads(batch, flow_.options)
    alike = [torch.equal(a, b) for a, b in zip(one.tokens, other.tokens, strict=True)]
    assert alike == [word == 0 for word in batch.words.tolist()] and any(alike)


@pytest.mark.parametrize("change", [contrary, lopsided, recoloured, worst])
def test_captions_that_name_nothing_cannot_be_led_away_from(tiny_folder, change):
    with pytest.raises(InputError, match="--set contrast"):
        Contraries.of(["A mole.", "Another."], pipeline(tiny_folder), 64, change)


@torch.no_grad()
def test_what_is_distilled_leads_from_the_empty_the_weaker_and_the_contrary(pairs, contraries):
    torch.manual_seed(0)
    student, weaker = tiny._transformer(), tiny._transformer()
    teacher = Teacher(list(student.parameters()))
    teacher.weights = [weight + 0.02 * torch.randn_like(weight) for weight in student.parameters()]
    options = replace(OPTIONS, batch=6, away=0.7, contrast=3.0)
    flow_ = Flow(student, teacher, pairs, options, torch.device("cpu"), worse=Worse(weaker, contraries))
    noisy = flow_.noisy(flow_.draw(0.0), 0)
    noisy = noisy._replace(scale=torch.tensor([1.0, 1.25, 1.5, 2.0, 3.0, 4.0]))
    asked, [(other, _)] = flow_.worse.leads(noisy, options)
    empty = noisy._replace(
        tokens=pairs.empty_tokens.float().expand_as(noisy.tokens),
        pooled=pairs.empty_pooled.float().expand_as(noisy.pooled),
    )
    one = torch.ones(6)
    with teacher.lent():
        c, u, against = (flow_.velocity(each, one) for each in (asked, empty, other))
    weak = flow_.velocity(asked, one, weaker)
    for i, more in enumerate([0, 0.5, 1, 1, 1, 1]):
        guided = u[i] + noisy.scale[i] * (c[i] - u[i])
        target = guided + more * (0.7 * (c[i] - weak[i]) + 3 * (c[i] - against[i]))
        single = type(noisy)(*(each[i : i + 1] if len(each) == 6 else each for each in noisy))
        expected = (flow_.velocity(asked, noisy.scale)[i] - target).square().mean()
        assert torch.allclose(flow_.distillation_loss(single), expected, rtol=1e-4)


@pytest.fixture(scope="module")
def worse(tiny_folder, pairs) -> Worse:
    options = LoraOptions(flow=replace(OPTIONS, worst=1.0, lopsided=1.0))
    return Worse(None, *_led(options, pairs.captions, pipeline(tiny_folder), 64))


def test_a_batch_of_captions_and_contraries_is_led_from_the_worst_of_each(pairs, worse):
    options = replace(OPTIONS, batch=32, worst=1.5, lopsided=4.0)
    flow_ = Flow(None, None, pairs, options, torch.device("cpu"), worse=worse)
    torch.manual_seed(0)
    batch = flow_.noisy(flow_.draw(0.0), 0)
    asked, found = worse.leads(batch, options)
    own = pairs.tokens[batch.words,].float()
    assert [far for _, far in found] == [1.5, 4.0] and set(batch.swapped.tolist()) == {True, False}
    for i, (word, swapped) in enumerate(zip(batch.words, batch.swapped, strict=True)):
        contrary_ = worse.contrary.tokens[worse.contrary.places[word]].float()
        assert torch.equal(asked.tokens[i], contrary_ if swapped else own[i])
        for (led, _), pair in zip(found, worse.led.values(), strict=True):
            of = pair[int(swapped)]
            same = of.places[word] < 0
            assert torch.equal(led.tokens[i], own[i] if same else of.tokens[of.places[word]].float())
            assert same or torch.equal(led.pooled[i], of.pooled[of.places[word]].float())
    assert [far for _, far in worse.leads(batch, replace(options, contrast=2.0))[1]] == [2.0, 1.5, 4.0]


@torch.no_grad()
def test_the_worst_is_distilled_beside_the_empty_caption(pairs, worse):
    torch.manual_seed(0)
    student = tiny._transformer()
    teacher = Teacher(list(student.parameters()))
    teacher.weights = [weight + 0.02 * torch.randn_like(weight) for weight in student.parameters()]
    options = replace(OPTIONS, batch=6, worst=2.0, lopsided=3.0)
    flow_ = Flow(student, teacher, pairs, options, torch.device("cpu"), worse=worse)
    noisy = flow_.noisy(flow_.draw(0.0), 0)._replace(scale=torch.full((6,), 3.0))
    asked, [(led, _), (lop, _)] = worse.leads(noisy, options)
    tokens, pooled = (each.float() for each in (pairs.empty_tokens, pairs.empty_pooled))
    empty = noisy._replace(tokens=tokens.expand_as(noisy.tokens), pooled=pooled.expand_as(noisy.pooled))
    with teacher.lent():
        c, u, x, y = (flow_.velocity(each, torch.ones(6)) for each in (asked, empty, led, lop))
    target = u + 3 * (c - u) + 2 * (c - x) + 3 * (c - y)
    expected = (flow_.velocity(asked, noisy.scale) - target).square().mean()
    assert torch.allclose(flow_.distillation_loss(noisy), expected, rtol=1e-4)


def test_a_run_with_both_that_is_killed_ends_as_an_unbroken_one(pairs, contraries, tmp_path):
    def run(out, stop=None):
        def halt(step: int) -> None:
            if step == stop:
                raise KeyboardInterrupt

        torch.manual_seed(0)
        student, weaker = tiny._transformer(), tiny._transformer().requires_grad_(False)
        options = replace(
            OPTIONS, steps=12, save_every=3, sample_every=1, log_every=1, contrast=2.0, learning_rate=1e-3
        )
        flow.train(student, pairs, out, options, halt, worse=Worse(weaker, contraries))

    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", stop=8)
    run(tmp_path / "broken")
    assert torch.equal(losses(tmp_path / "whole"), losses(tmp_path / "broken"))
