"""What a teacher sees: the features of a large network for many random views, learned by a small one before and beside
its labels (distillation: Hinton et al., arXiv 1503.02531; of features: Romero et al., arXiv 1412.6550)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from dermaflux.training.views import augment

TEACHER_SIZE = 224

Teacher = Callable[[Iterable[Image.Image]], np.ndarray]
"""Gives the features (N, F) of RGB images."""


@dataclass(frozen=True)
class Lessons:
    """Views (M, 3, S, S) uint8 RGB, the teacher's features of them (M, F) float16, standardised, and the index (M,) of
    the image that each shows."""

    pixels: torch.Tensor
    targets: torch.Tensor
    shown: torch.Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def of(self, images: torch.Tensor) -> "Lessons":
        """The views of some images, by their indices."""
        chosen = torch.isin(self.shown, images)
        return Lessons(self.pixels[chosen], self.targets[chosen], self.shown[chosen])

    def batch(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`count` random views in [-1, 1], each turned or mirrored anew, and their targets in float32."""
        chosen = torch.randint(len(self.pixels), (count,))
        x = [torch.rot90(self.pixels[i], int(torch.randint(4, ())), (1, 2)) for i in chosen.tolist()]
        x = torch.stack([one.flip(2) if torch.rand(()) < 0.5 else one for one in x])
        return x.float() / 127.5 - 1, self.targets[chosen].float()


def prepare(pixels: torch.Tensor, teacher: Teacher, path: Path, *, views: int, size: int, seed: int = 0) -> Lessons:
    """`views` random views of each of pixels (N, 3, H, H) uint8, at `size` px, with the features that `teacher`
    gives them; kept at `path`, from where they are read the next time."""
    if not path.exists():
        torch.manual_seed(seed)
        seen, targets = [], []
        for _ in tqdm(range(views), desc="asking the teacher"):
            for some in pixels.split(64):
                x = augment(some, TEACHER_SIZE)  # (B, 3, 224, 224) in [0, 1]
                images = (x * 255).round().byte().permute(0, 2, 3, 1).numpy()
                targets.append(torch.from_numpy(teacher(Image.fromarray(image) for image in images)))
                small = F.interpolate(x, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
                seen.append((small.clamp(0, 1) * 255).round().byte())
        values = torch.cat(targets)
        values = (values - values.mean(0)) / values.std(0).clamp(min=1e-3)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        shown = torch.arange(len(pixels)).repeat(views)
        save_file({"pixels": torch.cat(seen), "targets": values.clamp(-5, 5).half(), "shown": shown}, temporary)
        temporary.replace(path)
    return Lessons(**load_file(path))
