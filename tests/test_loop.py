"""The training loop: what it logs, and that an interrupted run ends as an unbroken one."""

import contextlib
import csv
from unittest.mock import MagicMock

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from dermaflux.training.loop import TrainingDiverged, fit, update

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def descend(out, steps: int, stop: int | None = None) -> torch.Tensor:
    """Fit a line by random batches, interrupted before step `stop`; returns its weights."""
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(2, 1)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))

    def step(i: int) -> dict[str, float]:
        if i == stop:
            raise KeyboardInterrupt
        x = torch.randn(8, 2)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        return {"late" if i >= 20 else "early": float(loss.detach())}

    with contextlib.suppress(KeyboardInterrupt):
        fit(accelerator, step, steps=steps, out=out, save_every=10, log_every=5)
    return torch.cat([p.detach().flatten() for p in accelerator.unwrap_model(model).parameters()])


def test_an_interrupted_run_ends_as_an_unbroken_one(tmp_path):
    whole = descend(tmp_path / "whole", 40)
    descend(tmp_path / "broken", 40, stop=27)
    assert torch.equal(descend(tmp_path / "broken", 40), whole)
    assert (tmp_path / "broken" / "loss.csv").read_text() == (tmp_path / "whole" / "loss.csv").read_text()


def test_the_log_means_each_loss_over_the_steps_that_had_it_and_draws_its_curve(tmp_path):
    descend(tmp_path, 40)
    with (tmp_path / "loss.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == [str(step) for step in range(5, 45, 5)]
    assert [bool(row["early"]) for row in rows] == [True] * 4 + [False] * 4
    assert [bool(row["late"]) for row in rows] == [False] * 4 + [True] * 4
    with Image.open(tmp_path / "loss.png") as curve:
        assert min(curve.size) > 300


def test_a_loss_that_is_not_a_number_ends_the_run_and_keeps_the_last_good_state(tmp_path):
    fit(Accelerator(cpu=True), lambda i: {"loss": 1.0}, steps=10, out=tmp_path, save_every=5)
    kept = tmp_path / "checkpoint"
    with pytest.raises(TrainingDiverged, match=f"Step 12: .*The last good state, of 10 steps, is {kept}"):
        fit(Accelerator(cpu=True), lambda i: {"loss": float("nan") if i == 12 else 1.0}, steps=20, out=tmp_path)
    assert (kept / "step").read_text() == "10"


def test_a_loss_that_is_no_number_before_any_checkpoint_says_that_none_was_kept(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"Step 0: .*No state was saved before it"):
        fit(Accelerator(cpu=True), lambda i: {"loss": float("inf")}, steps=20, out=tmp_path)
    assert not (tmp_path / "checkpoint").exists()


def test_a_gradient_that_is_not_a_number_ends_the_run_before_it_spoils_the_weights(tmp_path):
    accelerator = Accelerator(cpu=True)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, schedule = accelerator.prepare(torch.optim.SGD([weight], 0.1)), MagicMock()

    def step(i: int) -> dict[str, float]:
        loss = (weight * (0 if i == 7 else 1)).sqrt().sum()  # finite, with an infinite slope at 0
        update(accelerator, loss, optimizer, schedule, [weight])
        return {"loss": float(loss.detach())}

    with pytest.raises(TrainingDiverged, match=r"Step 7: the gradient of the loss.* of 6 steps"):
        fit(accelerator, step, steps=20, out=tmp_path, save_every=3)
    assert weight.isfinite().all()
