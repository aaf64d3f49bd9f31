"""The training loop: what it logs, and that an interrupted run ends as an unbroken one."""

import contextlib
import csv
from dataclasses import replace
from unittest.mock import MagicMock

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from dermaflux.errors import InputError
from dermaflux.training.flow import FlowOptions
from dermaflux.training.loop import StateNotSaved, TrainingDiverged, fit, settings, update

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


def test_a_run_is_made_longer_and_never_shorter(tmp_path):
    descend(tmp_path, 20)
    with pytest.raises(InputError, match="has done 20 steps, more than 10: it cannot be made shorter"):
        descend(tmp_path, 10)
    descend(tmp_path, 30)
    assert (tmp_path / "checkpoint" / "step").read_text() == "30"


def test_any_seed_can_be_trained_by(tmp_path):
    for seed in (4295, 20261127, 2**32 - 1):
        fit(Accelerator(cpu=True), lambda i: {"loss": 1.0}, steps=2, out=tmp_path / str(seed), seed=seed)


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    def step(i: int) -> dict[str, float]:
        with pytest.raises(InputError, match="Another process writes"):
            fit(Accelerator(cpu=True), lambda i: {"loss": 1.0}, steps=1, out=tmp_path)
        return {"loss": 1.0}

    fit(Accelerator(cpu=True), step, steps=1, out=tmp_path)
    assert (tmp_path / "checkpoint" / "step").read_text() == "1"


def test_a_run_shorter_than_a_line_of_the_log_has_one(tmp_path):
    fit(Accelerator(cpu=True), lambda i: {"loss": float(i)}, steps=3, out=tmp_path)
    assert (tmp_path / "loss.csv").read_text().splitlines() == ["step,loss", "3,1.0"]


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


def test_a_state_from_which_the_next_step_fails_is_not_kept_as_the_last_good_one(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"Step 10: .*The last good state, of 5 steps"):
        fit(
            Accelerator(cpu=True),
            lambda i: {"loss": float("nan") if i == 10 else 1.0},
            steps=20,
            out=tmp_path,
            save_every=5,
        )
    assert (tmp_path / "checkpoint" / "step").read_text() == "5" and not (tmp_path / "checkpoint.old").exists()
    with pytest.raises(TrainingDiverged, match=r"Step 5: .*The last good state, of 5 steps"):  # the only one stays
        fit(Accelerator(cpu=True), lambda i: {"loss": float("nan")}, steps=20, out=tmp_path, save_every=5)
    assert (tmp_path / "checkpoint" / "step").read_text() == "5"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (dict(steps=0), "steps must be at least 1, not 0"),
        (dict(save_every=0), "save_every must be at least 1, not 0"),
        (dict(accumulate=-1), "accumulate must be at least 1, not -1"),
        (dict(most_guidance=0.5), "most_guidance must be at least 1, not 0.5"),
        (dict(learning_rate=float("nan")), "learning_rate must be a number, not nan"),
        (dict(learning_rate=-0.1), "learning_rate must not be below 0, as -0.1 is"),
        (dict(away=float("inf")), "away must be a number, not inf"),
        (dict(warmup=-1), "warmup must not be below 0, as -1 is"),
        (dict(distil_from=1.1), "distil_from must be from 0 to 1, not 1.1"),
        (dict(caption_dropout=1.5), "caption_dropout must be from 0 to 1, not 1.5"),
        (dict(precision="foo"), "precision must be one of auto, no, bf16, fp16, not “foo”"),
    ],
)
def test_an_option_by_which_no_run_can_be_made_is_named(values, sentence):
    with pytest.raises(InputError, match=sentence):
        FlowOptions(**values)


def test_a_run_is_gone_on_with_only_by_what_it_was_made_of(tmp_path):
    options = FlowOptions(batch=4, steps=6)
    run = lambda options, **more: fit(
        Accelerator(cpu=True), lambda i: {"loss": 1.0}, out=tmp_path, made_of=settings(options) | more, **given
    )
    given = dict(steps=5, save_every=5)
    run(options)
    with pytest.raises(InputError, match=r"made otherwise \(batch: 4, now 8; images: None, now b\)\. Choose another"):
        run(replace(options, batch=8), images="b")
    given = dict(steps=10, save_every=5)
    run(replace(options, steps=10, compiled=1))
    assert (tmp_path / "checkpoint" / "step").read_text() == "10"


def test_a_loss_that_is_no_number_before_any_checkpoint_says_that_none_was_kept(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"Step 0: .*No state was saved before it"):
        fit(Accelerator(cpu=True), lambda i: {"loss": float("inf")}, steps=20, out=tmp_path)
    assert not (tmp_path / "checkpoint").exists()


def test_a_state_that_cannot_be_written_ends_the_run_and_keeps_the_one_before(tmp_path):
    """By a limit on the size of files, which fails where a full disk does."""
    resource = pytest.importorskip("resource")
    before, done = resource.getrlimit(resource.RLIMIT_FSIZE), []
    model = torch.nn.Linear(512, 512)
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(model)

    def step(i: int) -> dict[str, float]:
        if i == 7 and len(done) == 7:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, before[1]))
        done.append(i)
        return {"loss": 1.0}

    try:
        with pytest.raises(StateNotSaved, match=r"of 10 steps cannot be written.* of 5 steps, is .*Make room"):
            fit(accelerator, step, steps=20, out=tmp_path, save_every=5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "checkpoint" / "step").read_text() == "5" and not (tmp_path / "checkpoint.part").exists()
    fit(accelerator, step, steps=20, out=tmp_path, save_every=5)
    assert done == [*range(10), *range(5, 20)]


def test_a_step_that_spoils_the_weights_ends_the_run_before_they_are_saved(tmp_path):
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(2, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 1e38))
    schedule = accelerator.prepare(torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0))

    def step(i: int) -> dict[str, float]:
        loss = model(torch.ones(8, 2)).square().mean()
        update(accelerator, loss, optimizer, schedule, list(model.parameters()))
        return {"loss": float(loss.detach())}

    with pytest.raises(TrainingDiverged, match=r"Step 0: the weights are no longer numbers. No state was saved"):
        fit(accelerator, step, steps=20, out=tmp_path, save_every=1)
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
