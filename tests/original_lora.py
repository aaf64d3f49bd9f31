"""LoRAs in the names of the original FLUX.1 code, and what they do to weights, merged by hand."""

from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from dermaflux.models import LoraSpec

DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
}
SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}
EMBEDDERS = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
}
LAYERS = (
    {
        f"double_blocks.0.{name}": [f"transformer_blocks.0.{layer}" for layer in layers]
        for name, layers in DOUBLE.items()
    }
    | {
        f"single_blocks.0.{name}": [f"single_transformer_blocks.0.{layer}" for layer in layers]
        for name, layers in SINGLE.items()
    }
    | EMBEDDERS
)
"""The layers of the original in a transformer of one double and one single block, and those of diffusers."""

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]


def pairs(transformer: FluxTransformer2DModel, rank: int, size: float = 0.1) -> Pairs:
    """Random down (rank, in) and up (out, rank) for every layer of the original."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name, layers in LAYERS.items():
        modules = [transformer.get_submodule(layer) for layer in layers]
        rows, columns = sum(module.out_features for module in modules), modules[0].in_features
        found[name] = tuple(torch.randn(shape, generator=generator) * size for shape in ((rank, columns), (rows, rank)))
    return found


def encoder_pairs(model: torch.nn.Module, rank: int, size: float = 0.1) -> Pairs:
    """Random pairs for every linear layer of a text encoder, by the names of its layers."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return {
        name: (torch.randn(rank, module.in_features) * size, torch.randn(module.out_features, rank) * size)
        for name, module in linear.items()
    }


def kohya(some: Pairs, prefix: str, alpha: float) -> dict[str, torch.Tensor]:
    """The pairs as sd-scripts names them."""
    tensors = {}
    for name, (down, up) in some.items():
        key = prefix + name.replace(".", "_")
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(alpha)}
    return tensors


@torch.no_grad()
def merge(transformer: FluxTransformer2DModel, some: Pairs, scale: float) -> None:
    """Add scale * up @ down to the weights of `transformer`, layer by layer."""
    for name, (down, up) in some.items():
        change = scale * up @ down
        if name == "final_layer.adaLN_modulation.1":
            shift, factor = change.chunk(2)
            change = torch.cat([factor, shift])
        start = 0
        for layer in LAYERS[name]:
            weight = transformer.get_submodule(layer).weight
            weight += change[start : start + len(weight)]
            start += len(weight)
        assert start == len(change)


@torch.no_grad()
def merge_encoder(model: torch.nn.Module, some: Pairs, scale: float) -> None:
    for name, (down, up) in some.items():
        model.get_submodule(name).weight += scale * up @ down


def dotted(some: Pairs) -> dict[str, torch.Tensor]:
    """The pairs by the original names."""
    return {
        f"diffusion_model.{name}.lora_{half}.weight": tensor
        for name, pair in some.items()
        for half, tensor in zip("AB", pair, strict=True)
    }


def written(folder: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> LoraSpec:
    """The LoRA in a file with `tensors`."""
    path = folder / "some.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return LoraSpec("some", "Some LoRA", str(path), "none")


@torch.inference_mode()
def velocity(transformer) -> torch.Tensor:
    """What a transformer answers to inputs that are always the same."""
    config, generator = transformer.config, torch.Generator().manual_seed(0)
    random = lambda *shape: torch.randn(shape, generator=generator)
    ids = torch.zeros(4, 3)
    ids[:, 1] = torch.arange(4)
    return transformer(
        hidden_states=random(1, 4, config.in_channels),
        encoder_hidden_states=random(1, 3, config.joint_attention_dim),
        pooled_projections=random(1, config.pooled_projection_dim),
        timestep=torch.tensor([0.4]),
        guidance=torch.tensor([3.0]),
        img_ids=ids,
        txt_ids=torch.zeros(3, 3),
    ).sample
