"""What a step of the flow's training draws at random, and the batches that it makes of it."""

from typing import NamedTuple

import torch

from dermaflux.training.guidance import Contraries


class Drawn(NamedTuple):
    """What is drawn at random for the N samples of a step, by all processes alike: bucket: the number of the one that
    all are from, (N,); image, view, word: indices, (N,). dropped: (N,) bool, whose caption is empty. noise: (N, T, D).
    t: (N,). scale: (N,), of the distilled guidance. swapped: (N,) bool, who change places with their contraries."""

    bucket: torch.Tensor
    image: torch.Tensor
    view: torch.Tensor
    word: torch.Tensor
    dropped: torch.Tensor
    noise: torch.Tensor
    t: torch.Tensor
    scale: torch.Tensor
    swapped: torch.Tensor


class Noisy(NamedTuple):
    """A batch of B: x_t (B, T, D) between image and noise; t (B,); target: the velocity noise - x; tokens (B, L, E) and
    pooled (B, P) of the captions; scale (B,); image_ids (T, 3): where each latent token lies; words (B,): the
    captions' places among the texts; swapped (B,) bool."""

    x_t: torch.Tensor
    t: torch.Tensor
    target: torch.Tensor
    tokens: torch.Tensor
    pooled: torch.Tensor
    scale: torch.Tensor
    image_ids: torch.Tensor
    words: torch.Tensor
    swapped: torch.Tensor


def dealt(noisy: Noisy, contraries: Contraries, swapped: torch.Tensor) -> tuple[Noisy, Noisy]:
    """A batch with its captions, and with their contraries; the other way round where `swapped`, (B,) bool."""
    both = contraries.dealt(noisy.words, swapped, noisy.tokens, noisy.pooled)
    return tuple(noisy._replace(tokens=tokens, pooled=pooled) for tokens, pooled in both)
