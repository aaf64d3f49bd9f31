"""What guidance adds to a velocity, computed in several passes so that it can be distilled into one.

Directions, each from something worse to something better: from the empty caption to the caption (Ho and Salimans,
arXiv 2207.12598); from a network that was trained less to this one (Karras et al., arXiv 2406.02507), which makes what
is drawn more like photographs; and from the same caption with other attributes to the caption, since some change few
pixels and are otherwise drowned by what changes many.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import FluxPipeline
from diffusers.training_utils import EMAModel
from torch import nn

from dermaflux.errors import InputError

BATCH = 32


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
    """For each of M captions the same with other attributes.

    places: (M,) int64, into the rest; -1 for a caption that names none of them. tokens: (C, L, E). pooled: (C, P).
    """

    places: torch.Tensor
    tokens: torch.Tensor
    pooled: torch.Tensor

    @classmethod
    @torch.inference_mode()
    def of(
        cls, captions: Sequence[str], pipe: FluxPipeline, length: int, change: Callable[[str, int], str]
    ) -> "Contraries":
        """What `change` makes of each of `captions` and its place, encoded by `pipe` to `length` tokens. Raises
        InputError if that is never another caption."""
        texts = [change(text, seed) for seed, text in enumerate(captions)]
        changed = [i for i, (text, own) in enumerate(zip(texts, captions, strict=True)) if text != own]
        places = torch.full((len(texts),), -1)
        places[changed] = torch.arange(len(changed))
        where = dict(device=pipe.text_encoder.device, max_sequence_length=length)
        if not changed:
            raise InputError(
                "No caption names in the published form what guidance is to lead by: leave out --set contrast, "
                "worst and lopsided."
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


@dataclass(frozen=True)
class Worse:
    """What guidance leads away from beside the empty caption.

    weaker: a network that was trained less, on the device. contrary: of the captions of the Pairs, by
    `rewording.contrary`; half of the batch asks for these instead, and `contrast` leads each from the other. led: what
    else is led from, of the captions and of their contraries, by functions of `rewording`, under the options that say
    how far.
    """

    weaker: nn.Module | None = None
    contrary: Contraries | None = None
    led: Mapping[str, tuple[Contraries, Contraries]] = field(default_factory=dict)

    def leads(self, noisy, options) -> tuple[Any, list[tuple[Any, float]]]:
        """A batch of B, a `flow.Noisy`, as it shall be asked for, and the batches that asked for worse with how far to
        lead from each by `options`."""
        if not self.contrary:
            return noisy, []
        words, swapped, own = noisy.words, noisy.swapped, (noisy.tokens, noisy.pooled)
        texts, others = self.contrary.dealt(words, swapped, *own)
        asked, found = _asking(noisy, texts), []
        if options.contrast:
            found.append((_asking(noisy, others), options.contrast))
        for name, (of_own, of_contrary) in self.led.items():
            texts, _ = of_own.dealt(words, ~swapped, *own)
            texts, _ = of_contrary.dealt(words, swapped, *texts)
            found.append((_asking(noisy, texts), getattr(options, name)))
        return asked, found


def _asking(noisy, texts: tuple[torch.Tensor, torch.Tensor]):
    tokens, pooled = texts
    return noisy._replace(tokens=tokens, pooled=pooled)


NOTHING_WORSE = Worse()
