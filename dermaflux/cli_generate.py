"""`python -m dermaflux generate`: lesions by attributes, caption or plan, or as in a real set, into a folder."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from dermaflux.cli_options import needed
from dermaflux.errors import DermaFluxError, InputError
from dermaflux.files import REJECTED, alone_in
from dermaflux.lesion import DIAGNOSES, LABELS, LesionAttributes
from dermaflux.memory import AUTO, WAYS, best_device
from dermaflux.models import NOISES, ModelSpec, SamplingOptions, find_model

if TYPE_CHECKING:
    from accelerate import PartialState

    from dermaflux.ordering import Order
    from dermaflux.screening import Screen

BOTH = "both"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def generate(
    context: typer.Context,
    out: Annotated[Path, typer.Option(metavar="DIR", file_okay=False)],
    model: Annotated[str, typer.Option(envvar="DERMAFLUX_MODEL", help="a name in the registry, or a folder")] = "nano",
    lora: Annotated[str, typer.Option(envvar="DERMAFLUX_LORA", help="file, Hub id, default or none")] = "default",
    device: Annotated[str, typer.Option(envvar="DERMAFLUX_DEVICE", help="cpu, cuda, mps or auto")] = "auto",
    memory: Annotated[
        str, typer.Option(envvar="DERMAFLUX_MEMORY", help=f"how weights are kept: {', '.join((AUTO, *WAYS))}")
    ] = AUTO,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            envvar="DERMAFLUX_COMPILE",
            help="compile the model's blocks: a first image takes a minute or more longer, the next less",
        ),
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="images; default: 1, or every row of the plan")] = None,
    seed: Annotated[int, typer.Option(help="of the first image; the others follow")] = 0,
    steps: Annotated[int | None, typer.Option(help="1-50")] = None,
    guidance: Annotated[float | None, typer.Option(help="0-10, up to the level --guidance-below")] = None,
    early_guidance: Annotated[float | None, typer.Option(help="0-10, above the level --guidance-below")] = None,
    guidance_below: Annotated[
        float | None, typer.Option(help="up to which noise level guidance counts, 0 to 1 (all)")
    ] = None,
    negative: Annotated[str, typer.Option(help="caption to steer away from; needs --true-cfg above 1")] = "",
    true_cfg: Annotated[float, typer.Option(help="1 (off) to 5")] = 1.0,
    lora_strength: Annotated[float | None, typer.Option(help="0-1.5")] = None,
    size: Annotated[int | None, typer.Option(help="side in px, one of the model's")] = None,
    noise: Annotated[str, typer.Option(help=f"how it is drawn: {', '.join(NOISES)}")] = NOISES[0],
    first_block_cache: Annotated[
        float, typer.Option(help="0 (off) to 0.5: faster, slightly different, one image at a time")
    ] = 0.0,
    eta: Annotated[float | None, typer.Option(help="how much noise steps renew, 0 (none) to 1.5")] = None,
    eta_below: Annotated[float | None, typer.Option(help="up to which noise level, 0.2 to 1 (all)")] = None,
    contrast: Annotated[
        float, typer.Option(help="0 (off) to 2: how far to lead away from other asymmetry, border and colours")
    ] = 0.0,
    candidates: Annotated[
        int | None, typer.Option(help="1-16: of so many draws at most, keep what fits best and is like photographs")
    ] = None,
    postfilter: Annotated[
        float | None, typer.Option(help="0 (off) to 1: leave out what the autoencoder draws in all images")
    ] = None,
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
    balance: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="with --from: its values in turn, such as diagnosis, skin_tone")
    ] = None,
    mixed: Annotated[bool, typer.Option("--mixed", help="with --from: mix the traits of rows of a label")] = False,
    agree: Annotated[
        float | None, typer.Option(metavar="P", help="keep where the classifier gives the asked label at least P, 0-1")
    ] = None,
    lesions_only: Annotated[
        bool, typer.Option("--lesions-only", help="keep what the classifier's gate lets pass")
    ] = False,
    distinct: Annotated[bool, typer.Option("--distinct", help="keep no image that looks like one kept before")] = False,
    apart_from: Annotated[
        Path | None, typer.Option(metavar="MANIFEST.csv", help="keep none that looks like an image of this set")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR|FILE.tflite", help="judge --apart-from by the features of a network too; see `data check`"
        ),
    ] = None,
    cosine: Annotated[
        float, typer.Option(min=-1.0, max=1.0, help="of features from where on images count as the same")
    ] = 0.9,
    classifier: Annotated[str, typer.Option(envvar="DERMAFLUX_CLASSIFIER", help="a name, or a folder")] = "nano",
) -> None:
    """Draw synthetic lesions into a folder: PNGs that carry their recipe, and manifest.csv.

    What is not specified is left to the model. An interrupted run, repeated, keeps what is finished. What is not kept
    goes to DIR/rejected, with the reason. Under `accelerate launch` the processes share the images.
    """
    from dermaflux import ordering, synthesis
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
    if features and apart_from is None:
        raise InputError("--features judges how near an image is to a set; give that with --apart-from.")
    if (balance or mixed) and like is None:
        raise InputError("--balance and --mixed are ways to draw from a real set; give that with --from.")
    if not features:
        needed(context, "--features", "cosine")
    if agree is None and not lesions_only:
        needed(context, "--agree or --lesions-only", "classifier")
    spec = find_model(model, lora)
    settings = dict(steps=steps, guidance=guidance, true_cfg=true_cfg, lora_strength=lora_strength, size=size)
    settings |= dict(
        noise=noise,
        early_guidance=early_guidance,
        guidance_below=guidance_below,
        first_block_cache=first_block_cache,
        eta=eta,
        eta_below=eta_below,
        contrast=contrast,
        candidates=candidates,
        postfilter=postfilter,
    )
    negative = clean(negative) if negative.strip() else ""
    options = SamplingOptions.defaults(spec, seeds=(seed,), negative=negative, **settings)
    if plan is not None:
        orders = ordering.of_plan(plan, count, options, spec)
    elif caption is not None:
        orders = ordering.of_caption(caption, count or 1, options)
    elif like is not None:
        labels = _labels(label, asked.diagnosis) if label or asked.diagnosis else ()
        orders = ordering.like_manifest(like, labels, asked, count or 1, options, balance, mixed)
    else:
        lesions = [replace(asked, label=one) for one in _labels(label, asked.diagnosis)]
        orders = ordering.of_attributes(lesions, count or 1, options)
    if not any(order.options.true_cfg > 1 for order in orders):
        needed(context, "--true-cfg above 1", "negative")
    if not any(order.options.eta for order in orders):
        needed(context, "--eta above 0", "eta_below")
    if all(order.options.guidance_below == 1 for order in orders):
        needed(context, "--guidance-below below 1", "early_guidance")
    _remark(spec, orders)
    if agree is not None:
        _remark_unlabelled(orders)

    from accelerate import PartialState

    from dermaflux.generator import Generator

    _quiet()
    processes = PartialState(cpu=device == "cpu" or best_device() == "cpu")
    part = processes.process_index, processes.num_processes
    judge = (features, cosine) if features else None
    screens = _screens(agree, lesions_only, apart_from, judge, classifier)
    how = {"agree": agree, "lesions only": lesions_only, "distinct": distinct, "apart from": apart_from}
    how |= {"features": f"{features}, cosine {cosine:g}" if features else None}
    how |= {"classifier": classifier if lesions_only or agree is not None else None}
    told = {name: str(value) for name, value in how.items() if value not in (None, False)}
    generator = Generator.from_spec(spec, _device(device, processes), memory, compiled)
    with nullcontext() if part[0] else alone_in(out):
        run = synthesis.synthesise(generator, orders, out, screens, part, told, distinct)
        outcomes = list(tqdm(run, total=len(orders) // part[1], unit="image", disable=None if part[0] == 0 else True))
        processes.wait_for_everyone()
        if part[1] > 1 and processes.is_main_process:
            synthesis.gather(generator, orders, out, distinct)
        processes.wait_for_everyone()  # one that ends with status 1 would take the main one down with it
    if processes.is_main_process:
        _tell(orders, out)
    finish([(outcome.order.file, outcome.error) for outcome in outcomes if outcome.error])


def _tell(orders: "Sequence[Order]", out: Path) -> None:
    """Say how many images are where."""
    kept, refused = (sum((place / order.file).exists() for order in orders) for place in (out, out / REJECTED))
    typer.echo(f"{kept} of {len(orders)} images are in {out}.", err=True)
    if refused:
        typer.echo(f"Refused: {refused}; see {out / REJECTED} and its reasons.", err=True)


def _device(name: str, processes: "PartialState") -> str | None:
    """The device called `name`; of several processes each has its own card."""
    if name == "auto":
        return str(processes.device) if processes.num_processes > 1 else None
    return name


def _screens(
    agree: float | None,
    lesions_only: bool,
    apart_from: Path | None,
    features: tuple[str, float] | None,
    classifier: str,
) -> "list[Screen]":
    from dermaflux import screening
    from dermaflux.classifier import Classifier
    from dermaflux.data import manifest
    from dermaflux.data.features import load
    from dermaflux.data.pixels import open_rgb

    if agree is not None and not 0 <= agree <= 1:
        raise InputError(f"--agree is a probability from 0 to 1, not {agree:g}.")
    screens: list[Screen] = []
    judge = Classifier.load(classifier) if lesions_only or agree is not None else None
    if lesions_only:
        screens.append(screening.Gate(judge))
    if agree is not None:
        screens.append(screening.Agreement(judge, agree))
    if apart_from:
        rows = manifest.read(apart_from)
        screens.append(screening.Apart(map(open_rgb, rows)))
        if features and rows:
            name, least = features
            screens.append(screening.Away(load(name, best_device()), map(open_rgb, rows), least))
    return screens


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
    """Say which of the attributes asked for the model was not trained on, if that is known of it."""
    asked = {name for order in orders for name in order.attributes.specified()}
    unheard = sorted(asked - spec.honours)
    unheard += sorted({order.attributes.diagnosis for order in orders} - {None} - spec.diagnoses)
    if unheard and spec.documented:
        typer.echo(f"{spec.title} was not trained on: {', '.join(unheard)}. It is in the caption only.", err=True)


def _remark_unlabelled(orders: "Sequence[Order]") -> None:
    """Say how many captions name no label to agree with. Raises InputError if none does."""
    unlabelled = sum(order.attributes.label is None for order in orders)
    if unlabelled == len(orders):
        raise InputError("--agree needs a label to agree with, and no caption names one.")
    if unlabelled:
        typer.echo(f"{unlabelled} of {len(orders)} captions name no label; --agree does not judge them.", err=True)


def finish(failures: Sequence[tuple[str, DermaFluxError]]) -> None:
    """Name what failed, and then end with status 1."""
    for name, error in failures:
        typer.echo(f"{name}: {error}", err=True)
    if failures:
        raise typer.Exit(1)
