"""Fine-tune any timm network on real and synthetic images, and stop where a validation set no longer gains.

What is written is calibrated on the validation set and has the one form that `Classifier.load` reads. The gate is
fitted to the real images that are learned from; where there are none, to one half of the validation set, and calibrated
on the other.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from accelerate import Accelerator, PartialState
from accelerate.utils import DataLoaderConfiguration
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from sklearn.metrics import roc_auc_score
from timm.data import resolve_data_config
from timm.optim import create_optimizer_v2
from torch import nn

import dermaflux
from dermaflux.classifier import BATCH, Classifier, create_model, gate_width
from dermaflux.classifier_card import INTERPOLATIONS, LABELS, UNMEASURED, Card, GateSpec
from dermaflux.data import manifest
from dermaflux.data.pixels import open_rgb, read_pixels
from dermaflux.errors import DataError, InputError, ModelUnavailable, first_line
from dermaflux.hub import HUB_ERRORS
from dermaflux.memory import best_device
from dermaflux.training.calibration import MALIGNANT, HeldOut, calibrate, fit_gate, readme
from dermaflux.training.folds import is_real
from dermaflux.training.loop import checked, digest, fit, settings, update
from dermaflux.training.precision import AUTO, mixed_precision
from dermaflux.training.views import augment


@dataclass(frozen=True)
class FinetuneOptions:
    """How a network is fine-tuned.

    arch: a timm ViT or convolutional network; pretrained: 1 to start from the weights that timm fetches, 0 from random
    ones; image_size in px, 0 being the architecture's own. balanced: 1 for batches with as many images of each class, 0
    for the natural shares. augmented: 1 for random views, 0 for the images as they are. check_every: steps between two
    looks at the validation set; patience: looks without a better AUC after which training ends, 0 to train to the end
    and keep the last weights, whatever that set says. ema: decay of the averaged weights. precision: bf16, fp16, no, or
    auto for what suits the machine.
    """

    arch: str = "vit_base_patch16_224"
    pretrained: int = 1
    image_size: int = 0
    steps: int = 3000
    batch: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    balanced: int = 1
    augmented: int = 1
    check_every: int = 100
    patience: int = 8
    ema: float = 0.99
    precision: str = AUTO
    seed: int = 0

    def __post_init__(self):
        checked(self)


def finetune(
    rows: Sequence[manifest.Row],
    validation: Sequence[manifest.Row],
    out: Path,
    options: FinetuneOptions,
    read: Callable[[Sequence[manifest.Row], int], torch.Tensor] = read_pixels,
) -> Classifier:
    """Train on `rows`, checkpointing to `out`, and write the folder `out/classifier`.

    read: as `read_pixels`, for a caller that trains on the same images again. Of several processes (accelerate launch,
    torchrun) each takes its share of a batch, and the main one writes. Raises DataError if a class is absent,
    InputError for a batch that cannot be shared, ModelUnavailable if the network cannot be had.
    """
    for name, some in (("training", rows), ("validation", validation)):
        for label in LABELS:
            if not any(row.label == label for row in some):
                where = ", ".join(sorted({str(row.manifest) for row in some if row.manifest})) or "none"
                raise DataError(f"The {len(some)} {name} images hold none that is {label}; manifests: {where}.")
    torch.manual_seed(options.seed)
    card, model = _network(rows, options)
    truth = torch.tensor([LABELS.index(row.label) for row in validation])
    tried, pixels = read(validation, card.image_size), read(rows, card.image_size)
    _optimise(model, pixels, rows, tried, truth, card, out, options)
    width = gate_width(model, card.gate)
    classifier = Classifier(model.cpu().eval().requires_grad_(False), card, torch.zeros(width), torch.eye(width))
    logits, features = classifier.measure(map(open_rgb, validation))
    if real := [row for row in rows if is_real(row)]:
        (_, known), unknown = classifier.measure(map(open_rgb, real)), features
    else:
        by_label = truth.argsort(stable=True)  # every second one then is half of each class
        known, unknown = features[by_label[::2]], features[by_label[1::2]]
    mean, precision = fit_gate(known)
    classifier = replace(classifier, gate_mean=mean, gate_precision=precision)
    classifier, _ = calibrate(classifier, HeldOut(logits, classifier.distances(unknown), truth), 1)
    start = "from weights that timm publishes" if options.pretrained else "from scratch"
    processes = PartialState()
    if processes.is_main_process:
        text = readme(classifier.card, f"{options.arch}, fine-tuned on skin lesions", start)
        classifier.save(out / "classifier", text)
    processes.wait_for_everyone()
    return classifier


def _network(rows: Sequence[manifest.Row], options: FinetuneOptions) -> tuple[Card, nn.Module]:
    """The network with the preprocessing that its weights want, on a card that is not filled in yet."""
    drawn = sum(not is_real(row) for row in rows)
    malignant = sum(row.label == "malignant" for row in rows)
    card = Card(
        arch=options.arch,
        model={},
        image_size=options.image_size or 224,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        labels=LABELS,
        gate=GateSpec((), 0.0, 1.0, 0),
        trained_on=f"{len(rows) - drawn} real and {drawn} synthetic images, {malignant} of them malignant",
        licence="as its images and weights allow",
        version=dermaflux.__version__,
        **UNMEASURED,
    )
    if not timm.is_model(options.arch):
        raise ModelUnavailable(f"timm {timm.__version__} has no architecture “{options.arch}”.")
    wants = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(options.arch).to_dict())
    card = replace(
        card,
        image_size=options.image_size or wants["input_size"][1],
        mean=wants["mean"],
        std=wants["std"],
        interpolation=wants["interpolation"] if wants["interpolation"] in INTERPOLATIONS else "bicubic",
    )
    try:
        model = create_model(card, bool(options.pretrained))
    except ModelUnavailable:
        raise
    except (*HUB_ERRORS, SafetensorError) as error:
        raise ModelUnavailable(
            f"The pretrained weights of {options.arch} cannot be fetched: {first_line(error)}. Start from random "
            "ones with --set pretrained=0."
        ) from error
    layers = len(model.feature_info)
    return replace(card, gate=replace(card.gate, layers=(layers // 3, 2 * layers // 3))), model


class _Best:
    """The averaged weights with the best AUC so far, and how often it was not better since; part of the checkpoint.

    Without patience, the last ones.
    """

    def __init__(self, patience: int):
        self.patience, self.auc, self.since, self.weights = patience, -1.0, 0, {}

    def see(self, auc: float, model: nn.Module) -> None:
        self.since += 1
        if auc > self.auc or not self.patience:
            self.auc, self.since = auc, 0
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def over(self) -> bool:
        return bool(self.patience) and self.since >= self.patience

    def state_dict(self) -> dict:
        return {"auc": self.auc, "since": self.since, "weights": self.weights}

    def load_state_dict(self, state: dict) -> None:
        self.auc, self.since, self.weights = state["auc"], state["since"], state["weights"]


def _optimise(
    model: nn.Module,
    pixels: torch.Tensor,
    rows: Sequence[manifest.Row],
    tried: torch.Tensor,
    truth: torch.Tensor,
    card: Card,
    out: Path,
    options: FinetuneOptions,
) -> None:
    """Train `model` in place on `pixels` (N, 3, S, S) uint8 of `rows`; `tried`: the validation images, likewise."""
    accelerator = Accelerator(
        mixed_precision=mixed_precision(options.precision),
        cpu=best_device() == "cpu",
        dataloader_config=DataLoaderConfiguration(split_batches=True),  # the rate's schedule counts steps, not samples
    )
    shares, own = accelerator.num_processes, accelerator.process_index
    if options.batch % shares:
        raise InputError(f"A batch of {options.batch} images cannot be shared by {shares} processes; change --batch.")
    device, size = accelerator.device, card.image_size
    labels = torch.tensor([LABELS.index(row.label) for row in rows])
    members = [(labels == label).nonzero()[:, 0] for label in range(len(LABELS))]
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (card.mean, card.std))
    ready = lambda views: ((views.to(device).float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
    model.to(device, memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, "adamw", lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, options.steps // 20 + 1, options.steps)
    wrapped, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    parameters, best = list(model.parameters()), _Best(options.patience)
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average, best)

    def step(i: int) -> dict[str, float]:
        model.train()
        if options.balanced:
            y = torch.arange(options.batch) % len(LABELS)
            chosen = torch.stack([members[label][torch.randint(len(members[label]), ())] for label in y.tolist()])
        else:
            chosen = torch.randint(len(labels), (options.batch,))
        chosen = chosen.chunk(shares)[own]
        if own:
            torch.manual_seed(torch.initial_seed() + (own << 40))  # other views than those of the first process
        views = augment(pixels[chosen], size) if options.augmented else pixels[chosen]
        with accelerator.autocast():
            logits = wrapped(ready(views)).float()
        loss = F.cross_entropy(logits, labels[chosen].to(device))
        update(accelerator, loss, optimizer, schedule, parameters, average)
        value = float(accelerator.reduce(loss.detach(), "mean"))
        if (i + 1) % options.check_every and i + 1 < options.steps:
            return {"loss": value}
        average.store(parameters)
        average.copy_to(parameters)
        auc = _auc(model, map(ready, tried.split(BATCH)), truth)
        best.see(auc, model)
        average.restore(parameters)
        return {"loss": value, "validation AUC": auc}

    fit(
        accelerator,
        step,
        steps=options.steps,
        out=out,
        seed=options.seed,
        save_every=options.check_every,
        log_every=options.check_every,
        done=best.over,
        made_of=settings(options) | digest(pixels, labels, tried, truth),
    )
    model.load_state_dict(best.weights)


@torch.no_grad()
def _auc(model: nn.Module, batches: Iterable[torch.Tensor], truth: torch.Tensor) -> float:
    model.eval()
    logits = torch.cat([model(x).float().cpu() for x in batches])
    if not logits.isfinite().all():
        return math.nan
    return float(roc_auc_score(truth == MALIGNANT, logits[:, MALIGNANT] - logits[:, 1 - MALIGNANT]))
