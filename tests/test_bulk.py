"""Bulk synthesis as a process: killed at any moment and gone on with, and shared between processes."""

import csv
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

KILLS, COUNT = 20, 160


def draw(folder: Path, out: Path) -> None:
    """Draw the run's images into `out`, refusing one in three, in a process of its own."""
    import torch

    from dermaflux import ordering, synthesis
    from dermaflux.generator import Generator
    from dermaflux.lesion import LABELS, LesionAttributes
    from dermaflux.models import SamplingOptions

    class Picky:
        def refusal(self, image, asked):
            return "Its mean is odd." if int(np.asarray(image).mean() * 100) % 3 == 0 else ""

    torch.set_num_threads(1)
    spec = tiny.spec(folder)
    generator = Generator.from_spec(spec, "cpu")
    lesions = [LesionAttributes(label) for label in LABELS]
    orders = ordering.of_attributes(lesions, COUNT, SamplingOptions.defaults(spec, steps=1))
    for _ in synthesis.synthesise(generator, orders, out, [Picky()]):
        time.sleep(0.01)


def finished(out: Path) -> set[Path]:
    """The images in `out`; each must be whole."""
    paths = set(out.rglob("*.png"))
    for path in paths:
        Image.open(path).load()
    return paths


@pytest.fixture(scope="module")
def processes():
    """Processes that have imported all that is heavy before they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny", "dermaflux.synthesis", "dermaflux.generator"])
    return context


def test_a_run_killed_at_twenty_random_moments_loses_doubles_and_halves_nothing(tiny_folder, processes, tmp_path):
    rng, out = random.Random(0), tmp_path / "killed"
    for kill in range(KILLS):
        before = finished(out)
        process = processes.Process(target=draw, args=(tiny_folder, out))
        process.start()
        deadline = time.monotonic() + 60
        wanted = len(before) + rng.randrange(3) if kill else 0
        while process.is_alive() and len(list(out.rglob("*.png"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.join()
        assert before <= finished(out) and process.exitcode == -signal.SIGKILL
    for folder in (out, tmp_path / "whole"):
        process = processes.Process(target=draw, args=(tiny_folder, folder))
        process.start()
        process.join()
        assert process.exitcode == 0
    killed, whole = ({path.relative_to(folder) for path in finished(folder)} for folder in (out, tmp_path / "whole"))
    assert killed == whole and len({path.name for path in killed}) == COUNT
    for name in ("manifest.csv", "rejected/manifest.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not [path for path in out.rglob("*") if path.suffix == ".part"]


def test_two_launched_processes_share_a_run(tiny_folder, tmp_path):
    plan = tmp_path / "plan.csv"
    plan.write_text("caption,seed\n" + "".join(f"A mole.,{seed}\n" for seed in (1, 2, 3, 4, 5, 1)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "dermaflux"]
    arguments = ["generate", "--model", str(tiny_folder / "pipeline"), "--lora", "none", "--steps", "1", "--size", "64"]
    arguments += ["--plan", str(plan), "--distinct", "--out", str(tmp_path / "out")]
    root = Path(__file__).parent.parent
    done = subprocess.run([*launch, *arguments], cwd=root, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        listed = [row["file"] for row in csv.DictReader(stream)]
    assert len(listed) == 5 and {path.name for path in (tmp_path / "out").glob("*.png")} == set(listed)
    assert len(finished(tmp_path / "out")) == 6
    assert done.stderr.count("5 of 6 images are in") == 1 and "Refused: 1; see" in done.stderr
