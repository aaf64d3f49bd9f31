"""`python -m dermaflux evaluate <what>`: each prints a Markdown table of figures with n and 95 % intervals."""

import re
from pathlib import Path
from typing import Annotated

import typer

from dermaflux.cli_evaluate_classifier import judge_classifiers
from dermaflux.cli_options import Others, numbers, set_options, stand_alone
from dermaflux.errors import InputError
from dermaflux.files import pngs

evaluate = typer.Typer(help="Measure what models and measures are worth, with intervals.", no_args_is_help=True)
evaluate.add_typer(judge_classifiers)

Count = Annotated[int, typer.Option(min=20)]
Memory = Annotated[str | None, typer.Option(help="how weights are kept, as in generate")]
Compiled = Annotated[bool, typer.Option("--compile", help="compile the model's blocks")]


@evaluate.command()
def appearance(count: Count = 500) -> None:
    """The measured appearance, on phantoms of exactly known attributes."""
    from dermaflux.evaluation import concordance, figures

    typer.echo(figures.table(concordance.of_phantoms(count)))


@evaluate.command()
def autoencoder(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST.csv")],
    split: Annotated[str, typer.Option()] = "val",
    vae: Annotated[Path | None, typer.Option(metavar="DIR", file_okay=False, exists=True)] = None,
) -> None:
    """The embedded autoencoder (or that at --vae), on the images of one split: PSNR in dB."""
    import numpy as np
    from diffusers import AutoencoderTiny

    from dermaflux.data.curate import rows_of
    from dermaflux.data.pixels import read_pixels
    from dermaflux.evaluation import figures
    from dermaflux.model_files import NATIVE
    from dermaflux.models import NANO
    from dermaflux.training.autoencoder import psnr

    model = AutoencoderTiny.from_pretrained(vae or NANO / "vae").eval()
    scores = psnr(model, read_pixels(rows_of([manifest], split), NATIVE))
    typer.echo(figures.table([figures.resampled("PSNR, dB", np.mean, scores.tolist(), aim=32)]))


@evaluate.command()
def concordance(
    drawn: Annotated[
        Path | None, typer.Argument(metavar="DIR", file_okay=False, exists=True, help="a folder of drawn PNGs")
    ] = None,
    count: Annotated[int | None, typer.Option(min=20, help="default: 500")] = None,
    lora_strength: Annotated[float | None, typer.Option(help="0-1.5")] = None,
    contrast: Annotated[float | None, typer.Option(help="0-2")] = None,
    candidates: Annotated[int | None, typer.Option(help="1-16")] = None,
    postfilter: Annotated[float | None, typer.Option(help="0-1")] = None,
    memory: Memory = None,
    compiled: Compiled = False,
) -> None:
    """Requested against measured appearance: of the images in DIR, or of COUNT that the embedded generator draws."""
    from dermaflux.evaluation import concordance, figures

    changes = dict(lora_strength=lora_strength, contrast=contrast, candidates=candidates, postfilter=postfilter)
    if drawn is not None:
        if compiled or any(given is not None for given in (count, memory, *changes.values())):
            named = "--count, --lora-strength, --contrast, --candidates, --postfilter, --memory and --compile"
            raise InputError(f"{named} are for what is drawn now; DIR is measured as it is.")
        wanted, images = concordance.drawn_folder(drawn)
    else:
        wanted = concordance.requests(count or 500)
        images = _drawn(wanted, changes, memory, compiled)
    typer.echo(figures.table(concordance.of_images(wanted, images)))


Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST.csv", help="real images, with the splits train and val")]
Drawn = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, exists=True, help="a folder of drawn PNGs")]
Judge = Annotated[
    str,
    typer.Option(
        "--features",
        metavar="NAME|DIR|FILE.tflite",
        help="a network of timm by name or folder, a classifier's folder, or a quantised ImageNet MobileNetV2",
    ),
]


@evaluate.command()
def captions(
    manifests: Annotated[list[Path], typer.Argument(metavar="CAPTIONED.csv...", help="out of `caption`")],
) -> None:
    """Captioners compared: how often they restate the label, and how far they agree with what is measured."""
    from dermaflux.evaluation import figures
    from dermaflux.evaluation.captions import compare

    typer.echo(figures.table(compare(manifests)))


@evaluate.command()
def realism(real: Manifest, drawn: Drawn, judge: Judge) -> None:
    """How close the drawn images lie to the training images, and whether they copy them.

    KID, CMMD, Frechet distance, precision, recall, density and coverage, each beside what real images reach. Copies are
    shown by `evaluate nearest`.
    """
    from dermaflux.evaluation import figures
    from dermaflux.evaluation.realism import compare

    typer.echo(figures.table(compare(real, drawn, _features(judge), every=True)))
    nearest = f"python -m dermaflux evaluate nearest {real} {drawn} --features {judge} --out nearest.png"
    typer.echo(f"\nEach drawn image beside the training image nearest to it: {nearest}")


@evaluate.command()
def steps(
    real: Manifest,
    like: Annotated[Path, typer.Option("--from", metavar="MANIFEST.csv", exists=True, help="lesions as in this set")],
    judge: Judge,
    out: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, help="for the images and the curve")],
    steps: Annotated[list[int], typer.Option(help="repeatable")] = [4, 8, 12, 20, 30, 50],  # noqa: B006
    count: Count = 200,
    memory: Memory = None,
    compiled: Compiled = False,
) -> None:
    """Steps against quality: the embedded generator's images with few and with many steps, and the curve as a PNG."""
    from dermaflux.evaluation import figures
    from dermaflux.evaluation.steps import compare

    typer.echo(figures.table(compare(_embedded(memory, compiled), real, like, _features(judge), out, steps, count)))


@evaluate.command()
def usefulness(real: Manifest, drawn: Drawn, judge: Judge) -> None:
    """What the drawn images are worth to a classifier of real ones: instead of the training images, and beside them."""
    from dermaflux.evaluation import figures
    from dermaflux.evaluation.usefulness import compare

    typer.echo(figures.table(compare(real, drawn, _features(judge))))


@evaluate.command()
def nearest(
    real: Manifest, drawn: Drawn, judge: Judge, out: Annotated[Path, typer.Option(metavar="FILE.png", dir_okay=False)]
) -> None:
    """A sheet of 16 drawn images, each beside the training image nearest to it."""
    from dermaflux.evaluation.realism import save_nearest

    typer.echo("\n".join(save_nearest(real, drawn, _features(judge), out)))


@evaluate.command()
def outlines(
    real: Manifest,
    out: Annotated[Path, typer.Option(metavar="FILE.png", dir_okay=False)],
    split: Annotated[str, typer.Option()] = "val",
) -> None:
    """The outlines found on the images of one split, on a sheet to be looked at."""
    from dermaflux.data.curate import rows_of
    from dermaflux.evaluation import figures
    from dermaflux.evaluation.outlines import save_outlines

    typer.echo(figures.table(save_outlines(rows_of([real], split), out)))


@evaluate.command()
def sheet(
    drawn: Drawn,
    out: Annotated[Path, typer.Option(metavar="FILE.png", dir_okay=False)],
    columns: Annotated[int, typer.Option(min=1)] = 8,
    side: Annotated[int, typer.Option(min=16, help="of each image, in px")] = 112,
) -> None:
    """The images of a drawn folder on one contact sheet that carries their recipes."""
    from dermaflux.evaluation.sheets import save_sheet

    save_sheet(pngs(drawn), out, columns, side)


@evaluate.command()
def augmentation(
    real: Manifest,
    drawn: Annotated[list[str], typer.Argument(metavar="[NAME=]DIR...", help="folders that `generate` wrote")],
    out: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, help="what is there is gone on with")],
    reals: Annotated[str, typer.Option(help="numbers of real images, parted by commas")] = "250,500,1000,1990",
    ratios: Annotated[str, typer.Option(help="synthetic images for each real one")] = "0,1,1.75,4",
    archs: Annotated[
        str, typer.Option(help="timm networks; “probe” is a logistic regression on --features")
    ] = "vit_base_patch16_224,resnext50_32x4d",
    judge: Annotated[str | None, typer.Option("--features", metavar="NAME|DIR|FILE.tflite", help="of “probe”")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    seen: Annotated[
        Path | None, typer.Option(metavar="MANIFEST.csv", help="what the generators were trained on: its train split")
    ] = None,
    validation: Annotated[str, typer.Option(help="the split to stop and to calibrate on")] = "val",
    test: Annotated[str, typer.Option(help="the split to be tried on")] = "test",
    others: Others = None,
) -> None:
    """The table and figure of the paper: what synthetic images are worth to classifiers of real ones.

    Every cell is trained by the code of `train classifier --val`; --set takes its options. Under `accelerate launch`
    the processes share the cells. Images of several generators stand beside each other, and the last is what the others
    are compared with. Writes cells.csv, table.md, figure.png (AUC) and figure-accuracy.png (as the paper's) to DIR.
    """
    from time import sleep

    from dermaflux.data.curate import rows_of
    from dermaflux.data.manifest import read
    from dermaflux.evaluation import augmentation as study
    from dermaflux.evaluation.augmentation_report import figure, markdown, overall, summary
    from dermaflux.files import write_atomically
    from dermaflux.training.finetune import FinetuneOptions

    by = {name: read(folder / "manifest.csv") for name, folder in _named(drawn).items()}
    rows = (read(real, "train"), by, read(real, validation), read(real, test))
    known = rows_of([seen], "train") if seen else ()
    if not seen:
        typer.echo(
            "Without --seen nothing keeps a cell from learning, by way of a generator, of real images beyond its own.",
            err=True,
        )
    sets = study.Sets(*rows, seen=known)
    names = [name.strip() for name in archs.split(",")]
    table = study.cells(names, numbers(reals, int), numbers(ratios, float), seeds, list(by))
    part = stand_alone()
    given = _features(judge) if judge else None
    for _ in study.run(table, sets, out, set_options(FinetuneOptions, others), part, given):
        pass
    if part[0]:
        return
    while not all((out / cell.name / "result.json").exists() for cell in table):
        sleep(1)  # for the other processes
    cells = study.results(out, table)
    found, whole = summary(cells), overall(cells)
    write_atomically(out / "cells.csv", lambda file: file.write(found.to_csv(index=False).encode()))
    text = "\n\n".join(markdown(found, whole, measure) for measure in ("auc", "accuracy"))
    write_atomically(out / "table.md", lambda file: file.write(f"{text}\n".encode()))
    for name, measure in (("figure.png", "auc"), ("figure-accuracy.png", "accuracy")):
        write_atomically(out / name, lambda file, measure=measure: figure(found, measure).save(file, "png"))
    typer.echo(text)


def _named(folders: list[str]) -> dict[str, Path]:
    """The folders of `[NAME=]DIR`, by that name or their own. Raises InputError."""
    allowed, named = re.compile(r"[\w.-]{1,40}", re.ASCII), {}  # it is part of file names
    for given in folders:
        name, _, folder = given.partition("=") if "=" in given and not Path(given).is_dir() else ("", "", given)
        name = name or Path(folder).resolve().name
        if not allowed.fullmatch(name):
            raise InputError(f"“{name[:40]}” cannot name a generator: use letters, digits, dots, _ and -.")
        if not (Path(folder) / "manifest.csv").is_file():
            raise InputError(f"{folder} is not a folder that `generate` wrote: it holds no manifest.csv.")
        if name in named:
            raise InputError(f"Two folders are named “{name}”. Name them apart: NAME=DIR.")
        named[name] = Path(folder)
    return named


def _features(source: str):
    from dermaflux.data import features
    from dermaflux.memory import best_device

    return features.load(source, best_device())


def _embedded(memory, compiled):
    from dermaflux.generator import Generator
    from dermaflux.memory import AUTO

    return Generator.load("nano", memory=memory or AUTO, compiled=compiled)


def _drawn(wanted, changes, memory, compiled):
    import numpy as np
    from tqdm import tqdm

    from dermaflux.caption import caption
    from dermaflux.models import MAX_IMAGES, SamplingOptions

    generator = _embedded(memory, compiled)
    asked = list(enumerate(wanted))
    with tqdm(total=len(asked), unit="image", disable=None) as progress:
        for first in range(0, len(asked), MAX_IMAGES):
            seeds, lesions = zip(*asked[first : first + MAX_IMAGES], strict=True)
            options = SamplingOptions.defaults(generator.spec, seeds=seeds, **changes)
            drawn = {}
            for sample in generator.sample_each(list(map(caption, lesions, seeds)), options, lesions):
                drawn[sample.index] = np.asarray(sample.image)
                progress.update()
            yield from (drawn[index] for index in sorted(drawn))
