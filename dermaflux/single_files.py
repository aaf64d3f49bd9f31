"""A FluxPipeline from the single files that the original FLUX.1 code and the demo of the method's authors keep on disk.

The sizes of the parts are read off the files; what else makes a part FLUX.1's is written here, so that nothing is
downloaded but the two tokenizers, and these only where the folder has none.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from dermaflux.errors import ModelUnavailable
from dermaflux.model_files import SINGLE_FILES, single_files

TOKENIZERS: Mapping[str, str] = {"tokenizer": "openai/clip-vit-large-patch14", "tokenizer_2": "google/t5-v1_1-xxl"}
HEAD = 64
"""Width of an attention head of both text encoders."""
VAE = dict(
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    layers_per_block=2,
    latent_channels=16,
    sample_size=1024,
    scaling_factor=0.3611,
    shift_factor=0.1159,
    use_quant_conv=False,
    use_post_quant_conv=False,
)
SCHEDULE = dict(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)


def load(folder: Path, dtype: torch.dtype) -> FluxPipeline:
    """The pipeline whose parts are in `folder`. Raises ModelUnavailable, naming files that are missing."""
    found = single_files(folder)
    missing = [pattern for part, pattern in SINGLE_FILES.items() if part not in found]
    if missing:
        raise ModelUnavailable(f"{folder} lacks {' and '.join(missing)}, which FLUX.1 needs beside what is there.")
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULE),
        vae=_vae(found["vae"], dtype),
        text_encoder=_clip(found["text_encoder"], dtype),
        tokenizer=_tokenizer(folder, "tokenizer"),
        text_encoder_2=_t5(found["text_encoder_2"], dtype),
        tokenizer_2=_tokenizer(folder, "tokenizer_2"),
        transformer=_transformer(found["transformer"], dtype),
    )


def _transformer(path: Path, dtype: torch.dtype) -> FluxTransformer2DModel:
    shapes = _shapes(path)
    config = dict(
        num_layers=_count(shapes, r"double_blocks\.(\d+)\."),
        num_single_layers=_count(shapes, r"single_blocks\.(\d+)\."),
        guidance_embeds=any("guidance_in." in name for name in shapes),
    )
    with _config(FluxTransformer2DModel, config) as folder:
        return FluxTransformer2DModel.from_single_file(str(path), config=folder, torch_dtype=dtype)


def _vae(path: Path, dtype: torch.dtype) -> AutoencoderKL:
    first = _shapes(path)["encoder.conv_in.weight"][0]
    with _config(AutoencoderKL, VAE | dict(block_out_channels=(first, 2 * first, 4 * first, 4 * first))) as folder:
        return AutoencoderKL.from_single_file(str(path), config=folder, torch_dtype=dtype)


def _clip(path: Path, dtype: torch.dtype) -> CLIPTextModel:
    tensors = load_file(path)
    tokens, width = tensors["text_model.embeddings.token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=len(tensors["text_model.encoder.layers.0.mlp.fc1.weight"]),
        num_hidden_layers=_count(tensors, r"layers\.(\d+)\."),
        num_attention_heads=width // HEAD,
        max_position_embeddings=len(tensors["text_model.embeddings.position_embedding.weight"]),
        projection_dim=width,
        bos_token_id=tokens - 2,
        eos_token_id=2,  # as in the original's configuration: the end is the token of the highest number
        pad_token_id=1,
    )
    return CLIPTextModel.from_pretrained(None, config=config, state_dict=tensors, dtype=dtype)


def _t5(path: Path, dtype: torch.dtype) -> T5EncoderModel:
    tensors = load_file(path)
    tokens, width = tensors["shared.weight"].shape
    config = T5Config(
        vocab_size=tokens,
        d_model=width,
        d_kv=HEAD,
        d_ff=len(tensors["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"]),
        num_layers=_count(tensors, r"block\.(\d+)\."),
        num_heads=len(tensors["encoder.block.0.layer.0.SelfAttention.q.weight"]) // HEAD,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    return T5EncoderModel.from_pretrained(None, config=config, state_dict=tensors, dtype=dtype)


def _tokenizer(folder: Path, name: str):
    local = next(iter(sorted(path for path in folder.rglob(name) if path.is_dir())), None)
    try:
        return AutoTokenizer.from_pretrained(local or TOKENIZERS[name])
    except OSError as error:
        raise ModelUnavailable(
            f"The tokenizer {TOKENIZERS[name]} could not be downloaded. Put its files into {folder / name}."
        ) from error


def _shapes(path: Path) -> dict[str, list[int]]:
    with safe_open(path, "pt") as stream:
        return {name: stream.get_slice(name).get_shape() for name in stream.keys()}  # noqa: SIM118


def _count(names: Mapping[str, object], pattern: str) -> int:
    """How many numbers from 0 on the names count in the place of the group of `pattern`."""
    return 1 + max((int(found[1]) for name in names if (found := re.search(pattern, name))), default=-1)


@contextmanager
def _config(model: type, values: dict[str, object]) -> Iterator[str]:
    """A folder with the configuration of `model`, which diffusers takes from a folder only."""
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps({"_class_name": model.__name__} | values)
        Path(folder, "config.json").write_text(text, encoding="utf-8")
        yield folder
