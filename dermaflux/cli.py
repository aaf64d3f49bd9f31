"""`python -m dermaflux <verb>`: one function a verb, each thin over the room that does the work.

Exit status: 0 done, 1 some items failed (each named on standard error), 2 wrong use or a model that cannot be had.
"""

import csv
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from safetensors import SafetensorError
from tqdm import tqdm
from typer.core import TyperGroup

from dermaflux import workers
from dermaflux.cli_data import data
from dermaflux.cli_evaluate import evaluate
from dermaflux.cli_generate import finish, generate
from dermaflux.cli_options import needed, writable
from dermaflux.cli_reproduce import reproduce
from dermaflux.cli_study import study
from dermaflux.cli_sweep import sweep
from dermaflux.cli_train import train
from dermaflux.errors import DermaFluxError, InputError, first_line
from dermaflux.text_models import VISION, find_text_model

if TYPE_CHECKING:
    from PIL import Image


class _Verbs(TyperGroup):
    """Ends a verb that raises an error meant for people with its sentence instead of a traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except DermaFluxError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None
        except SafetensorError as error:  # what safetensors raises on a full disk too
            typer.echo(f"A file of weights cannot be read or written: {first_line(error)}.", err=True)
            raise typer.Exit(1) from None
        except OSError as error:
            typer.echo(f"{error.filename or 'A file'} cannot be used: {error.strerror or error}.", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Verbs,
    help="Describe a skin lesion, draw it, classify it, measure it. Research only; not for diagnosis.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def begin(
    end_with_input: Annotated[
        bool, typer.Option("--end-with-input", hidden=True, help="end when the standard input does")
    ] = False,
) -> None:
    if end_with_input:
        workers.end_with_input()


app.add_typer(train, name="train")
app.add_typer(evaluate, name="evaluate")
app.add_typer(data, name="data")
app.add_typer(study, name="study")
app.command()(generate)
app.command()(sweep)
app.command()(reproduce)

Images = Annotated[
    list[Path],
    typer.Argument(metavar="IMAGE", help="image files of up to 20 MB, folders or ZIPs of images, of up to 256 MB"),
]
Table = Annotated[Path | None, typer.Option(metavar="FILE.csv", dir_okay=False, help="default: standard output")]
Device = Annotated[str, typer.Option(envvar="DERMAFLUX_DEVICE", help="cpu, cuda, mps or auto, here the cpu")]
LONGEST = 200
"""Bytes of an image's name that go into that of its overlay, which file systems limit to 255."""


@app.command()
def classify(
    images: Images,
    out: Table = None,
    explain: Annotated[Path | None, typer.Option(metavar="DIR", file_okay=False, help="saliency overlays")] = None,
    classifier: Annotated[str, typer.Option(envvar="DERMAFLUX_CLASSIFIER", help="a name or a folder")] = "nano",
    method: Annotated[str | None, typer.Option(help="saliency method; default: as on the page")] = None,
    target: Annotated[str, typer.Option(help="class to explain")] = "malignant",
    device: Device = "auto",
) -> None:
    """Classify images into a table: file, p_malignant, decision, lesion_like. Not for diagnosis."""
    from dermaflux import appearance, saliency
    from dermaflux.classifier import Classifier
    from dermaflux.files import write_atomically
    from dermaflux.memory import Free

    method = method or saliency.DEFAULT
    if method not in saliency.METHODS or target not in saliency.TARGETS:
        known = f"--method is one of {', '.join(saliency.METHODS)}; --target of {', '.join(saliency.TARGETS)}"
        raise InputError(f"There is no such saliency map: {known}.")
    for path in (out, explain and explain / "overlay.png"):
        writable(path)
    device = "cpu" if device == "auto" else device
    Free.now(device)
    judge = Classifier.load(classifier, device)
    taken: set[str] = set()

    def row(name: str, image: "Image.Image") -> dict[str, object]:
        found = judge.predict([image])[0]
        lesion_like = found.lesion_like and appearance.measure(image).found
        if explain:
            overlay = saliency.overlay(image, saliency.explain(judge, image, method, target))
            stem = Path(name).stem.encode(errors="surrogateescape")[:LONGEST].decode(errors="ignore")
            path = explain / _unused(f"{stem}-{method}", taken)
            try:
                write_atomically(path, lambda file: overlay.save(file, "PNG"))
            except OSError as error:
                raise InputError(f"The overlay {path} cannot be written: {error.strerror or error}.") from error
        return {
            "p_malignant": f"{found.p_malignant:.6f}",
            "decision": found.decision,
            "lesion_like": str(lesion_like).lower(),
        }

    _tabulate(("p_malignant", "decision", "lesion_like"), row, images, out)


@app.command()
def measure(images: Images, out: Table = None) -> None:
    """Measure images into a table: file, asymmetry, border, colours, size, ita, lesion_share."""
    from dermaflux import appearance

    writable(out)
    columns = ("asymmetry", "border", "colours", "size", "ita", "lesion_share")
    _tabulate(columns, lambda _, image: appearance.row(appearance.measure(image)), images, out)


@app.command()
def caption(
    context: typer.Context,
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST.csv")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="beside MANIFEST; default: MANIFEST")] = None,
    split: Annotated[str | None, typer.Option(help="only the images of this split")] = None,
    captioner: Annotated[str, typer.Option(help="appearance, as measured here, or llama")] = "appearance",
    model: Annotated[str, typer.Option(help="of llama: a Hub id or folder")] = VISION,
    label_in_prompt: Annotated[bool, typer.Option(help="of llama: name the label, as the method does")] = True,
    batch: Annotated[int, typer.Option(min=1, help="of llama: images at once")] = 4,
) -> None:
    """Caption the images of a manifest: fills the columns caption, captioner and caption_faults.

    An interrupted run continues.
    """
    from dermaflux.data import captioning
    from dermaflux.data.manifest import beside

    out = beside(out, manifest)
    if captioner == "appearance":
        needed(context, "--captioner llama", "model", "label_in_prompt", "batch")
        chosen = captioning.of_appearance()
    elif captioner == "llama":
        from dermaflux.llama import Describer

        chosen = captioning.of_llama(Describer(find_text_model(model)), label_in_prompt, batch)
    else:
        raise InputError(f"--captioner must be appearance or llama, not “{captioner}”.")
    run = captioning.run(manifest, chosen, out, split)
    failures = [(row.place, error) for row, error in tqdm(run, unit="image", disable=None) if error]
    finish(failures)


@app.command()
def deploy(
    space: Annotated[str, typer.Option(metavar="OWNER/NAME")],
    hardware: Annotated[str, typer.Option(help="what the Space runs on")] = "cpu-basic",
    model: Annotated[str, typer.Option(help="a name in the registry")] = "nano",
    private: Annotated[bool, typer.Option("--private", help="for you alone")] = False,
    others: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="a setting of its page, such as login=hf; repeatable"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only check, and say what would be done")] = False,
) -> None:
    """Put the page on Hugging Face as a Space, after checking all that it needs."""
    from huggingface_hub import HfApi

    from dermaflux import deploy as deploying

    planned = deploying.plan(space, hardware, model, private, others or ())
    for line in planned.lines():
        typer.echo(line)
    if planned.problems:
        raise typer.Exit(2)
    if not dry_run:
        typer.echo(f"Done: {deploying.run(planned, HfApi())}")


def _unused(stem: str, taken: set[str]) -> str:
    """A file name that is not in `taken` yet; adds it."""
    number, name = 1, f"{stem}.png"
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}.png"
    taken.add(name.casefold())
    return name


def _tabulate(columns: Sequence[str], row: Callable[..., dict], paths: Iterable[Path], out: Path | None) -> None:
    """Write a CSV line for each image, by `row(name, image)`, and end with status 1 if some failed.

    What is there when anything else goes wrong, or the run is interrupted, is written as well.
    """
    from dermaflux.intake import opened

    rows, failures = [], []
    try:
        for name, image in tqdm(opened(paths), unit="image", disable=None):
            try:
                if isinstance(image, InputError):
                    raise image
                rows.append({"file": name, **row(name, image)})
            except InputError as error:
                failures.append((name, error))
    except BaseException:
        if rows:
            _write(columns, rows, out)
        raise
    _write(columns, rows, out)
    finish(failures)


def _write(columns: Sequence[str], rows: Sequence[dict], out: Path | None) -> None:
    from dermaflux.files import guard, write_atomically

    text = io.StringIO()
    writer = csv.DictWriter(text, ("file", *columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"file": guard(row["file"])} for row in rows)
    table = text.getvalue().encode(errors="backslashreplace")
    if out:
        write_atomically(out, lambda file: file.write(table))
    else:
        sys.stdout.write(table.decode())


@app.command()
def settings() -> None:
    """Print the settings of the page, app.py, as a table."""
    from dermaflux.settings import table

    typer.echo(table())
