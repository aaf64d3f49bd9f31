"""The rectified-flow loop on a small transformer: what trains, what is distilled, how it resumes."""

import csv
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import FluxTransformer2DModel

from dermaflux.training import flow
from dermaflux.training.flow import FlowOptions
from dermaflux.training.guidance import Teacher
from dermaflux.training.pairs import Pairs

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
OPTIONS = FlowOptions(steps=24, batch=4, learning_rate=1e-2, warmup=2, distil_from=0.5, precision="no", save_every=6)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Six random images in two views with two wordings."""
    g = torch.Generator().manual_seed(0)
    transformer = tiny._transformer().config
    width, pooled = transformer.joint_attention_dim, transformer.pooled_projection_dim
    draw = lambda *shape: torch.randn(*shape, generator=g).half()
    part = {"latents.4x4": draw(6, 2, 16, transformer.in_channels), "words.4x4": torch.arange(12).view(6, 2)}
    part |= {"tokens": draw(12, 8, width), "pooled": draw(12, pooled)}
    return Pairs.of([part | {"empty_tokens": draw(8, width), "empty_pooled": draw(pooled)}])


def train(pairs: Pairs, out: Path, stop: int | None = None, **changes):
    """Train a fresh transformer, interrupted once `stop` steps are done; returns its weights."""
    torch.manual_seed(0)
    transformer = tiny._transformer()

    def halt(step: int) -> None:
        if step == stop:
            raise KeyboardInterrupt

    options = FlowOptions(**{**vars(OPTIONS), "sample_every": 1} | changes)
    try:
        flow.train(transformer, pairs, out, options, halt)
    except KeyboardInterrupt:
        return None
    return transformer.state_dict()


def losses(out: Path) -> torch.Tensor:
    """All that `out/loss.csv` says, row by row."""
    with (out / "loss.csv").open(newline="") as stream:
        return torch.tensor([float(value) for row in csv.DictReader(stream) for value in row.values() if value])


def test_a_run_killed_while_distilling_ends_as_an_unbroken_one(pairs, tmp_path):
    whole = train(pairs, tmp_path / "whole")
    assert train(pairs, tmp_path / "broken", stop=20) is None
    again = train(pairs, tmp_path / "broken")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_the_teacher_is_the_average_as_distillation_began_and_is_lent_for_a_pass_only():
    weights = [torch.nn.Parameter(torch.ones(3))]
    average = flow.EMAModel(weights, decay=0.5)
    teacher = Teacher(weights)
    teacher.take(average)
    weights[0].data.fill_(5)
    average.step(weights)
    teacher.take(average)
    with teacher.lent():
        assert weights[0].eq(1).all()
    assert weights[0].eq(5).all()


def test_every_second_step_of_the_last_part_distils_guidance(pairs, tmp_path):
    train(pairs, tmp_path)
    with (tmp_path / "loss.csv").open(newline="") as stream:
        first, *_ = csv.DictReader(stream)
    assert float(first["matching"]) > 0 and float(first["distillation"]) >= 0


def test_time_is_drawn_towards_noise_as_the_options_say(pairs):
    late = flow.Flow(None, None, pairs, FlowOptions(batch=4000, time_mean=0.8, time_spread=1.5), "cpu")
    even = flow.Flow(None, None, pairs, FlowOptions(batch=4000, time_mean=0.0, time_spread=1.0), "cpu")
    torch.manual_seed(0)
    shares = [(one.draw(0.1).t > 0.95).float().mean().item() for one in (late, even)]
    assert 0.05 < shares[0] < 0.1 and shares[1] < 0.01


@pytest.mark.parametrize("changes", [dict(batch=2, accumulate=3), dict(batch=6, checkpointing=1)])
def test_gathered_gradients_and_recomputed_activations_give_the_losses_of_one_large_batch(changes, pairs, tmp_path):
    short = dict(steps=10, log_every=1, learning_rate=1e-3)
    one = train(pairs, tmp_path / "one", batch=6, **short)
    other = train(pairs, tmp_path / "other", **changes | short)
    assert len(losses(tmp_path / "one")) == 20
    assert torch.allclose(losses(tmp_path / "one"), losses(tmp_path / "other"), rtol=1e-5)
    assert all(torch.allclose(one[name], other[name], atol=2e-5) for name in one)


def test_a_transformer_without_a_guidance_embedding_is_matched_only(pairs, tmp_path):
    config = dict(tiny._transformer().config) | {"guidance_embeds": False}
    transformer = FluxTransformer2DModel.from_config(config)
    flow.train(transformer, pairs, tmp_path, FlowOptions(**{**vars(OPTIONS), "steps": 4, "log_every": 2}))
    assert (tmp_path / "loss.csv").read_text().startswith("step,matching\n2,")


def test_another_objective_takes_the_place_of_the_flow(pairs, tmp_path):
    class Early(flow.Flow):
        def times(self, count: int) -> torch.Tensor:
            return torch.full((count,), 0.25)

        def matching_loss(self, noisy: flow.Noisy) -> torch.Tensor:
            assert noisy.t.eq(0.25).all()
            return 0 * super().matching_loss(noisy) + 7

    options = FlowOptions(**{**vars(OPTIONS), "steps": 2, "log_every": 1, "distil_from": 1.0})
    flow.train(tiny._transformer(), pairs, tmp_path, options, objective=Early)
    assert losses(tmp_path).tolist() == [1, 7, 2, 7]
