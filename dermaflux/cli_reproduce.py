"""`python -m dermaflux reproduce`: the whole method, stage by stage."""

from pathlib import Path
from typing import Annotated

import typer

from dermaflux.errors import InputError


def reproduce(
    data: Annotated[Path, typer.Argument(metavar="MANIFEST.csv", dir_okay=False, exists=True)],
    work: Annotated[Path, typer.Option("--out", metavar="DIR", file_okay=False)],
    size: Annotated[str, typer.Option(help="embedded or paper")] = "embedded",
    teacher: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, exists=True, help="TAEF2 as safetensors; embedded")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE.tflite", dir_okay=False, exists=True, help="an ImageNet MobileNetV2; embedded"),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="that share drawing and the table's cells")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print the commands")] = False,
) -> None:
    """The whole method: captions, generator, synthetic images, classifiers, the table of what synthesis buys.

    Each stage is a command of its own, which --dry-run prints. What is done stays done: the same command goes on where
    it was interrupted. The splits train and val of MANIFEST (for the paper's size also test) are used; beside it a
    manifest of the images that the generator learns from is written, named after DIR.
    """
    import signal
    import sys

    from dermaflux.reproduce import SIZES, check, plan, run

    if size not in SIZES:
        raise InputError(f"--size must be one of {', '.join(SIZES)}, not “{size[:40]}”.")
    given = {"data": data, "work": work, "seen": data.with_name(f"{data.stem}-{work.resolve().name}.csv")}
    given |= {name: path for name, path in (("teacher", teacher), ("features", features)) if path}
    stages = plan(SIZES[size], given)
    if dry_run:
        typer.echo("\n".join(stage.line() for stage in stages))
        return
    check(stages, data)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the stage under way ends too
    for stage in run(stages, work, processes):
        typer.echo(f"{stage.name}: {stage.line()}")
