"""Images that show no lesion, to try the classifier's gate on: textures, drawings and faces drawn by code, and parts of
photographs that installed packages ship."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 256
PHOTOGRAPHS = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "gradio": (
        "media_assets/images/cheetah1.jpg",
        "media_assets/images/lion.jpg",
        "media_assets/images/tower.jpg",
        "media_assets/images/groot.jpeg",
    ),
}


def draw(kind: str, seed: int) -> Image.Image:
    """The image of `kind`, one of KINDS, for `seed`: RGB, 256 px square."""
    return KINDS[kind](np.random.default_rng(seed))


def shown(kind: str, seed: int) -> int:
    """A number for what `draw` shows: that of the photograph, or the seed where each image is of its own."""
    return _chosen(np.random.default_rng(seed)) if kind == "photograph" else seed


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    return tuple(int(v) for v in rng.integers(0, 256, 3))


def _texture(rng: np.random.Generator) -> Image.Image:
    """Noise of several scales, stripes, tiles or rings in two or three random colours."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    style, period, angle = rng.integers(4), rng.uniform(3, 30), rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    if style == 0:
        values = sum(
            cv2.resize(rng.random((2**k, 2**k)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) / rng.uniform(1, k)
            for k in range(2, 8)
        )
    elif style == 1:
        values = np.sin(2 * np.pi * period * along + rng.uniform(0, 3) * np.sin(2 * np.pi * rng.uniform(1, 4) * y))
    elif style == 2:
        values = np.sin(2 * np.pi * period * x) * np.sin(2 * np.pi * period * y)
    else:
        values = np.sin(2 * np.pi * period * np.hypot(x - rng.random(), y - rng.random()))
    values = (values - values.min()) / np.ptp(values)
    low, high = np.array(_colour(rng)), np.array(_colour(rng))
    if rng.random() < 0.3:  # in the colours of skin
        low, high = (np.array((70, 45, 35)) + rng.random() * np.array((160, 145, 135)) for _ in range(2))
    pixels = low + (high - low) * values[..., None] + rng.normal(0, rng.uniform(0, 20), (SIDE, SIDE, 1))
    return Image.fromarray(np.uint8(np.clip(pixels, 0, 255)))


def _drawing(rng: np.random.Generator) -> Image.Image:
    """Lines, polygons and words on paper: charts, plans and pages of text."""
    image = Image.new("RGB", (SIDE, SIDE), _colour(rng) if rng.random() < 0.5 else (255, 255, 255))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 25))):
        points = [tuple(int(v) for v in rng.integers(0, SIDE, 2)) for _ in range(int(rng.integers(2, 6)))]
        if rng.random() < 0.5 or len(points) < 3:
            pen.line(points, _colour(rng), int(rng.integers(1, 8)))
        else:
            pen.polygon(points, _colour(rng), _colour(rng))
    for _ in range(int(rng.integers(0, 12))):
        word = "".join(chr(rng.integers(97, 123)) for _ in range(int(rng.integers(3, 14))))
        place = tuple(int(v) for v in rng.integers(0, SIDE - 40, 2))
        pen.text(place, word, _colour(rng), ImageFont.load_default(int(rng.integers(8, 40))))
    return image


def _face(rng: np.random.Generator) -> Image.Image:
    """A head with hair, eyes, nose and mouth in the colours of skin, before a plain ground, a little blurred."""
    skin = np.array((90, 60, 45)) + rng.random() * np.array((150, 135, 125))
    image = Image.new("RGB", (SIDE, SIDE), _colour(rng))
    pen = ImageDraw.Draw(image)
    x, y, wide, tall = rng.uniform(105, 150), rng.uniform(115, 150), rng.uniform(55, 95), rng.uniform(75, 120)
    hair = tuple(int(v) for v in rng.integers(10, 120) * np.array((1, 0.8, 0.6)))
    pen.ellipse((x - 1.15 * wide, y - 1.2 * tall, x + 1.15 * wide, y + 0.6 * tall), hair)
    pen.ellipse((x - wide, y - tall, x + wide, y + tall), tuple(int(v) for v in skin))
    for side in (-1, 1):
        eye, brow = (x + side * 0.4 * wide, y - 0.2 * tall), rng.uniform(0.3, 0.45) * tall
        pen.ellipse((eye[0] - 13, eye[1] - 8, eye[0] + 13, eye[1] + 8), (250, 250, 250))
        pen.ellipse((eye[0] - 6, eye[1] - 6, eye[0] + 6, eye[1] + 6), _colour(rng))
        pen.line((eye[0] - 16, y - brow, eye[0] + 16, y - brow), hair, 4)
    pen.line((x, y - 0.1 * tall, x - 8, y + 0.2 * tall, x + 6, y + 0.2 * tall), tuple(int(v) for v in skin * 0.7), 3)
    pen.chord((x - 25, y + 0.3 * tall, x + 25, y + 0.6 * tall), 0, 180, (170, 60, 60))
    return Image.fromarray(cv2.GaussianBlur(np.asarray(image), (0, 0), rng.uniform(0.5, 2)))


def _photograph(rng: np.random.Generator) -> Image.Image:
    """A square part of one of PHOTOGRAPHS, 40 to 100 % of its short side, perhaps mirrored."""
    image = _photographs()[_chosen(rng)]
    side = int(min(image.size) * rng.uniform(0.4, 1))
    left, top = (int(rng.integers(0, extent - side + 1)) for extent in image.size)
    part = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def _chosen(rng: np.random.Generator) -> int:
    return int(rng.integers(len(_photographs())))


@cache
def _photographs() -> list[Image.Image]:
    folders = {package: Path(find_spec(package).origin).parent for package in PHOTOGRAPHS}
    paths = [folders[package] / name for package, names in PHOTOGRAPHS.items() for name in names]
    return [Image.open(path).convert("RGB") for path in paths if path.exists()]


KINDS: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "texture": _texture,
    "drawing": _drawing,
    "face": _face,
    "photograph": _photograph,
}
