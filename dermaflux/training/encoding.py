"""Images and captions -> latents and text embeddings, in parts that fit in memory."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import torch
from diffusers import FluxPipeline
from diffusers.pipelines.flux.pipeline_flux_img2img import retrieve_latents
from torch import nn
from tqdm import tqdm

VIEWS = 8
"""The quarter turns of an image and of its mirror image: a lesion has no up or down."""
BATCH = 32
PART_BYTES = 2**30
"""From which size on a part is finished; memory holds up to three times as much."""
LATENTS, WORDS, CAPTIONS = "latents.", "words.", "captions"
Part = dict[str, torch.Tensor]
"""Tensors by name: for each grid of h x w latent tokens `latents.hxw` (N, V, T, D) and `words.hxw` (N, K) int32, places
among the captions of this part and those before; `tokens` (M, L, E) and `pooled` (M, P) of the captions that are new in
it, which `captions` holds as JSON in bytes; `empty_tokens` (L, E) and `empty_pooled` (P,)."""


@dataclass
class Seen:
    """What earlier parts hold: how many images, and the place of each caption."""

    images: int = 0
    places: dict[str, int] = field(default_factory=dict)

    def add(self, captions: torch.Tensor, images: int) -> None:
        """Take in a part's `captions`, and how many images it has."""
        for caption in json.loads(captions.numpy().tobytes()):
            self.places.setdefault(caption, len(self.places))
        self.images += images


@torch.inference_mode()
def encode(
    pipe: FluxPipeline,
    images: Iterable[tuple[np.ndarray, list[str]]],
    *,
    max_sequence_length: int,
    views: int = VIEWS,
    encoder: Callable[[torch.Tensor], torch.Tensor] | None = None,
    seen: Seen | None = None,
    part_bytes: int = PART_BYTES,
) -> Iterator[Part]:
    """Encode `images`, each (H, W, 3) uint8 RGB with its captions, all with as many captions, into parts; `seen`
    follows what is done, and the images that it counts at the start are passed over.

    A quarter turn of an image that is not square is in the bucket of the turned shape, by itself. encoder: what gives
    the latents, where that is not the pipeline's autoencoder.
    """
    encoder = encoder or partial(_own_latents, pipe.vae)
    where = dict(device=pipe.text_encoder.device, max_sequence_length=max_sequence_length)
    embed = lambda captions: [each.half().cpu() for each in pipe.encode_prompt(captions, **where)[:2]]
    seen = seen or Seen()
    empty = [each[0].clone() for each in embed([""])]
    rest = iter(tqdm(islice(images, seen.images, None), desc="encoding", initial=seen.images, mininterval=5))
    held = _Held()
    while some := list(islice(rest, BATCH)):
        new = list(dict.fromkeys(text for _, captions in some for text in captions if text not in seen.places))
        if new:
            held.add_texts(new, *embed(new))
            seen.places.update(zip(new, range(len(seen.places), len(seen.places) + len(new)), strict=True))
        for image, captions in some:
            words = torch.tensor([seen.places[text] for text in captions], dtype=torch.int32)
            for grid, latents in _latents(pipe, encoder, image, views):
                held.add_image(grid, latents, words)
        seen.images += len(some)
        if held.bytes >= part_bytes:
            yield held.part(*empty)
            held = _Held()
    if held.bytes:
        yield held.part(*empty)


class _Held:
    """What a part is made of, until it is finished."""

    def __init__(self) -> None:
        self.bytes, self.captions = 0, []
        self.rows: dict[str, list[torch.Tensor]] = defaultdict(list)

    def add_texts(self, captions: list[str], tokens: torch.Tensor, pooled: torch.Tensor) -> None:
        self.captions += captions
        self.rows["tokens"] += tokens
        self.rows["pooled"] += pooled
        self.bytes += tokens.nbytes + pooled.nbytes

    def add_image(self, grid: str, latents: torch.Tensor, words: torch.Tensor) -> None:
        self.rows[LATENTS + grid].append(latents)
        self.rows[WORDS + grid].append(words)
        self.bytes += latents.nbytes

    def part(self, empty_tokens: torch.Tensor, empty_pooled: torch.Tensor) -> Part:
        captions = torch.frombuffer(bytearray(json.dumps(self.captions).encode()), dtype=torch.uint8)
        joined = {name: torch.stack(self.rows.pop(name)) for name in list(self.rows)}
        return joined | {CAPTIONS: captions, "empty_tokens": empty_tokens, "empty_pooled": empty_pooled}


def _own_latents(vae: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x.to(vae.device, vae.dtype, memory_format=torch.channels_last)  # on a CPU half as fast again
    return retrieve_latents(vae.encode(x), sample_mode="argmax")


def _latents(
    pipe: FluxPipeline, encoder: Callable, image: np.ndarray, views: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """The views of an image that have one shape, (V, T, D) with their grid, for each shape."""
    turned = [np.rot90(image if v < 4 else image[:, ::-1], v % 4) for v in range(views)]
    for shape in dict.fromkeys(view.shape for view in turned):
        x = torch.from_numpy(np.stack([view for view in turned if view.shape == shape]))
        x = x.permute(0, 3, 1, 2).float() / 127.5 - 1  # (V, 3, H, W)
        z = (encoder(x) - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
        grid = f"{z.shape[2] // 2}x{z.shape[3] // 2}"
        yield grid, pipe._pack_latents(z, *z.shape).half().cpu()
