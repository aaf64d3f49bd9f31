"""The recipe of the embedded models: which data each stage sees, and how the parts become a FluxPipeline folder."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from dermaflux import appearance, phantom
from dermaflux.caption import caption
from dermaflux.data import manifest
from dermaflux.lesion import DIAGNOSES, LesionAttributes
from dermaflux.models import MODELS
from dermaflux.training import flow, lora, text
from dermaflux.training.flow import FlowOptions
from dermaflux.training.lora import LoraOptions
from dermaflux.training.pairs import Pairs, encode

SPEC = MODELS["nano"]
TRANSFORMER = dict(
    patch_size=1,
    in_channels=64,
    num_layers=2,
    num_single_layers=4,
    attention_head_dim=64,
    num_attention_heads=4,
    joint_attention_dim=text.WIDTH,
    pooled_projection_dim=text.WIDTH,
    guidance_embeds=True,
    axes_dims_rope=(8, 28, 28),
)
WORDINGS = 4


def train_base(autoencoder: Path, texts: Path, out: Path, count: int, options: FlowOptions) -> None:
    """Train the base on `count` phantoms; writes the FluxPipeline folder `out/pipeline`.

    autoencoder: the AutoencoderKL's folder. texts: the folder of tokenizers and text encoders.
    """
    torch.manual_seed(options.seed)
    pipe = assemble(autoencoder, texts, FluxTransformer2DModel(**TRANSFORMER))
    pairs = _cached(out / "pairs.safetensors", pipe, phantom_images(count, options.seed), views=2)
    flow.train(pipe.transformer, pairs, out, options)
    pipe.transformer.to(torch.bfloat16)
    pipe.save_pretrained(out / "pipeline")


def train_lora(base: Path, manifests: list[Path], out: Path, options: LoraOptions) -> None:
    """Train the LoRA for the pipeline at `base` on the train split of `manifests`; writes `out/lora`."""
    pipe = FluxPipeline.from_pretrained(base, torch_dtype=torch.float32)
    pairs = _cached(out / "pairs.safetensors", pipe, real_images(manifests, options.flow.seed))
    lora.train(pipe, pairs, out, options)


def assemble(autoencoder: Path, texts: Path, transformer: FluxTransformer2DModel) -> FluxPipeline:
    """A FluxPipeline from its trained parts, with the scheduler of FLUX.1-dev."""
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
        shift=3.0,
    )
    return FluxPipeline(
        scheduler=scheduler,
        vae=AutoencoderKL.from_pretrained(autoencoder),
        text_encoder=CLIPTextModel.from_pretrained(texts / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(texts / "tokenizer"),
        text_encoder_2=T5EncoderModel.from_pretrained(texts / "text_encoder_2"),
        tokenizer_2=T5TokenizerFast.from_pretrained(texts / "tokenizer_2"),
        transformer=transformer,
    )


def phantom_images(count: int, seed: int) -> Iterator[tuple[np.ndarray, list[str]]]:
    """`count` phantoms with captions; label and diagnosis are drawn with their attributes and have no look."""
    for i in range(count):
        drawn = phantom.draw(phantom.random_attributes(seed * 1_000_003 + i), seed=i, size=SPEC.size)
        yield drawn.image, wordings(drawn.attributes, i)


def real_images(manifests: list[Path], seed: int) -> Iterator[tuple[np.ndarray, list[str]]]:
    """The train split with captions from measured appearance and known label and diagnosis."""
    rows = [row for path in manifests for row in manifest.read(path, "train")]
    for i, row in enumerate(rows):
        with Image.open(row.path) as image:
            rgb = image.convert("RGB")
        measured = appearance.measure(rgb)
        seen = measured.attributes() if measured.found else LesionAttributes()
        diagnosis = row.values.get("diagnosis")
        known = replace(seen, label=row.label, diagnosis=diagnosis if diagnosis in DIAGNOSES else None)
        yield np.asarray(rgb.resize((SPEC.size, SPEC.size), Image.Resampling.LANCZOS)), wordings(known, seed + i)


def wordings(attributes: LesionAttributes, seed: int) -> list[str]:
    """Captions of the honoured part of `attributes`; from half of them some attributes are left out."""
    rng = random.Random(seed)
    empty = LesionAttributes()
    honoured = replace(
        attributes, **{name: getattr(empty, name) for name in attributes.specified() if name not in SPEC.honours}
    )
    shares = (0.0, 0.0, 0.15, 0.5)
    return [caption(text.drop(honoured, rng, shares[k % 4]), rng.randrange(2**31)) for k in range(WORDINGS)]


@torch.inference_mode()
def fit_previews(pipe: FluxPipeline, pairs: Pairs, path: Path, patch: int = 4) -> None:
    """Fit the linear map from a latent to a patch of RGB on 256 decoded images of `pairs`; writes safetensors."""
    chosen = torch.randperm(len(pairs.latents), generator=torch.Generator().manual_seed(0))[:256]
    latents = pipe._unpack_latents(pairs.latents[chosen, 0].float(), SPEC.size, SPEC.size, pipe.vae_scale_factor)
    scaled = latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    pixels = torch.cat([pipe.vae.decode(z).sample for z in scaled.split(16)]).clamp(-1, 1) / 2 + 0.5
    small = F.pixel_unshuffle(F.interpolate(pixels, size=latents.shape[-1] * patch, mode="area"), patch)
    x = F.pad(latents.movedim(1, -1).reshape(-1, latents.shape[1]), (0, 1), value=1.0)  # (N h w, C + 1)
    y = small.movedim(1, -1).reshape(len(x), -1)  # (N h w, 3 p p)
    solution = torch.linalg.lstsq(x, y).solution
    save_file({"weight": solution[:-1].T.contiguous(), "bias": solution[-1].contiguous()}, path)


def _cached(path: Path, pipe: FluxPipeline, images, views: int = 8) -> Pairs:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        encode(pipe, images, max_sequence_length=SPEC.max_sequence_length, views=views).save(path)
    return Pairs.load(path)
