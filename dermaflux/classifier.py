"""ViT -> calibrated Prediction. Everything that a prediction depends on lies in one folder:

model.safetensors    weights of a timm VisionTransformer with two outputs
classifier.json      Card: architecture, preprocessing, temperature, operating point, gate, figures, licence
gate.safetensors     mean (D,) and precision (D, D) of the features of real lesions
"""

import json
import math
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.layers import HybridEmbed
from timm.models import VisionTransformer, register_model
from timm.models.vision_transformer_hybrid import ConvStem

from dermaflux.errors import ModelUnavailable
from dermaflux.models import ASSETS

CLASSIFIERS: Mapping[str, Path] = {"nano": ASSETS / "nano" / "classifier"}
LABELS = ("benign", "malignant")
INTERPOLATIONS = {name: Image.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos")}
MODEL_LIMITS: Mapping[str, float] = {
    "patch_size": 64,
    "embed_dim": 1536,
    "depth": 48,
    "num_heads": 24,
    "mlp_ratio": 8,
    "reg_tokens": 16,
    "init_values": 1,
    "drop_path_rate": 0.9,
    "class_token": True,
}
POOLS = ("token", "avg")
MAX_IMAGE_SIZE = 1024
BATCH = 32


@register_model
def vit_nano_convstem16(pretrained: bool = False, **kwargs) -> VisionTransformer:
    """ViT of width 192 and depth 6 whose patches are made by four stride-2 convolutions instead of one of stride 16.

    Such a stem trains markedly better from scratch on few images (Xiao et al., arXiv 2106.14881). Its even kernels
    keep every token centred on its patch, so that saliency maps lie where they belong.
    """
    width = kwargs.get("embed_dim", 192)
    channels = (width // 6, width // 3, width * 2 // 3, width)
    stem = ConvStem(depth=4, channels=channels, kernel_size=4, stride=(2, 2, 2, 2), padding=1)
    embed = partial(HybridEmbed, backbone=stem)
    return VisionTransformer(
        **dict(patch_size=1, embed_dim=192, depth=6, num_heads=3)
        | {key: value for key, value in kwargs.items() if not key.startswith("pretrained") and key != "cache_dir"}
        | dict(embed_layer=embed)
    )


@dataclass(frozen=True)
class OperatingPoint:
    """Decide “malignant” from `threshold` on; rates in [0, 1] with their 95 % Wilson intervals on `n` images."""

    threshold: float
    sensitivity: float
    sensitivity_interval: tuple[float, float]
    specificity: float
    specificity_interval: tuple[float, float]
    n: int
    measured_on: str


@dataclass(frozen=True)
class GateSpec:
    """Images whose squared Mahalanobis distance to real lesions is over `threshold` are not lesion-like.

    The features are the means over patch tokens after the blocks `layers`, and the pooled features. false_alarm_rate:
    share of real lesions refused, on `n` images that the statistics were not computed from.
    """

    layers: tuple[int, ...]
    threshold: float
    false_alarm_rate: float
    n: int


@dataclass(frozen=True)
class Card:
    """What classifier.json says. `model`: keyword arguments of the timm architecture `arch`; mean, std: of RGB in
    [0, 1]; images are squeezed to a square of `image_size` px; probabilities are softmax(logits / temperature)."""

    arch: str
    model: dict[str, object]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    labels: tuple[str, str]
    temperature: float
    auc: float
    auc_interval: tuple[float, float]
    operating_point: OperatingPoint
    gate: GateSpec
    trained_on: str
    licence: str
    version: str


@dataclass(frozen=True)
class Prediction:
    """p_malignant in [0, 1]; decision at the operating point; lesion_like: the gate lets the image pass;
    distance: the gate's score, squared Mahalanobis, >= 0. The numbers are given for refused images as well."""

    p_malignant: float
    decision: str
    lesion_like: bool
    distance: float


@dataclass(frozen=True, eq=False)
class Classifier:
    """A loaded classifier. Hold `lock` while using `model`: a forward pass must not meet another thread's hooks."""

    model: VisionTransformer
    card: Card
    gate_mean: torch.Tensor
    gate_precision: torch.Tensor
    lock: threading.RLock = field(default_factory=threading.RLock)

    @classmethod
    def load(cls, name_or_path: str | Path = "nano", device: str = "cpu") -> "Classifier":
        """Read the classifier called `name_or_path`, or the folder of that path. Raises ModelUnavailable."""
        folder = Path(CLASSIFIERS.get(str(name_or_path), name_or_path))
        if not folder.is_dir():
            raise ModelUnavailable(
                f"There is no classifier “{name_or_path}”: neither a folder nor one of {', '.join(CLASSIFIERS)}."
            )
        card = read_card(folder / "classifier.json")
        model = create_model(card)
        weights = _read_tensors(folder / "model.safetensors", _shapes(model.state_dict()))
        model.load_state_dict(weights)
        width = model.num_features * (len(card.gate.layers) + 1)
        gate = _read_tensors(folder / "gate.safetensors", {"mean": (width,), "precision": (width, width)})
        model.requires_grad_(False).eval()
        return cls(model.to(device), card, gate["mean"].to(device), gate["precision"].to(device))

    def preprocess(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Squeeze RGB images of any size to the model's square, antialiased, and normalise: (N, 3, H, W) float32."""
        size, method = (self.card.image_size,) * 2, INTERPOLATIONS[self.card.interpolation]
        pixels = np.stack([np.asarray(image.convert("RGB").resize(size, method)) for image in images])
        x = torch.from_numpy(pixels).to(self.gate_mean.device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (self.card.mean, self.card.std))
        return ((x - mean) / std).contiguous()

    @torch.inference_mode()
    def measure(self, images: Sequence[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, 2) before the temperature, and gate features (N, D), of RGB images of any size."""
        outputs = []
        for start in range(0, len(images), BATCH):
            with self.lock:
                tokens, between = self.model.forward_intermediates(
                    self.preprocess(images[start : start + BATCH]),
                    indices=list(self.card.gate.layers),
                    output_fmt="NLC",
                )
                pooled = self.model.forward_head(tokens, pre_logits=True)  # (N, C)
                logits = self.model.head(pooled)  # (N, 2)
            outputs.append((logits, torch.cat([*(y.mean(1) for y in between), pooled], 1)))
        logits, features = zip(*outputs, strict=True)
        return torch.cat(logits), torch.cat(features)

    def distances(self, features: torch.Tensor) -> torch.Tensor:
        """Squared Mahalanobis distances of gate features (N, D) to those of real lesions: (N,)."""
        d = features - self.gate_mean
        return ((d @ self.gate_precision) * d).sum(1).clamp_min(0)

    def predict(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """A Prediction for each RGB image of any size."""
        if not images:
            return []
        logits, features = self.measure(images)
        probabilities = (logits / self.card.temperature).softmax(1)[:, LABELS.index("malignant")].tolist()
        point, gate = self.card.operating_point, self.card.gate
        return [
            Prediction(p, LABELS[p >= point.threshold], distance <= gate.threshold, distance)
            for p, distance in zip(probabilities, self.distances(features).tolist(), strict=True)
        ]

    def save(self, folder: Path, readme: str) -> None:
        """Write the files that `load` reads, and README.md, to `folder`: to a temporary name first, then renamed."""
        temporary, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
        for path in (temporary, old):
            shutil.rmtree(path, ignore_errors=True)
        temporary.mkdir(parents=True)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        save_file(weights, temporary / "model.safetensors")
        gate = {"mean": self.gate_mean.cpu(), "precision": self.gate_precision.cpu().contiguous()}
        save_file(gate, temporary / "gate.safetensors")
        text = json.dumps(asdict(self.card), indent=2, ensure_ascii=False) + "\n"
        (temporary / "classifier.json").write_text(text, encoding="utf-8")
        (temporary / "README.md").write_text(readme, encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def create_model(card: Card) -> VisionTransformer:
    """The architecture of `card` with random weights. Raises ModelUnavailable if it is no timm ViT."""
    if not timm.is_model(card.arch):
        raise ModelUnavailable(f"timm {timm.__version__} has no architecture “{card.arch}”.")
    try:
        model = timm.create_model(card.arch, pretrained=False, num_classes=2, img_size=card.image_size, **card.model)
    except (TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise ModelUnavailable(f"The architecture {card.arch} cannot be built as the card says: {error}.") from error
    if not isinstance(model, VisionTransformer):
        raise ModelUnavailable(f"{card.arch} is not a vision transformer; saliency maps need one.")
    if not all(0 <= layer < len(model.blocks) for layer in card.gate.layers):
        raise ModelUnavailable(f"The gate of {card.arch} names blocks that the model does not have.")
    return model


def read_card(path: Path) -> Card:
    """Read and check classifier.json. Raises ModelUnavailable, naming what is wrong."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        point = OperatingPoint(**_tuples(data.pop("operating_point")))
        gate = GateSpec(**_tuples(data.pop("gate")))
        card = Card(**_tuples(data), operating_point=point, gate=gate)
        wrong = _faults(card)
    except FileNotFoundError:
        raise ModelUnavailable(f"{path} is missing. A classifier is a folder with classifier.json.") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelUnavailable(f"{path} is not a classifier's card: {error}.") from error
    if wrong:
        raise ModelUnavailable(f"{path} is not a classifier's card: {wrong[0]}.")
    return card


def _tuples(values: dict) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _faults(card: Card) -> list[str]:
    point, gate = card.operating_point, card.gate
    numbers = (card.temperature, *card.mean, *card.std, point.threshold, gate.threshold)
    rates = (card.auc, point.sensitivity, point.specificity, gate.false_alarm_rate)
    rates += (*card.auc_interval, *point.sensitivity_interval, *point.specificity_interval)
    texts = (card.arch, card.trained_on, card.licence, card.version, point.measured_on)
    size = card.image_size
    checks = {
        "a text is missing": all(isinstance(text, str) for text in texts),
        "the labels must be benign, malignant": card.labels == LABELS,
        f"image_size must be a whole number up to {MAX_IMAGE_SIZE}": type(size) is int and 0 < size <= MAX_IMAGE_SIZE,
        "interpolation must be one of " + ", ".join(INTERPOLATIONS): card.interpolation in INTERPOLATIONS,
        "mean and std must have three values": len(card.mean) == len(card.std) == 3,
        "a number is missing or not finite": all(math.isfinite(value) for value in numbers),
        "temperature and std must be positive": card.temperature > 0 and min(card.std) > 0,
        "a rate is not within 0 and 1": all(0 <= value <= 1 for value in rates),
    }
    faults = [sentence for sentence, holds in checks.items() if not holds]
    for key, value in card.model.items():
        known = value in POOLS if key == "global_pool" else key in MODEL_LIMITS and 0 <= value <= MODEL_LIMITS[key]
        if not known:
            faults.append(f"the model argument {key}={value} is not allowed")
    return faults


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


def _read_tensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelUnavailable(f"{path} is missing. Classifiers are read from safetensors files only, never pickle.")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelUnavailable(f"{path} is truncated or not a safetensors file ({error}).") from error
    for name in sorted(shapes.keys() ^ tensors.keys()):
        raise ModelUnavailable(f"{path} does not fit its card: {name} is {'missing' if name in shapes else 'extra'}.")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise ModelUnavailable(
                f"{path} does not fit its card: {name} has shape {tuple(tensors[name].shape)}, expected {shape}."
            )
        if tensors[name].is_floating_point() and not tensors[name].isfinite().all():
            raise ModelUnavailable(f"{path} is damaged: {name} holds values that are not numbers.")
    return tensors
