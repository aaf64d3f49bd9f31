"""What the Hugging Face Hub's library raises where the Hub, or the way to it, fails."""

from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

TRANSPORT = HfHubHTTPError.__mro__[1]
"""The base of what the HTTP client under the library raises by itself, whichever client that is."""
HUB_ERRORS = (TRANSPORT, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError)
