"""`python -m dermaflux sweep`: one or two things varied into a labelled grid, as on the page."""

from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from dermaflux.cli_options import writable
from dermaflux.errors import InputError
from dermaflux.models import SamplingOptions, find_model


def sweep(
    out: Annotated[Path, typer.Option(metavar="FILE.png", dir_okay=False)],
    x: Annotated[str, typer.Option(metavar="NAME=VALUES", help="columns, such as tone=1,4,7,10")],
    y: Annotated[str | None, typer.Option(metavar="NAME=VALUES", help="rows, such as lora_strength=0,0.5,1")] = None,
    caption: Annotated[
        str | None, typer.Option(metavar="TEXT", help="where to start from; default: a plausible lesion for the seed")
    ] = None,
    model: Annotated[str, typer.Option(envvar="DERMAFLUX_MODEL", help="a name in the registry, or a folder")] = "nano",
    lora: Annotated[str, typer.Option(envvar="DERMAFLUX_LORA", help="file, Hub id, default or none")] = "default",
    device: Annotated[str, typer.Option(envvar="DERMAFLUX_DEVICE", help="cpu, cuda, mps or auto")] = "auto",
    seed: Annotated[int, typer.Option()] = 0,
    steps: Annotated[int | None, typer.Option(help="1-50")] = None,
    guidance: Annotated[float | None, typer.Option(help="0-10, up to the model's level")] = None,
) -> None:
    """Vary one or two things, all else held fixed, into a labelled grid: a PNG that carries every cell's recipe."""
    from dermaflux import sweep as sweeps
    from dermaflux.caption import caption as worded
    from dermaflux.caption import clean, read
    from dermaflux.grid import save_grid
    from dermaflux.lesion import plausible

    writable(out)
    spec = find_model(model, lora)
    attributes = plausible(seed) if caption is None else read(clean(caption)).attributes
    text = worded(attributes, seed) if caption is None else clean(caption)
    options = SamplingOptions.defaults(spec, seeds=(seed,), steps=steps, guidance=guidance)
    base = sweeps.Base(text, attributes, options, seed)
    plan = sweeps.plan(base, *_axis(x), *(_axis(y) if y else ()))

    from dermaflux.generator import Generator

    generator = Generator.from_spec(spec, None if device == "auto" else device)
    drawn = []
    try:
        with tqdm(total=len(plan.cells), unit="image", disable=None) as bar:
            for item in sweeps.run(generator, plan):
                if isinstance(item, sweeps.Drawn):
                    drawn.append(item)
                    bar.update()
    finally:
        if drawn:
            save_grid(plan, drawn, out)
            typer.echo(f"{len(drawn)} of {len(plan.cells)} images are in {out}.", err=True)


def _axis(text: str) -> tuple[str, str]:
    name, given, values = text.partition("=")
    if not given:
        raise InputError(f"“{text[:40]}” is not NAME=VALUES, such as tone=1,4,7,10.")
    return name, values
