"""What a drawn image must pass to be kept: a classifier's agreement, its gate, and a distance from other images.

A screen gives the reason why an image is refused, or nothing.
"""

from collections.abc import Iterable
from typing import Protocol

from PIL import Image
from sklearn.preprocessing import normalize

from dermaflux.classifier import Classifier
from dermaflux.data.check import BITS, Hashes, perceptual_hash
from dermaflux.data.features import Backbone, Features
from dermaflux.lesion import LesionAttributes

VIEWS = (None, *Image.Transpose)
"""All ways to mirror and turn a square, as it is first."""


class Screen(Protocol):
    """Judges an image by itself, so that it does not matter which were judged before."""

    def refusal(self, image: Image.Image, asked: LesionAttributes) -> str:
        """Why `image` shall not be kept, in a sentence; nothing where it may be."""


class Agreement:
    """Refuses an image whose asked label has a probability below `least` for the classifier."""

    def __init__(self, classifier: Classifier, least: float):
        self.classifier, self.least = classifier, least

    def refusal(self, image: Image.Image, asked: LesionAttributes) -> str:
        if asked.label is None:
            return ""
        p = self.classifier.predict([image])[0].p_malignant
        given = p if asked.label == "malignant" else 1 - p
        return "" if given >= self.least else f"The classifier gives “{asked.label}” {given:.2f}, not {self.least:g}."


class Gate:
    """Refuses what the classifier's gate does not take for a lesion."""

    def __init__(self, classifier: Classifier):
        self.classifier = classifier

    def refusal(self, image: Image.Image, asked: LesionAttributes) -> str:
        seen = self.classifier.predict([image])[0]
        return "" if seen.lesion_like else f"The gate takes it for no lesion: its distance is {seen.distance:.0f}."


class Away:
    """Refuses an image whose features lie nearer to those of an image of a set than a cosine of `least` allows."""

    def __init__(self, features: Features | Backbone, images: Iterable[Image.Image], least: float):
        self.features, self.least = features, least
        self.known = normalize(features.of(images))  # (N, F)

    def refusal(self, image: Image.Image, asked: LesionAttributes) -> str:
        nearest = float((self.known @ normalize(self.features.of([image]))[0]).max())
        return "" if nearest < self.least else f"Its features are those of an image known before: cosine {nearest:.3f}."


class Apart:
    """Refuses what looks like an image already known, mirrored and turned by quarters too, as images are learned from:
    hardly a bit of their perceptual hashes differs. images: those known at first, such as a training set."""

    def __init__(self, images: Iterable[Image.Image] = ()):
        self.known = Hashes()
        for image in images:
            self.add(image)

    def add(self, image: Image.Image) -> None:
        """Take note that `image` is known from now on."""
        self.known.add(perceptual_hash(image))

    def refusal(self, image: Image.Image, asked: LesionAttributes) -> str:
        views = (image if view is None else image.transpose(view) for view in VIEWS)
        near = [pair for view in views for pair in self.known.near(perceptual_hash(view))]
        if not near:
            return ""
        return f"It looks like an image known before: {min(bits for _, bits in near)} of {BITS} bits differ."
