"""What drawn images are worth to a classifier: trained on real ones, on drawn ones, or on both, and tried on real ones.

The classifier is that of `probe`; each training set is resampled once a seed.
"""

from pathlib import Path

from dermaflux.data import manifest
from dermaflux.data.features import Features
from dermaflux.evaluation.figures import Figure, auc, resampled
from dermaflux.evaluation.probe import Labelled, log_odds

SEEDS = 5


def compare(real: Path, drawn: Path, features: Features) -> list[Figure]:
    """The figures for the folder `drawn` beside the manifest `real`, whose splits are train and val."""
    sets = [
        Labelled.of(rows, features)
        for rows in (manifest.read(real, "train"), manifest.read(drawn / "manifest.csv"), manifest.read(real, "val"))
    ]
    return of_sets(*sets)


def of_sets(real: Labelled, drawn: Labelled, tried: Labelled) -> list[Figure]:
    """AUC on `tried` after training on real, drawn and all images; the mean over seeds, with intervals over images."""
    sets = {"real": real, "drawn": drawn, "real + drawn": real.joined(drawn)}
    scores = {name: [log_odds(one, tried.features, seed) for seed in range(SEEDS)] for name, one in sets.items()}
    share = lambda truth, *both: (auc(truth, *both[SEEDS:]) - 0.5) / max(auc(truth, *both[:SEEDS]) - 0.5, 1e-6)
    gain = lambda truth, *both: auc(truth, *both[SEEDS:]) - auc(truth, *both[:SEEDS])
    truth = tried.malignant
    return [
        *(resampled(f"AUC, trained on {name}", auc, truth, *each) for name, each in scores.items()),
        resampled("drawn: share of real's lead over 0.5", share, truth, *scores["real"], *scores["drawn"], aim=0.9),
        resampled("real + drawn: gain over real", gain, truth, *scores["real"], *scores["real + drawn"], aim=0),
    ]
