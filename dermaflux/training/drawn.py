"""Latents as a flow draws them: never quite like those of real images, and what a decoder meets in use."""

from pathlib import Path

import torch
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from dermaflux.training.pairs import Pairs

BATCH = 16


@torch.no_grad()
def draw_latents(
    base: Path, lora: Path, pairs: Path, count: int, path: Path, *, steps: int, guidance: float, seed: int = 0
) -> torch.Tensor:
    """Latents (N, C, h, w), as the autoencoder's decoder takes them, that the FluxPipeline at `base` with its `lora`
    draws from captions of `pairs`; kept at `path`, from where they are read the next time."""
    if not path.exists():
        pipe, captions = FluxPipeline.from_pretrained(base, dtype=torch.float32), Pairs.load(pairs)
        pipe.load_lora_weights(lora)
        pipe.set_progress_bar_config(disable=True)
        side, random = pipe.vae.config.sample_size, torch.Generator().manual_seed(seed)
        found = []
        for _ in tqdm(range(-(-count // BATCH)), desc="drawing latents", mininterval=5):
            image, word = (torch.randint(n, (BATCH,), generator=random) for n in captions.tokens.shape[:2])
            packed = pipe(
                prompt_embeds=captions.tokens[image, word].float(),
                pooled_prompt_embeds=captions.pooled[image, word].float(),
                num_inference_steps=steps,
                guidance_scale=guidance,
                height=side,
                width=side,
                generator=random,
                output_type="latent",
            ).images
            latents = pipe._unpack_latents(packed, side, side, pipe.vae_scale_factor)
            found.append(latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        save_file({"latents": torch.cat(found)[:count].contiguous()}, temporary)
        temporary.replace(path)
    return load_file(path)["latents"]
