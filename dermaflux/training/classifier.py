"""Train the embedded ViT on the images of manifests, calibrate it on a held-out fold and write `out/classifier`.

Classes are balanced in every batch; the calibration afterwards brings probabilities back to the true prevalence.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.optimization import get_cosine_schedule_with_warmup
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold
from timm.models import VisionTransformer
from timm.optim import create_optimizer_v2
from tqdm import tqdm

import dermaflux
from dermaflux.classifier import LABELS, Card, Classifier, GateSpec, OperatingPoint, create_model
from dermaflux.data import manifest
from dermaflux.errors import DataError
from dermaflux.training.calibration import calibrate, open_rgb, readme
from dermaflux.training.loop import fit

DRAWN = ("phantom", "synthetic")


@dataclass(frozen=True)
class ClassifierOptions:
    """How the classifier is trained. arch, model: a timm ViT and its keyword arguments; image_size in px; fold: which
    fifth of the real images is held out; gate_layers: see GateSpec; mixup: the parameter of its beta distribution."""

    arch: str = "vit_nano_convstem16"
    model: tuple[tuple[str, object], ...] = ()
    image_size: int = 128
    steps: int = 1600
    batch: int = 48
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    mixup: float = 0.1
    folds: int = 5
    fold: int = 0
    gate_layers: tuple[int, ...] = (1, 3)
    trained_on: str = "dermoscopic images of the ISIC 2017 challenge (CC0), {images} of them, {malignant} malignant"
    licence: str = "Apache-2.0"
    save_every: int = 100
    seed: int = 0


def train(manifests: list[Path], out: Path, options: ClassifierOptions) -> None:
    """Train on all but the test split of `manifests`, checkpointing to `out`, and write the folder `out/classifier`.

    A fold of the real images, stratified by label and never parting the images of a patient, is held out for the
    temperature, the operating point and every figure. Rows whose source is phantom or synthetic only train.
    Raises DataError if a class has too few images to hold some out.
    """
    rows, held_out = divide(manifests, options)
    pixels = read_pixels(rows, options.image_size * 5 // 4)
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
    optimise(model, pixels, labels, out, options)
    width = model.num_features * (len(options.gate_layers) + 1)
    classifier = Classifier(model.eval().requires_grad_(False), card, torch.zeros(width), torch.eye(width))
    classifier = calibrate(classifier, [row for row in rows if _is_real(row)], held_out)
    classifier.save(out / "classifier", readme(classifier.card))


def _is_real(row: manifest.Row) -> bool:
    return row.values.get("source") not in DRAWN


def divide(manifests: list[Path], options: ClassifierOptions) -> tuple[list[manifest.Row], list[manifest.Row]]:
    """The rows to train on and those held out. Raises DataError if there are too few."""
    rows = [row for path in manifests for row in manifest.read(path) if row.split != "test"]
    real = [row for row in rows if _is_real(row)]
    if min(sum(row.label == label for row in real) for label in LABELS) < options.folds:
        raise DataError(
            f"Training needs at least {options.folds} real images of each class; "
            f"{', '.join(str(path) for path in manifests)} have fewer."
        )
    groups = [row.values.get("patient_id") or row.values.get("source_id") or str(row.path) for row in real]
    folds = StratifiedGroupKFold(options.folds, shuffle=True, random_state=options.seed)
    _, chosen = list(folds.split(real, [row.label for row in real], groups))[options.fold]
    held_out = [real[i] for i in chosen]
    away = {row.path for row in held_out}
    return [row for row in rows if row.path not in away], held_out


def read_pixels(rows: list[manifest.Row], size: int) -> torch.Tensor:
    """The images of `rows` squeezed to a square, antialiased: (N, 3, size, size) uint8 RGB."""
    pixels = np.empty((len(rows), size, size, 3), np.uint8)
    for i, row in enumerate(tqdm(rows, desc="reading images", mininterval=5)):
        pixels[i] = np.asarray(open_rgb(row).resize((size, size), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def optimise(model: VisionTransformer, pixels: torch.Tensor, labels: torch.Tensor, out: Path, options) -> None:
    """Train `model` on pixels (N, 3, S, S) uint8 in class-balanced, augmented batches, as `options` say."""
    accelerator = Accelerator(mixed_precision="bf16")
    optimizer = create_optimizer_v2(model, "adamw", lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, options.steps // 20 + 1, options.steps)
    prepared, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    members = [(labels == label).nonzero()[:, 0] for label in range(len(LABELS))]
    shares = torch.distributions.Beta(options.mixup, options.mixup)

    def step(_: int) -> dict[str, float]:
        y = torch.arange(options.batch) % len(LABELS)
        chosen = [members[label][torch.randint(len(members[label]), ())] for label in y.tolist()]
        x = augment(pixels[torch.stack(chosen)], options.image_size) * 2 - 1  # the card's mean and std are 0.5
        share, order = shares.sample().clamp(0.5, 1), torch.randperm(options.batch)
        prepared.train()
        logits = prepared(torch.lerp(x[order], x, share).contiguous(memory_format=torch.channels_last)).float()
        loss = share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(logits, y[order])
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        return {"loss": loss.item(), "accuracy": float((logits.argmax(1) == y).float().mean())}

    fit(accelerator, step, steps=options.steps, out=out, seed=options.seed, save_every=options.save_every)
    accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)


def augment(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Random views of (N, 3, S, S) uint8: (N, 3, size, size) float32 in [0, 1].

    Any turn, flips, crops of half the field to all of it, stretching; changes of light and colour; and in half of the
    views a covered strip along a border or corner, where rulers, ink and coloured patches give a diagnosis away.
    """
    n = len(pixels)
    angle = torch.rand(n) * 2 * torch.pi
    scale = torch.empty(n).uniform_(0.7, 1.0)
    stretch = torch.empty(n).uniform_(-0.15, 0.15).exp()
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    shift = torch.empty(n, 2).uniform_(-1, 1) * (1.05 - scale)[:, None]
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = (
        torch.stack([cos * stretch * flip, -sin, shift[:, 0]], 1),
        torch.stack([sin * stretch * flip, cos, shift[:, 1]], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), (n, 3, size, size), align_corners=False)
    x = F.grid_sample(pixels.float() / 255, grid, padding_mode="reflection", align_corners=False)
    x = x.clamp(0, 1) ** torch.empty(n, 1, 1, 1).uniform_(-0.25, 0.25).exp()
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * torch.empty(n, 1, 1, 1).uniform_(0.75, 1.25)
    x = (x * torch.empty(n, 3, 1, 1).uniform_(0.93, 1.07)).clamp(0, 1)
    for i in (torch.rand(n) < 0.5).nonzero()[:, 0].tolist():
        _cover(x[i])
    return x


def _cover(x: torch.Tensor) -> None:
    """Cover a rectangle at the border of x (3, S, S) in place: with its mean colour or with any other."""
    size = x.shape[-1]
    depth, along = (int(torch.randint(low, high, ())) for low, high in ((size // 16, size // 4), (size // 4, size + 1)))
    start = int(torch.randint(size - along + 1, ()))
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[:depth, start : start + along] = True
    colour = x.mean((1, 2)) if torch.rand(()) < 0.5 else torch.rand(3)
    x[:, torch.rot90(mask, int(torch.randint(4, ())))] = colour[:, None]
