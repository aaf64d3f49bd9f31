"""Fetch a model, load it as memory allows, and put its LoRA on it."""

import errno
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import FluxPipeline
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import get_token
from safetensors import SafetensorError
from torch import nn

from dermaflux import lora, memory
from dermaflux.errors import ModelUnavailable
from dermaflux.hub import HUB_ERRORS
from dermaflux.models import ModelSpec, weight_files
from dermaflux.single_files import load as load_single_files
from dermaflux.text_models import TextModelSpec

log = logging.getLogger("dermaflux")

PARTS = ("model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors", "LICENSE*")
"""The files of a pipeline; beside them a repository may hold the same weights again in other formats."""
WHOLE = 2**30
"""Files up to this size, bytes, are read whole for their fingerprint; of larger ones, SAMPLES pieces are."""
SAMPLES, PIECE = 64, 2**20


@dataclass(frozen=True)
class Loaded:
    """A pipeline, ready to draw. hash: 16 hex digits that change with its weights; adapter: the LoRA; plan: how it was
    loaded; fused: the strength at which the LoRA is part of the weights, None where it lies beside them."""

    pipe: FluxPipeline
    hash: str
    plan: memory.Plan
    adapter: lora.Attached
    fused: float | None


def load(spec: ModelSpec, device: str, asked: str = memory.AUTO) -> Loaded:
    """The pipeline of `spec` with its LoRA, loaded on `device` as `memory.plan` says. Raises ModelUnavailable."""
    plan = memory.plan(spec, memory.Free.now(device), asked)
    if plan.way.offload and device == "cpu":
        raise ModelUnavailable(f"The memory plan {plan.way.name} needs a graphics card; there is none.")
    folder = fetch(spec)
    log.info("%s, %s. %s", spec.title, spec.licence, plan.sentence)
    try:
        dtype = torch.float32 if plan.way.bits == 32 else torch.bfloat16
        if _is_pipeline(folder):
            pipe = FluxPipeline.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
        else:
            pipe = load_single_files(folder, dtype)
    except ModelUnavailable:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelUnavailable(f"{spec.title} cannot be loaded from {folder}: {first_line(error)}") from error
    pipe.set_progress_bar_config(disable=True)
    adapter, fused = lora.Attached(), None
    if spec.lora:
        adapter = lora.attach(pipe, spec.lora)
        if adapter.warning:
            log.warning("%s", adapter.warning)
    if plan.way.quantised:
        if spec.lora:
            fused = spec.lora.strength
            lora.fuse(pipe, fused)
        for model in (pipe.transformer, pipe.text_encoder_2):
            QUANTISERS[plan.way.bits](model)
    try:
        if plan.way.offload:
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.to(device)
    except torch.OutOfMemoryError as error:
        raise ModelUnavailable(out_of_memory(plan, spec)) from error
    return Loaded(pipe, fingerprint(folder), plan, adapter, fused)


def out_of_memory(plan: memory.Plan, spec: ModelSpec) -> str:
    """What to tell who ran out of the card's memory."""
    less = memory.smaller(plan, spec)
    way = f" Or start with --memory {less.way.name}, which takes about {less.card:.1f} GB." if less else ""
    return f"The graphics card ran out of memory. Draw fewer images at once or a smaller size.{way}"


def fetch(spec: ModelSpec | TextModelSpec, files: Sequence[str] = PARTS) -> Path:
    """The folder of the model of `spec`, its `files` downloaded where they are not there; what was interrupted goes on.

    Raises ModelUnavailable with the reason and the way out.
    """
    path = Path(spec.source)
    if path.is_dir():
        return path
    if path.is_absolute():
        raise ModelUnavailable(f"{spec.title} was not found at {path}. Fetch the repository whole, with its assets.")
    try:
        return Path(snapshot_download(spec.source, allow_patterns=list(files)))
    except HUB_ERRORS as error:
        raise ModelUnavailable(f"{spec.title} could not be downloaded. {_way_out(spec, error)}") from error


def _way_out(spec: ModelSpec | TextModelSpec, error: Exception) -> str:
    page = f"https://huggingface.co/{spec.source}"
    if isinstance(error, GatedRepoError) and not get_token():
        return (
            f"It is gated ({spec.licence}): accept its licence at {page} and set HF_TOKEN to a token of that account."
        )
    if isinstance(error, GatedRepoError):
        return (
            f"It is gated ({spec.licence}), and the account of your token has no access: accept its licence at {page}."
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"There is no such repository at {page}, or your token (HF_TOKEN) may not read it."
    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        return (
            "The Hub cannot be reached: the network is down or switched off (HF_HUB_OFFLINE), or the Hub is in "
            "trouble. Start again later; a download goes on where it stopped."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        size = f" about {spec.weights.total:.0f} GB" if spec.weights else ""
        return f"The disk is full. It needs{size} in the Hub's cache (HF_HOME). Free some and start again: it goes on."
    if isinstance(error, HfHubHTTPError):
        return f"The Hub answered {error.response.status_code}. Check HF_TOKEN and start again; it goes on."
    return f"{first_line(error)} Start again; it goes on where it stopped."


def fingerprint(folder: Path) -> str:
    """16 hex digits that change with the weights: the Hub's commit, or a SHA-256 of a local folder's weights."""
    if folder.parent.name == "snapshots":
        return folder.name[:16]
    digest = hashlib.sha256()
    for _, path in weight_files(folder):
        size = path.stat().st_size
        if size <= WHOLE:
            digest.update(path.read_bytes())
            continue
        digest.update(str(size).encode())
        with path.open("rb") as stream:
            for start in range(0, size, size // SAMPLES):
                stream.seek(start)
                digest.update(stream.read(PIECE))
    return digest.hexdigest()[:16]


def _is_pipeline(folder: Path) -> bool:
    return (folder / "model_index.json").exists()


def first_line(error: Exception) -> str:
    """The first line of what `error` says, or its kind."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def _to_int8(model: nn.Module) -> None:
    """Keep the weights of the linear layers as 8-bit integers with a scale for each row, in place."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(model, Int8WeightOnlyConfig())


def _to_int4(model: nn.Module) -> None:
    """Keep the weights of the linear layers as 4-bit normal floats (Dettmers et al., arXiv 2305.14314), in place."""
    import bitsandbytes as bnb

    exact = getattr(model, "_keep_in_fp32_modules", None) or ()  # T5 casts what goes into these to their weights' type
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Linear and name not in exact:
                dtype = layer.weight.dtype
                small = bnb.nn.Linear4bit(
                    layer.in_features, layer.out_features, compute_dtype=dtype, quant_type="nf4", device="meta"
                )
                small.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
                small.bias = layer.bias
                setattr(parent, name, small)


QUANTISERS = {8: _to_int8, 4: _to_int4}
