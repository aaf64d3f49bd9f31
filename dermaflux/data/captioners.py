"""What can be said of a real image: captions in the published form from measured appearance and the known diagnosis."""

from dataclasses import replace

import numpy as np

from dermaflux import appearance, background
from dermaflux.data import manifest
from dermaflux.lesion import DIAGNOSES, LesionAttributes

HAIRY = 0.02
"""Share of an image that hair covers from where on a caption names it."""


def describe(rgb: np.ndarray, row: manifest.Row) -> LesionAttributes:
    """The measured appearance of `rgb` (H, W, 3) uint8, its hair, dark corners, and `row`'s label and diagnosis.

    Where no lesion is found only tone and artefacts are measured. Raises InputError for an image too small or narrow.
    """
    seen = appearance.measure(rgb).attributes()
    lightness = background.to_lab(rgb)[..., 0]
    artefacts = {
        "hair": background.find_hair(lightness).mean() > HAIRY,
        "dark corners": background.find_dark_corners(lightness).any(),
    }
    diagnosis = row.values.get("diagnosis")
    return replace(
        seen,
        label=row.label,
        diagnosis=diagnosis if diagnosis in DIAGNOSES else None,
        artefacts=tuple(name for name, found in artefacts.items() if found),
    )
