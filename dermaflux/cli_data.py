"""`python -m dermaflux data <verb>`: public sets of skin lesions, from their owners' pages to manifests."""

import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from dermaflux.data.registry import DOUBTFUL, SOURCES, Source
from dermaflux.errors import DataError, InputError

data = typer.Typer(help="Public sets of skin lesions.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="as `data list` names it")]


@data.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="of one, all that is known of it")] = None,
) -> None:
    """The sets that are known: what they hold, their licence, and where their owners publish them."""
    if name:
        typer.echo("\n".join(_page(find_source(name))))
        return
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
    if not source.isic or program is None:
        typer.echo(f"{source.home}\n{source.steps}\nThen: python -m dermaflux data prepare {name} --images DIR")
        if source.isic:
            typer.echo("Or install isic-cli (pip install isic-cli), and this command downloads it.")
        return
    out.mkdir(parents=True, exist_ok=True)
    collections = ",".join(map(str, source.isic))
    command = [program, "image", "download", "--collections", collections, "--limit", "0", str(out)]
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


@data.command()
def merge(
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST.csv...")],
    out: Annotated[Path, typer.Option(metavar="MANIFEST.csv", help="in a folder above all images")],
) -> None:
    """Put manifests together; an image that is in several comes once."""
    from dermaflux.data import curate, manifest

    rows = curate.merge(manifests, out)
    manifest.write(out, rows)
    typer.echo(f"{len(rows)} images.")


@data.command()
def split(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST.csv")],
    train: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.7,
    val: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.15,
    test: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.15,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="beside MANIFEST; default: MANIFEST")] = None,
) -> None:
    """Split a manifest: labels are spread alike, and no patient or lesion is in two splits."""
    from collections import Counter

    from dermaflux.data import curate, manifest

    out = manifest.beside(out, path)
    shares = {name: share for name, share in (("train", train), ("val", val), ("test", test)) if share}
    rows = manifest.read(path, left_out=True)
    names = curate.split(rows, shares, seed)
    manifest.write(out, [row.values | {"split": name} for row, name in zip(rows, names, strict=True)])
    counts = Counter((name, row.label) for row, name in zip(rows, names, strict=True))
    every = [(name, label) for name in shares for label in sorted({row.label for row in rows})]
    typer.echo("\n".join(f"{name}: {counts[name, label]} {label}" for name, label in every))
    for name, label in every:
        if not counts[name, label]:
            typer.echo(f"{out}: no image of the split “{name}” is {label}; try another --seed or share.", err=True)


@data.command()
def sample(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST.csv")],
    count: Annotated[int, typer.Option(min=1, help="images, with the labels in their proportion")],
    out: Annotated[Path, typer.Option(metavar="FILE.csv", help="beside MANIFEST")],
    split: Annotated[str, typer.Option(help="of which split")] = "train",
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Some of a manifest's images; a smaller sample by the same seed is part of a larger one."""
    from dermaflux.data import curate, manifest

    rows = curate.subset(manifest.read(path, split), count, seed)
    manifest.write(manifest.beside(out, path), [row.values for row in rows])


@data.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST.csv")],
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="a page of counts and samples too")] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR|FILE.tflite",
            help="find the same image by the features of a network too: of timm, by name or folder, or a classifier",
        ),
    ] = None,
    cosine: Annotated[
        float,
        typer.Option(
            min=0.5, max=1.0, help="of features from where on images count as the same; 0.9 suits ImageNet networks"
        ),
    ] = 0.9,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: one a core")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the samples")] = 0,
) -> None:
    """Look for broken and missing images, lines that cannot be used, and the same image in two splits.

    Two images are the same where at most 4 of the 64 bits of their perceptual hashes differ, or the cosine of their
    features is at least --cosine.
    """
    from dermaflux.data import features as judges
    from dermaflux.data import report as reports
    from dermaflux.data.check import check as checked
    from dermaflux.memory import best_device

    judge = judges.load(features, best_device()) if features else None
    found = checked(path, workers, judge, cosine, seed)
    typer.echo("\n".join(found.lines()))
    if report:
        reports.write(found, path.name, report)
    if found.faults or found.near:
        raise typer.Exit(1)


def _page(source: Source) -> list[str]:
    """All that is known of a set, for people."""
    of = lambda meaning: " ".join(filter(None, (meaning[0] or "left out", f"({meaning[1]})" if meaning[1] else "")))
    known = {**source.meanings, **source.folders}
    meanings = "; ".join(f"{said or 'none of these'} = {of(meaning)}" for said, meaning in known.items())
    meanings += "".join(f"; {column} “{text}” = left out" for column, text in source.left_out.items())
    where = f"of {' or '.join(filter(None, source.diagnosis))}" if source.tables else "by the names of folders"
    kept = ", ".join(f"{own} from {theirs}" for own, theirs in source.columns.items())
    shape = f"{' and '.join(source.tables)}, images by {source.image}" if source.tables else "none; folders are read"
    return [
        f"{source.title}: {source.images} images, {source.modality}.",
        f"Licence: {source.licence}. Weights made from it: {source.derivatives}.",
        f"Cite: {source.citation}.",
        f"Where: {source.home}",
        f"Metadata: {shape}{'; or metadata*.csv as isic-cli gives them' if source.isic else ''}.",
        f"Diagnoses, {where}: {meanings}.",
        f"Kept beside: {kept or 'nothing'}.",
        *(f"In doubt, {name}: {what}." for name, what in DOUBTFUL.items()),
    ]


def find_source(name: str) -> Source:
    """The set called `name`. Raises InputError, naming those that are known."""
    if name not in SOURCES:
        raise InputError(f"There is no set “{name}”. Known: {', '.join(SOURCES)}.")
    return SOURCES[name]
