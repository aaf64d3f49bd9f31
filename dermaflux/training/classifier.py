"""Train the embedded ViT on the images of manifests, calibrate it on out-of-fold answers and write `out/classifier`.

Classes are balanced in every batch; the calibration afterwards brings probabilities back to the true prevalence. With a
teacher, the network first learns that one's features of many views, and goes on with them while it learns the labels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from sklearn.model_selection import StratifiedGroupKFold
from timm.models import VisionTransformer
from timm.optim import create_optimizer_v2

import dermaflux
from dermaflux.classifier import LABELS, Card, Classifier, GateSpec, OperatingPoint, create_model
from dermaflux.data import manifest
from dermaflux.errors import DataError
from dermaflux.training import teacher
from dermaflux.training.calibration import HeldOut, calibrate, fit_gate, readme
from dermaflux.training.loop import fit
from dermaflux.training.pixels import open_rgb, read_pixels
from dermaflux.training.views import augment

DRAWN = ("phantom", "synthetic")
SEEN_BY_TEACHER = 256


@dataclass(frozen=True)
class ClassifierOptions:
    """How the classifier is trained.

    arch, model: a timm ViT and its keyword arguments; image_size in px; gate_layers: see GateSpec; mixup: the parameter
    of its beta distribution. folds: how often a part of the real images is held out; spared: the one split that is held
    out instead. views: of each image, shown to the teacher; lessons: of these in a batch; labels_from: the share of the
    run after which labels count, where there is a teacher. ema: decay of the averaged weights.
    """

    arch: str = "vit_nano_convstem16"
    model: tuple[tuple[str, object], ...] = ()
    image_size: int = 128
    steps: int = 1600
    batch: int = 48
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    mixup: float = 0.1
    folds: int = 5
    spared: str = ""
    views: int = 12
    lessons: int = 48
    labels_from: float = 0.5
    ema: float = 0.995
    gate_layers: tuple[int, ...] = (1, 3)
    trained_on: str = "dermoscopic images of the ISIC 2017 challenge (CC0), {images} of them, {malignant} malignant"
    licence: str = "Apache-2.0"
    save_every: int = 100
    seed: int = 0


def train(
    manifests: list[Path], out: Path, options: ClassifierOptions, taught_by: teacher.Teacher | None = None
) -> None:
    """Train on all but the test split of `manifests`, checkpointing to `out`, and write the folder `out/classifier`.

    Each fold of the real images, stratified by label and never parting the images of a patient, is held out once from a
    training of its own; temperature, operating point and figures come from these answers together, and the classifier
    that is written learns from all. With `options.spared` one training learns from the rest and is measured on that
    split. Rows whose source is phantom or synthetic only train. taught_by: see `teacher`.
    Raises DataError if a class has too few images to hold some out.
    """
    rows = read_rows(manifests)
    parts, answers = divide(rows, options), []
    final = parts[0][0] if options.spared else rows
    lessons = _lessons(final, out, options, taught_by)
    for k, (learned, spared) in enumerate(parts):
        folder, kept = out / f"fold-{k}", out / f"fold-{k}" / "held_out.safetensors"
        if not kept.exists():
            classifier = _classifier(learned, folder, options, lessons)
            logits, features = classifier.measure([open_rgb(row) for row in spared])
            truth = torch.tensor([LABELS.index(row.label) for row in spared])
            save_file({"logits": logits, "distances": classifier.distances(features), "truth": truth}, kept)
        answers.append(HeldOut(**load_file(kept)))
    folder = out / "fold-0" if options.spared else out / "whole"
    classifier = calibrate(_classifier(final, folder, options, lessons), HeldOut.joined(answers), len(answers))
    classifier.save(out / "classifier", readme(classifier.card))


def read_rows(manifests: list[Path]) -> list[manifest.Row]:
    """The rows of all splits but test."""
    return [row for path in manifests for row in manifest.read(path) if row.split != "test"]


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
        groups = [row.values.get("patient_id") or row.values.get("source_id") or str(row.path) for row in real]
        folds = StratifiedGroupKFold(options.folds, shuffle=True, random_state=options.seed)
        parts = [[real[i] for i in chosen] for _, chosen in folds.split(real, [row.label for row in real], groups)]
    away = [{row.path for row in part} for part in parts]
    return [([row for row in rows if row.path not in gone], part) for gone, part in zip(away, parts, strict=True)]


Taught = Callable[[list[manifest.Row]], teacher.Lessons | None]
"""Gives what the teacher sees of some rows."""


def _lessons(
    rows: list[manifest.Row], out: Path, options: ClassifierOptions, taught_by: teacher.Teacher | None
) -> Taught:
    """The teacher is asked once for all of `rows`; each training takes the views of its own."""
    if taught_by is None:
        return lambda _: None
    index = {row.path: i for i, row in enumerate(rows)}
    path, size = out / "lessons.safetensors", options.image_size
    pixels = read_pixels(rows, SEEN_BY_TEACHER)
    every = teacher.prepare(pixels, taught_by, path, views=options.views, size=size, seed=options.seed)
    return lambda some: every.of(torch.tensor([index[row.path] for row in some]))


def _classifier(rows: list[manifest.Row], out: Path, options: ClassifierOptions, lessons: Taught) -> Classifier:
    """A classifier trained on `rows`, with its gate, not calibrated yet."""
    labels = torch.tensor([LABELS.index(row.label) for row in rows])
    card = Card(
        arch=options.arch,
        model=dict(options.model),
        image_size=options.image_size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        labels=LABELS,
        temperature=1.0,
        auc=0.5,
        auc_interval=(0.0, 1.0),
        operating_point=OperatingPoint(0.5, 0.0, (0.0, 1.0), 0.0, (0.0, 1.0), 0, ""),
        gate=GateSpec(options.gate_layers, 0.0, 1.0, 0),
        trained_on=options.trained_on.format(images=len(rows), malignant=int(labels.sum())),
        licence=options.licence,
        version=dermaflux.__version__,
    )
    torch.manual_seed(options.seed)
    model = create_model(card).to(memory_format=torch.channels_last)
    optimise(model, read_pixels(rows, options.image_size * 5 // 4), labels, out, options, lessons(rows))
    width = model.num_features * (len(options.gate_layers) + 1)
    classifier = Classifier(model.eval().requires_grad_(False), card, torch.zeros(width), torch.eye(width))
    _, known = classifier.measure([open_rgb(row) for row in rows if is_real(row)])
    mean, precision = fit_gate(known)
    return replace(classifier, gate_mean=mean, gate_precision=precision)


def optimise(
    model: VisionTransformer,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    out: Path,
    options: ClassifierOptions,
    lessons: teacher.Lessons | None = None,
) -> None:
    """Train `model` on pixels (N, 3, S, S) uint8 in class-balanced, augmented batches, as `options` say, and on
    `lessons`; leaves the averaged weights in it."""
    accelerator = Accelerator(mixed_precision="bf16")
    echo = torch.nn.Linear(model.num_features, lessons.targets.shape[1] if lessons else 1)
    both = torch.nn.ModuleList([model, echo])
    optimizer = create_optimizer_v2(both, "adamw", lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, options.steps // 20 + 1, options.steps)
    both, optimizer, schedule = accelerator.prepare(both, optimizer, schedule)
    parameters = list(model.parameters())
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)
    members = [(labels == label).nonzero()[:, 0] for label in range(len(LABELS))]
    shares = torch.distributions.Beta(options.mixup, options.mixup)

    def pooled(x: torch.Tensor) -> torch.Tensor:
        return model.forward_head(model.forward_features(x.contiguous(memory_format=torch.channels_last)), True)

    def label_loss() -> tuple[torch.Tensor, dict[str, float]]:
        y = torch.arange(options.batch) % len(LABELS)
        chosen = [members[label][torch.randint(len(members[label]), ())] for label in y.tolist()]
        x = augment(pixels[torch.stack(chosen)], options.image_size) * 2 - 1  # the card's mean and std are 0.5
        share, order = shares.sample().clamp(0.5, 1), torch.randperm(options.batch)
        with accelerator.autocast():
            logits = model.head(pooled(torch.lerp(x[order], x, share))).float()
        loss = share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(logits, y[order])
        return loss, {"loss": loss.item(), "accuracy": float((logits.argmax(1) == y).float().mean())}

    def lesson_loss() -> tuple[torch.Tensor, dict[str, float]]:
        x, target = lessons.batch(options.lessons)
        with accelerator.autocast():
            loss = F.mse_loss(echo(pooled(x)).float(), target)
        return loss, {"lesson": loss.item()}

    def step(i: int) -> dict[str, float]:
        model.train()
        losses = [lesson_loss()] if lessons else []
        if not lessons or i >= options.labels_from * options.steps:
            losses.append(label_loss())
        accelerator.backward(sum(loss for loss, _ in losses))
        accelerator.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        average.step(parameters)
        return {name: value for _, values in losses for name, value in values.items()}

    fit(accelerator, step, steps=options.steps, out=out, seed=options.seed, save_every=options.save_every)
    average.copy_to(parameters)
