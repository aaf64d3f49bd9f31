"""The whole method as one plan: each stage a command of `python -m dermaflux`, resumed where it stopped."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dermaflux.data import manifest
from dermaflux.errors import DataError, DermaFluxError, InputError
from dermaflux.files import alone_in, write_atomically
from dermaflux.lesion import LABELS

_BEFORE = """
sample: data sample {data} --count 250 --out {seen}
caption: caption {seen}
autoencoder: train autoencoder {seen} --teacher {teacher} --out {work}/autoencoder
    --steps 1200 --set phantoms=1500 --set views=2000 --set pieces_steps=3000 --set detail_steps=600
text: train text --out {work}/text --steps 800 --learning-rate 2e-3
"""
_GENERATOR = """
NAME-base: train base {seen} --autoencoder {work}/autoencoder/vae --texts {work}/text --teacher {teacher}
    --out {work}/NAME/base --count 3000 --steps 8000 --batch 32 --learning-rate 8e-4 --objective NAME
    --set distil_from=1 --set compiled=1 --set time_mean=0.4 --set time_spread=1.4
NAME-lora: train lora {seen} --base {work}/NAME/base/pipeline --teacher {teacher} --out {work}/NAME/lora
    --steps 2500 --batch 32 --learning-rate 8e-4 --captions-from appearance
    --set warmup=60 --set compiled=1 --set time_mean=0.4 --set time_spread=1.4
NAME-draw: generate --model {work}/NAME/base/pipeline --lora {work}/NAME/lora/lora --from {seen} --label both
    --count 7960 --guidance 1.5 --guidance-below 1 --eta 0 --candidates 1 --postfilter 0 --memory bf16 --compile
    --out {work}/NAME/drawn
NAME-realism: evaluate realism {data} {work}/NAME/drawn --features {features}
"""
_TABLE = """
NAME: evaluate augmentation {data} DRAWN --seen {seen} --out {work}/table
    --reals 250,500,1000,1990 --ratios 0,1,1.75,4 --seeds 3 --archs probe,test_vit3 --features {features}
    --validation val --test val --set pretrained=0 --set image_size=96 --set steps=600 --set learning_rate=1e-3
    --set patience=0 --set check_every=600
"""
_DRAWN = "flow={work}/flow/drawn", "diffusion={work}/diffusion/drawn"
EMBEDDED = (
    _BEFORE
    + _GENERATOR.replace("NAME", "flow")
    + _TABLE.replace("NAME", "flow-table").replace("DRAWN", _DRAWN[0])
    + _GENERATOR.replace("NAME", "diffusion")
    + _TABLE.replace("NAME", "table").replace("DRAWN", " ".join(_DRAWN))
)
"""On models small enough for two processor cores. Autoencoder, both generators and the attributes that they are asked
for come from 250 real images and from phantoms alone, and every cell of the table holds those 250 first, so that none
learns, by way of a generator, of an image that is not its own. Cells are trained to the end, whatever the images that
they are tried on say of them on the way. The table of the flow is there before the baseline is begun, and its cells
are taken over."""

PAPER = """
sample: data sample {data} --count 2500 --out {seen}
caption: caption {seen} --captioner llama
lora: train lora {seen} --base flux1-dev --captions-from manifest --out {work}/flow/lora --steps 20000
draw: generate --model flux1-dev --lora {work}/flow/lora/lora --from {seen} --label both --count 40000
    --out {work}/flow/drawn
table: evaluate augmentation {data} flow={work}/flow/drawn --seen {seen} --out {work}/table
    --reals 2500,5000,7500,10000 --ratios 0,1,1.25,1.5,1.75,2,3,4 --seeds 5
    --archs vit_base_patch16_224,resnext50_32x4d
"""
"""As the method: FLUX.1-dev, captions by Llama 3.2 Vision, pretrained classifiers, and a manifest that `data merge` and
`data split` made of the public sets."""

SIZES: Mapping[str, str] = {"embedded": EMBEDDED, "paper": PAPER}
TABLE = "evaluate augmentation"
SHARED = ("generate", TABLE)
"""The commands whose work several processes can share."""
DONE, LOG = "done.json", "log.txt"


class StageFailed(DermaFluxError):
    """A stage ended with an error; what it had done is kept."""


@dataclass(frozen=True)
class Stage:
    """The words of a command after `python -m dermaflux`, and the name by which it is known to be done."""

    name: str
    command: tuple[str, ...]

    def line(self) -> str:
        return f"python -m dermaflux {shlex.join(self.command)}"


def plan(text: str, given: Mapping[str, Path]) -> list[Stage]:
    """The stages that `text` lists as `name: command`, a longer command going on in indented lines.

    given: what stands for each {key}. Raises InputError, naming a missing one.
    """
    stages = []
    for line in text.strip().replace("\n    ", " ").splitlines():
        name, _, command = line.partition(": ")
        try:
            words = tuple(word.format_map(given) for word in command.split())  # split first: a path may hold blanks
        except KeyError as missing:
            raise InputError(f"The stage “{name}” needs --{missing.args[0]}.") from None
        if name:
            stages.append(Stage(name, words))
    return stages


def check(stages: Sequence[Stage], data: Path) -> None:
    """Whether the manifest `data` has what the stages' tables of augmentation take of it. Raises DataError."""
    for stage in stages:
        if " ".join(stage.command[:2]) != TABLE:
            continue
        options = dict(zip(stage.command, stage.command[1:], strict=False))
        most = max(int(real) for real in options["--reals"].split(","))
        if (there := len(manifest.read(data, "train"))) < most:
            raise DataError(f"The plan needs {most} images of the split train; {data} has {there}.")
        for split in (options.get("--validation", "val"), options.get("--test", "test")):
            if {row.label for row in manifest.read(data, split)} != set(LABELS):
                raise DataError(f"The plan needs images of both labels in the split {split} of {data}.")


def run(stages: Sequence[Stage], work: Path, processes: int = 1) -> Iterator[Stage]:
    """Run the stages that are not done, in their order, yielding each as it begins; `work/done.json` says which are.

    Output goes to the terminal and to `work/log.txt`. processes: how many share a stage that can be shared. Raises
    InputError if `work` is another process's, or holds a stage that was done by another command, StageFailed.
    """
    with alone_in(work):
        yield from _run(stages, work, processes)


def _run(stages: Sequence[Stage], work: Path, processes: int) -> Iterator[Stage]:
    kept = work / DONE
    done = _done(kept)
    for stage in stages:
        if done.get(stage.name, list(stage.command)) != list(stage.command):
            before = shlex.join(done[stage.name])
            raise InputError(
                f"In {work} the stage “{stage.name}” was done by “{before}”, which is not what the plan says now, and "
                "what came after it rests on that. Give another --out, or delete this one."
            )
    several = ("-m", "torch.distributed.run", "--nproc_per_node", str(processes)) if processes > 1 else ()
    for stage in stages:
        if stage.name in done:
            continue
        yield stage
        shared = several if " ".join(stage.command).startswith(SHARED) else ()
        status = _call((sys.executable, *shared, "-m", "dermaflux", "--end-with-input", *stage.command), work / LOG)
        if status:
            raise StageFailed(
                f"The stage “{stage.name}” ended with status {status}; its output is in {work / LOG}. The same command "
                "goes on from there."
            )
        done[stage.name] = list(stage.command)
        text = json.dumps(done, indent=2) + "\n"
        write_atomically(kept, lambda file, text=text: file.write(text.encode()))


def _done(path: Path) -> dict[str, list[str]]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        raise DataError(f"{path} is damaged. Give another --out, or delete its folder.") from None


def _call(command: Sequence[str], log: Path) -> int:
    """Run `command` with its output shown and added to `log`; its exit status. Where that is shown at a terminal, the
    command has one too, so that it shows its progress. Its input ends with this process, even if that is killed."""
    reading, writing = _terminal() if sys.stdout.isatty() else os.pipe()
    streams = dict(stdin=subprocess.PIPE, stdout=writing, stderr=writing)
    with log.open("ab") as kept, subprocess.Popen(command, **streams) as process:
        os.close(writing)
        kept.write(f"\n$ {shlex.join(command)}\n".encode())
        try:
            while piece := _read(reading):
                for stream in (kept, sys.stdout.buffer):
                    stream.write(piece)
                    stream.flush()
        except BaseException:
            process.terminate()
            raise
        finally:
            os.close(reading)
        return process.wait()


def _terminal() -> tuple[int, int]:
    try:
        import pty
    except ImportError:  # Windows has none
        return os.pipe()
    return pty.openpty()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 2**16)
    except OSError:  # how a terminal tells that its last writer has gone
        return b""
