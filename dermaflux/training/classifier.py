"""Train the embedded ViT on the images of manifests, calibrate it on out-of-fold answers and write `out/classifier`.

Classes are balanced in every batch; the calibration afterwards brings probabilities back to the true prevalence. With a
teacher, the network learns that one's features of every view: of phantoms and other drawn images first, which belong to
no fold, then of the photographs, before and beside their labels, and with these what the teacher's features say of the
label.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from timm.models import VisionTransformer
from timm.optim import create_optimizer_v2

import dermaflux
from dermaflux.classifier import Classifier, create_model, gate_width, is_vit, turned
from dermaflux.classifier_card import LABELS, UNMEASURED, VIEWS, Card, GateSpec
from dermaflux.data import manifest
from dermaflux.data.pixels import open_rgb, read_pixels
from dermaflux.errors import InputError
from dermaflux.files import write_atomically
from dermaflux.training.calibration import HeldOut, calibrate, fit_gate, readme
from dermaflux.training.folds import divide, is_real, read_rows
from dermaflux.training.loop import checked, digest, fit, settings, update
from dermaflux.training.phantoms import draw_phantoms
from dermaflux.training.precision import mixed_precision
from dermaflux.training.teacher import Lessons, Teacher, echo_loss
from dermaflux.training.views import augment

DETAIL = 2
"""Views are made at this many times the size that the network sees: the teacher's cells are as many as its patches."""
MEASURED = 512
"""Views on which the teacher's features are measured before training."""
ASKED = 4
"""Views of each image, random ones and as many turned ones, that show how the teacher's features tell the labels."""


@dataclass(frozen=True)
class ClassifierOptions:
    """How the classifier is trained.

    arch, model: a timm ViT and its keyword arguments; image_size in px; gate_layers: see GateSpec; mixup: the parameter
    of its beta distribution, 0 for none. views: see Card. folds: how often a part of the real images is held out;
    spared: the one split that is held out instead. Where there is a teacher: phantoms, and for how many steps they and
    other drawn images are seen; labels_from: the share of the later run after which labels count. ema: decay of the
    averaged weights. title, licence: what its card shall say.
    """

    arch: str = "vit_nano_convstem16"
    model: tuple[tuple[str, object], ...] = ()
    image_size: int = 128
    steps: int = 1200
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    mixup: float = 0.1
    views: int = 4
    folds: int = 5
    spared: str = ""
    phantoms: int = 3000
    drawn_steps: int = 4000
    labels_from: float = 0.3
    ema: float = 0.995
    gate_layers: tuple[int, ...] = (1, 3)
    title: str = "A classifier of skin lesions"
    licence: str = "as its images allow"
    save_every: int = 100
    seed: int = 0

    def __post_init__(self):
        checked(self)
        if self.views not in VIEWS:
            raise InputError(f"views={self.views} is none of {', '.join(map(str, VIEWS))}.")
        if self.batch % len(LABELS):
            raise InputError(f"batch={self.batch} cannot hold as many images of each class; it must be even.")
        if self.folds < 2 and not self.spared:
            raise InputError(f"folds must be at least 2, not {self.folds}.")


def train(manifests: list[Path], out: Path, options: ClassifierOptions, teacher: Teacher | None = None) -> None:
    """Train on all but the test split of `manifests`, checkpointing to `out`, and write the folder `out/classifier`.

    Each fold of the real images, stratified by label and parting neither the images of a patient nor near-duplicates,
    is held out once from a training of its own; temperature, operating point and figures come from these answers
    together, and the classifier that is written learns from all. With `options.spared` one training learns from the
    rest and is measured on that split. Rows whose source is phantom or synthetic only train: where there is a teacher
    before the others and without their labels, which their generator may have learned from images that are held out.
    What is said of each image held out is in `out/held_out.csv`.
    Raises DataError if a class has too few images to hold some out.
    """
    rows = read_rows(manifests)
    drawn = [row for row in rows if not is_real(row)]
    taught = bool(teacher and options.drawn_steps)
    if not taught and not options.spared and any(row.values["source"] == "synthetic" for row in drawn):
        raise InputError(
            "Synthetic images may show what a generator knows of the images of any fold. Learn from them before "
            "labels, with --teacher, or hold out a split that the generator has not seen, with --set spared=val."
        )
    rows = [row for row in rows if not taught or is_real(row)]
    parts, answers = divide(rows, options.folds, options.seed, options.spared), []
    start = _taught_by_drawn(drawn, out / "drawn", options, teacher) if taught else {}
    for k, (learned, spared) in enumerate(parts):
        classifier = _classifier(learned, out / f"fold-{k}", options, start, teacher)
        logits, features = classifier.measure(map(open_rgb, spared))
        truth = torch.tensor([LABELS.index(row.label) for row in spared])
        answers.append(HeldOut(logits, classifier.distances(features), truth))
    whole = classifier if options.spared else _classifier(rows, out / "whole", options, start, teacher)
    if taught:
        first = f", of {options.phantoms} phantoms and {len(drawn)} other drawn images first and then of these"
        whole = replace(whole, card=replace(whole.card, trained_on=whole.card.trained_on + first))
    joined = HeldOut.joined(answers)
    classifier, scores = calibrate(whole, joined, len(answers))
    classifier.save(out / "classifier", readme(classifier.card, options.title))
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


Weights = Mapping[str, torch.Tensor]
NOTHING: Weights = MappingProxyType({})


def _taught_by_drawn(rows: list[manifest.Row], out: Path, options: ClassifierOptions, teacher: Teacher) -> Weights:
    """The weights of a network that has learned what `teacher` sees in phantoms and `rows`, and no label."""
    torch.manual_seed(options.seed)
    model = create_model(_card([], options, teacher)).to(memory_format=torch.channels_last)
    size = options.image_size * DETAIL
    pixels = torch.cat([draw_phantoms(options.phantoms, size, options.seed), read_pixels(rows, size)])
    if len(pixels) < len(LABELS):
        raise InputError(f"drawn_steps={options.drawn_steps} needs drawn images: give phantoms, or set it to 0.")
    unknown = torch.arange(len(pixels)) % len(LABELS)
    optimise(model, pixels, unknown, out, replace(options, steps=options.drawn_steps, labels_from=1), teacher)
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def _card(rows: list[manifest.Row], options: ClassifierOptions, teacher: Teacher | None) -> Card:
    """The card of a classifier trained on `rows`, before it is calibrated."""
    real = [row for row in rows if is_real(row)]
    malignant = sum(row.label == "malignant" for row in real)
    licences = ", ".join(sorted({row.values.get("licence") or "" for row in real} - {""}))
    known = f" ({licences})" if licences else ""
    beside = f", beside {len(rows) - len(real)} drawn ones" if len(rows) > len(real) else ""
    taught_by = ", with the features of an ImageNet MobileNetV2 as a teacher" if teacher else ""
    return Card(
        arch=options.arch,
        model=dict(options.model),
        image_size=options.image_size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        labels=LABELS,
        gate=GateSpec(options.gate_layers, 0.0, 1.0, 0),
        trained_on=f"{len(real)} photographs{known}, {malignant} of them malignant{beside}{taught_by}",
        licence=options.licence,
        version=dermaflux.__version__,
        views=options.views,
        **UNMEASURED,
    )


def _classifier(
    rows: list[manifest.Row], out: Path, options: ClassifierOptions, start: Weights, teacher: Teacher | None
) -> Classifier:
    """A classifier trained on `rows` from the weights `start` on, with its gate, not calibrated yet. Of a run that has
    been finished before only the gate is fitted anew."""
    card, labels = _card(rows, options, teacher), torch.tensor([LABELS.index(row.label) for row in rows])
    torch.manual_seed(options.seed)
    model = create_model(card).to(memory_format=torch.channels_last)
    if start:
        model.load_state_dict(start)
    pixels = read_pixels(rows, options.image_size * DETAIL)
    optimise(model, pixels, labels, out, options, teacher, start)
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
    start: Weights = NOTHING,
) -> None:
    """Train `model` on pixels (N, 3, S, S) uint8 in class-balanced, augmented and mixed batches, as `options` say, and
    on what `teacher` says of the same views at twice their size; leaves the averaged weights in it. start: the weights
    that it has, if not random ones."""
    torch.manual_seed(options.seed)
    seen = options.image_size * DETAIL
    if not is_vit(model):
        raise InputError(f"{options.arch} is no vision transformer, which this recipe is for. Fine-tune it: --val.")
    kept = settings(replace(options, title="", licence="")) | digest(pixels, labels)
    echo = torch.nn.ModuleList()
    if teacher:
        said = teacher(F.interpolate(pixels[:1].float(), (seen, seen)).byte())
        kept |= {"teacher": digest(said)["images"], "start": digest(*start.values())["images"]}
        echo = Lessons.echo(model.num_features, said.shape[-1])

    @cache  # not before the first step: a finished run needs none
    def lessons() -> Lessons:
        with torch.random.fork_rng():
            torch.manual_seed(options.seed)
            some = pixels[torch.randperm(len(pixels))[:MEASURED]]
            found = Lessons.of(teacher, augment(some, seen))
            if options.labels_from < 1:
                random = (augment(pixels, seen) for _ in range(ASKED))
                found = found.knowing(chain(random, turned(pixels, ASKED)), labels)
        return found

    accelerator = Accelerator(mixed_precision=mixed_precision())
    both = torch.nn.ModuleList([model, echo])
    optimizer = create_optimizer_v2(both, "adamw", lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, options.steps // 20 + 1, options.steps)
    both, optimizer, schedule = accelerator.prepare(both, optimizer, schedule)
    parameters = list(model.parameters())
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)
    members = [(labels == label).nonzero()[:, 0] for label in range(len(LABELS))]
    shares = torch.distributions.Beta(options.mixup, options.mixup) if options.mixup else None

    def step(i: int) -> dict[str, float]:
        model.train()
        y = torch.arange(options.batch) % len(LABELS)
        chosen = [members[label][torch.randint(len(members[label]), ())] for label in y.tolist()]
        x = augment(pixels[torch.stack(chosen)], seen).float()
        share = shares.sample().clamp(0.5, 1) if shares else torch.tensor(1.0)
        order = torch.randperm(options.batch)
        x = torch.lerp(x[order], x, share)
        small = F.interpolate(x / 127.5 - 1, scale_factor=1 / DETAIL, mode="bicubic", antialias=True)
        losses = {}
        with accelerator.autocast():
            tokens = model.forward_features(small.contiguous(memory_format=torch.channels_last))
            pooled = model.forward_head(tokens, pre_logits=True)
            logits = model.head(pooled).float()
            answers = [one(of) for one, of in zip(echo, (tokens[:, model.num_prefix_tokens :], pooled), strict=False)]
        if teacher:
            heard = lessons().hear(x.round().byte())
            losses["lesson"] = echo_loss(answers, heard)
        if not teacher or i >= options.labels_from * options.steps:
            right, other = F.cross_entropy(logits, y), F.cross_entropy(logits, y[order])
            losses["loss"] = share * right + (1 - share) * other
        if teacher and "loss" in losses:
            verdict = lessons().verdict(heard)
            losses["verdict"] = F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], verdict)
        update(accelerator, sum(losses.values()), optimizer, schedule, parameters, average)
        accuracy = {"accuracy": float((logits.argmax(1) == y).float().mean())}
        return {name: value.item() for name, value in losses.items()} | accuracy

    every = dict(save_every=options.save_every, seed=options.seed)
    fit(accelerator, step, steps=options.steps, out=out, made_of=kept, **every)
    average.copy_to(parameters)
