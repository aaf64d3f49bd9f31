"""The whole method as one plan: its commands exist, run in order, once, and go on where they stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import tiny_classifier
import typer
from typer.testing import CliRunner

from dermaflux import reproduce
from dermaflux.cli import app
from dermaflux.cli_options import set_options
from dermaflux.data import manifest
from dermaflux.errors import DataError, InputError
from dermaflux.evaluation.augmentation import cells
from dermaflux.reproduce import SIZES, StageFailed, check, plan, run
from dermaflux.training.autoencoder import AutoencoderOptions
from dermaflux.training.finetune import FinetuneOptions
from dermaflux.training.flow import FlowOptions

OPTIONS = {"autoencoder": AutoencoderOptions, "base": FlowOptions, "lora": FlowOptions, "augmentation": FinetuneOptions}
FEW = """
sample: data sample {data} --count 4 --out {seen}
caption: caption {seen}
    --captioner appearance
"""


@pytest.fixture
def given(tmp_path) -> dict[str, Path]:
    """Names for a plan: a manifest of small lesions in a folder with a blank in its name, and where to work."""
    folder = tmp_path / "my images"
    folder.mkdir()
    rows = [{"label": ("benign", "malignant")[i % 2], "split": "train"} for i in range(8)]
    return {
        "data": tiny_classifier.write_manifest(folder, rows),
        "seen": folder / "seen.csv",
        "work": tmp_path / "work",
        "teacher": tmp_path / "taef2.safetensors",
        "features": tmp_path / "net.tflite",
    }


@pytest.mark.parametrize("size", SIZES)
def test_every_command_of_a_plan_is_one_that_the_program_knows(size, given, tmp_path):
    """Each is read by the program's own parser, with a file or folder wherever it names one."""
    stages = plan(SIZES[size], given)
    for stage in stages:
        for word in stage.command:
            path = Path(word)
            if path.is_relative_to(tmp_path) and not path.exists():
                path.write_bytes(b"") if path.suffix else path.mkdir(parents=True)
    for stage in stages:
        command, words = typer.main.get_command(app), list(stage.command)
        context = command.make_context("dermaflux", words, resilient_parsing=True)
        while hasattr(command, "commands"):
            command, words = command.commands[words[0]], words[1:]
        context = command.make_context(stage.name, words, parent=context)
        if kind := OPTIONS.get(stage.command[1]):
            set_options(kind, context.params["others"])
    assert len({stage.name for stage in stages}) == len(stages)


def test_the_generator_of_the_embedded_size_sees_no_image_that_a_cell_does_not(given):
    words = {stage.name: stage.command for stage in plan(SIZES["embedded"], given)}
    seen = str(given["seen"])
    for name in ("autoencoder", "flow-base", "flow-lora", "diffusion-base", "diffusion-lora"):
        assert seen in words[name] and str(given["data"]) not in words[name]
    table = words["table"]
    value = lambda flag, words: words[words.index(flag) + 1]
    reals, ratios = ([float(n) for n in value(flag, table).split(",")] for flag in ("--reals", "--ratios"))
    assert value("--seen", table) == value("--seen", words["flow-table"]) == seen
    assert min(reals) >= int(value("--count", words["sample"]))
    for name in ("flow", "diffusion"):
        draw = words[f"{name}-draw"]
        assert value("--from", draw) == seen and f"{name}={value('--out', draw)}" in table
        every = cells(["probe"], reals, ratios, 1, [name])
        assert int(value("--count", draw)) >= max(round(cell.ratio * (cell.real or max(reals))) for cell in every)


def test_the_flow_is_told_before_its_baseline_is_begun_and_its_cells_serve_both(given):
    stages = {stage.name: stage for stage in plan(SIZES["embedded"], given)}
    order = list(stages)
    assert order.index("flow-table") < order.index("diffusion-base") < order.index("table")
    first, both = stages["flow-table"].command, list(stages["table"].command)
    both.remove(f"diffusion={given['work']}/diffusion/drawn")
    assert list(first) == both


def test_a_plan_names_what_it_lacks(given):
    del given["teacher"]
    with pytest.raises(InputError, match="“autoencoder” needs --teacher"):
        plan(SIZES["embedded"], given)
    assert CliRunner().invoke(app, ["reproduce", str(given["data"]), "--out", "x", "--size", "huge"]).exit_code == 2


def test_dry_run_prints_the_plan_and_does_nothing(given):
    arguments = ["reproduce", str(given["data"]), "--out", str(given["work"]), "--size", "paper", "--dry-run"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == len(plan(SIZES["paper"], given))
    assert not given["work"].exists()


def test_stages_run_once_and_no_work_is_taken_over_by_a_plan_that_changed(given):
    stages = plan(FEW, given)
    assert [stage.name for stage in run(stages, given["work"])] == ["sample", "caption"]
    rows = manifest.read(given["seen"])
    assert len(rows) == 4 and all(row.values["caption"] for row in rows)
    assert list(run(stages, given["work"])) == []
    changed = plan(FEW.replace("--count 4", "--count 6"), given)
    with pytest.raises(InputError, match=r"stage “sample” was done by .*--count 4.*another --out"):
        list(run(changed, given["work"]))
    assert len(manifest.read(given["seen"])) == 4
    assert "data sample" in (given["work"] / reproduce.LOG).read_text()
    (given["work"] / reproduce.DONE).write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        list(run(stages, given["work"]))


def test_two_plans_do_not_work_in_one_folder(given):
    first = run(plan(FEW, given), given["work"])
    next(first)
    with pytest.raises(InputError, match="Another process works in"):
        next(run(plan(FEW, given), given["work"]))
    first.close()
    assert [stage.name for stage in run(plan(FEW, given), given["work"])] == ["sample", "caption"]


def test_a_manifest_with_too_few_images_is_refused_before_the_first_stage(given):
    for name in ("teacher", "features"):
        given[name].write_bytes(b"")
    words = ["reproduce", given["data"], "--out", given["work"], "--teacher", given["teacher"]]
    done = CliRunner().invoke(app, [str(word) for word in [*words, "--features", given["features"]]])
    assert done.exit_code == 2 and "needs 1990 images of the split train" in done.stderr and not given["work"].exists()
    table = plan("table: evaluate augmentation {data} --reals 4,8 --validation val --test val", given)
    with pytest.raises(DataError, match="both labels in the split val"):
        check(table, given["data"])


def test_at_a_terminal_a_stage_has_one_too(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    asked = "import sys; print('a terminal' if sys.stderr.isatty() else 'none')"
    assert reproduce._call([sys.executable, "-c", asked], tmp_path / "log.txt") == 0
    assert "\na terminal" in (tmp_path / "log.txt").read_text()


def test_a_stage_that_fails_stops_the_plan_and_is_tried_again(given):
    stages = plan(FEW.replace("--count 4", "--count 9"), given)
    with pytest.raises(StageFailed, match="“sample” ended with status 2"):
        list(run(stages, given["work"]))
    assert "there are only 8" in (given["work"] / reproduce.LOG).read_text()
    assert [stage.name for stage in run(plan(FEW, given), given["work"])] == ["sample", "caption"]


def test_a_plan_that_is_killed_goes_on_and_leaves_no_stage_running(given):
    waiting = (
        "import signal, sys; from pathlib import Path; from dermaflux import reproduce\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a suite in the background may ignore it
        "reproduce._call = lambda command, log, call=reproduce._call: call(\n"
        "    command if 'sample' in command else [sys.executable, '-c', 'import time; time.sleep(600)'], log)\n"
        "import json; given = {k: Path(v) for k, v in json.loads(sys.argv[1]).items()}\n"
        "for stage in reproduce.run(reproduce.plan(sys.argv[2], given), given['work']): print(stage.name, flush=True)\n"
    )
    names = json.dumps({name: str(path) for name, path in given.items()})
    process = subprocess.Popen([sys.executable, "-c", waiting, names, FEW], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "sample\n" and process.stdout.readline() == "caption\n"
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(20) != 0
    assert process.stdout.read() == ""  # at its end: nothing else holds the pipe
    assert [stage.name for stage in run(plan(FEW, given), given["work"])] == ["caption"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_plan_that_is_killed_at_once_takes_its_stage_with_it(processes, given, tmp_path):
    """Though it has no time to tell it; a stage shared by two processes too."""
    stage = "draw: generate --label benign --count 10000 --device cpu --out {work}/drawn"
    running = (
        "import sys; from pathlib import Path; from dermaflux import reproduce\n"
        "work = Path(sys.argv[1])\n"
        "for stage in reproduce.run(reproduce.plan(sys.argv[2], {'work': work}), work, int(sys.argv[3])): pass\n"
    )
    process = subprocess.Popen([sys.executable, "-c", running, str(given["work"]), stage, str(processes)])
    wait_for(lambda: len(list((given["work"] / "drawn").glob("*.png"))) > 1)
    begun = psutil.Process(process.pid).children(recursive=True)
    assert len(begun) >= processes
    process.kill()
    process.wait()
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in begun))


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)
