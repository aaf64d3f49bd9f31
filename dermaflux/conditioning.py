"""What the captions of a batch tell a transformer of FLUX.1: to each image the same, in bits, as if it were alone.

A matrix product may round a row differently beside others. Of an image's tokens there are always many rows; of a
caption's pooled embedding, and of what is made of it, there is one, and these are computed one at a time.
"""

from collections.abc import Sequence
from functools import partial

import torch
from diffusers import FluxPipeline
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero, AdaLayerNormZeroSingle
from torch import nn

Prompt = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Token embeddings (B, L, D), pooled embeddings (B, P) and token positions (L, 3) of B captions, or one for all."""


def joined(prompts: Sequence[Prompt]) -> Prompt:
    """Those of the captions of a batch, each a Prompt of one; of one caption for all images, that one."""
    first = prompts[0]
    if all(prompt is first for prompt in prompts):
        return first
    tokens, pooled, positions = zip(*prompts, strict=True)
    return torch.cat(tokens), torch.cat(pooled), positions[0]


def row_by_row(transformer: nn.Module) -> None:
    """Let `transformer` compute what depends on the pooled embedding alone one caption at a time."""
    transformer.time_text_embed.forward = _each_caption(transformer.time_text_embed.forward)
    for module in transformer.modules():
        if isinstance(module, (AdaLayerNormZero, AdaLayerNormZeroSingle, AdaLayerNormContinuous)):
            module.forward = partial(_modulated, module)


def velocity_of(pipe: FluxPipeline, x: torch.Tensor, t: torch.Tensor, prompt: Prompt, guidance: float) -> torch.Tensor:
    """The velocity (B, T, D) of images `x` (B, T, D) at the time `t` of the schedule, by their captions `prompt`."""
    tokens, pooled, text_ids = prompt
    side, transformer = int(x.shape[1] ** 0.5), pipe.transformer
    scale = torch.full([1], guidance, device=x.device) if transformer.config.guidance_embeds else None
    return transformer(
        hidden_states=x,
        timestep=t.expand(1).to(x.dtype) / 1000,
        guidance=scale,
        pooled_projections=pooled,
        encoder_hidden_states=tokens.expand(len(x), -1, -1),
        txt_ids=text_ids,
        img_ids=pipe._prepare_latent_image_ids(1, side, side, x.device, x.dtype),
        return_dict=False,
    )[0]


def _each_caption(forward):
    def embed(*given: torch.Tensor) -> torch.Tensor:
        *times, pooled = given
        return torch.cat([forward(*times, row) for row in pooled.split(1)])

    return embed


def _modulated(module: nn.Module, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """What the adaptive layer norm `module` of diffusers makes of images `x` (B, T, D), each by its row of `emb` (B or
    1, E); only its product is taken row by row."""
    told = torch.cat([module.linear(module.silu(row).to(x.dtype)) for row in emb.split(1)])
    shift, scale, *rest = told.chunk(told.shape[1] // x.shape[-1], dim=1)
    if isinstance(module, AdaLayerNormContinuous):
        shift, scale = scale, shift
    x = module.norm(x) * (1 + scale[:, None]) + shift[:, None]
    return (x, *rest) if rest else x
