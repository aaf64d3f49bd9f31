"""`python -m dermaflux <verb>`: one function a verb, each thin over the room that does the work.

Exit status: 0 done, 1 some items failed (each named on standard error), 2 wrong use or a model that cannot be had.
"""

import csv
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm
from typer.core import TyperGroup

from dermaflux.cli_evaluate import evaluate
from dermaflux.cli_sweep import sweep
from dermaflux.cli_train import train
from dermaflux.errors import DermaFluxError, InputError
from dermaflux.lesion import DIAGNOSES, LABELS, LesionAttributes
from dermaflux.models import ModelSpec, SamplingOptions, find_model

if TYPE_CHECKING:
    from PIL import Image

    from dermaflux.synthesis import Order

BOTH = "both"


class _Verbs(TyperGroup):
    """Ends a verb that raises an error meant for people with its sentence instead of a traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except DermaFluxError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None
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
app.add_typer(train, name="train")
app.add_typer(evaluate, name="evaluate")
app.command()(sweep)

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE", help="image files, folders or ZIPs of images")]
Table = Annotated[Path | None, typer.Option(metavar="FILE.csv", dir_okay=False, help="default: standard output")]
Device = Annotated[str, typer.Option(envvar="DERMAFLUX_DEVICE", help="cpu, cuda, mps or auto")]
Memory = Annotated[str, typer.Option(envvar="DERMAFLUX_MEMORY", help="auto, bf16, int8, int4, ...")]
Folder = Annotated[Path, typer.Option(metavar="DIR", file_okay=False)]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@app.command()
def generate(
    out: Folder,
    model: Annotated[str, typer.Option(envvar="DERMAFLUX_MODEL", help="a name in the registry")] = "nano",
    lora: Annotated[str, typer.Option(envvar="DERMAFLUX_LORA", help="file, Hub id, default or none")] = "default",
    device: Device = "auto",
    memory: Memory = "auto",
    count: Annotated[int | None, typer.Option(min=1, help="images; default: 1, or every row of the plan")] = None,
    seed: Annotated[int, typer.Option(help="of the first image; the others follow")] = 0,
    steps: Annotated[int | None, typer.Option(help="1-50")] = None,
    guidance: Annotated[float | None, typer.Option(help="0-10")] = None,
    negative: Annotated[str, typer.Option(help="caption to steer away from; needs --true-cfg above 1")] = "",
    true_cfg: Annotated[float, typer.Option(help="1 (off) to 5")] = 1.0,
    lora_strength: Annotated[float | None, typer.Option(help="0-1.5")] = None,
    size: Annotated[int | None, typer.Option(help="side in px, one of the model's")] = None,
    label: Annotated[str | None, typer.Option(help="benign, malignant or both in turn (default)")] = None,
    diagnosis: Annotated[str | None, typer.Option()] = None,
    asymmetry: Annotated[int | None, typer.Option(help="asymmetric axes, 0-2")] = None,
    border: Annotated[int | None, typer.Option(help="abruptly cut segments, 0-8")] = None,
    colours: Annotated[str, typer.Option(help="names parted by commas")] = "",
    structures: Annotated[str, typer.Option(help="names parted by commas")] = "",
    size_mm: Annotated[int | None, typer.Option(help="largest diameter, 2-20")] = None,
    site: Annotated[str | None, typer.Option()] = None,
    tone: Annotated[int | None, typer.Option(help="Monk scale, 1-10")] = None,
    capture: Annotated[str | None, typer.Option(help="dermoscopic or clinical")] = None,
    artefacts: Annotated[str, typer.Option(help="names parted by commas")] = "",
    caption: Annotated[str | None, typer.Option(metavar="TEXT", help="instead of attributes")] = None,
    plan: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="one row an image")] = None,
    like: Annotated[
        Path | None, typer.Option("--from", metavar="MANIFEST.csv", help="lesions as in a real set")
    ] = None,
) -> None:
    """Draw synthetic lesions into a folder: PNGs that carry their recipe, and manifest.csv.

    What is not specified is left to the model. An interrupted run, repeated, keeps what is finished.
    """
    from dermaflux import synthesis
    from dermaflux.caption import clean

    asked = LesionAttributes(
        diagnosis=diagnosis,
        asymmetry=asymmetry,
        border=border,
        colours=_listed(colours),
        structures=_listed(structures),
        size_mm=size_mm,
        site=site,
        tone=tone,
        capture=capture,
        artefacts=_listed(artefacts),
    )
    if sum(way is not None for way in (caption, plan, like)) > 1:
        raise InputError("Give only one of --caption, --plan and --from.")
    if (caption is not None or plan is not None) and (label or asked.specified()):
        raise InputError("Attributes are part of the caption or plan; leave the flags out.")
    spec = find_model(model, lora)
    settings = dict(steps=steps, guidance=guidance, true_cfg=true_cfg, lora_strength=lora_strength, size=size)
    negative = clean(negative) if negative.strip() else ""
    options = SamplingOptions.defaults(spec, seeds=(seed,), negative=negative, **settings)
    if plan is not None:
        orders = synthesis.of_plan(plan, count, options, spec)
    elif caption is not None:
        orders = synthesis.of_caption(caption, count or 1, options)
    elif like is not None:
        labels = _labels(label, asked.diagnosis) if label or asked.diagnosis else ()
        orders = synthesis.like_manifest(like, labels, asked, count or 1, options)
    else:
        lesions = [replace(asked, label=one) for one in _labels(label, asked.diagnosis)]
        orders = synthesis.of_attributes(lesions, count or 1, options)
    _remark(spec, orders)

    from dermaflux.generator import Generator

    _quiet()
    generator = Generator.from_spec(spec, None if device == "auto" else device, memory)
    bar = tqdm(synthesis.synthesise(generator, orders, out), total=len(orders), unit="image", disable=None)
    failures = [(outcome.order.file, outcome.error) for outcome in bar if outcome.error]
    typer.echo(f"{len(orders) - len(failures)} of {len(orders)} images are in {out}.", err=True)
    _finish(failures)


def _quiet() -> None:
    """Keep the libraries' remarks and loading bars off the terminal: failures are to be seen there."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    for logging in (diffusers, transformers):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _labels(label: str | None, diagnosis: str | None) -> tuple[str, ...]:
    """The labels to draw in turn. Raises InputError for an unknown one or one that the diagnosis rules out."""
    if label not in (None, BOTH, *LABELS):
        raise InputError(f"--label must be one of {', '.join((*LABELS, BOTH))}, not “{label[:40]}”.")
    implied = DIAGNOSES[diagnosis].label if diagnosis else None
    if implied and label not in (None, implied):
        raise InputError(f"A {diagnosis} is {implied}; leave --label out.")
    return LABELS if (implied or label) in (None, BOTH) else (implied or label,)


def _remark(spec: ModelSpec, orders: "Sequence[Order]") -> None:
    """Say which of the attributes asked for the model was not trained on."""
    asked = {name for order in orders for name in order.attributes.specified()}
    unheard = sorted(asked - spec.honours)
    unheard += sorted({order.attributes.diagnosis for order in orders} - {None} - spec.diagnoses)
    if unheard:
        typer.echo(f"{spec.title} was not trained on: {', '.join(unheard)}. It is in the caption only.", err=True)


@app.command()
def classify(
    images: Images,
    out: Table = None,
    explain: Annotated[Path | None, typer.Option(metavar="DIR", file_okay=False, help="saliency overlays")] = None,
    classifier: Annotated[str, typer.Option(envvar="DERMAFLUX_CLASSIFIER", help="a name or a folder")] = "nano",
    method: Annotated[str, typer.Option(help="saliency method")] = "gradcam",
    target: Annotated[str, typer.Option(help="class to explain")] = "malignant",
    device: Device = "auto",
) -> None:
    """Classify images into a table: file, p_malignant, decision, lesion_like. Not for diagnosis."""
    from dermaflux import appearance, saliency
    from dermaflux.classifier import Classifier
    from dermaflux.files import write_atomically

    if method not in saliency.METHODS or target not in saliency.TARGETS:
        known = f"--method is one of {', '.join(saliency.METHODS)}; --target of {', '.join(saliency.TARGETS)}"
        raise InputError(f"There is no such saliency map: {known}.")
    judge = Classifier.load(classifier, "cpu" if device == "auto" else device)
    taken: set[str] = set()

    def row(name: str, image: "Image.Image") -> dict[str, object]:
        found = judge.predict([image])[0]
        lesion_like = found.lesion_like and appearance.measure(image).found
        if explain:
            overlay = saliency.overlay(image, saliency.explain(judge, image, method, target))
            path = explain / _unused(f"{Path(name).stem}-{method}", taken)
            write_atomically(path, lambda file: overlay.save(file, "PNG"))
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

    columns = ("asymmetry", "border", "colours", "size", "ita", "lesion_share")
    _tabulate(columns, lambda _, image: appearance.row(appearance.measure(image)), images, out)


@app.command()
def caption(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST.csv")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="beside MANIFEST; default: MANIFEST")] = None,
    split: Annotated[str | None, typer.Option(help="only the rows of this split")] = None,
) -> None:
    """Caption the images of a manifest from their measured appearance and known diagnosis: fills the column caption."""
    import numpy as np

    from dermaflux.caption import caption as worded
    from dermaflux.data import manifest as manifests
    from dermaflux.data.captioners import describe
    from dermaflux.images import open_untrusted

    out = out or manifest
    if out.parent.resolve() != manifest.parent.resolve():
        raise InputError(f"{out} must lie beside {manifest}, as the files of its rows are named from there.")
    rows, failures = manifests.read(manifest, split), []
    for number, row in enumerate(tqdm(rows, unit="image", disable=None)):
        try:
            image = np.asarray(open_untrusted(row.path))
            row.values["caption"] = worded(describe(image, row), number)
        except InputError as error:
            failures.append((str(row.path), error))
    manifests.write(out, [row.values for row in rows])
    _finish(failures)


def _unused(stem: str, taken: set[str]) -> str:
    """A file name that is not in `taken` yet; adds it."""
    number, name = 1, f"{stem}.png"
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}.png"
    taken.add(name.casefold())
    return name


def _tabulate(columns: Sequence[str], row: Callable[..., dict], paths: Iterable[Path], out: Path | None) -> None:
    """Write a CSV line for each image, by `row(name, image)`, and end with status 1 if some failed."""
    from dermaflux.files import write_atomically
    from dermaflux.intake import opened

    rows, failures = [], []
    for name, image in tqdm(opened(paths), unit="image", disable=None):
        try:
            if isinstance(image, InputError):
                raise image
            rows.append({"file": name, **row(name, image)})
        except InputError as error:
            failures.append((name, error))
    text = io.StringIO()
    writer = csv.DictWriter(text, ("file", *columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if out:
        write_atomically(out, lambda file: file.write(text.getvalue().encode()))
    else:
        sys.stdout.write(text.getvalue())
    _finish(failures)


def _finish(failures: Sequence[tuple[str, DermaFluxError]]) -> None:
    for name, error in failures:
        typer.echo(f"{name}: {error}", err=True)
    if failures:
        raise typer.Exit(1)


@app.command()
def settings() -> None:
    """Print the settings of the page, app.py, as a table."""
    from dermaflux.settings import table

    typer.echo(table())
