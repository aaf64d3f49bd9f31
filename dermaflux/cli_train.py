"""`python -m dermaflux train <model>`: one function a model, each thin over its module in `dermaflux/training`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dermaflux.cli_options import Others, one_of, set_options
from dermaflux.errors import InputError

train = typer.Typer(help="Train a model of this repository; an interrupted run continues.", no_args_is_help=True)

VALIDATION_GUIDANCE = 3.5
"""The scale at which the method draws."""


def _there(kind: str, said: str):
    """An option for a file or a folder, DIR, that is there."""
    return typer.Option(metavar=kind, file_okay=kind != "DIR", dir_okay=kind == "DIR", exists=True, help=said)


Out = Annotated[Path, typer.Option(metavar="DIR", file_okay=False)]
Manifests = Annotated[list[Path], typer.Argument(metavar="MANIFEST.csv")]
Pipeline = Annotated[Path, _there("DIR", "a FluxPipeline folder")]
Steps = Annotated[int | None, typer.Option(min=1)]
Batch = Annotated[int | None, typer.Option(min=1)]
Rate = Annotated[float | None, typer.Option("--learning-rate")]
Seed = Annotated[int, typer.Option(min=0)]
Teacher = Annotated[Path | None, _there("FILE", "TAEF2, for the autoencoder's latents")]


@train.command()
def autoencoder(
    manifests: Manifests,
    teacher: Annotated[Path, _there("FILE", "TAEF2 as safetensors")],
    out: Out,
    steps: Steps = None,
    batch: Batch = None,
    rate: Rate = None,
    seed: Seed = 0,
    others: Others = None,
) -> None:
    """The autoencoder, on the train split of manifests and on phantoms: writes DIR/vae."""
    from dermaflux.training.autoencoder import AutoencoderOptions, main

    options = set_options(AutoencoderOptions, others, steps=steps, batch=batch, learning_rate=rate, seed=seed)
    main(manifests, teacher, out, options)


@train.command()
def encoder(
    manifests: Manifests,
    vae: Annotated[Path, _there("DIR", "out of `train autoencoder`")],
    teacher: Annotated[Path, _there("FILE", "TAEF2 as safetensors")],
    out: Out,
    steps: Steps = None,
    batch: Batch = None,
    rate: Rate = None,
    seed: Seed = 0,
    others: Others = None,
) -> None:
    """The encoder of an autoencoder anew, for what its decoder has become: writes DIR/vae."""
    from dermaflux.training.encoder import EncoderOptions, main

    options = set_options(EncoderOptions, others, steps=steps, batch=batch, learning_rate=rate, seed=seed)
    main(manifests, vae, teacher, out, options)


@train.command()
def text(
    out: Out, steps: Steps = None, batch: Batch = None, rate: Rate = None, seed: Seed = 0, others: Others = None
) -> None:
    """The tokenizers and text encoders, on captions worded at random: writes their four folders to DIR."""
    from dermaflux.training.text import TextOptions, main

    main(out, set_options(TextOptions, others, steps=steps, batch=batch, learning_rate=rate, seed=seed))


@train.command()
def base(
    autoencoder: Annotated[Path, _there("DIR", "the folder vae")],
    texts: Annotated[Path, _there("DIR", "out of `train text`")],
    out: Out,
    manifests: Annotated[list[Path] | None, typer.Argument(metavar="[MANIFEST.csv]...")] = None,
    count: Annotated[int, typer.Option(min=1, help="phantoms to draw")] = 4000,
    start: Annotated[Path | None, _there("DIR", "a FluxPipeline to go on from")] = None,
    teacher: Teacher = None,
    objective: Annotated[str, typer.Option(help="flow, or diffusion: the baseline that predicts the noise")] = "flow",
    steps: Steps = None,
    batch: Batch = None,
    rate: Rate = None,
    seed: Seed = 0,
    others: Others = None,
) -> None:
    """The base flow, on phantoms and the train split of manifests: writes the FluxPipeline folder DIR/pipeline."""
    from dermaflux.training.flow import FlowOptions
    from dermaflux.training.lora_run import LEADS
    from dermaflux.training.nano import OBJECTIVES, train_base

    if objective not in OBJECTIVES:
        raise InputError(f"--objective must be one of {', '.join(OBJECTIVES)}, not “{objective[:40]}”.")
    options = set_options(FlowOptions, others, steps=steps, batch=batch, learning_rate=rate, seed=seed)
    if given := _given(others) & {"away", *LEADS}:
        raise InputError(f"--set {min(given)} changes what a LoRA distils; a base leads away from no other caption.")
    train_base(autoencoder, texts, out, count, options, manifests or (), start, teacher, objective)


@train.command()
def lora(
    manifests: Manifests,
    base: Annotated[str, typer.Option(metavar="MODEL", help="a FluxPipeline folder, or a name: nano, flux1-dev")],
    out: Out,
    rank: Annotated[int, typer.Option(min=1)] = 64,
    alpha: Annotated[int | None, typer.Option(min=1, help="default: the rank")] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="layers to adapt, parted by commas: attn, ff, mod, or how their names end; "
            "default: all of the blocks but the modulation of text",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=16, help="px of a side; default: 512, or the model's own if that is less")
    ] = None,
    fit: Annotated[
        str,
        typer.Option(
            metavar="crop|squeeze|bucket",
            help="the middle square of an image, all of it squeezed to one, or nearly all in a shape near its own",
        ),
    ] = "crop",
    captions_from: Annotated[
        str | None,
        typer.Option(
            metavar="manifest|appearance",
            help="the manifest's captions, or measured ones in several wordings, some images changed as well; "
            "default: the manifest's where it has any",
        ),
    ] = None,
    quantise: Annotated[
        str | None, typer.Option(metavar="8bit|4bit", help="keep the frozen base in fewer bits")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="gather the gradients of so many batches for a step")
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="less memory, more time: activations are computed again")
    ] = False,
    validate_every: Annotated[
        int | None, typer.Option(metavar="STEPS", min=1, help="draw a sheet to DIR/samples every so many steps")
    ] = None,
    captions: Annotated[Path | None, _there("FILE.txt", "what the sheets show, a caption a line")] = None,
    validation_seed: Annotated[int, typer.Option(min=0, help="of the first image; the others follow")] = 0,
    start: Annotated[
        Path | None, typer.Option(metavar="DIR", exists=True, help="a LoRA to go on from; its rank and targets hold")
    ] = None,
    teacher: Teacher = None,
    weaker: Annotated[
        Path | None,
        _there("DIR", "a FluxPipeline folder trained less, with its lora: what distilled guidance leads away from"),
    ] = None,
    steps: Steps = None,
    batch: Batch = None,
    rate: Rate = 1e-3,
    seed: Seed = 0,
    others: Others = None,
) -> None:
    """A LoRA on a frozen base, on the train split of manifests: writes DIR/lora, and kohya.safetensors beside.

    The defaults are the method's for FLUX.1: rank and alpha 64, 512 px, bf16 where the machine computes with it
    (--set precision=no: 32 bits). Latents and captions are encoded once, to DIR/pairs.safetensors, of which a step
    reads its batch alone. With --fit bucket every batch has images of one shape. Under `accelerate launch` or torchrun
    each process takes --batch images a step.
    """
    from dermaflux.training.fitting import FITS
    from dermaflux.training.flow import FlowOptions
    from dermaflux.training.lora import TARGETS, LoraOptions
    from dermaflux.training.lora_run import CAPTIONS, Material, train_lora
    from dermaflux.training.validation import Validation, read_captions

    fit = one_of("--fit", fit, FITS)
    captions_from = captions_from and one_of("--captions-from", captions_from, CAPTIONS)
    bits = {"8bit": 8, "4bit": 4}[one_of("--quantise", quantise, ("8bit", "4bit"))] if quantise else 0
    if validation_seed and not captions:
        raise InputError("--validation-seed belongs to --captions; other sheets follow --seed.")
    if "away" in _given(others) and not weaker:
        raise InputError("--set away needs --weaker, the model that distilled guidance leads away from.")
    if captions and not validate_every:
        raise InputError("--captions needs --validate-every, the number of steps between the sheets.")
    given = dict(steps=steps, batch=batch, learning_rate=rate, seed=seed, accumulate=accumulate)
    given |= dict(sample_every=validate_every, checkpointing=int(checkpointing) or None)
    flow = set_options(FlowOptions, others, **given)
    named = tuple(name.strip() for name in targets.split(",") if name.strip()) if targets else TARGETS
    options = LoraOptions(rank, alpha or rank, named, flow, start, weaker)
    shown = Validation(read_captions(captions), validation_seed, guidance=VALIDATION_GUIDANCE) if captions else None
    train_lora(base, Material(tuple(manifests), size, fit, captions_from, teacher), out, options, bits, shown)


def _given(others: list[str] | None) -> set[str]:
    """The names of what --set gives."""
    return {text.partition("=")[0] for text in others or ()}


@train.command()
def classifier(
    manifests: Manifests,
    out: Out,
    teacher: Annotated[Path | None, _there("FILE.tflite", "an ImageNet MobileNetV2 to learn from")] = None,
    val: Annotated[
        Path | None,
        typer.Option(metavar="MANIFEST.csv", dir_okay=False, help="its val split: fine-tune; stop on it"),
    ] = None,
    arch: Annotated[str | None, typer.Option(help="a timm ViT or convolutional network")] = None,
    synthetic: Annotated[
        list[Path] | None,
        typer.Option(metavar="MANIFEST.csv", help="synthetic images to learn from; repeatable"),
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(min=0, help="so many synthetic images for each real one; default: all")
    ] = None,
    real: Annotated[int | None, typer.Option(min=1, help="so many of the real images; default: all")] = None,
    steps: Steps = None,
    batch: Batch = None,
    rate: Rate = None,
    seed: Seed = 0,
    others: Others = None,
) -> None:
    """A classifier: writes DIR/classifier.

    With --val any timm network is fine-tuned on the train split of manifests, and on synthetic images beside, stopped
    and calibrated on that set. Without, the embedded network learns from all but the test split, measured on folds;
    with --teacher the images of `generate`, whose manifest may be given as well, teach it before any label counts.
    """
    if val is not None:
        if teacher:
            raise InputError("--teacher belongs to the embedded network's recipe, which takes no --val.")
        given = dict(arch=arch, steps=steps, batch=batch, learning_rate=rate, seed=seed)
        from dermaflux.training.finetune import FinetuneOptions

        _finetune(manifests, val, synthetic or [], ratio, real, out, set_options(FinetuneOptions, others, **given))
        return
    if arch or synthetic or real or ratio is not None:
        raise InputError("--arch, --synthetic, --ratio and --real need --val, the set to stop and calibrate on.")
    from dermaflux.data.features import Features
    from dermaflux.training.classifier import ClassifierOptions, train

    options = set_options(ClassifierOptions, others, steps=steps, batch=batch, learning_rate=rate, seed=seed)
    train(manifests, out, options, Features(teacher).cells if teacher else None)


def _finetune(manifests: list[Path], val: Path, synthetic: list[Path], ratio, real, out: Path, options) -> None:
    from dermaflux.data.curate import each_once, rows_of, subset
    from dermaflux.data.manifest import read
    from dermaflux.training.finetune import finetune

    rows, tried = rows_of(manifests, "train"), rows_of([val], "val")
    drawn = [replace(row, values=row.values | {"source": "synthetic"}) for path in synthetic for row in read(path)]
    each_once([*rows, *drawn, *tried])
    learned = rows if real is None else subset(rows, real, options.seed)
    count = len(drawn) if ratio is None else round(ratio * len(learned))
    if count > len(drawn):
        raise InputError(f"--ratio {ratio:g} asks for {count} synthetic images, but --synthetic gives {len(drawn)}.")
    classifier = finetune(learned + subset(drawn, count, options.seed), tried, out, options)
    low, high = classifier.card.auc_interval
    typer.echo(f"AUC {classifier.card.auc:.3f} ({low:.3f} to {high:.3f}) on the validation images it was stopped on.")
    if classifier.card.auc < 0.5:
        typer.echo("It ranks these images worse than chance: train it longer, or on more images.", err=True)


@train.command()
def likeness(
    manifests: Manifests,
    base: Pipeline,
    drawn: Annotated[Path, _there("DIR", "out of `generate --candidates 1`")],
    out: Out,
) -> None:
    """What tells photographs from drawn images, to choose candidates by: writes DIR/likeness.safetensors."""
    from dermaflux.training.likeness import FOLDS, train

    area = train(base, manifests, drawn, out)
    typer.echo(f"Photographs are told from drawn images with an AUC of {area:.3f} ({FOLDS} folds).")


@train.command()
def release(
    base: Pipeline,
    autoencoder: Annotated[Path, _there("DIR", "the folder vae")],
    adapter: Annotated[Path, typer.Option("--lora", metavar="DIR", file_okay=False, exists=True)],
    pairs: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, help="pairs.safetensors")],
    out: Out,
) -> None:
    """Put the parts together as they are shipped, and fit the previews to the latents of pairs."""
    from dermaflux.training import release as shipping

    shipping.release(base, autoencoder, adapter, pairs, out)
