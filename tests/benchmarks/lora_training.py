"""Steps a second of `train lora` against diffusers' LoRA trainer for FLUX.1, on the same model, images and settings.

`python tests/benchmarks/lora_training.py SCRIPT` prints a Markdown table; SCRIPT is the path of diffusers'
examples/dreambooth/train_dreambooth_lora_flux.py. The model is the embedded one with an AutoencoderKL of random
weights, which SCRIPT needs. Runs alternate. A step's time is that between two steps of the optimizer, so that loading,
encoding what is kept, and saving do not count. On a busy machine the seconds of the processor that each process used
are the better measure.
"""

import argparse
import json
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "assets" / "nano"
sys.path.insert(0, str(ROOT))

SIZE, IMAGES, WARM = 256, 16, 2
CAPTION = "This photo depicts a benign lesion."
PLAIN, CACHED, OWN, COMPILED = "diffusers", "diffusers --cache_latents", "train lora", "train lora --set compiled=1"
TIMED = "--timed"


def timed(record: Path, what: str, arguments: list[str]) -> None:
    """Run a script, or the module dermaflux; writes when each step of an optimizer ended, by both clocks."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    ends: list[tuple[float, float]] = []
    register_optimizer_step_post_hook(lambda *_: ends.append((time.perf_counter(), time.process_time())))
    sys.argv = [what, *arguments]
    try:
        if what == "dermaflux":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(what, run_name="__main__")
    finally:
        record.write_text(json.dumps(ends))


def build(folder: Path) -> None:
    """Write `folder/base`, and `folder/images` with `folder/images.csv`."""
    import torch
    from diffusers import AutoencoderKL, FluxPipeline
    from PIL import Image

    from dermaflux import phantom

    torch.manual_seed(0)
    blocks = 5
    vae = AutoencoderKL(
        latent_channels=32,
        block_out_channels=(32, 32, 64, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=SIZE,
        scaling_factor=0.36,
        shift_factor=0.12,
    )
    FluxPipeline.from_pretrained(NANO, vae=vae, dtype=torch.float32).save_pretrained(folder / "base")
    (folder / "images").mkdir()
    lines = ["file,label,split,caption"]
    for seed in range(IMAGES):
        name = f"images/{seed}.png"
        Image.fromarray(phantom.draw(phantom.random_attributes(seed), seed, SIZE).image).save(folder / name)
        lines.append(f'{name},benign,train,"{CAPTION}"')
    (folder / "images.csv").write_text("\n".join(lines))


def commands(script: Path, folder: Path, steps: int, batch: int, precision: str) -> dict[str, list[str]]:
    """By name, what is run."""
    from dermaflux.training.lora import TARGETS

    theirs = {
        "pretrained_model_name_or_path": folder / "base",
        "instance_data_dir": folder / "images",
        "instance_prompt": CAPTION,
        "resolution": SIZE,
        "train_batch_size": batch,
        "max_train_steps": steps,
        "max_sequence_length": 32,
        "rank": 64,
        "lora_alpha": 64,
        "lora_layers": ",".join(TARGETS),
        "learning_rate": 1e-4,
        "lr_scheduler": "cosine",
        "guidance_scale": 1,
        "mixed_precision": precision,
        "checkpointing_steps": 10**9,
        "seed": 0,
        "output_dir": folder / "theirs",
    }
    plain = [str(script), *(f"--{name}={value}" for name, value in theirs.items())]
    given = {"base": folder / "base", "rank": 64, "batch": batch, "steps": steps, "learning-rate": 1e-4}
    options = [f"--{name}={value}" for name, value in given.items()]
    options += [f"--set=precision={precision}", "--set=distil_from=1", "--set=save_every=1000000000"]
    own = ["dermaflux", "train", "lora", str(folder / "images.csv"), *options]
    return {PLAIN: plain, CACHED: [*plain, "--cache_latents"], OWN: own, COMPILED: [*own, "--set=compiled=1"]}


def rates(name: str, command: list[str], folder: Path, run: int) -> tuple[float, float]:
    """Steps a second by the clock on the wall, and by that of the processor, of one run."""
    out = ["--out", str(folder / f"{name}{run}")] if command[0] == "dermaflux" else []
    record = folder / "steps.json"
    done = subprocess.run(
        [sys.executable, __file__, TIMED, str(record), *command, *out], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-4000:]}")
    ends = json.loads(record.read_text())[WARM:]
    return tuple((len(ends) - 1) / (last - first) for first, last in zip(ends[0], ends[-1], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", type=Path, help="diffusers' examples/dreambooth/train_dreambooth_lora_flux.py")
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")
    parser.add_argument("--skip", nargs="*", default=[], help="names of rows to leave out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build(folder)
        table = commands(given.script.resolve(), folder, given.steps, given.batch, given.precision)
        table = {name: command for name, command in table.items() if name not in given.skip}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in table}
        for run in range(given.runs):
            for name, command in table.items():
                found[name].append(rates(name, command, folder, run))
                print(run, name, found[name][-1], file=sys.stderr, flush=True)
    print(
        f"{SIZE} px, batch {given.batch}, rank 64, {given.precision}, {given.runs} runs of {given.steps} steps each.\n"
    )
    print("| | steps/s | over diffusers | steps per processor second | over diffusers |\n|---|---|---|---|---|")
    for name, each in found.items():
        cells = []
        for clock in (0, 1):
            ratios = [own[clock] / plain[clock] for own, plain in zip(each, found[PLAIN], strict=True)]
            cells.append(f"{statistics.median(rate[clock] for rate in each):.2f}")
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == [TIMED]:
        timed(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
    else:
        main()
