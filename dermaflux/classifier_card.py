"""The card of a classifier, classifier.json: what predictions depend on beside the weights, and what they are worth."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dermaflux.errors import ModelUnavailable

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
VIEWS = (1, 2, 4, 8)


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

    The features are means and standard deviations over the patch tokens after the blocks `layers`, and the pooled
    features. false_alarm_rate: share of real lesions refused, on `n` images that the statistics were not computed from.
    """

    layers: tuple[int, ...]
    threshold: float
    false_alarm_rate: float
    n: int


@dataclass(frozen=True)
class Card:
    """What classifier.json says. `model`: keyword arguments of the timm architecture `arch`; mean, std: of RGB in
    [0, 1]; images are squeezed to a square of `image_size` px; probabilities are softmax(logits / temperature), the
    logits averaged over so many `views` of an image: itself, its mirror images, and these quarter-turned."""

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
    views: int = 1


UNMEASURED = dict(
    temperature=1.0,
    auc=0.5,
    auc_interval=(0.0, 1.0),
    operating_point=OperatingPoint(0.5, 0.0, (0.0, 1.0), 0.0, (0.0, 1.0), 0, ""),
)
"""What a card says before its classifier is calibrated."""


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
        "views must be one of " + ", ".join(map(str, VIEWS)): type(card.views) is int and card.views in VIEWS,
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
