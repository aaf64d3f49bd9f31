"""What can be said of a real image: captions in the published form from measured appearance and the known diagnosis."""

from dataclasses import replace

import numpy as np

from dermaflux import appearance, background
from dermaflux.data import manifest
from dermaflux.lesion import DIAGNOSES, LesionAttributes

HAIRY = 0.02
"""Share of an image that hair covers from where on a caption names it."""
FAINT = 18.0
"""Mean CIELAB distance from the skin below which a lesion's asymmetry and border are not named: its outline follows the
skin's noise, and 81 % of such photographs are measured as asymmetric in two axes, of the others 61 %."""


def describe(rgb: np.ndarray, row: manifest.Row) -> LesionAttributes:
    """The measured appearance of `rgb` (H, W, 3) uint8, its hair, dark corners, and `row`'s label and diagnosis.

    Where no lesion is found only tone and artefacts are measured, and of a faint one neither asymmetry nor border.
    Raises InputError for an image too small or narrow.
    """
    measured = appearance.measure(rgb)
    seen = measured.attributes()
    if measured.contrast < FAINT:
        seen = replace(seen, asymmetry=None, border=None)
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
