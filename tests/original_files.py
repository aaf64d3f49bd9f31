"""The parts of a FluxPipeline as the original FLUX.1 code keeps them: single files with names of its own."""

import re
from pathlib import Path

import original_lora
import tiny
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from dermaflux import single_files
from dermaflux.training.text import CLIP_LENGTH

NORMS = {
    "double_blocks.0.img_attn.norm.query_norm.scale": "transformer_blocks.0.attn.norm_q.weight",
    "double_blocks.0.img_attn.norm.key_norm.scale": "transformer_blocks.0.attn.norm_k.weight",
    "double_blocks.0.txt_attn.norm.query_norm.scale": "transformer_blocks.0.attn.norm_added_q.weight",
    "double_blocks.0.txt_attn.norm.key_norm.scale": "transformer_blocks.0.attn.norm_added_k.weight",
    "single_blocks.0.norm.query_norm.scale": "single_transformer_blocks.0.attn.norm_q.weight",
    "single_blocks.0.norm.key_norm.scale": "single_transformer_blocks.0.attn.norm_k.weight",
}
VAE = (
    (r"(encoder)\.down_blocks\.(\d)\.resnets", r"\1.down.\2.block"),
    (r"(encoder)\.down_blocks\.(\d)\.downsamplers\.0", r"\1.down.\2.downsample"),
    (r"decoder\.up_blocks\.(\d)", lambda found: f"decoder.up.{3 - int(found[1])}"),
    (r"\.resnets\.", ".block."),
    (r"\.upsamplers\.0", ".upsample"),
    (r"mid_block\.block\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    (r"mid_block\.attentions\.0\.to_(\w)", r"mid.attn_1.\1"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
)


def pipeline() -> FluxPipeline:
    """A FluxPipeline of FLUX.1's widths with one block of each kind, of random weights."""
    small = tiny.pipeline()
    torch.manual_seed(0)
    clip = CLIPTextConfig(
        vocab_size=len(small.tokenizer), hidden_size=768, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=12, projection_dim=768, max_position_embeddings=CLIP_LENGTH,
        bos_token_id=len(small.tokenizer) - 2, eos_token_id=2,
    )  # fmt: skip
    t5 = T5Config(
        vocab_size=len(small.tokenizer_2), d_model=4096, d_kv=64, d_ff=64, num_heads=1, num_layers=1,
        feed_forward_proj="gated-gelu", dropout_rate=0.0,
    )  # fmt: skip
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**single_files.SCHEDULE),
        vae=AutoencoderKL(**single_files.VAE, block_out_channels=(32, 64, 128, 128)),
        text_encoder=CLIPTextModel(clip),
        tokenizer=small.tokenizer,
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=small.tokenizer_2,
        transformer=FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True),
    )


def write(pipe: FluxPipeline, folder: Path) -> None:
    """Write the parts of `pipe` to the folders and files that the authors' demo has, with tokenizers beside them."""
    for part in ("flux", "flux_text_encoders"):
        (folder / part).mkdir(parents=True)
    save_file(_transformer(pipe.transformer), folder / "flux" / "flux1-dev.safetensors")
    save_file(_vae(pipe.vae), folder / "flux" / "ae.safetensors")
    clip = {f"text_model.{name}": tensor for name, tensor in pipe.text_encoder.state_dict().items()}
    save_file(clip, folder / "flux_text_encoders" / "clip_l.safetensors")
    t5 = {name: tensor for name, tensor in pipe.text_encoder_2.state_dict().items() if "embed_tokens" not in name}
    save_file(t5, folder / "flux_text_encoders" / "t5xxl_fp16.safetensors")
    pipe.tokenizer.save_pretrained(folder / "tokenizer")
    pipe.tokenizer_2.save_pretrained(folder / "tokenizer_2")


def _transformer(model: FluxTransformer2DModel) -> dict[str, torch.Tensor]:
    weights = model.state_dict()
    tensors = {name: weights[diffusers] for name, diffusers in NORMS.items()}
    for name, layers in original_lora.LAYERS.items():
        for kind in ("weight", "bias"):
            value = torch.cat([weights[f"{layer}.{kind}"] for layer in layers])
            if name == "final_layer.adaLN_modulation.1":
                value = torch.cat(value.chunk(2)[::-1])
            tensors[f"{name}.{kind}"] = value
    assert sum(value.numel() for value in tensors.values()) == sum(value.numel() for value in weights.values())
    return tensors


def _vae(model: AutoencoderKL) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, value in model.state_dict().items():
        for pattern, original in VAE:
            name = re.sub(pattern, original, name)
        convolution = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name)
        tensors[name] = value[:, :, None, None] if convolution else value
    return {name: value.contiguous() for name, value in tensors.items()}
