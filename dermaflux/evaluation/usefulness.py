"""What drawn images are worth to a classifier: trained on real ones, on drawn ones, or on both, and tried on real ones.

The classifier is that of `probe`; each training set is resampled once a seed.
"""

from pathlib import Path

from dermaflux.data import manifest
from dermaflux.data.features import Features
from dermaflux.errors import DataError
from dermaflux.evaluation.figures import Figure, auc, resampled
from dermaflux.evaluation.probe import Labelled, log_odds

SEEDS = 5


def compare(real: Path, drawn: Path, features: Features) -> list[Figure]:
    """The figures for the folder `drawn` beside the manifest `real`, whose splits are train and val. Raises DataError
    if a label is absent from one of them."""
    sets = {
        f"train images in {real}": manifest.read(real, "train"),
        f"images in {drawn}": manifest.read(drawn / "manifest.csv"),
        f"val images in {real}": manifest.read(real, "val"),
    }
    for what, rows in sets.items():
        for label in manifest.LABELS:
            if not any(row.label == label for row in rows):
                raise DataError(f"Of the {len(rows)} {what} none is {label}; a classifier needs both.")
    return of_sets(*(Labelled.of(rows, features) for rows in sets.values()))


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
