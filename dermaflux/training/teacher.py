"""A teacher: a large network whose features of each part of a view a small one learns, before and beside its labels.

Distillation (Hinton et al., arXiv 1503.02531) of features (Romero et al., arXiv 1412.6550), both networks shown one and
the same view, never twice (Beyer et al., arXiv 2106.05237).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import nn

Teacher = Callable[[torch.Tensor], torch.Tensor]
"""Gives the features (N, G * G, F) float32 of views (N, 3, H, H) uint8 RGB, one row for each cell of a grid with as
many cells as the small network has patches."""


ASKED = 32
"""Views that the teacher is asked at once."""
RESTRAINT = 1.2e-3
"""Inverse of the strength of the regression's regularisation, for one view of each image."""

Heard = tuple[torch.Tensor, torch.Tensor]
"""What a teacher says of N views: of their cells (N, G * G, F), and of each as a whole, their mean (N, F)."""


@dataclass(frozen=True)
class Lessons:
    """What a teacher has to say, every feature with mean 0 and variance 1 over the views that it was asked first.

    mean, std: (2, F), of the features of cells and of views. weight (F,), bias: the label as a linear map of a view's
    features, fitted to the labels of training images only; None before.
    """

    teacher: Teacher
    mean: torch.Tensor
    std: torch.Tensor
    weight: torch.Tensor | None = None
    bias: float = 0.0

    @classmethod
    def of(cls, teacher: Teacher, views: torch.Tensor) -> "Lessons":
        """Lessons measured on views (N, 3, H, H) uint8."""
        cells = torch.cat([teacher(some) for some in views.split(ASKED)])
        kinds = cells.flatten(0, 1), cells.mean(1)
        mean, std = (torch.stack([measure(kind, 0) for kind in kinds]) for measure in (torch.mean, torch.std))
        return cls(teacher, mean, std.clamp(min=1e-3))

    def knowing(self, views: Iterable[torch.Tensor], labels: torch.Tensor) -> "Lessons":
        """These lessons with what views (N, 3, H, H) uint8, several times over, teach of their labels (N,) of 0 or 1.

        A logistic regression so strongly regularised that it judges unseen images nearly as well as these.
        """
        pooled = [torch.cat([self.hear(some)[1] for some in each.split(ASKED)]) for each in views]
        probe = LogisticRegression(C=RESTRAINT / len(pooled), class_weight="balanced", max_iter=500)
        probe.fit(torch.cat(pooled).numpy(), labels.repeat(len(pooled)).numpy())
        return replace(self, weight=torch.from_numpy(probe.coef_[0]).float(), bias=float(probe.intercept_[0]))

    def hear(self, views: torch.Tensor) -> Heard:
        """What the teacher says of views (N, 3, H, H) uint8."""
        cells = self.teacher(views)
        kinds = zip((cells, cells.mean(1)), self.mean, self.std, strict=True)
        return tuple(((y - mean) / std).clamp(-5, 5) for y, mean, std in kinds)

    def verdict(self, heard: Heard) -> torch.Tensor:
        """The probability of label 1 (N,) that follows from what was heard of N views."""
        return torch.sigmoid(heard[1] @ self.weight + self.bias)

    @staticmethod
    def echo(width: int, features: int) -> nn.ModuleList:
        """Linear maps from tokens of `width` numbers to so many features of cells, and of whole views."""
        return nn.ModuleList(nn.Linear(width, features) for _ in range(2))


def echo_loss(answers: list[torch.Tensor], heard: Heard) -> torch.Tensor:
    """How far answers, [(N, G * G, F), (N, F)] by `Lessons.echo`, are from what was heard: mean squares, summed."""
    return sum(F.mse_loss(answer.float(), wanted) for answer, wanted in zip(answers, heard, strict=True))
