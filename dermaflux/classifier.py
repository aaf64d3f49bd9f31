"""A timm network -> calibrated Prediction. Everything that a prediction depends on lies in one folder:

model.safetensors    weights of a timm VisionTransformer or convolutional network with two outputs
classifier.json      Card: architecture, preprocessing, temperature, operating point, gate, figures, licence
gate.safetensors     mean (D,) and precision (D, D) of the gate's features of real lesions
"""

import json
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain, islice
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
from torch import nn

from dermaflux.classifier_card import INTERPOLATIONS, LABELS, Card, GateSpec, read_card
from dermaflux.errors import ModelUnavailable
from dermaflux.models import ASSETS

CLASSIFIERS: Mapping[str, Path] = {"nano": ASSETS / "nano" / "classifier"}
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

    model: nn.Module
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
        width = gate_width(model, card.gate)
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
    def measure(self, images: Iterable[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, 2) before the temperature, averaged over the card's views, and gate features (N, D) of the image
        as it is, of RGB images of any size, of which there must be one at least; they are taken a few at a time."""
        outputs, images = [], iter(images)
        while batch := list(islice(images, BATCH)):
            with self.lock:
                upright, *others = turned(self.preprocess(batch), self.card.views)
                last, between = self.model.forward_intermediates(upright, indices=list(self.card.gate.layers))
                pooled = self.model.forward_head(last, pre_logits=True)  # (N, C)
                logits = [self.model.get_classifier()(pooled), *map(self.model, others)]  # of (N, 2)
            places = (y.flatten(2) for y in between)  # (N, C, rows * columns)
            spread = [statistic for y in places for statistic in (y.mean(2), y.std(2))]
            outputs.append((torch.stack(logits).mean(0), torch.cat([*spread, pooled], 1)))
        logits, features = zip(*outputs, strict=True)
        return torch.cat(logits), torch.cat(features)

    def distances(self, features: torch.Tensor) -> torch.Tensor:
        """Squared Mahalanobis distances of gate features (N, D) to those of real lesions: (N,)."""
        d = features - self.gate_mean
        return ((d @ self.gate_precision) * d).sum(1).clamp_min(0)

    def predict(self, images: Iterable[Image.Image]) -> list[Prediction]:
        """A Prediction for each RGB image of any size; they are taken a few at a time."""
        images = iter(images)
        first = next(images, None)
        if first is None:
            return []
        logits, features = self.measure(chain((first,), images))
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


MIRRORED = ((), (-1,), (-2,), (-2, -1))


def turned(images: torch.Tensor, views: int) -> Iterator[torch.Tensor]:
    """The first `views`, of 8, of: images (..., S, S) as they are, mirrored, upside down and both, and these
    quarter-turned."""
    for one in (images, images.transpose(-2, -1))[: -(-views // 4)]:
        yield from (one.flip(axes) if axes else one for axes in MIRRORED[:views])


def turned_back(views: Sequence[torch.Tensor]) -> torch.Tensor:
    """What was made of each of the views that `turned` gives, (..., S, S), turned back and stacked: (V, ..., S, S)."""
    upright = (one.flip(axes) for one, axes in zip(views, chain(MIRRORED, MIRRORED), strict=False))
    return torch.stack([one if i < len(MIRRORED) else one.transpose(-2, -1) for i, one in enumerate(upright)])


def gate_width(model: nn.Module, gate: GateSpec) -> int:
    """D, how many features the gate of `model` looks at."""
    return sum(2 * model.feature_info[layer]["num_chs"] for layer in gate.layers) + model.head_hidden_size


def create_model(card: Card, pretrained: bool = False) -> nn.Module:
    """The architecture of `card`, with random weights or those that timm fetches from the Hub.

    Raises ModelUnavailable if timm has none such, or one that is neither a ViT nor a convolutional network, or whose
    answer is not given by a single linear layer.
    """
    if not timm.is_model(card.arch):
        raise ModelUnavailable(f"timm {timm.__version__} has no architecture “{card.arch}”.")
    family = timm.models.model_entrypoint(card.arch).__annotations__.get("return")
    sized = {"img_size": card.image_size} if family is VisionTransformer else {}
    try:
        model = timm.create_model(card.arch, pretrained=pretrained, num_classes=2, **sized, **card.model)
    except (TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise ModelUnavailable(f"The architecture {card.arch} cannot be built as the card says: {error}.") from error
    if not is_vit(model) and not any(isinstance(one, nn.Conv2d) for one in last_stage(model).modules()):
        raise ModelUnavailable(f"{card.arch} is neither a vision transformer nor a convolutional network.")
    if not isinstance(model.get_classifier(), nn.Linear):
        raise ModelUnavailable(
            f"{card.arch} does not end in a single linear layer, so it is not supported. Choose another, such as "
            "resnet50 or vit_base_patch16_224."
        )
    if not all(0 <= layer < len(model.feature_info) for layer in card.gate.layers):
        raise ModelUnavailable(f"The gate of {card.arch} names blocks that the model does not have.")
    return model


def is_vit(model: nn.Module) -> bool:
    """Whether `model` works on patch tokens; else it is convolutional."""
    return isinstance(model, VisionTransformer)


def last_stage(model: nn.Module) -> nn.Module:
    """The layers of a timm network whose features the head pools."""
    return model.get_submodule(model.feature_info[-1]["module"])


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
