"""The three kinds of error that reach a person. Each message is a sentence that names the thing and the way out."""


class DermaFluxError(Exception):
    """Base of every error whose message may be shown as it stands."""


class InputError(DermaFluxError, ValueError):
    """What the person gave cannot be used."""


class ModelUnavailable(DermaFluxError, RuntimeError):
    """A model cannot be used: gated, not downloaded, out of memory or in the wrong format."""


class DataError(DermaFluxError, ValueError):
    """A manifest or data folder is wrong; the message names file, line and column."""


def first_line(error: Exception) -> str:
    """The first line of what `error` says, or its kind."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def shown(value: object) -> str:
    """`value` as a message quotes it, cut short."""
    huge = isinstance(value, int) and abs(value) >= 10**40
    return "a number of over 40 digits" if huge else str(value)[:40]
