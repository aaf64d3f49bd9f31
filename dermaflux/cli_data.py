"""`python -m dermaflux data <verb>`: public sets of skin lesions, from their owners' pages to manifests."""

import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from dermaflux.data.registry import SOURCES, Source
from dermaflux.errors import DataError, InputError

data = typer.Typer(help="Public sets of skin lesions.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="as `data list` names it")]


@data.command("list")
def list_() -> None:
    """The sets that are known: what they hold, their licence, and where their owners publish them."""
    rows = ["| Name | What | Images | Licence | Weights made from it | Where |", "|---|---|---|---|---|---|"]
    for one in SOURCES.values():
        what = f"{one.title}: {one.modality}"
        rows.append(f"| {one.name} | {what} | {one.images} | {one.licence} | {one.derivatives} | {one.home} |")
    typer.echo("\n".join(rows))


@data.command()
def fetch(name: Name, out: Annotated[Path, typer.Option(metavar="DIR", file_okay=False)]) -> None:
    """Download a set where its owner lets programs do that; else say how it is had."""
    source, program = find_source(name), shutil.which("isic")
    typer.echo(f"{source.title}, {source.licence}. Cite: {source.citation}.")
    if source.isic is None or program is None:
        typer.echo(f"{source.home}\n{source.steps}\nThen: python -m dermaflux data prepare {name} --images DIR")
        if source.isic is not None:
            typer.echo("Or install isic-cli (pip install isic-cli), and this command downloads it.")
        return
    out.mkdir(parents=True, exist_ok=True)
    command = [program, "image", "download", "--collections", str(source.isic), "--limit", "0", str(out)]
    if subprocess.run(command, check=False).returncode:
        raise DataError(f"{source.title} was not downloaded whole; start again, and isic-cli goes on. {source.home}")


@data.command()
def prepare(
    name: Name,
    images: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, exists=True, help="the set, unpacked")],
    out: Annotated[
        Path | None, typer.Option(metavar="MANIFEST.csv", help="in DIR or above it; default: DIR/manifest.csv")
    ] = None,
) -> None:
    """Read a set's folder and metadata as its owner ships them, and write a manifest."""
    from dermaflux.data.prepare import prepare as prepared
    from dermaflux.data.prepare import write

    out = out or images / "manifest.csv"
    found = prepared(find_source(name), images, out.parent)
    write(found, out)
    typer.echo("\n".join(found.lines()))


def find_source(name: str) -> Source:
    """The set called `name`. Raises InputError, naming those that are known."""
    if name not in SOURCES:
        raise InputError(f"There is no set “{name}”. Known: {', '.join(SOURCES)}.")
    return SOURCES[name]
