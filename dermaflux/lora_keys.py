"""The names that LoRA files give to the layers of a Flux pipeline, as data.

Files come from diffusers and peft, kohya's sd-scripts, XLabs' trainer, and tools that keep the names of the original
FLUX.1 code. With dots and underscores made equal, a layer's name is either that of diffusers or one of NATIVE.
"""

import re
from collections.abc import Mapping

PREFIXES: Mapping[str, str] = {
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_2",
    "text_encoders.clip_l.transformer.": "text_encoder",
    "text_encoders.t5xxl.transformer.": "text_encoder_2",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "lora_unet_": "transformer",
    "lora_transformer_": "transformer",
    "lycoris_": "transformer",
    "base_model.model.": "transformer",
    "model.diffusion_model.": "transformer",
    "diffusion_model.": "transformer",
    "transformer.": "transformer",
    "": "transformer",
}
"""What a key begins with, and the component of the pipeline that it is about; the first that fits counts."""

SUFFIXES: Mapping[str, str] = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".down.weight": "down",
    ".up.weight": "up",
    ".alpha": "alpha",
}
"""What a key ends with, and what the tensor is: down (rank, in), up (out, rank), or the scale alpha of a pair."""

_QKV = "attn.to_q attn.to_k attn.to_v"
_DOUBLE, _SINGLE, _EMBED = "transformer_blocks", "single_transformer_blocks", "time_text_embed"
NATIVE: Mapping[str, str] = {
    r"double_blocks_(\d+)_img_attn_qkv": rf"{_DOUBLE}.\1: {_QKV}",
    r"double_blocks_(\d+)_txt_attn_qkv": rf"{_DOUBLE}.\1: attn.add_q_proj attn.add_k_proj attn.add_v_proj",
    r"double_blocks_(\d+)_img_attn_proj": rf"{_DOUBLE}.\1: attn.to_out.0",
    r"double_blocks_(\d+)_txt_attn_proj": rf"{_DOUBLE}.\1: attn.to_add_out",
    r"double_blocks_(\d+)_img_mlp_0": rf"{_DOUBLE}.\1: ff.net.0.proj",
    r"double_blocks_(\d+)_img_mlp_2": rf"{_DOUBLE}.\1: ff.net.2",
    r"double_blocks_(\d+)_txt_mlp_0": rf"{_DOUBLE}.\1: ff_context.net.0.proj",
    r"double_blocks_(\d+)_txt_mlp_2": rf"{_DOUBLE}.\1: ff_context.net.2",
    r"double_blocks_(\d+)_img_mod_lin": rf"{_DOUBLE}.\1: norm1.linear",
    r"double_blocks_(\d+)_txt_mod_lin": rf"{_DOUBLE}.\1: norm1_context.linear",
    r"double_blocks_(\d+)_processor_qkv_lora1": rf"{_DOUBLE}.\1: {_QKV}",
    r"double_blocks_(\d+)_processor_qkv_lora2": rf"{_DOUBLE}.\1: attn.add_q_proj attn.add_k_proj attn.add_v_proj",
    r"double_blocks_(\d+)_processor_proj_lora1": rf"{_DOUBLE}.\1: attn.to_out.0",
    r"double_blocks_(\d+)_processor_proj_lora2": rf"{_DOUBLE}.\1: attn.to_add_out",
    r"single_blocks_(\d+)_linear1": rf"{_SINGLE}.\1: {_QKV} proj_mlp",
    r"single_blocks_(\d+)_linear2": rf"{_SINGLE}.\1: proj_out",
    r"single_blocks_(\d+)_modulation_lin": rf"{_SINGLE}.\1: norm.linear",
    r"single_blocks_(\d+)_processor_qkv_lora": rf"{_SINGLE}.\1: {_QKV}",
    r"single_blocks_(\d+)_processor_proj_lora": rf"{_SINGLE}.\1: proj_out",
    r"time_in_in_layer": f"{_EMBED}: timestep_embedder.linear_1",
    r"time_in_out_layer": f"{_EMBED}: timestep_embedder.linear_2",
    r"guidance_in_in_layer": f"{_EMBED}: guidance_embedder.linear_1",
    r"guidance_in_out_layer": f"{_EMBED}: guidance_embedder.linear_2",
    r"vector_in_in_layer": f"{_EMBED}: text_embedder.linear_1",
    r"vector_in_out_layer": f"{_EMBED}: text_embedder.linear_2",
    r"img_in": ": x_embedder",
    r"txt_in": ": context_embedder",
    r"final_layer_linear": ": proj_out",
    r"final_layer_adaLN_modulation_1": ": norm_out.linear",
}
"""The original names, and those of diffusers as `parent: children`: the rows of a layer of the original go to its
children in this order."""

SWAPPED = "final_layer_adaLN_modulation_1"
"""Where the original has shift before scale, and diffusers scale before shift."""

OTHERS: Mapping[str, str] = {
    r"lora_unet_(down|up|mid|input|output|middle)_block|^unet\.|lora_te_text_model": "Stable Diffusion or SDXL",
    r"lora_te2_text_model|text_encoder_2\.text_model": "SDXL or Stable Diffusion 3",
    r"double_stream_modulation|single_stream_modulation|to_qkv_mlp_proj": "FLUX.2",
    r"joint_blocks|joint_transformer": "Stable Diffusion 3",
    r"img_mod\.1|add_q_proj.*img_mlp|img_mlp\.net": "Qwen-Image",
    r"cross_attn|blocks_\d+_ffn|blocks\.\d+\.ffn": "Wan",
    r"noise_refiner|context_refiner": "Z-Image or Lumina",
}
"""Signs of LoRAs that were made for other models."""

WIDTHS: Mapping[int, str] = {6144: "FLUX.2"}
"""The width of what goes into a layer, where a model with names like those of FLUX.1 is known by it."""

VARIANTS: Mapping[str, str] = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "use_dora": "DoRA",
    "use_rslora": "rank-stabilised LoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
}
"""Signs of adapters that are more than a product of two matrices, or scaled otherwise."""


def native(name: str) -> tuple[str, ...]:
    """The names in diffusers of the layers that `name`, of the original code, stands for; none if it is unknown."""
    for pattern, layers in NATIVE.items():
        if found := re.fullmatch(pattern, name):
            parent, children = found.expand(layers).split(": ")
            return tuple(f"{parent}.{child}".lstrip(".") for child in children.split())
    return ()


def made_for(keys: list[str]) -> str:
    """The model that a LoRA with these keys was made for, as far as they tell; empty if they do not."""
    for pattern, model in OTHERS.items():
        if any(re.search(pattern, key) for key in keys):
            return model
    return ""
