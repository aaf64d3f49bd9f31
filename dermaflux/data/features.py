"""Features of images by a network that judges them: an ImageNet MobileNetV2 in a TFLite file, or any timm network."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from warnings import catch_warnings

import numpy as np
import timm
import torch
from PIL import Image
from safetensors import SafetensorError

from dermaflux.classifier import CLASSIFIERS, Classifier
from dermaflux.classifier_card import INTERPOLATIONS
from dermaflux.errors import ModelUnavailable, first_line
from dermaflux.files import weights_of
from dermaflux.hub import HUB_ERRORS

WIDTH = 1280
BATCH = 32


def load(source: str | Path, device: str = "cpu") -> "Features | Backbone":
    """What gives features: a .tflite file, a classifier by name or folder, or a timm network by folder or name, whose
    weights are then downloaded. Raises ModelUnavailable."""
    return Features(Path(source)) if str(source).endswith(".tflite") else Backbone(source, device)


class Backbone:
    """The pooled features of a timm network: of the name `source`, of a folder as timm publishes one, with config.json
    and model.safetensors, or of a classifier by name or folder.

    made_of: what tells it from other networks, a sketch of each of its files of weights, or its name where timm has it.
    Raises ModelUnavailable where there is none, or the Hub cannot be reached.
    """

    def __init__(self, source: str | Path, device: str = "cpu"):
        folder = Path(CLASSIFIERS.get(str(source), source))
        self.made_of = weights_of(folder) if folder.is_dir() else [str(source)]
        if str(source) in CLASSIFIERS or (Path(source) / "classifier.json").is_file():
            classifier = Classifier.load(source, device)
            self.model, self._prepare = classifier.model, classifier.preprocess
            return
        try:
            self.model = timm.create_model(_timm_name(source), pretrained=True, num_classes=0).to(device).eval()
        except (*HUB_ERRORS, SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise ModelUnavailable(f"{source} cannot be read by timm: {first_line(error)}") from error
        self.device, self.config = device, timm.data.resolve_model_data_config(self.model)

    @torch.inference_mode()
    def of(self, images: Iterable[Image.Image]) -> np.ndarray:
        """(N, F) float32 features of RGB images of any size, squeezed to the network's square."""
        images, found = iter(images), []
        while batch := list(islice(images, BATCH)):
            maps = self.model.forward_features(self._prepare(batch))
            found.append(self.model.forward_head(maps, pre_logits=True).flatten(1).float().cpu().numpy())
        return np.concatenate(found)

    def _prepare(self, images: list[Image.Image]) -> torch.Tensor:
        """(N, 3, H, W) float32, normalised."""
        method = INTERPOLATIONS.get(self.config["interpolation"], Image.Resampling.BICUBIC)
        size = self.config["input_size"][:0:-1]  # width, height
        pixels = np.stack([np.asarray(image.convert("RGB").resize(size, method)) for image in images])
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(self.config[name], device=self.device).view(3, 1, 1) for name in ("mean", "std"))
        return ((x - mean) / std).contiguous()


def _timm_name(source: str | Path) -> str:
    """What timm calls the network. Raises ModelUnavailable for what is neither a folder of one nor a name."""
    folder = Path(source)
    if folder.is_dir():
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise ModelUnavailable(f"{folder} is no network of timm or classifier: {name} is missing.")
        return f"local-dir:{folder}"
    if not timm.is_model(str(source)):
        raise ModelUnavailable(
            f"“{source}” is no file *.tflite, no folder of a network, and not a network of timm {timm.__version__}."
        )
    return str(source)


class Features:
    """The last features of a quantised MobileNetV2 in a TFLite file, with ai-edge-litert.

    made_of: what tells it from other networks, a sketch of the file.
    Raises ModelUnavailable where the package is not installed or the file is no such network.
    """

    def __init__(self, path: Path):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise ModelUnavailable("This needs a package more: pip install ai-edge-litert.") from None
        try:
            with catch_warnings(action="ignore", category=UserWarning):  # that keeping all tensors takes memory
                self.net = Interpreter(str(path), num_threads=2, experimental_preserve_all_tensors=True)
            self.net.allocate_tensors()
            self.input = self.net.get_input_details()[0]
            by_shape = {tuple(one["shape"]): one for one in self.net.get_tensor_details()}
            self.map, self.pooled = by_shape[1, 7, 7, WIDTH], by_shape[1, 1, 1, WIDTH]
            self.inputs, self.shape, self.made_of = _inputs(self.input), None, weights_of(Path(path))
        except (ValueError, RuntimeError, KeyError) as error:
            raise ModelUnavailable(f"{path} is not a MobileNetV2 in the TFLite format.") from error

    def of(self, images: Iterable[Image.Image]) -> np.ndarray:
        """(N, 1280) float32 features of RGB images of any size, squeezed to 224 px and scaled to [-1, 1]."""
        squeezed = (image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC) for image in images)
        return np.stack([self._ask(np.asarray(image), self.pooled)[0, 0] for image in squeezed])

    def cells(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, G * G, 1280) float32 features before they are averaged, of the cells of 32 px of images
        (N, 3, 32 G, 32 G) uint8 RGB."""
        maps = [self._ask(image, self.map) for image in pixels.permute(0, 2, 3, 1).numpy()]
        return torch.from_numpy(np.stack(maps)).flatten(1, 2)

    def _ask(self, image: np.ndarray, output: dict) -> np.ndarray:
        """The values of the tensor `output` for image (H, H, 3) uint8: (G, G, 1280), or (1, 1, 1280) for the mean."""
        if self.shape != image.shape:
            self.net.resize_tensor_input(self.input["index"], (1, *image.shape))
            self.net.allocate_tensors()
            self.shape = image.shape
        self.net.set_tensor(self.input["index"], self.inputs[image][None])
        self.net.invoke()
        y = self.net.get_tensor(output["index"])[0].astype(np.float32)
        scale, zero = output["quantization"]
        return (y - zero) * scale if scale else y


def _inputs(input: dict) -> np.ndarray:
    """(256,) what the network takes for the values 0 to 255 of a pixel."""
    x = np.arange(256, dtype=np.float32) / 127.5 - 1
    scale, zero = input["quantization"]
    if scale:
        kind = np.iinfo(input["dtype"])
        x = np.clip(np.round(x / scale + zero), kind.min, kind.max)
    return x.astype(input["dtype"])
