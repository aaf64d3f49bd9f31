"""`python -m dermaflux train <model>`: one function a model, each thin over its module in `dermaflux/training`."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from dermaflux.errors import InputError

train = typer.Typer(help="Train a model of this repository; an interrupted run continues.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(metavar="DIR", file_okay=False)]
Manifests = Annotated[list[Path], typer.Argument(metavar="MANIFEST.csv")]
Pipeline = Annotated[Path, typer.Option(metavar="DIR", file_okay=False, exists=True, help="a FluxPipeline folder")]
Steps = Annotated[int | None, typer.Option(min=1)]
Batch = Annotated[int | None, typer.Option(min=1)]
Rate = Annotated[float | None, typer.Option("--learning-rate")]
Seed = Annotated[int, typer.Option(min=0)]
Others = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="any other of the module's options; repeatable")
]
Teacher = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, exists=True, help="TAEF2, for the autoencoder's latents"),
]
Options = TypeVar("Options")


@train.command()
def autoencoder(
    manifests: Manifests,
    teacher: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, exists=True, help="TAEF2 as safetensors")],
    earlier: Annotated[
        Path,
        typer.Option(metavar="DIR", file_okay=False, exists=True, help="the folder vae whose decoder is gone on from"),
    ],
    out: Out,
    steps: Steps = None,
    batch: Batch = None,
    rate: Rate = None,
    seed: Seed = 0,
    others: Others = None,
) -> None:
    """The autoencoder, on the train split of manifests and on phantoms: writes DIR/vae."""
    from dermaflux.training.autoencoder import AutoencoderOptions, main

    options = _options(AutoencoderOptions, others, steps=steps, batch=batch, learning_rate=rate, seed=seed)
    main(manifests, teacher, earlier, out, options)


@train.command()
def text(
    out: Out, steps: Steps = None, batch: Batch = None, rate: Rate = None, seed: Seed = 0, others: Others = None
) -> None:
    """The tokenizers and text encoders, on captions worded at random: writes their four folders to DIR."""
    from dermaflux.training.text import TextOptions, main

    main(out, _options(TextOptions, others, steps=steps, batch=batch, learning_rate=rate, seed=seed))


@train.command()
def base(
    autoencoder: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, exists=True, help="the folder vae")],
    texts: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, exists=True, help="out of `train text`")],
    out: Out,
    manifests: Annotated[list[Path] | None, typer.Argument(metavar="[MANIFEST.csv]...")] = None,
    count: Annotated[int, typer.Option(min=1, help="phantoms to draw")] = 4000,
    start: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, exists=True, help="a FluxPipeline to go on from")
    ] = None,
    teacher: Teacher = None,
    steps: Steps = None,
    batch: Batch = None,
    rate: Rate = None,
    seed: Seed = 0,
    others: Others = None,
) -> None:
    """The base flow, on phantoms and the train split of manifests: writes the FluxPipeline folder DIR/pipeline."""
    from dermaflux.training.flow import FlowOptions
    from dermaflux.training.nano import train_base

    options = _options(FlowOptions, others, steps=steps, batch=batch, learning_rate=rate, seed=seed)
    train_base(autoencoder, texts, out, count, options, manifests or (), start, teacher)


@train.command()
def lora(
    manifests: Manifests,
    base: Pipeline,
    out: Out,
    rank: Annotated[int, typer.Option(min=1, help="also its alpha")] = 64,
    start: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, exists=True, help="a LoRA to go on from")
    ] = None,
    teacher: Teacher = None,
    steps: Steps = None,
    batch: Batch = None,
    rate: Rate = 1e-3,
    seed: Seed = 0,
    others: Others = None,
) -> None:
    """A LoRA on a frozen base, on the train split of manifests: writes DIR/lora."""
    from dermaflux.training.flow import FlowOptions
    from dermaflux.training.lora import LoraOptions
    from dermaflux.training.nano import train_lora

    flow = _options(FlowOptions, others, steps=steps, batch=batch, learning_rate=rate, seed=seed)
    train_lora(base, manifests, out, LoraOptions(rank=rank, alpha=rank, flow=flow, start=start), teacher)


@train.command()
def classifier(
    manifests: Manifests,
    out: Out,
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="FILE.tflite", dir_okay=False, exists=True, help="an ImageNet MobileNetV2 to learn from"),
    ] = None,
    steps: Steps = None,
    batch: Batch = None,
    rate: Rate = None,
    seed: Seed = 0,
    others: Others = None,
) -> None:
    """The classifier, on all but the test split of manifests: writes DIR/classifier."""
    from dermaflux.data.features import Features
    from dermaflux.training.classifier import ClassifierOptions, train

    options = _options(ClassifierOptions, others, steps=steps, batch=batch, learning_rate=rate, seed=seed)
    train(manifests, out, options, Features(teacher).cells if teacher else None)


@train.command()
def release(
    base: Pipeline,
    autoencoder: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, exists=True, help="the folder vae")],
    adapter: Annotated[Path, typer.Option("--lora", metavar="DIR", file_okay=False, exists=True)],
    pairs: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, exists=True, help="pairs.safetensors")],
    out: Out,
) -> None:
    """Put the parts together as they are shipped, and fit the previews to the latents of pairs."""
    from dermaflux.training import release as shipping

    shipping.release(base, autoencoder, adapter, pairs, out)


def _options(kind: type[Options], others: Sequence[str] | None, **given: Any) -> Options:
    """The dataclass `kind` with what is given, None being its default, and NAME=VALUE texts. Raises InputError."""
    known = {field.name: type(field.default) for field in fields(kind) if type(field.default) in (int, float, str)}
    changes = {name: value for name, value in given.items() if value is not None}
    for text in others or ():
        name, _, value = text.partition("=")
        try:
            changes[name] = known[name](value)
        except KeyError:
            raise InputError(f"--set {text}: there is no option “{name}”. Known: {', '.join(known)}.") from None
        except ValueError:
            raise InputError(f"--set {text}: “{value}” is not a number of the right kind.") from None
    return kind(**changes)
