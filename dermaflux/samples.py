"""What a run of a Generator yields: previews while it draws, samples when an image is finished."""

from dataclasses import dataclass

from PIL import Image

from dermaflux.provenance import Provenance

Source = tuple[Image.Image, Provenance]
"""An image to vary, and its recipe."""


@dataclass(frozen=True)
class Preview:
    """The estimate of the clean images after a step.

    step: 1 to steps. seconds_left: estimate for the run, if every image takes all its candidates. indices: which of its
    images these are. candidate: which one of each these show, from 1, of `together` that are drawn at once and of at
    most `candidates` in all.
    """

    step: int
    steps: int
    seconds_left: float
    indices: tuple[int, ...]
    images: tuple[Image.Image, ...]
    candidate: int = 1
    together: int = 1
    candidates: int = 1


@dataclass(frozen=True)
class Sample:
    """A finished image: its index in the run, its pixels, its recipe. settled: False for the best so far where
    further candidates are drawn; a later one of the same index takes its place."""

    index: int
    image: Image.Image
    provenance: Provenance
    settled: bool = True
