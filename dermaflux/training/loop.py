"""The training loop that every stage shares: step, log, checkpoint, resume."""

import csv
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from types import MappingProxyType

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import get_total_norm
from tqdm import tqdm

from dermaflux.errors import DermaFluxError, InputError, first_line
from dermaflux.files import alone_at, write_atomically
from dermaflux.training.precision import AUTO

MADE_OF = "made_of.json"
FREE = ("steps", "_every", "compiled", "checkpointing", "patience")
"""How the names of options end that may differ when a run goes on."""
COUNTS = (
    "steps",
    "batch",
    "accumulate",
    "captions",
    "save_every",
    "log_every",
    "check_every",
    "views",
    "most_guidance",
)
NATURALS = (
    "learning_rate",
    "weight_decay",
    "mixup",
    "patience",
    "warmup",
    "phantoms",
    "drawn_steps",
    "pieces_steps",
    "detail_steps",
)
SHARES = ("caption_dropout", "ema", "distil_from", "labels_from")
PRECISIONS = (AUTO, "no", "bf16", "fp16")
"""Options that are at least 1, those not below 0, those from 0 to 1, and what the one of that name may be."""


class TrainingDiverged(DermaFluxError, RuntimeError):
    """The loss, or its gradient, is no longer a number; the last checkpoint is kept."""


class StateNotSaved(DermaFluxError, RuntimeError):
    """A checkpoint could not be written; the one before is kept."""


class _NotANumber(ArithmeticError):
    """What `update` raises in place of a step that would spoil the weights."""


def fit(
    accelerator: Accelerator,
    step: Callable[[int], dict[str, float]],
    *,
    steps: int,
    out: Path,
    seed: int = 0,
    save_every: int = 500,
    log_every: int = 20,
    sample_every: int = 0,
    sample: Callable[[int], None] | None = None,
    done: Callable[[], bool] = lambda: False,
    made_of: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Call `step(i)` for i in [0, steps), or until `done()`, resuming from `out/checkpoint` where there is one.

    The random state is set from (seed, i) before each step, so that an interrupted run continues with exactly
    the losses of an unbroken one. What `accelerator` has prepared or registered is checkpointed.
    Of several processes each calls `step`, which must give all of them the same values; the main one alone writes and
    samples. Writes `out/loss.csv` and, at every checkpoint, its curve `out/loss.png`. made_of: what else decides the
    result, by name, as JSON can hold it. Raises InputError if `out` holds a run of more steps, or that was made of
    something else, Busy if another process is at it, TrainingDiverged if the loss, or what `update` makes of it, is not
    finite, and StateNotSaved if the disk is full.
    """
    main = accelerator.is_main_process
    # On a CPU, at the lengths of the embedded models, fused attention takes four times as long backward as a plain one.
    attention = sdpa_kernel(SDPBackend.MATH) if accelerator.device.type == "cpu" else nullcontext()
    with attention, alone_at(out / "checkpoint") if main else nullcontext():
        start = _resume(accelerator, out, made_of)
        if start > steps:
            raise InputError(f"The run in {out} has done {start} steps, more than {steps}: it cannot be made shorter.")
        log = _Log(out / "loss.csv", start)
        bar = tqdm(range(start, steps), initial=start, total=steps, desc=out.name, mininterval=5, disable=not main)
        for i in bar:
            if done():
                break
            set_seed((seed * 1_000_003 + i) % 2**32)
            try:
                values = step(i)
                if not all(map(math.isfinite, values.values())):
                    raise _NotANumber("the loss is not a number")
            except _NotANumber as error:
                if main:
                    _disproved(out, i)
                way_out = "Start again in another folder with a lower learning rate."
                raise TrainingDiverged(f"Step {i}: {error}. {_last_good(out)} {way_out}") from error
            if main:
                _proved(out)
            log.add(values)
            if main and ((i + 1) % log_every == 0 or i + 1 == steps):
                bar.set_postfix({key: f"{value:.4f}" for key, value in log.write(i + 1).items()})
            if (i + 1) % save_every == 0 or i + 1 == steps:
                _save(accelerator, out, i + 1, made_of)
                if main and log.rows:
                    log.plot()
            if sample and sample_every and (i + 1) % sample_every == 0:
                if main:
                    sample(i + 1)
                accelerator.wait_for_everyone()
        if main:
            _proved(out)


def update(
    accelerator: Accelerator, loss: torch.Tensor, optimizer, schedule, parameters, average: EMAModel | None = None
) -> None:
    """One step of the optimizer down the gradient of `loss`, its norm at most 1, and of the moving average, if any.

    Within `accelerator.accumulate` gradients are gathered until the last of its passes, which takes the step. A step
    along a gradient that is not a number is not taken, and ends the run that `fit` is at.
    """
    accelerator.backward(loss)
    if accelerator.sync_gradients:
        norm = accelerator.clip_grad_norm_(parameters, 1.0)
        if accelerator.scaler is None and not torch.isfinite(norm):  # a scaler leaves such a step out, and scales less
            raise _NotANumber("the gradient of the loss is not a number")
    optimizer.step()
    if accelerator.sync_gradients and not torch.isfinite(get_total_norm(parameters)):
        raise _NotANumber("the weights are no longer numbers")
    schedule.step()
    optimizer.zero_grad(set_to_none=True)
    if average is not None and accelerator.sync_gradients:
        average.step(parameters)


def checked(options) -> None:
    """Raises InputError, naming the field, for a value of the dataclass `options` by which no run can be made."""
    for name, value in asdict(options).items():
        if name in COUNTS and value < 1:
            raise InputError(f"{name} must be at least 1, not {value}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} must be a number, not {value}.")
        if name in SHARES and not 0 <= value <= 1:
            raise InputError(f"{name} must be from 0 to 1, not {value:g}.")
        if name in NATURALS and value < 0:
            raise InputError(f"{name} must not be below 0, as {value:g} is.")
        if name == "precision" and value not in PRECISIONS:
            raise InputError(f"{name} must be one of {', '.join(PRECISIONS)}, not “{value[:40]}”.")


def settings(options) -> dict[str, object]:
    """The fields of the dataclass `options` that decide a run's result, for `made_of` of `fit`."""
    return {name: value for name, value in asdict(options).items() if not name.endswith(FREE)}


def digest(*tensors: torch.Tensor) -> dict[str, str]:
    """What tells the images and labels in `tensors` from others, for `made_of` of `fit`."""
    found = hashlib.sha256()
    for each in tensors:
        found.update(str(tuple(each.shape)).encode())
        found.update(each.contiguous().numpy())
    return {"images": found.hexdigest()[:16]}


def _save(accelerator: Accelerator, out: Path, done: int, made_of: Mapping[str, object]) -> None:
    temporary, main = out / "checkpoint.part", accelerator.is_main_process
    if main:
        shutil.rmtree(temporary, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(temporary))
        if main:
            (temporary / MADE_OF).write_text(json.dumps(dict(made_of), indent=1))
            (temporary / "step").write_text(str(done))
    except (OSError, RuntimeError, SafetensorError) as error:  # what each of the libraries below raises on a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise StateNotSaved(
            f"The state of {done} steps cannot be written to {out}: {first_line(error)}. {_last_good(out)} Make room, "
            "and start the same command again."
        ) from error
    accelerator.wait_for_everyone()
    if main:
        final, old = out / "checkpoint", out / "checkpoint.old"
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            final.rename(old)
        os.rename(temporary, final)
    accelerator.wait_for_everyone()


def _proved(out: Path) -> None:
    """A step from the last checkpoint went well; the one before is no longer needed."""
    shutil.rmtree(out / "checkpoint.old", ignore_errors=True)


def _disproved(out: Path, done: int) -> None:
    """The first step from the checkpoint of `done` steps failed, as it would again; the one before, if it is still
    there, takes its place."""
    final, old = out / "checkpoint", out / "checkpoint.old"
    if (old / "step").exists() and (final / "step").exists() and int((final / "step").read_text()) == done:
        shutil.rmtree(final)
        old.rename(final)


def _resume(accelerator: Accelerator, out: Path, made_of: Mapping[str, object]) -> int:
    if folder := _checkpoint(out):
        now = json.loads(json.dumps(dict(made_of)))
        before = json.loads((folder / MADE_OF).read_text()) if (folder / MADE_OF).exists() else now
        if other := [name for name in {**before, **now} if before.get(name) != now.get(name)]:
            told = "; ".join(f"{name}: {str(before.get(name))[:60]}, now {str(now.get(name))[:60]}" for name in other)
            raise InputError(f"The run in {out} was made otherwise ({told}). Choose another folder, or delete it.")
        accelerator.load_state(str(folder))
        return int((folder / "step").read_text())
    return 0


def _checkpoint(out: Path) -> Path | None:
    """The folder of the last whole checkpoint of the run in `out`, if there is one."""
    folders = (out / "checkpoint", out / "checkpoint.old")
    return next((folder for folder in folders if (folder / "step").exists()), None)


def _last_good(out: Path) -> str:
    folder = _checkpoint(out)
    if folder is None:
        return "No state was saved before it."
    return f"The last good state, of {(folder / 'step').read_text()} steps, is {folder}."


class _Log:
    """Means of the values since the last line, as lines of a CSV from which steps past `start` are dropped."""

    def __init__(self, path: Path, start: int):
        self.path, self.values, self.rows = path, {}, []
        if path.exists():
            with path.open(newline="") as stream:
                self.rows = [row for row in csv.DictReader(stream) if int(row["step"]) <= start]

    def add(self, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.values.setdefault(key, []).append(value)

    def write(self, step: int) -> dict[str, float]:
        means = {key: sum(values) / len(values) for key, values in self.values.items()}
        self.rows.append({"step": step} | means)
        self.values = {}
        lines = StringIO(newline="")
        writer = csv.DictWriter(lines, self._columns(), restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, lambda file: file.write(lines.getvalue().encode()))
        return means

    def plot(self) -> None:
        """Draw the curves of the CSV as a PNG beside it."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for name in self._columns()[1:]:
            points = [(int(row["step"]), float(row[name])) for row in self.rows if row.get(name) not in (None, "")]
            axes.plot(*zip(*points, strict=True), label=name)
        axes.set(xlabel="step")
        axes.legend()
        figure.savefig(self.path.with_suffix(".png"), dpi=100)

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(["step", *(name for row in self.rows for name in row)]))
