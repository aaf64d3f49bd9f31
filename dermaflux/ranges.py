"""What numbers may be: checks that name what is wrong."""

from dermaflux.errors import InputError, shown


def whole(name: str, value: object, low: int, high: int) -> None:
    """Raises InputError, calling it `name`, for a `value` that is no whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} must be a whole number from {low} to {high}, not {shown(value)}.")


def real(name: str, value: object, low: float, high: float) -> None:
    """Raises InputError, calling it `name`, for a `value` that is no number from `low` to `high`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise InputError(f"{name} must be a number from {low} to {high}, not {shown(value)}.")
