"""Features of images by an ImageNet network that the program does not ship: a judge from outside, or a teacher."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dermaflux.errors import ModelUnavailable

WIDTH = 1280


class Features:
    """The last features of a quantised MobileNetV2 in a TFLite file, with ai-edge-litert.

    Raises ModelUnavailable where the package is not installed or the file is no such network.
    """

    def __init__(self, path: Path):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise ModelUnavailable("This needs a package more: pip install ai-edge-litert.") from None
        try:
            self.net = Interpreter(str(path), num_threads=2, experimental_preserve_all_tensors=True)
            self.net.allocate_tensors()
            self.input = self.net.get_input_details()[0]
            by_shape = {tuple(one["shape"]): one for one in self.net.get_tensor_details()}
            self.map, self.pooled = by_shape[1, 7, 7, WIDTH], by_shape[1, 1, 1, WIDTH]
            self.inputs, self.shape = _inputs(self.input), None
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
