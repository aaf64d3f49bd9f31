"""Fetch models from the Hugging Face Hub, and say what it raises where it, or the way to it, fails."""

import errno
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import get_token

from dermaflux.errors import ModelUnavailable, first_line
from dermaflux.models import ModelSpec
from dermaflux.text_models import TextModelSpec

TRANSPORT = HfHubHTTPError.__mro__[1]
"""The base of what the HTTP client under the library raises by itself, whichever client that is."""
HUB_ERRORS = (TRANSPORT, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError)
PARTS = ("model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors", "LICENSE*")
"""The files of a pipeline; beside them a repository may hold the same weights again in other formats."""


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
