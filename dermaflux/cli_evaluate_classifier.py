"""`python -m dermaflux evaluate classifier | held-out | gate | saliency`: what classifiers are worth."""

from pathlib import Path
from typing import Annotated

import typer

judge_classifiers = typer.Typer()

Judged = Annotated[str, typer.Option("--classifier", help="a name or a folder")]
Count = Annotated[int, typer.Option(min=20)]


@judge_classifiers.command()
def classifier(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST.csv", help="real images of known label")],
    name: Judged = "nano",
    split: Annotated[str, typer.Option()] = "val",
    against: Annotated[
        list[str] | None, typer.Option(help="another classifier, by name or folder, to compare; repeatable")
    ] = None,
    zero_shot: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|DIR",
            help="an image-text model (open_clip): biomedclip, dermlip, make, OWNER/NAME, a folder; repeatable",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, help="for report.md, CSV files and figures")
    ] = None,
) -> None:
    """A classifier, on the images of one split: its figures with intervals, images refused, other models beside it.

    With --out also by subgroup (diagnosis, skin tone, age, sex, site, source), with ROC, reliability and confusion
    figures.
    """
    from dermaflux.classifier import Classifier
    from dermaflux.data.curate import rows_of
    from dermaflux.evaluation import answers, classification, classifier_report, figures
    from dermaflux.evaluation.zero_shot import ZeroShot
    from dermaflux.memory import best_device

    device = best_device()
    rows = rows_of([manifest], split)
    judged = Classifier.load(name, device)
    others = {one: Classifier.load(one, device) for one in against or ()}
    others |= {f"{one} (zero-shot)": ZeroShot.load(one, device) for one in zero_shot or ()}
    peers = {one: answers.ask_peer(peer, rows) for one, peer in others.items()}
    asked = answers.ask(judged, rows)
    about = (
        f"{judged.card.arch}, on the split “{split}” of {manifest.name}.",
        f"It was trained on {judged.card.trained_on}. Of images that were among those, the figures are too good.",
    )
    result = classifier_report.measure(name, asked, peers, about)
    typer.echo(figures.table(classification.of_asked(asked)))
    if peers:
        typer.echo("\n" + classifier_report.comparisons(result))
    if out:
        classifier_report.write(result, out)
        typer.echo(f"\nBy subgroup, with figures: {out / 'report.md'}")


@judge_classifiers.command()
def held_out(
    answers: Annotated[Path, typer.Argument(metavar="held_out.csv", dir_okay=False, exists=True)],
    split: Annotated[str, typer.Option(help="only the images of this split")] = "",
) -> None:
    """What `train classifier` kept of the images held out: the AUC of all, and of each fold."""
    from dermaflux.evaluation import classification, figures

    typer.echo(figures.table(classification.of_held_out(answers, split)))


@judge_classifiers.command()
def gate(name: Judged = "nano", count: Count = 500) -> None:
    """The classifier's gate, on images that show no lesion: textures, drawings, faces, photographs."""
    from dermaflux.classifier import Classifier
    from dermaflux.evaluation import classification, figures

    typer.echo(figures.table(classification.of_non_lesions(Classifier.load(name), count)))


@judge_classifiers.command()
def saliency(
    name: Judged = "nano",
    count: Count = 200,
    method: Annotated[str | None, typer.Option(help="saliency method")] = None,
) -> None:
    """How much of the classifier's saliency lies inside the lesion of phantoms, against random controls."""
    from dermaflux.classifier import Classifier
    from dermaflux.evaluation import classification, figures
    from dermaflux.saliency import DEFAULT

    typer.echo(figures.table(classification.of_saliency(Classifier.load(name), count, method or DEFAULT)))
