"""Fetch models and LoRAs from the Hugging Face Hub, and say what it raises where it, or the way to it, fails."""

import errno
import logging
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import hf_hub_download, list_repo_files, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import get_token
from tqdm import tqdm

from dermaflux.errors import ModelUnavailable, first_line
from dermaflux.models import LoraSpec, ModelSpec
from dermaflux.text_models import TextModelSpec

TRANSPORT = HfHubHTTPError.__mro__[1]
"""The base of what the HTTP client under the library raises by itself, whichever client that is."""
HUB_ERRORS = (TRANSPORT, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, RuntimeError)
PARTS = ("model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors", "LICENSE*")
"""The files of a pipeline; beside them a repository may hold the same weights again in other formats."""
TINY_PARTS = ("config.json", "*.safetensors")
LORA_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
LORA_CONFIG = "adapter_config.json"
KEPT = "files that are whole are kept"

log = logging.getLogger("dermaflux")


def fetch(spec: ModelSpec | TextModelSpec, files: Sequence[str] = PARTS, bar: type[tqdm] | None = None) -> Path:
    """The folder of the model of `spec`, its `files` downloaded where they are not there yet.

    bar: the class of the bars that count files and bytes.
    Raises ModelUnavailable with the reason and the way out.
    """
    path = Path(spec.source)
    if path.is_dir():
        return path
    if path.is_absolute():
        raise ModelUnavailable(f"{spec.title} was not found at {path}. Fetch the repository whole, with its assets.")
    try:
        return Path(snapshot_download(spec.source, allow_patterns=list(files), tqdm_class=bar))
    except HUB_ERRORS as error:
        size = spec.weights and spec.weights.total
        said = _way_out(spec.source, spec.licence, size, error)
        raise ModelUnavailable(f"{spec.title} could not be downloaded. {said}") from error


def fetch_tiny_decoder(spec: ModelSpec) -> None:
    """Download the tiny decoder for the previews of a model of the Hub; where that fails, coarser ones will do."""
    if not spec.tiny_decoder or Path(spec.source).is_dir():
        return
    try:
        snapshot_download(spec.tiny_decoder, allow_patterns=list(TINY_PARTS))
    except HUB_ERRORS as error:
        log.info("%s could not be downloaded, so previews are coarser: %s", spec.tiny_decoder, first_line(error))


def fetch_lora(spec: LoraSpec) -> Path:
    """The safetensors of the LoRA of `spec`, downloaded where it is on the Hub.

    Raises ModelUnavailable if it is missing, or in another format.
    """
    path = Path(spec.source)
    if path.is_dir():
        path = next((path / name for name in LORA_FILES if (path / name).exists()), path / LORA_FILES[0])
    if path.suffix != ".safetensors" and not path.exists():
        return _download_lora(spec)
    if path.suffix != ".safetensors":
        raise ModelUnavailable(
            f"The LoRA {spec.title} must be a .safetensors file; other formats can run code. Take its safetensors."
        )
    if not path.exists():
        raise ModelUnavailable(f"The LoRA {spec.title} was not found at {path}. Put it there, or name another.")
    return path


def _download_lora(spec: LoraSpec) -> Path:
    try:
        files = list_repo_files(spec.source)
        whole = [name for name in files if name.endswith(".safetensors")]
        if not whole:
            raise ModelUnavailable(f"The LoRA {spec.title} has no safetensors at {spec.source}. Name another.")
        name = next(
            (name for name in LORA_FILES if name in whole), min(whole, key=lambda name: (name.count("/"), name))
        )
        beside = (Path(name).parent / LORA_CONFIG).as_posix()
        if beside in files:
            hf_hub_download(spec.source, beside)
        return Path(hf_hub_download(spec.source, name))
    except ModelUnavailable:
        raise
    except HFValidationError as error:
        raise ModelUnavailable(
            f"There is no LoRA file {spec.source}, and the Hub has no such names. Give a .safetensors file, or "
            "OWNER/NAME on the Hub."
        ) from error
    except HUB_ERRORS as error:
        said = _way_out(spec.source, spec.licence, spec.gigabytes, error)
        raise ModelUnavailable(f"The LoRA {spec.title} could not be downloaded. {said}") from error


def _way_out(source: str, licence: str, gigabytes: float | None, error: Exception) -> str:
    """What `error` means for the download of `source`, and what to do about it."""
    page = f"https://huggingface.co/{source}"
    if isinstance(error, GatedRepoError) and not get_token():
        return f"It is gated ({licence}): accept its licence at {page} and set HF_TOKEN to a token of that account."
    if isinstance(error, GatedRepoError):
        return f"It is gated ({licence}), and the account of your token has no access: accept its licence at {page}."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no such repository at {page}, or your token (HF_TOKEN) may not read it. Check the name, or take "
            "a token that may."
        )
    unanswered = isinstance(error, TRANSPORT) and not isinstance(error, HfHubHTTPError)
    if unanswered or isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        return (
            "The Hub cannot be reached: the network is down or switched off (HF_HUB_OFFLINE), or the Hub is in "
            f"trouble. Start again later; {KEPT}."
        )
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        size = f" about {gigabytes:.1f} GB" if gigabytes else ""
        return f"The disk is full. It needs{size} in the Hub's cache (HF_HOME). Free some and start again; {KEPT}."
    if isinstance(error, HfHubHTTPError):
        return f"The Hub answered {error.response.status_code}. Check HF_TOKEN and start again; {KEPT}."
    return f"{first_line(error)} Start again; {KEPT}."
