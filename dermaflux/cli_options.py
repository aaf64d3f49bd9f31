"""What several verbs read alike from their arguments."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from dermaflux.errors import InputError

Others = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="any other of the module's options; repeatable")
]
Options = TypeVar("Options")
Number = TypeVar("Number", int, float)


def set_options(kind: type[Options], others: Sequence[str] | None, **given: Any) -> Options:
    """The dataclass `kind` with what is given, None being its default, and NAME=VALUE texts. Raises InputError."""
    known = {field.name: type(field.default) for field in fields(kind) if type(field.default) in (int, float, str)}
    changes = {name: value for name, value in given.items() if value is not None}
    for text in others or ():
        name, _, value = text.partition("=")
        try:
            changes[name] = known[name](value)
        except KeyError:
            raise InputError(f"--set {text}: there is no option “{name}”. Known: {', '.join(known)}.") from None
        except ValueError:
            raise InputError(f"--set {text}: “{value}” is not a number of the right kind.") from None
    return kind(**changes)


def stand_alone() -> tuple[int, int]:
    """This process's number, and how many accelerate launch or torchrun has started, for work that they share out and
    do each by itself: what it trains from now on, it trains alone, on the card of its own number."""
    number, count = int(os.environ.pop("RANK", "0")), int(os.environ.pop("WORLD_SIZE", "1"))
    local = int(os.environ.pop("LOCAL_RANK", "0"))
    for name in ("LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    if count > 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(local % torch.cuda.device_count())
    return number, count


def needed(context: typer.Context, need: str, *names: str) -> None:
    """Refuse those of the options called `names` that the command line gives. need: what they do nothing without.

    Raises InputError.
    """
    for name in names:
        if context.get_parameter_source(name).name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} does nothing without {need}. Give that too, or leave {option} out.")


def writable(path: Path | None) -> None:
    """Make the folder of `path`, if one is given, and see that such a file can be written before work goes into it.

    Raises OSError, with its name.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent), suppress(FileNotFoundError):
            path.stat()
    except OSError as error:
        error.filename = str(path)
        raise


def one_of(option: str, value: str, known: Sequence[str]) -> str:
    """`value` if it is one of `known`. Raises InputError, naming the option."""
    if value not in known:
        named = f"{', '.join(known[:-1])} or {known[-1]}"
        raise InputError(f"{option} must be {named}, not “{value[:40]}”.")
    return value


def numbers(text: str, kind: Callable[[str], Number]) -> list[Number]:
    """The numbers in `text`, parted by commas. Raises InputError."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"“{text[:80]}” is not a list of numbers parted by commas.") from None
