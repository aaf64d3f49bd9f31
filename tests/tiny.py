"""A FluxPipeline folder of the same classes as the embedded model, of random weights and seconds to build."""

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from dermaflux.caption import caption
from dermaflux.generator import Generator
from dermaflux.lesion import plausible
from dermaflux.models import MODELS, LoraSpec, ModelSpec
from dermaflux.slot import Choice, GeneratorSlot
from dermaflux.training.text import CLIP_LENGTH, make_tokenizers

WIDTH = 32
SIZE = 64
LATENT_CHANNELS = 16


def spec(folder: Path) -> ModelSpec:
    """The embedded spec, pointed at the parts that `build` wrote to `folder`; it follows the flow alone,
    guided at every level, its first candidate is kept, and nothing is filtered."""
    return replace(
        MODELS["nano"],
        name="tiny",
        title="Tiny (random weights)",
        source=str(folder / "pipeline"),
        sizes=(SIZE, 2 * SIZE),
        size=SIZE,
        steps=4,
        guidance_below=1.0,
        eta=0.0,
        candidates=1,
        postfilter=0.0,
        lora=LoraSpec("tiny-lora", "Tiny LoRA", str(folder / "lora"), "Apache-2.0"),
        previews=str(folder / "previews.safetensors"),
    )


def build(folder: Path) -> Path:
    """Write `folder/pipeline`, `folder/lora` and `folder/previews.safetensors`; returns `folder`."""
    torch.manual_seed(0)
    pipe = pipeline()
    pipe.save_pretrained(folder / "pipeline")
    _save_lora(pipe.transformer, folder / "lora")
    patch = 4
    shapes = {"weight": (3 * patch**2, LATENT_CHANNELS, 3, 3), "bias": (3 * patch**2,)}
    save_file({name: torch.rand(shape) / 20 for name, shape in shapes.items()}, folder / "previews.safetensors")
    return folder


def pipeline() -> FluxPipeline:
    """A FluxPipeline of random weights whose images change with caption, guidance and seed."""
    captions = [caption(plausible(seed), seed) for seed in range(200)]
    clip_tokenizer, t5_tokenizer = make_tokenizers(captions)
    clip = CLIPTextConfig(
        vocab_size=len(clip_tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=CLIP_LENGTH,
        bos_token_id=clip_tokenizer.bos_token_id,
        eos_token_id=clip_tokenizer.eos_token_id,
        pad_token_id=clip_tokenizer.pad_token_id,
    )
    t5 = T5Config(
        vocab_size=len(t5_tokenizer), d_model=WIDTH, d_kv=16, d_ff=WIDTH, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
        ),
        vae=_autoencoder(),
        text_encoder=CLIPTextModel(clip),
        tokenizer=clip_tokenizer,
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=t5_tokenizer,
        transformer=_transformer(),
    )


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=SIZE,
        scaling_factor=0.7,
        shift_factor=0.1,
    )


def _transformer(latent_channels: int = LATENT_CHANNELS) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * latent_channels,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )


def _save_lora(transformer: FluxTransformer2DModel, folder: Path) -> None:
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["attn.to_q", "attn.to_v"], init_lora_weights=False)
    transformer.add_adapter(config)
    FluxPipeline.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata=config.to_dict(),
    )


def slot(generator: Generator) -> GeneratorSlot:
    """A slot that holds `generator` and nothing else."""
    return GeneratorSlot(Choice(generator.spec), lambda choice: generator)
