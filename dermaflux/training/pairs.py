"""Pairs of latents and text embeddings, computed once and kept on disk, from which the flow is trained."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline
from diffusers.pipelines.flux.pipeline_flux_img2img import retrieve_latents
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from dermaflux.errors import InputError

VIEWS = 8
"""The quarter turns of an image and of its mirror image: a lesion has no up or down."""
BATCH = 32


@dataclass(frozen=True)
class Pairs:
    """N images in V views with K wordings each, and the embedding of the empty caption.

    latents: (N, V, T, D) float16, packed and scaled. tokens: (N, K, L, E) float16. pooled: (N, K, P) float16.
    empty_tokens: (L, E). empty_pooled: (P,).
    """

    latents: torch.Tensor
    tokens: torch.Tensor
    pooled: torch.Tensor
    empty_tokens: torch.Tensor
    empty_pooled: torch.Tensor

    def save(self, path: Path) -> None:
        """Write to a safetensors file: to a temporary name first, then renamed."""
        self._save(path, {})

    def _save(self, path: Path, metadata: dict[str, str]) -> None:
        temporary = path.with_suffix(".part")
        save_file({name: tensor.contiguous() for name, tensor in vars(self).items()}, temporary, metadata)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Pairs":
        return cls(**load_file(path))

    @classmethod
    def cached(cls, path: Path, make: Callable[[], "Pairs"], source: str = "") -> "Pairs":
        """Those in the file `path`, made and written first if there is none.

        source: what they are made of. Raises InputError if the file notes another source; one that notes none is
        taken.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            make()._save(path, {"source": source} if source else {})
        with safe_open(path, "pt") as stream:
            noted = (stream.metadata() or {}).get("source", source)
        if noted != source:
            raise InputError(f"{path} was made of {noted}, not of {source}. Start in another folder, or delete it.")
        return cls.load(path)


@torch.inference_mode()
def encode(
    pipe: FluxPipeline,
    images: Iterable[tuple[np.ndarray, list[str]]],
    *,
    max_sequence_length: int,
    views: int = VIEWS,
    encoder: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Pairs:
    """Encode `images`, each (H, H, 3) uint8 RGB at the pipeline's size with its captions, all with as many captions.

    encoder: what gives the latents, where that is not the pipeline's autoencoder.
    """
    encoder = encoder or (
        lambda x: retrieve_latents(pipe.vae.encode(x.to(pipe.vae.device, pipe.vae.dtype)), sample_mode="argmax")
    )
    where = dict(device=pipe.text_encoder.device, max_sequence_length=max_sequence_length)
    embed = lambda captions: [each.half().cpu() for each in pipe.encode_prompt(captions, **where)[:2]]
    latents, tokens, pooled = [], [], []
    rest = iter(tqdm(images, desc="encoding", mininterval=5))
    while some := list(islice(rest, BATCH)):
        latents += [_latents(pipe, encoder, image, views) for image, _ in some]
        captions = [caption for _, several in some for caption in several]
        t, p = embed(captions)
        tokens += t.unflatten(0, (len(some), -1))
        pooled += p.unflatten(0, (len(some), -1))
    empty_tokens, empty_pooled = embed([""])
    return Pairs(torch.stack(latents), torch.stack(tokens), torch.stack(pooled), empty_tokens[0], empty_pooled[0])


def _latents(pipe: FluxPipeline, encoder: Callable, image: np.ndarray, views: int) -> torch.Tensor:
    turned = [np.rot90(image if v < 4 else image[:, ::-1], v % 4) for v in range(views)]
    x = torch.from_numpy(np.stack(turned)).permute(0, 3, 1, 2).float() / 127.5 - 1  # (V, 3, H, W)
    z = (encoder(x) - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    return pipe._pack_latents(z, *z.shape).half().cpu()
