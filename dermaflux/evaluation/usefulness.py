"""What drawn images are worth to a classifier: trained on real ones, on drawn ones, or on both, and tried on real ones.

The classifier is a logistic regression on the features of an ImageNet network, so that it learns from few images and in
seconds; each training set is resampled once a seed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dermaflux.data import manifest
from dermaflux.data.features import Features
from dermaflux.data.pixels import open_rgb
from dermaflux.evaluation.figures import Figure, auc, resampled

SEEDS = 5
INVERSE_PENALTY = 1e-3
"""Of the regression: its C. Weaker penalties fit the some thousand features of as many images exactly."""


@dataclass(frozen=True)
class Labelled:
    """Features (N, F) and whether each image is malignant (N,) bool."""

    features: np.ndarray
    malignant: np.ndarray

    def joined(self, other: "Labelled") -> "Labelled":
        return Labelled(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))


def compare(real: Path, drawn: Path, features: Features) -> list[Figure]:
    """The figures for the folder `drawn` beside the manifest `real`, whose splits are train and val."""
    sets = [
        _labelled(rows, features)
        for rows in (manifest.read(real, "train"), manifest.read(drawn / "manifest.csv"), manifest.read(real, "val"))
    ]
    return of_sets(*sets)


def of_sets(real: Labelled, drawn: Labelled, tried: Labelled) -> list[Figure]:
    """AUC on `tried` after training on real, drawn and all images; the mean over seeds, with intervals over images."""
    sets = {"real": real, "drawn": drawn, "real + drawn": real.joined(drawn)}
    scores = {name: [_scores(one, tried, seed) for seed in range(SEEDS)] for name, one in sets.items()}
    share = lambda truth, *both: (auc(truth, *both[SEEDS:]) - 0.5) / max(auc(truth, *both[:SEEDS]) - 0.5, 1e-6)
    gain = lambda truth, *both: auc(truth, *both[SEEDS:]) - auc(truth, *both[:SEEDS])
    truth = tried.malignant
    return [
        *(resampled(f"AUC, trained on {name}", auc, truth, *each) for name, each in scores.items()),
        resampled("drawn: share of real's lead over 0.5", share, truth, *scores["real"], *scores["drawn"], aim=0.9),
        resampled("real + drawn: gain over real", gain, truth, *scores["real"], *scores["real + drawn"], aim=0),
    ]


def _scores(learned: Labelled, tried: Labelled, seed: int) -> np.ndarray:
    """What a regression trained on a resample of `learned` says of `tried`: (N,)."""
    chosen = np.random.default_rng(seed).integers(0, len(learned.malignant), len(learned.malignant))
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    )
    return model.fit(learned.features[chosen], learned.malignant[chosen]).decision_function(tried.features)


def _labelled(rows: list[manifest.Row], features: Features) -> Labelled:
    malignant = np.array([row.label == "malignant" for row in rows])
    return Labelled(features.of(open_rgb(row) for row in rows), malignant)
