"""`python -m dermaflux study <verb>`: a blinded reader study, from its pictures to its report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermaflux.errors import InputError
from dermaflux.settings import from_env, names

if TYPE_CHECKING:
    from dermaflux.study.store import Store

study = typer.Typer(help="A blinded study in which dermatologists read images.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="as `study list` names it")]
Where = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="DERMAFLUX_STUDIES",
        metavar="FILE|URL",
        help="SQLite file or postgresql:// URL; default: the page's",
    ),
]
Folder = Annotated[Path, typer.Option(metavar="DIR", file_okay=False)]
Synthetic = Annotated[Path | None, typer.Option(metavar="DIR|MANIFEST", exists=True, help="synthetic images")]
Real = Annotated[Path | None, typer.Option(metavar="DIR|MANIFEST", exists=True, help="real images; may be left out")]
STORE = ""


@study.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    cases: Annotated[int, typer.Option(help="how many, practice cases not counted")],
    password: Annotated[
        str,
        typer.Option(
            envvar="DERMAFLUX_STUDY_PASSWORD",
            help="the owner's; asked for if not given",
            prompt=True,
            hide_input=True,
            confirmation_prompt=True,
        ),
    ],
    synthetic: Synthetic = None,
    real: Real = None,
    repeats: Annotated[float, typer.Option(help="share of the cases that is shown twice")] = 0.1,
    strata: Annotated[str, typer.Option(help="what cases are balanced by: label, tone")] = "label",
    questions: Annotated[
        str, typer.Option(help="source, realism, diagnosis, attributes, artefacts, match; default: all that apply")
    ] = "",
    closes: Annotated[str | None, typer.Option(metavar="DATE", help="last day, or date and time, in UTC")] = None,
    training: Annotated[
        Path | None,
        typer.Option(metavar="MANIFEST.csv", exists=True, dir_okay=False, help="what the model was trained on"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the choice of cases and of their orders")] = 0,
    store: Where = STORE,
) -> None:
    """Choose the cases of a study and store them, all made alike; report near-duplicates.

    Readers come in after `study open`.
    """
    from dermaflux.study import owner

    opened, until = _open(store), owner.closing(closes or "", "--closes")
    wanted = owner.Wanted(name, cases, synthetic, real, repeats, names(strata), names(questions), until, training, seed)
    made = owner.create(opened, wanted, password)
    typer.echo(f"The study is in {opened.place}.")
    typer.echo("\n".join(made.lines()))
    typer.echo("Open it with `study open`, and invite readers with `study invite`.")


@study.command("open")
def open_(name: Name, store: Where = STORE) -> None:
    """Let readers in."""
    _open(store).open(name)


@study.command()
def close(name: Name, store: Where = STORE) -> None:
    """Let nobody answer any more."""
    _open(store).close(name)


@study.command()
def delete(name: Name, store: Where = STORE) -> None:
    """Delete a study that nobody has answered in, with its links. This cannot be undone; its log stays."""
    _open(store).delete(name)


@study.command()
def invite(
    name: Name,
    count: Annotated[int, typer.Argument(min=1, metavar="N", help="how many readers")] = 1,
    page: Annotated[str, typer.Option(metavar="URL", help="where the page is served")] = "http://127.0.0.1:7860",
    store: Where = STORE,
) -> None:
    """Print the link of each new reader. It is shown this once and cannot be looked up."""
    from dermaflux.study.access import link

    for pseudonym, token in _open(store).invite(name, count):
        typer.echo(f"{pseudonym}\t{link(page, token)}")


@study.command("list")
def list_(store: Where = STORE) -> None:
    """All studies, with how far each reader is."""
    opened = _open(store)
    for one in opened.studies():
        until = f", closes {one.closes}" if one.closes else ""
        typer.echo(f"{one.name}: {one.state}, {one.protocol.cases} cases, {one.readers} readers{until}")
        for reader in opened.readers(one.name):
            state = "withdrawn" if reader.withdrawn else f"{reader.done} of {reader.total} answers"
            typer.echo(f"  {reader.reader}: {state}")


@study.command()
def log(name: Name, store: Where = STORE) -> None:
    """Print what the owner did, and withdrawals: when, what, detail. A log outlives a study that is deleted."""
    for event in _open(store).events(name):
        typer.echo("\t".join(event))


@study.command()
def export(name: Name, out: Folder, store: Where = STORE) -> None:
    """Write readings.csv, a row a case and reader, and codebook.md; readers by their pseudonyms."""
    _write(_open(store).readings(name, log="exported"), out)


def _write(table, out: Path) -> None:
    from dermaflux.study import owner

    written, _ = owner.export(table, out)
    typer.echo(f"{len(table)} readings in {written}.")


@study.command()
def backup(
    out: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, help="a new file; it is itself a store")],
    store: Where = STORE,
) -> None:
    """Copy all studies to a SQLite file while readers go on."""
    typer.echo(f"Copied to {_open(store).backup(out)}.")


@study.command()
def withdraw(
    name: Name,
    reader: Annotated[str, typer.Argument(metavar="READER", help="pseudonym, such as R01")],
    store: Where = STORE,
) -> None:
    """Delete all that a reader answered and said of themselves. This cannot be undone."""
    _open(store).withdraw(name, reader)


@study.command()
def flags(
    name: Name,
    synthetic: Annotated[Path, typer.Option(metavar="DIR|MANIFEST", exists=True, help="where its images came from")],
    out: Annotated[Path, typer.Option(metavar="MANIFEST.csv", dir_okay=False, help="in the images' folder")],
    readers: Annotated[int, typer.Option(min=1, help="how many must have flagged an image, if the owner did not")] = 1,
    store: Where = STORE,
) -> None:
    """Write the images' manifest with a column `left_out`: yes for those that readers or the owner flagged."""
    from dermaflux.study import owner

    left, every = owner.leave_out(_open(store), name, synthetic, out, readers)
    typer.echo(f"{left} of {every} images are left out.")


@study.command()
def report(
    out: Folder,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="as `study list` names it")] = None,
    readings: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", exists=True, dir_okay=False, help="of an export, in its stead")
    ] = None,
    margin: Annotated[float, typer.Option(min=0.01, max=0.5, help="of equivalence to chance, as a share")] = 0.1,
    store: Where = STORE,
) -> None:
    """Write the report of a study, or of an export, as HTML and Markdown."""
    from dermaflux.study import readings as tables
    from dermaflux.study import report as reports

    if (name is None) == (readings is None):
        raise InputError("Give either the name of a study, or --readings with the CSV of an export.")
    if readings:
        reports.write(tables.read(readings), out, margin)
    else:
        reports.write_study(_open(store), name, out, margin)
    typer.echo(f"The report is in {out}.")


@study.command()
def plan(
    margin: Annotated[float, typer.Option(help="of equivalence to chance, as a share")] = 0.1,
    power: Annotated[float, typer.Option(help="with which a study shows it where there is no difference")] = 0.8,
    readers: Annotated[str, typer.Option(help="numbers of readers, separated by commas")] = "3,5,8,12,20",
) -> None:
    """Print how many cases a study needs, for each number of readers."""
    from dermaflux.study.planning import sample_sizes

    counts = names(readers)
    if not all(one.isdecimal() for one in counts):
        raise InputError(f"--readers is numbers separated by commas, such as 5,8, not “{readers[:40]}”.")
    for size in sample_sizes(margin, power, [int(one) for one in counts]):
        typer.echo(size.text())


@study.command()
def simulate(
    out: Folder,
    readers: Annotated[int, typer.Option(min=1, max=200)] = 8,
    cases: Annotated[int, typer.Option(min=4, max=2000)] = 120,
    dprime: Annotated[float, typer.Option(help="how well readers tell synthetic from real; 0: by chance")] = 0.5,
    repeats: Annotated[float, typer.Option(min=0.0, max=0.3)] = 0.1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write the readings of simulated readers of known skill, to try the report or to plan a study."""
    from dermaflux.study import simulate as simulating

    panel = simulating.panel(seed, readers, simulating.Reader(dprime=dprime))
    _write(simulating.readings(seed, panel, cases=cases, repeats=repeats), out)


def _open(where: str) -> "Store":
    from dermaflux.study.store import Store

    return Store(where or from_env([]).store)
