"""Fetch a model, load it as memory allows, and put its LoRA on it."""

import hashlib
import logging
import subprocess
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import FluxPipeline
from safetensors import SafetensorError
from torch import nn

from dermaflux import lora, memory, noise_predictor  # noqa: F401  diffusers takes classes of imported modules alone
from dermaflux.errors import ModelUnavailable, first_line
from dermaflux.hub import fetch, fetch_tiny_decoder
from dermaflux.model_files import weight_files
from dermaflux.models import ModelSpec
from dermaflux.single_files import load as load_single_files

log = logging.getLogger("dermaflux")

WHOLE = 2**30
"""Files up to this size, bytes, are read whole for their fingerprint; of larger ones, SAMPLES pieces are."""
SAMPLES, PIECE = 64, 2**20
COMPILING = (
    "The model's blocks are compiled at the first image of each size, which takes a minute or more longer; the next "
    "take less."
)


@dataclass(frozen=True)
class Loaded:
    """A pipeline, ready to draw. hash: 16 hex digits that change with its weights; adapter: the LoRA; plan: how it was
    loaded; device: where it draws; fused: the strength at which the LoRA is part of the weights, None where it lies
    beside them; compiled: whether the transformer's blocks are compiled as they are first used."""

    pipe: FluxPipeline
    hash: str
    plan: memory.Plan
    device: str
    adapter: lora.Attached
    fused: float | None
    compiled: bool = False

    @property
    def arithmetic(self) -> str:
        """What decides on pixels beside weights and recipe, such as `bf16 on cuda, compiled`."""
        weights = self.plan.way.name.removesuffix("-offload")
        return f"{weights} on {self.device.partition(':')[0]}{', compiled' if self.compiled else ''}"


def load(spec: ModelSpec, device: str, asked: str = memory.AUTO, compiled: bool = False) -> Loaded:
    """The pipeline of `spec` with its LoRA, loaded on `device` as `memory.plan` says. Raises ModelUnavailable.

    compiled: its transformer's blocks are compiled when they are first used, and again for another size, number of
    images or LoRA.
    """
    if compiled:
        _check_compiler(device)
    plan = memory.plan(spec, memory.Free.now(device), asked)
    folder = fetch(spec)
    fetch_tiny_decoder(spec)
    log.info("%s, %s. %s", spec.title, spec.licence, plan.sentence)
    try:
        dtype = torch.float32 if plan.way.bits == 32 else torch.bfloat16
        if _is_pipeline(folder):
            with _any_autoencoder():
                pipe = FluxPipeline.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
        else:
            pipe = load_single_files(folder, dtype)
    except ModelUnavailable:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        said = f"{spec.title} cannot be loaded from {folder}: {first_line(error).rstrip('.')}. {_mend(folder)}"
        raise ModelUnavailable(said) from error
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
        if torch.device(device).type == "cpu":
            pipe.vae.to(memory_format=torch.channels_last)  # half as fast again there
    except torch.OutOfMemoryError as error:
        let_go(error)
        raise ModelUnavailable(out_of_memory(plan, spec)) from error
    if compiled:
        log.info("%s", COMPILING)
        pipe.transformer.compile_repeated_blocks()  # fullgraph would rule out the first-block cache
    return Loaded(pipe, fingerprint(folder), plan, str(device), adapter, fused, compiled)


def out_of_memory(plan: memory.Plan, spec: ModelSpec) -> str:
    """What to tell who ran out of the card's memory."""
    less = memory.smaller(plan, spec)
    way = (
        f" Or load the model anew with --memory {less.way.name}, or this way of keeping weights in the menu Model, "
        f"which takes about {less.card:.1f} GB."
        if less
        else ""
    )
    return f"The graphics card ran out of memory. Draw fewer images at once or a smaller size.{way}"


def let_go(error: Exception) -> None:
    """Give the card's memory back after `error`, whose traceback holds on to what was being computed."""
    traceback.clear_frames(error.__traceback__)
    torch.cuda.empty_cache()


def not_compiled(error: RuntimeError) -> ModelUnavailable | None:
    """What to tell where `error` is the compiler's; None for any other."""
    from torch._dynamo.exc import TorchDynamoException

    if not isinstance(error, TorchDynamoException):
        return None
    return ModelUnavailable(f"The model could not be compiled: {first_line(error)}. Start again without --compile.")


def _mend(folder: Path) -> str:
    """What to do about a model in `folder` that cannot be loaded."""
    fault = "A file may be missing, cut short or of another format than safetensors: "
    if folder.parent.name == "snapshots":  # of the Hub's cache, where its files are links to those beside it
        return f"{fault}delete {folder.parents[1]} and start again, so that it is fetched anew."
    return f"{fault}copy the model there again."


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


@contextmanager
def _any_autoencoder() -> Iterator[None]:
    """Keep FluxPipeline from remarking that a pipeline's autoencoder is an AutoencoderTiny, which serves as well."""
    remarks = logging.getLogger("diffusers.pipelines.pipeline_utils")
    silent = lambda record: not record.getMessage().startswith("Expected types for vae")
    remarks.addFilter(silent)
    try:
        yield
    finally:
        remarks.removeFilter(silent)


def _check_compiler(device: str) -> None:
    """Raise ModelUnavailable where torch cannot compile for `device`."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch.utils._triton import has_triton

    try:
        if torch.device(device).type == "cpu":
            get_cpp_compiler()
        elif not has_triton():
            raise RuntimeError("there is no triton")
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        said = (
            f"The model cannot be compiled here: {first_line(error)}. Install a C++ compiler, or leave --compile out."
        )
        raise ModelUnavailable(said) from error


def _is_pipeline(folder: Path) -> bool:
    return (folder / "model_index.json").exists()


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
