"""Which parts of an image move the classifier: Grad-CAM and its kin over a ViT's last block of patch tokens, or over
the last feature maps of a convolutional network.

The grad-cam package clips a map at 0 and stretches it to 0..1 per image, so that colours compare places within one
image, never two images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from dermaflux.errors import InputError

if TYPE_CHECKING:
    from dermaflux.classifier import Classifier

TARGETS = ("malignant", "benign")
RELATIVE = "Colours are relative to this image: the brightest place moved the model most here; two maps do not compare."
NOTHING = "No place in this image speaks for this class according to this method, so there is nothing to colour."


@dataclass(frozen=True)
class Method:
    """A saliency method. `cam`: its class in the grad-cam package; `fix_sign`: its projection's sign is arbitrary and
    is turned to the side that speaks for the target; `contrast`: explain the target's lead over the other class."""

    name: str
    title: str
    note: str
    cam: str
    fix_sign: bool = False
    contrast: bool = False
    discriminative: bool = True


DEFAULT = "gradcam"
"""What the page and the commands show at first: the method that readers know, as long as `evaluate saliency` finds that
it points at the lesion as well as the others do. It averages a feature's effect over all places, so that of a class
token that gathers from few of them it may light up beside them."""
METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            "gradcam",
            "Grad-CAM",
            "Weighs each feature by its average effect on the class (Selvaraju et al., 2017).",
            "GradCAM",
        ),
        Method(
            "hirescam",
            "HiResCAM",
            "Multiplies effect and feature place by place, so that only places the class used light up "
            "(Draelos & Carin, 2020).",
            "HiResCAM",
        ),
        Method(
            "finercam",
            "Finer-CAM",
            "Explains what sets the class apart from the other one instead of the class alone (Zhang et al., 2025).",
            "FinerCAM",
            contrast=True,
        ),
        Method(
            "gradcam++",
            "Grad-CAM++",
            "Grad-CAM that counts positive effects only, which covers several regions better "
            "(Chattopadhay et al., 2018).",
            "GradCAMPlusPlus",
        ),
        Method(
            "layercam",
            "LayerCAM",
            "Weighs every place by its own positive effect on the class (Jiang et al., 2021).",
            "LayerCAM",
        ),
        Method(
            "elementwise",
            "Grad-CAM, element-wise",
            "Adds up only those features that speak for the class at each place.",
            "GradCAMElementWise",
        ),
        Method(
            "xgradcam",
            "XGrad-CAM",
            "Grad-CAM with effects weighed by how strongly a feature is present (Fu et al., 2020).",
            "XGradCAM",
        ),
        Method(
            "eigengradcam",
            "Eigen-Grad-CAM",
            "The main pattern among feature-times-effect maps: smoother than HiResCAM (after Muhammad & Yeasin, 2020).",
            "EigenGradCAM",
            fix_sign=True,
        ),
        Method(
            "eigencam",
            "Eigen-CAM",
            "The main pattern of the features whatever the class: shows what stands out, not why it was decided "
            "(Muhammad & Yeasin, 2020).",
            "EigenCAM",
            fix_sign=True,
            discriminative=False,
        ),
    )
}


@dataclass(frozen=True, eq=False)
class SaliencyMap:
    """values: (H, W) float32 in [0, 1] at the image's own size; empty: the method found nothing, values are all 0."""

    values: np.ndarray
    method: str
    target: str
    empty: bool


def explain(
    classifier: "Classifier", image: Image.Image, method: str = "gradcam", target: str = "malignant"
) -> SaliencyMap:
    """The saliency map of an RGB image of any size for the class `target` after one of METHODS: the mean over the views
    whose logits the classifier averages.

    Raises InputError for an unknown method or target.
    """
    if method not in METHODS:
        raise InputError(f"There is no saliency method “{method}”. Known methods: {', '.join(METHODS)}.")
    if target not in TARGETS:
        raise InputError(f"A saliency map explains one of {', '.join(TARGETS)}, not “{target}”.")
    with classifier.lock:
        cam = _mean_cam(classifier, METHODS[method], target, classifier.preprocess([image]))
    return _finish(cam, cells(classifier), image.size, method, target)


def cells(classifier: "Classifier") -> int:
    """The side, in cells, of the grid that the maps are made from."""
    from dermaflux.classifier import is_vit

    model = classifier.model
    if is_vit(model):
        return max(model.patch_embed.grid_size)
    return -(-classifier.card.image_size // model.feature_info[-1]["reduction"])


def _mean_cam(classifier: "Classifier", method: Method, target: str, x) -> np.ndarray:
    """The mean over views of the method's maps of the preprocessed image `x` (1, 3, S, S): (S, S) float32."""
    import torch

    from dermaflux.classifier import turned, turned_back

    views = torch.cat(list(turned(x, classifier.card.views)))
    return turned_back(torch.from_numpy(_cams(classifier, method, target, views)).unbind()).mean(0).numpy()


def _cams(classifier: "Classifier", method: Method, target: str, x) -> np.ndarray:
    """The method's maps of preprocessed images `x` (N, 3, S, S): (N, S, S) float32. The lock must be held."""
    import torch
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget

    from dermaflux.classifier import is_vit, last_stage

    model, index = classifier.model, classifier.card.labels.index(target)
    goal = FinerWeightedTarget(index, [1 - index], 1.0) if method.contrast else ClassifierOutputTarget(index)
    if is_vit(model):
        cam = _cam_class(method)(model, [model.blocks[-1].norm1], reshape_transform=patch_grid(model))
    else:
        cam = _cam_class(method)(model, [last_stage(model)])
    hooks = getattr(cam, "base_cam", cam).activations_and_grads
    try:  # not as a context manager: BaseCAM.__exit__ swallows IndexError
        with torch.enable_grad():
            return cam(x.requires_grad_(), targets=[goal] * len(x))
    finally:
        hooks.release()


def patch_grid(model):
    """A function from tokens (N, prefix + rows * columns, C) of a timm ViT to maps (N, C, rows, columns)."""
    rows, columns = model.patch_embed.grid_size

    def reshape(tokens):
        patches = tokens[:, model.num_prefix_tokens :]  # (N, rows * columns, C)
        return patches.reshape(len(patches), rows, columns, -1).permute(0, 3, 1, 2)  # (N, C, rows, columns)

    return reshape


def _cam_class(method: Method) -> type:
    import pytorch_grad_cam

    base = getattr(pytorch_grad_cam, method.cam)
    if not method.fix_sign:
        return base

    class SignedCAM(base):
        """A projection on a principal component, turned so that it agrees with the evidence it was made from."""

        def get_cam_image(self, input_tensor, target_layer, targets, activations, grads, eigen_smooth=False):
            cam = super().get_cam_image(input_tensor, target_layer, targets, activations, grads, eigen_smooth)
            evidence = (activations * grads).sum(1) if self.uses_gradients else (activations**2).sum(1)
            evidence = evidence - evidence.mean((1, 2), keepdims=True)
            return cam * np.where((cam * evidence).sum((1, 2), keepdims=True) < 0, -1, 1)

    return SignedCAM


def _finish(cam: np.ndarray, patches: int, size: tuple[int, int], method: str, target: str) -> SaliencyMap:
    """Smooth a square map by a quarter of its patches, stretch it over an image of `size` (width, height) and to 0..1.

    The package interpolates linearly between patches, which draws diamonds that are not in the model.
    """
    import cv2

    width, height = size
    low, high = (float(cam.min()), float(cam.max())) if np.isfinite(cam).all() else (0.0, 0.0)
    if high - low < 1e-6:
        return SaliencyMap(np.zeros((height, width), np.float32), method, target, True)
    smooth = cv2.GaussianBlur(np.float32((cam - low) / (high - low)), (0, 0), len(cam) / patches / 4)
    scaled = cv2.resize((smooth - smooth.min()) / np.ptp(smooth), (width, height), interpolation=cv2.INTER_LINEAR)
    return SaliencyMap(np.clip(scaled, 0, 1), method, target, False)


def _colours(values: np.ndarray) -> np.ndarray:
    """The perceptually uniform colours (inferno) of values (H, W) in [0, 1]: (H, W, 3) uint8 RGB."""
    import cv2

    return cv2.applyColorMap(np.uint8(np.round(values * 255)), cv2.COLORMAP_INFERNO)[:, :, ::-1]


def heat_map(map: SaliencyMap) -> Image.Image:
    """The map in colours from black (low) to light yellow (high), at the image's size."""
    return Image.fromarray(np.ascontiguousarray(_colours(map.values)))


def overlay(image: Image.Image, map: SaliencyMap, opacity: float = 0.5) -> Image.Image:
    """Lay the map's colours over the image. A place is covered by opacity (0-1) times its value, so that low places
    stay as they are. Raises InputError for an opacity out of range or a map of another size."""
    if not 0 <= opacity <= 1:
        raise InputError(f"Opacity must be from 0 to 1, not {opacity}.")
    if image.size[::-1] != map.values.shape:
        raise InputError("The saliency map belongs to an image of another size.")
    mask = Image.fromarray(np.uint8(np.round(map.values * (255 * opacity))))
    return Image.composite(heat_map(map), image.convert("RGB"), mask)


def confidence_drop(classifier: "Classifier", image: Image.Image, map: SaliencyMap, share: float = 0.2) -> float:
    """How far the target's probability falls when the `share` (0-1) of the image that the map ranks highest is blurred
    away: positive if the map points at what the decision rests on. After Petsiuk et al., arXiv 1806.07421 (deletion).
    """
    if map.empty:
        return 0.0
    blurred = image.convert("RGB").filter(ImageFilter.GaussianBlur(max(image.size) / 10))
    top = map.values >= np.quantile(map.values, 1 - share)
    hidden = Image.composite(blurred, image.convert("RGB"), Image.fromarray(np.uint8(top * 255)))
    before, after = (prediction.p_malignant for prediction in classifier.predict([image, hidden]))
    return before - after if map.target == "malignant" else after - before
