"""Write a LoRA in the format of kohya's sd-scripts, which names layers as the original FLUX.1 code does.

Where the original has one layer for several of diffusers, such as queries, keys and values, their pairs become one:
the downs below one another, the ups along a diagonal.
"""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from dermaflux.lora_keys import NATIVE, SWAPPED, native

Pairs = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
"""By the name of a layer in diffusers: down (rank, in) and up (out, rank)."""


def to_kohya(pairs: Pairs, scale: float, transformer: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of the file for `pairs` of `transformer`, each adding scale * up @ down to its layer.

    Raises ValueError for a layer that the original code does not have.
    """
    tensors, left = {}, set(pairs)
    for name, layers in _originals(pairs):
        rows = {layer: transformer.get_submodule(layer).out_features for layer in layers}
        downs = torch.cat([pairs[layer][0] for layer in layers if layer in pairs])
        blocks = [pairs[layer][1] if layer in pairs else torch.zeros(rows[layer], 0) for layer in layers]
        up = torch.block_diag(*(block.float() for block in blocks)).to(downs.dtype)
        if name == SWAPPED:
            up = torch.cat(up.chunk(2)[::-1])
        key = f"lora_unet_{name}"
        tensors[f"{key}.lora_down.weight"] = downs.contiguous()
        tensors[f"{key}.lora_up.weight"] = up.contiguous()
        tensors[f"{key}.alpha"] = torch.tensor(scale * len(downs))
        left -= set(layers)
    if left:
        raise ValueError(f"The original FLUX.1 code has no layer for {', '.join(sorted(left))}.")
    return tensors


def _originals(pairs: Pairs) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The original names of which `pairs` holds a layer, with all the layers of diffusers that they stand for."""
    blocks = sorted({int(number) for name in pairs for number in re.findall(r"blocks\.(\d+)\.", name)})
    for pattern in NATIVE:
        if "processor" in pattern:  # XLabs' names
            continue
        for name in dict.fromkeys(pattern.replace(r"(\d+)", str(block)) for block in blocks or [0]):
            layers = native(name)
            if any(layer in pairs for layer in layers):
                yield name, layers
