"""A logistic regression on the features of an ImageNet network: a classifier that learns from few images in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dermaflux.data.features import Features
from dermaflux.data.manifest import Row
from dermaflux.data.pixels import open_rgb

INVERSE_PENALTY = 1e-3
"""Of the regression: its C. Weaker penalties fit the some thousand features of as many images exactly."""


@dataclass(frozen=True)
class Labelled:
    """Features (N, F) and whether each image is malignant (N,) bool."""

    features: np.ndarray
    malignant: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Row], features: Features) -> "Labelled":
        return cls(features.of(open_rgb(row) for row in rows), malignant(rows))

    def joined(self, other: "Labelled") -> "Labelled":
        return Labelled(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))

    def chosen(self, places: np.ndarray) -> "Labelled":
        return Labelled(self.features[places], self.malignant[places])


def malignant(rows: Sequence[Row]) -> np.ndarray:
    """Whether each of `rows` is labelled malignant: (N,) bool."""
    return np.array([row.label == "malignant" for row in rows])


def log_odds(learned: Labelled, tried: np.ndarray, seed: int) -> np.ndarray:
    """The log odds of malignant, (N,), that a regression trained on a resample of `learned` gives features (N, F).
    `learned` must hold both classes."""
    n, rng = len(learned.malignant), np.random.default_rng(seed)
    sample = learned.chosen(rng.integers(0, n, n))
    while sample.malignant.all() or not sample.malignant.any():  # of few images a resample may lack a class
        sample = learned.chosen(rng.integers(0, n, n))
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    )
    return model.fit(sample.features, sample.malignant).decision_function(tried)
