"""Read a LoRA adapter and put it on a Flux pipeline."""

import hashlib
from pathlib import Path

from diffusers import FluxPipeline
from safetensors import SafetensorError, safe_open

from dermaflux.errors import ModelUnavailable
from dermaflux.models import LoraSpec

WEIGHTS = "pytorch_lora_weights.safetensors"


def attach(pipe: FluxPipeline, spec: LoraSpec) -> str:
    """Load the adapter of `spec` onto `pipe` under its name; returns the first 16 hex digits of its file's SHA-256.

    Raises ModelUnavailable if the file is missing, is not safetensors, or does not fit the pipeline.
    """
    path = _file(spec)
    try:
        with safe_open(path, "pt") as stream:
            if not stream.keys():
                raise ModelUnavailable(f"The LoRA {spec.title} holds no weights.")
    except (OSError, SafetensorError) as error:
        raise ModelUnavailable(f"The LoRA {spec.title} is not a whole safetensors file: {path}.") from error
    try:
        pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=spec.name)
    except (ValueError, RuntimeError, KeyError) as error:
        raise ModelUnavailable(f"The LoRA {spec.title} was made for another model and cannot be applied.") from error
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _file(spec: LoraSpec) -> Path:
    path = Path(spec.source)
    if path.is_dir():
        path = path / WEIGHTS
    if path.suffix != ".safetensors" and not path.exists():
        return _download(spec)
    if path.suffix != ".safetensors":
        raise ModelUnavailable(f"The LoRA {spec.title} must be a .safetensors file; other formats can run code.")
    if not path.exists():
        raise ModelUnavailable(f"The LoRA {spec.title} was not found at {path}.")
    return path


def _download(spec: LoraSpec) -> Path:
    from huggingface_hub import hf_hub_download, list_repo_files
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        name = next(name for name in list_repo_files(spec.source) if name.endswith(".safetensors"))
        return Path(hf_hub_download(spec.source, name))
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, StopIteration) as error:
        raise ModelUnavailable(
            f"The LoRA {spec.title} ({spec.source}) could not be downloaded. Check the name and the network."
        ) from error
