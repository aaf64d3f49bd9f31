"""Calibrate a trained classifier on answers to held-out images: bias and temperature, operating point, gate, figures.

Bias and temperature are fitted together (Platt, 1999; Guo et al., arXiv 1706.04599), so that probabilities of a model
trained on balanced classes hold for the prevalence among the held-out images. The gate is the squared Mahalanobis
distance (Lee et al., arXiv 1807.03888) under a Ledoit-Wolf covariance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from dermaflux.classifier import Classifier
from dermaflux.classifier_card import LABELS, Card, GateSpec, OperatingPoint

MALIGNANT = LABELS.index("malignant")
SENSITIVITY, FALSE_ALARM_RATE = 0.95, 0.015
HIGHEST_TEMPERATURE = 100.0
"""Where ranks are still told apart; a classifier that ranks worse than chance would be calibrated to a constant."""


@dataclass(frozen=True)
class HeldOut:
    """A classifier's answers on N images that it did not learn from: logits (N, 2), the truth (N,), an index into
    LABELS, and the gate's distances (M,) of those of them that the gate was not fitted to, as a rule all."""

    logits: torch.Tensor
    distances: torch.Tensor
    truth: torch.Tensor

    @classmethod
    def joined(cls, parts: Sequence["HeldOut"]) -> "HeldOut":
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def calibrate(classifier: Classifier, held_out: HeldOut, folds: int) -> tuple[Classifier, np.ndarray]:
    """The classifier with bias, temperature, operating point and the gate's threshold fitted and its card filled in,
    and the probabilities of malignancy (N,) of the images held out.

    held_out: the answers on all images held out from `folds` trainings (1: from this classifier's own).
    """
    card = classifier.card
    temperature, bias = fit_temperature(held_out.logits, held_out.truth)
    with torch.no_grad():
        classifier.model.get_classifier().bias += torch.stack([torch.zeros(()), bias * temperature])
    lead = held_out.logits[:, MALIGNANT] - held_out.logits[:, 1 - MALIGNANT]
    scores = (lead / temperature + bias).sigmoid().double().numpy()
    malignant, distances = held_out.truth.numpy() == MALIGNANT, held_out.distances.numpy()
    threshold = float(np.quantile(distances, 1 - FALSE_ALARM_RATE, method="higher")) * (1 + 1e-4)  # spares rounding
    how = f"{folds} times a part held out of a training of its own" if folds > 1 else "held out of its training"
    card = replace(
        card,
        temperature=float(temperature),
        auc=float(roc_auc_score(malignant, scores)),
        auc_interval=auc_interval(malignant, scores),
        operating_point=operating_point(malignant, scores, how),
        gate=GateSpec(card.gate.layers, threshold, float((distances > threshold).mean()), len(distances)),
    )
    return replace(classifier, card=card), scores


def fit_gate(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (D,) and precision (D, D) of gate features (N, D) of real lesions."""
    covariance = LedoitWolf().fit(features.double().numpy())
    return tuple(torch.tensor(one, dtype=torch.float32) for one in (covariance.location_, covariance.precision_))


def fit_temperature(logits: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Temperature, at most HIGHEST_TEMPERATURE, and bias that minimise the cross entropy of
    sigmoid((logit_1 - logit_0) / temperature + bias).

    The targets are Platt's, a little inside 0 and 1, so that classes that separate perfectly do not give certainty.
    """
    lead, ones = (logits[:, 1] - logits[:, 0]).double(), truth.double()
    members = torch.where(truth == MALIGNANT, ones.sum(), (1 - ones).sum())
    target = (ones * members + 1) / (members + 2)
    slope, bias = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.0, 0.0))
    optimizer = torch.optim.LBFGS([slope, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(lead * (slope.exp() + 1 / HIGHEST_TEMPERATURE) + bias, target)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return 1 / (slope.detach().exp() + 1 / HIGHEST_TEMPERATURE).float(), bias.detach().float()


def operating_point(malignant: np.ndarray, scores: np.ndarray, how: str = "held out") -> OperatingPoint:
    """The highest threshold with a sensitivity of at least 0.95; malignant (N,) bool, scores (N,) in [0, 1]; how they
    were held out."""
    ranked = np.sort(scores[malignant])[::-1]
    threshold = float(ranked[int(np.ceil(SENSITIVITY * len(ranked))) - 1]) * (1 - 1e-6)  # spares rounding in float32
    found, spared = scores[malignant] >= threshold, scores[~malignant] < threshold
    return OperatingPoint(
        threshold=threshold,
        sensitivity=float(found.mean()),
        sensitivity_interval=wilson(found),
        specificity=float(spared.mean()),
        specificity_interval=wilson(spared),
        n=len(scores),
        measured_on=f"{len(scores)} real images ({int(malignant.sum())} malignant), {how}; threshold and temperature "
        "were chosen on them, so that the figures are somewhat optimistic",
    )


def wilson(hits: np.ndarray) -> tuple[float, float]:
    """The 95 % Wilson interval of the share of hits (N,) bool."""
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def auc_interval(malignant: np.ndarray, scores: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the AUC, resampled within the classes."""
    rng, (ones, zeros) = np.random.default_rng(0), (scores[malignant], scores[~malignant])
    wins = (ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)  # (ones, zeros); the AUC is its mean
    a, b = (rng.multinomial(len(side), np.full(len(side), 1 / len(side)), resamples) for side in (ones, zeros))
    areas = np.einsum("ri,ij,rj->r", a, wins, b, optimize=True) / wins.size
    return tuple(float(value) for value in np.quantile(areas, (0.025, 0.975)))


def readme(card: Card, title: str = "DermaFlux nano classifier", start: str = "from scratch") -> str:
    """A short model card of the figures in `card`; start: which weights training began with."""
    point, gate = card.operating_point, card.gate
    views = f", the mean of {card.views} mirrored and turned views" if card.views > 1 else ""
    between = lambda interval: f"{interval[0]:.3f} to {interval[1]:.3f}"
    return f"""---
license: {card.licence.lower() if " " not in card.licence else "other"}
pipeline_tag: image-classification
tags: [dermoscopy, timm]
---
# {title}
{card.arch} (timm) at {card.image_size} px; benign or malignant{views}. Trained {start} on {card.trained_on}.
Research demonstration. Not a medical device; not for diagnosis.

Measured on {point.measured_on}: AUC {card.auc:.3f} ({between(card.auc_interval)}); at p = {point.threshold:.3f}
sensitivity {point.sensitivity:.3f} ({between(point.sensitivity_interval)}), specificity {point.specificity:.3f}
({between(point.specificity_interval)}); 95 % intervals in brackets.
The gate refuses {gate.false_alarm_rate:.1%} of {gate.n} lesions that it was not fitted to as not lesion-like.
Made by `python -m dermaflux train classifier`, version {card.version}.
"""
