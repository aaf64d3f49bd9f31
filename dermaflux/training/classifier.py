"""Train the embedded ViT on the images of manifests, calibrate it on out-of-fold answers and write `out/classifier`.

Classes are balanced in every batch; the calibration afterwards brings probabilities back to the true prevalence. With a
teacher, the network learns that one's features of every view: of phantoms first, which belong to no fold, then of the
images, before and beside their labels, and with these what the teacher's features say of the label.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold
from timm.models import VisionTransformer
from timm.optim import create_optimizer_v2

import dermaflux
from dermaflux.classifier import Classifier, create_model, gate_width
from dermaflux.classifier_card import LABELS, UNMEASURED, Card, GateSpec
from dermaflux.data import manifest
from dermaflux.data.check import alike, perceptual_hash
from dermaflux.data.curate import each_once, groups_of
from dermaflux.data.pixels import open_rgb, read_pixels
from dermaflux.errors import DataError
from dermaflux.files import write_atomically
from dermaflux.training.calibration import HeldOut, calibrate, fit_gate, readme
from dermaflux.training.loop import checked, digest, fit, settings, update
from dermaflux.training.phantoms import draw_phantoms
from dermaflux.training.teacher import Lessons, Teacher, echo_loss
from dermaflux.training.views import augment

DRAWN = ("phantom", "synthetic")
DETAIL = 2
"""Views are made at this many times the size that the network sees: the teacher's cells are as many as its patches."""
MEASURED = 512
"""Views on which the teacher's features are measured before training."""
VIEWS = 4
"""Of each image, from which is learned how the teacher's features tell the labels."""


@dataclass(frozen=True)
class ClassifierOptions:
    """How the classifier is trained.

    arch, model: a timm ViT and its keyword arguments; image_size in px; gate_layers: see GateSpec; mixup: the parameter
    of its beta distribution. folds: how often a part of the real images is held out; spared: the one split that is held
    out instead. Where there is a teacher: phantoms, and for how many steps they are seen; labels_from: the share of the
    later run after which labels count. ema: decay of the averaged weights.
    """

    arch: str = "vit_nano_convstem16"
    model: tuple[tuple[str, object], ...] = ()
    image_size: int = 128
    steps: int = 1200
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    mixup: float = 0.1
    folds: int = 5
    spared: str = ""
    phantoms: int = 3000
    phantom_steps: int = 1500
    labels_from: float = 0.3
    ema: float = 0.995
    gate_layers: tuple[int, ...] = (1, 3)
    trained_on: str = "dermoscopic images of the ISIC 2017 challenge (CC0), {images} of them, {malignant} malignant"
    taught_by: str = (
        ", with the features of an ImageNet MobileNetV2 (Apache-2.0) as a teacher, of phantoms first and then of these"
    )
    licence: str = "Apache-2.0"
    save_every: int = 100
    seed: int = 0

    def __post_init__(self):
        checked(self)


def train(manifests: list[Path], out: Path, options: ClassifierOptions, teacher: Teacher | None = None) -> None:
    """Train on all but the test split of `manifests`, checkpointing to `out`, and write the folder `out/classifier`.

    Each fold of the real images, stratified by label and parting neither the images of a patient nor near-duplicates,
    is held out once from a training of its own; temperature, operating point and figures come from these answers
    together, and the classifier that is written learns from all. With `options.spared` one training learns from the
    rest and is measured on that split. Rows whose source is phantom or synthetic only train. What is said of each image
    held out is in `out/held_out.csv`.
    Raises DataError if a class has too few images to hold some out.
    """
    rows = read_rows(manifests)
    parts, answers = divide(rows, options), []
    final = parts[0][0] if options.spared else rows
    start = _taught_by_phantoms(out / "phantoms", options, teacher) if teacher and options.phantom_steps else {}
    for k, (learned, spared) in enumerate(parts):
        folder, kept = out / f"fold-{k}", out / f"fold-{k}" / "held_out.safetensors"
        if not kept.exists():
            classifier = _classifier(learned, folder, options, start, teacher)
            logits, features = classifier.measure(map(open_rgb, spared))
            truth = torch.tensor([LABELS.index(row.label) for row in spared])
            save_file({"logits": logits, "distances": classifier.distances(features), "truth": truth}, kept)
        answers.append(HeldOut(**load_file(kept)))
    folder = out / "fold-0" if options.spared else out / "whole"
    whole, joined = _classifier(final, folder, options, start, teacher), HeldOut.joined(answers)
    classifier, scores = calibrate(whole, joined, len(answers))
    classifier.save(out / "classifier", readme(classifier.card))
    _write_answers(out / "held_out.csv", [part for _, part in parts], joined, scores)


def _write_answers(path: Path, parts: list[list[manifest.Row]], answers: HeldOut, scores: np.ndarray) -> None:
    """A line for each image held out: which, of which split and fold, and what was said of it."""
    lines = [
        {"file": row.path.name, "label": row.label, "split": row.split, "fold": k}
        for k, part in enumerate(parts)
        for row in part
    ]
    said = pd.DataFrame({"p_malignant": scores, "distance": answers.distances.numpy()})
    write_atomically(path, lambda file: file.write(pd.DataFrame(lines).join(said).to_csv(index=False).encode()))


def read_rows(manifests: list[Path]) -> list[manifest.Row]:
    """The rows of all splits but test. Raises DataError if an image is in two manifests."""
    rows = [row for path in manifests for row in manifest.read(path) if row.split != "test"]
    each_once(rows)
    return rows


def is_real(row: manifest.Row) -> bool:
    """Whether the image of `row` is a photograph: neither phantom nor synthetic."""
    return row.values.get("source") not in DRAWN


def divide(rows: list[manifest.Row], options: ClassifierOptions) -> list[tuple[list[manifest.Row], list[manifest.Row]]]:
    """The rows to learn from and those held out, once a fold. Raises DataError if there are too few."""
    real = [row for row in rows if is_real(row)]
    if options.spared:
        parts = [[row for row in real if row.split == options.spared]]
        if not parts[0] or len(parts[0]) == len(real):
            raise DataError(f"The split “{options.spared}” must hold some of the images, not none or all.")
    else:
        if min(sum(row.label == label for row in real) for label in LABELS) < options.folds:
            raise DataError(f"Training needs at least {options.folds} real images of each class; there are fewer.")
        folds = StratifiedGroupKFold(options.folds, shuffle=True, random_state=options.seed)
        parts = [
            [real[i] for i in chosen] for _, chosen in folds.split(real, [row.label for row in real], groups(real))
        ]
    away = [{row.path for row in part} for part in parts]
    return [([row for row in rows if row.path not in gone], part) for gone, part in zip(away, parts, strict=True)]


def groups(rows: list[manifest.Row]) -> list[int]:
    """A number for each row, the same for images of a patient or a lesion and for near-duplicates."""
    known, looks = groups_of(rows), np.array(alike([perceptual_hash(open_rgb(row)) for row in rows]), int)
    size = 2 * len(rows)  # of both numbers, the second behind the first
    joined = coo_array((np.ones(len(rows)), (known, len(rows) + looks)), (size, size))
    return connected_components(joined, directed=False)[1][known].tolist()


Weights = dict[str, torch.Tensor]


def _taught_by_phantoms(out: Path, options: ClassifierOptions, teacher: Teacher) -> Weights:
    """The weights of a network that has learned what `teacher` sees in phantoms, and no label."""
    path = out / "model.safetensors"
    if not path.exists():
        torch.manual_seed(options.seed)
        model = create_model(_card([], options, teacher)).to(memory_format=torch.channels_last)
        pixels = draw_phantoms(options.phantoms, options.image_size * DETAIL, options.seed)
        unknown = torch.arange(len(pixels)) % len(LABELS)
        optimise(model, pixels, unknown, out, replace(options, steps=options.phantom_steps, labels_from=1), teacher)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return load_file(path)


def _card(rows: list[manifest.Row], options: ClassifierOptions, teacher: Teacher | None) -> Card:
    """The card of a classifier trained on `rows`, before it is calibrated."""
    malignant = sum(row.label == "malignant" for row in rows)
    trained_on = options.trained_on.format(images=len(rows), malignant=malignant)
    return Card(
        arch=options.arch,
        model=dict(options.model),
        image_size=options.image_size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        labels=LABELS,
        gate=GateSpec(options.gate_layers, 0.0, 1.0, 0),
        trained_on=trained_on + (options.taught_by if teacher else ""),
        licence=options.licence,
        version=dermaflux.__version__,
        **UNMEASURED,
    )


def _classifier(
    rows: list[manifest.Row], out: Path, options: ClassifierOptions, start: Weights, teacher: Teacher | None
) -> Classifier:
    """A classifier trained on `rows` from the weights `start` on, with its gate, not calibrated yet."""
    card, labels = _card(rows, options, teacher), torch.tensor([LABELS.index(row.label) for row in rows])
    torch.manual_seed(options.seed)
    model = create_model(card).to(memory_format=torch.channels_last)
    if start:
        model.load_state_dict(start)
    optimise(model, read_pixels(rows, options.image_size * DETAIL), labels, out, options, teacher)
    width = gate_width(model, card.gate)
    classifier = Classifier(model.eval().requires_grad_(False), card, torch.zeros(width), torch.eye(width))
    _, known = classifier.measure(map(open_rgb, filter(is_real, rows)))
    mean, precision = fit_gate(known)
    return replace(classifier, gate_mean=mean, gate_precision=precision)


def optimise(
    model: VisionTransformer,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    out: Path,
    options: ClassifierOptions,
    teacher: Teacher | None = None,
) -> None:
    """Train `model` on pixels (N, 3, S, S) uint8 in class-balanced, augmented and mixed batches, as `options` say, and
    on what `teacher` says of the same views at twice their size; leaves the averaged weights in it."""
    torch.manual_seed(options.seed)
    seen = options.image_size * DETAIL
    some = pixels[torch.randperm(len(pixels))[:MEASURED]]
    lessons = Lessons.of(teacher, augment(some, seen)) if teacher else None
    if lessons and options.labels_from < 1:
        lessons = lessons.knowing((augment(pixels, seen) for _ in range(VIEWS)), labels)
    accelerator = Accelerator(mixed_precision="bf16")
    echo = lessons.echo(model.num_features) if lessons else torch.nn.ModuleList()
    both = torch.nn.ModuleList([model, echo])
    optimizer = create_optimizer_v2(both, "adamw", lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, options.steps // 20 + 1, options.steps)
    both, optimizer, schedule = accelerator.prepare(both, optimizer, schedule)
    parameters = list(model.parameters())
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)
    members = [(labels == label).nonzero()[:, 0] for label in range(len(LABELS))]
    shares = torch.distributions.Beta(options.mixup, options.mixup)

    def step(i: int) -> dict[str, float]:
        model.train()
        y = torch.arange(options.batch) % len(LABELS)
        chosen = [members[label][torch.randint(len(members[label]), ())] for label in y.tolist()]
        x = augment(pixels[torch.stack(chosen)], seen).float()
        share, order = shares.sample().clamp(0.5, 1), torch.randperm(options.batch)
        x = torch.lerp(x[order], x, share)
        small = F.interpolate(x / 127.5 - 1, scale_factor=1 / DETAIL, mode="bicubic", antialias=True)
        losses = {}
        with accelerator.autocast():
            tokens = model.forward_features(small.contiguous(memory_format=torch.channels_last))
            pooled = model.forward_head(tokens, pre_logits=True)
            logits = model.head(pooled).float()
            answers = [one(of) for one, of in zip(echo, (tokens[:, model.num_prefix_tokens :], pooled), strict=False)]
        if lessons:
            heard = lessons.hear(x.round().byte())
            losses["lesson"] = echo_loss(answers, heard)
        if not lessons or i >= options.labels_from * options.steps:
            right, other = F.cross_entropy(logits, y), F.cross_entropy(logits, y[order])
            losses["loss"] = share * right + (1 - share) * other
        if lessons and "loss" in losses:
            losses["verdict"] = F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], lessons.verdict(heard))
        update(accelerator, sum(losses.values()), optimizer, schedule, parameters, average)
        accuracy = {"accuracy": float((logits.argmax(1) == y).float().mean())}
        return {name: value.item() for name, value in losses.items()} | accuracy

    kept = dict(save_every=options.save_every, made_of=settings(options) | digest(pixels, labels))
    fit(accelerator, step, steps=options.steps, out=out, seed=options.seed, **kept)
    average.copy_to(parameters)
