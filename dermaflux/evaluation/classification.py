"""What a classifier is worth beside its card: on a split of real images, at the gate, and where it looks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from dermaflux import appearance, phantom, saliency
from dermaflux.classifier import Classifier, create_model
from dermaflux.errors import DataError
from dermaflux.evaluation import answers, non_lesions, scores
from dermaflux.evaluation.figures import Figure, auc, resampled, undefined
from dermaflux.lesion import LABELS

AIM = 0.78
"""Of the AUC of the embedded classifier."""
FIRST_PHANTOM = 6_000_000
"""Seed from where on phantoms are drawn: none that trainings of seed 0 use, as those of the shipped models."""


def of_asked(asked: answers.Asked) -> list[Figure]:
    """The figures of a classifier's answers, with the AUC that is aimed at, and the share of images refused."""
    found = [replace(one, aim=AIM) if one.name == "AUC" else one for one in scores.figures(asked.answers)]
    passed, clusters = asked.lesion_like & asked.outlined, asked.answers.clusters
    return [
        *found,
        scores.share("Refused by the gate", ~asked.lesion_like, clusters, aim=0.02, most=True),
        scores.share("Refused by gate or outline", ~passed, clusters),
    ]


def of_held_out(path: Path, split: str = "") -> list[Figure]:
    """AUC of the answers that `train classifier` kept in held_out.csv, of all or of one split, and of each fold.

    Raises DataError for another file, or a split that is not in it.
    """
    try:
        kept = pd.read_csv(path)
        kept = kept[kept["split"] == split] if split else kept
        if kept["label"].nunique() < len(LABELS):
            raise ValueError("one class")
        found = [("AUC", kept), *((f"AUC, fold {fold}", part) for fold, part in kept.groupby("fold"))]
        return [
            resampled(name, auc, (part["label"] == "malignant").to_numpy(), part["p_malignant"].to_numpy(), aim=aim)
            if part["label"].nunique() == len(LABELS)
            else undefined(name, len(part), aim)
            for (name, part), aim in zip(found, (AIM, *[None] * len(found)), strict=False)
        ]
    except (KeyError, ValueError) as error:
        which = f" of {split}" if split else ""
        raise DataError(f"{path} holds no answers to images of both classes held out{which}.") from error


def of_non_lesions(classifier: Classifier, count: int) -> list[Figure]:
    """The share of `count` non-lesions that is refused, by kind and in all; by the gate, or for want of an outline.
    Parts of one photograph are resampled together."""
    refused, seeds = {}, range(count // len(non_lesions.KINDS))
    for kind in non_lesions.KINDS:
        refused[kind] = ~_passed(classifier, [non_lesions.draw(kind, seed) for seed in seeds])
    shown = {kind: np.array([f"{kind} {non_lesions.shown(kind, seed)}" for seed in seeds]) for kind in refused}
    every, of_all = (np.concatenate(list(parts.values())) for parts in (refused, shown))
    return [
        *(scores.share(f"Refused, {kind}", hits, shown[kind]) for kind, hits in refused.items()),
        scores.share("Refused, all", every, of_all, aim=0.95),
    ]


def of_saliency(classifier: Classifier, count: int, method: str = saliency.DEFAULT) -> list[Figure]:
    """The share of saliency inside the lesion of `count` phantoms: the classifier's, that of the same network with
    random weights (new ones for each phantom), and that of random maps; and how far the probability of malignancy falls
    where what a map ranks highest is blurred away. Empty maps are counted and left out."""
    side = saliency.cells(classifier)
    shares = {"trained": [], "untrained": [], "random": [], "area": []}
    drops = {"trained": [], "random": []}
    for seed in tqdm(range(FIRST_PHANTOM, FIRST_PHANTOM + count), desc="explaining", disable=None):
        drawn = phantom.draw(phantom.random_attributes(seed), seed)
        torch.manual_seed(seed)
        untrained = replace(classifier, model=create_model(classifier.card).eval().requires_grad_(False))
        networks = {"trained": classifier, "untrained": untrained}
        image = Image.fromarray(drawn.image)
        maps = {name: saliency.explain(one, image, method) for name, one in networks.items()}
        noise = cv2.resize(np.random.default_rng(seed).random((side, side), np.float32), image.size)
        maps["random"] = replace(maps["trained"], values=noise, empty=False)
        for name, found in maps.items():
            shares[name].append(np.nan if found.empty else _inside(found.values, drawn.mask))
        shares["area"].append(drawn.mask.mean())
        for name, each in drops.items():
            each.append(saliency.confidence_drop(classifier, image, maps[name]))
    trained, untrained, chance, area = (np.array(values) for values in shares.values())
    fall, fall_of_random = (np.array(values) for values in drops.values())
    seen, seen_untrained = ~np.isnan(trained), ~np.isnan(untrained)
    return [
        resampled("Share of the image that is lesion", np.mean, area),
        resampled("Maps that are not empty", np.mean, seen),
        resampled("Saliency inside the lesion", np.mean, trained[seen]),
        resampled("the same, random weights", np.mean, untrained[seen_untrained]),
        resampled("the same, random maps", np.mean, chance),
        resampled("Lead over random maps", np.mean, (trained - chance)[seen], aim=0),
        resampled("Fall of p where a fifth is blurred", np.mean, fall[seen]),
        resampled("that of random maps", np.mean, fall_of_random[seen]),
        resampled("Lead of that fall", np.mean, (fall - fall_of_random)[seen], aim=0),
    ]


def _passed(classifier: Classifier, images: Sequence[Image.Image]) -> np.ndarray:
    """Whether the page would show each image's classification without reserve: (N,) bool."""
    gate = [one.lesion_like for one in classifier.predict(images)]
    return np.array([passed and appearance.measure(image).found for passed, image in zip(gate, images, strict=True)])


def _inside(values: np.ndarray, mask: np.ndarray) -> float:
    return float(values[mask].sum() / max(values.sum(), 1e-9))
