"""Random views of images, as a classifier is shown them in training."""

import math

import cv2
import numpy as np
import torch


def augment(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Random views (N, 3, size, size) uint8 of images (N, 3, S, S) uint8 RGB.

    Any turn, flips, crops of half the field to all of it, stretching; changes of light and colour; and in half of the
    views a covered strip along a border or corner, where rulers, ink and coloured patches give a diagnosis away.
    """
    views = [_view(image, size) for image in pixels.permute(0, 2, 3, 1).contiguous().numpy()]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).contiguous()


def _view(image: np.ndarray, size: int) -> np.ndarray:
    """A view (size, size, 3) uint8 of image (S, S, 3) uint8."""
    view = cv2.warpAffine(
        image, _placing(image.shape[0], size), (size, size), None, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        cv2.BORDER_REFLECT,
    )  # fmt: skip
    gamma, saturation = math.exp(_uniform(-0.25, 0.25)), _uniform(0.75, 1.25)
    ramp = (np.linspace(0, 1, 256) ** gamma * 255).round().astype(np.uint8)
    mixing = np.eye(3) * saturation + (1 - saturation) / 3  # towards the grey of each pixel, or away from it
    gains = np.array([[_uniform(0.93, 1.07)] for _ in range(3)])
    view = cv2.transform(cv2.LUT(view, ramp), mixing * gains)
    if _uniform(0, 1) < 0.5:
        _cover(view)
    return view


def _placing(side: int, size: int) -> np.ndarray:
    """The affine map (2, 3) from pixels of a view of `size` px to those of an image of `side` px."""
    angle, scale, stretch = _uniform(0, 2 * math.pi), _uniform(0.7, 1), math.exp(_uniform(-0.15, 0.15))
    flip = -1 if _uniform(0, 1) < 0.5 else 1
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    turn = np.array([[cos * stretch * flip, -sin], [sin * stretch * flip, cos]]) * side / size
    shift = np.array([_uniform(-1, 1), _uniform(-1, 1)]) * (1.05 - scale) * side / 2
    middle = (side - 1) / 2 + shift - turn @ np.full(2, (size - 1) / 2)
    return np.column_stack([turn, middle])


def _cover(view: np.ndarray) -> None:
    """Cover a rectangle at the border of view (S, S, 3) in place: with its mean colour or with any other."""
    size = len(view)
    depth, along = _whole(size // 16, size // 4), _whole(size // 4, size + 1)
    start = _whole(0, size - along + 1)
    colour = view.mean((0, 1)) if _uniform(0, 1) < 0.5 else 255 * torch.rand(3).numpy()
    np.rot90(view, _whole(0, 4))[:depth, start : start + along] = colour.round()


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _whole(low: int, high: int) -> int:
    """A whole number from `low` to below `high`."""
    return int(torch.randint(low, high, ()))
