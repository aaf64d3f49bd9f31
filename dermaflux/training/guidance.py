"""What guidance adds to a velocity, computed in several passes so that it can be distilled into one.

Three directions, each from something worse to something better: from the empty caption to the caption (Ho and
Salimans, arXiv 2207.12598); from a network that was trained less to this one (Karras et al., arXiv 2406.02507), which
makes what is drawn more like photographs; and from the same caption with another asymmetry and border to the caption,
since these two change few pixels and are otherwise drowned by what changes many.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import FluxPipeline
from diffusers.training_utils import EMAModel
from torch import nn

from dermaflux import phrases
from dermaflux.errors import InputError

BATCH = 32
MOST_AXES, MOST_SEGMENTS = 2, 8


class Teacher:
    """The averaged weights as distillation began, lent to `parameters` for a pass; part of the checkpoint."""

    def __init__(self, parameters: list[nn.Parameter]):
        self.parameters, self.weights = parameters, []

    def take(self, average: EMAModel) -> None:
        """Keep the averaged weights, the first time this is called."""
        if not self.weights:
            self.weights = [weight.detach().clone() for weight in average.shadow_params]

    @contextmanager
    def lent(self) -> Iterator[None]:
        own = [parameter.data for parameter in self.parameters]
        self._put(self.weights)
        try:
            yield
        finally:
            self._put(own)

    def _put(self, weights: list[torch.Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.data = weight

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        return {"weights": self.weights}

    def load_state_dict(self, state: dict[str, list[torch.Tensor]]) -> None:
        self.weights = [weight.to(self.parameters[0].device) for weight in state["weights"]]


@dataclass(frozen=True)
class Contraries:
    """For each of M captions the same with another asymmetry and border.

    places: (M,) int64, into the rest; -1 for a caption that names neither. tokens: (C, L, E). pooled: (C, P).
    """

    places: torch.Tensor
    tokens: torch.Tensor
    pooled: torch.Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, captions: Sequence[str], pipe: FluxPipeline, length: int) -> "Contraries":
        """Those of `captions`, encoded by `pipe` to `length` tokens. Raises InputError if none has one."""
        texts = [contrary(text, seed) for seed, text in enumerate(captions)]
        changed = [i for i, (text, own) in enumerate(zip(texts, captions, strict=True)) if text != own]
        places = torch.full((len(texts),), -1)
        places[changed] = torch.arange(len(changed))
        where = dict(device=pipe.text_encoder.device, max_sequence_length=length)
        if not changed:
            raise InputError(
                "No caption names an asymmetry or a border in the published form: leave out --set contrast."
            )
        firsts = range(0, len(changed), BATCH)
        encoded = [pipe.encode_prompt([texts[i] for i in changed[at : at + BATCH]], **where)[:2] for at in firsts]
        tokens, pooled = (torch.cat([each.half().cpu() for each in some]) for some in zip(*encoded, strict=True))
        return cls(places, tokens, pooled)

    def dealt(
        self, words: torch.Tensor, swapped: torch.Tensor, tokens: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Tokens and pooled embeddings of the one of each caption and its contrary that chance has picked, and of the
        other. words: (B,), places of captions whose tokens (B, L, E) and pooled embeddings (B, P) are given. swapped:
        (B,) bool, where the contrary is picked."""
        place = self.places[words]
        known, swapped = place >= 0, swapped.to(tokens.device)
        picked, left = [], []
        for own, others in ((tokens, self.tokens), (pooled, self.pooled)):
            other = own.clone()
            other[known.to(own.device)] = others[place[known]].to(own)
            where = swapped.view(-1, *[1] * (own.ndim - 1))
            picked.append(torch.where(where, other, own))
            left.append(torch.where(where, own, other))
        return tuple(picked), tuple(left)


class Worse(NamedTuple):
    """What guidance leads away from beside the empty caption: weaker: a network that was trained less, on the device.
    contraries: of the captions of the Pairs."""

    weaker: nn.Module | None = None
    contraries: Contraries | None = None


NOTHING_WORSE = Worse()


def contrary(caption: str, seed: int) -> str:
    """A caption in the published form with the sentences on asymmetry and border of the opposite lesion: 2 axes for
    0, 8 segments for 0, and so on. seed: decides which end is opposite to the middle. What is not there stays away."""
    for wordings, most in ((phrases.ASYMMETRY, MOST_AXES), (phrases.BORDER, MOST_SEGMENTS)):
        end = most if seed % 2 else 0
        opposite = [end if 2 * value == most else most - value for value in range(most + 1)]
        caption = _swapped(caption, wordings, opposite)
    return caption


def _swapped(caption: str, wordings: dict[int, tuple[str, ...]], opposite: Sequence[int]) -> str:
    """`caption` with a sentence of `wordings`, if it has one, as it is worded for the opposite of its value."""
    for value, sentences in wordings.items():
        for number, sentence in enumerate(sentences):
            if sentence in caption:
                others = wordings[opposite[value]]
                return caption.replace(sentence, others[number % len(others)])
    return caption
