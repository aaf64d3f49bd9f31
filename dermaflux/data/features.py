"""Features of images by an ImageNet network that the program does not ship: a judge from outside, or a teacher."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from dermaflux.errors import ModelUnavailable


class Features:
    """The pooled features of a quantised MobileNetV2 in a TFLite file, with ai-edge-litert.

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
            self.pooled = next(one for one in self.net.get_tensor_details() if list(one["shape"]) == [1, 1, 1, 1280])
        except (ValueError, RuntimeError, StopIteration) as error:
            raise ModelUnavailable(f"{path} is not a MobileNetV2 in the TFLite format.") from error

    def of(self, images: Iterable[Image.Image]) -> np.ndarray:
        """(N, 1280) float32 features of RGB images of any size, squeezed to 224 px and scaled to [-1, 1]."""
        return np.stack([self._one(image) for image in images])

    def _one(self, image: Image.Image) -> np.ndarray:
        x = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1
        scale, zero = self.input["quantization"]
        if scale:
            kind = np.iinfo(self.input["dtype"])
            x = np.clip(np.round(x / scale + zero), kind.min, kind.max)
        self.net.set_tensor(self.input["index"], x[None].astype(self.input["dtype"]))
        self.net.invoke()
        y = self.net.get_tensor(self.pooled["index"])[0, 0, 0].astype(np.float32)
        scale, zero = self.pooled["quantization"]
        return (y - zero) * scale if scale else y
