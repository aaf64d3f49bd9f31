"""Settings from the environment and the command line, as one frozen dataclass."""

import argparse
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from dermaflux.errors import InputError
from dermaflux.feedback import dataset
from dermaflux.files import NoHome, own_path
from dermaflux.memory import AUTO, WAYS
from dermaflux.models import MODELS, ModelSpec, find_model, told_apart

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HF = "hf"
OAUTH = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
"""What a Space sets where its README asks for hf_oauth."""
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


def _text(text: str) -> str:
    return text.strip()


def names(text: str) -> tuple[str, ...]:
    """The names in a list separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _flag(text: str) -> bool:
    if text.strip().lower() in TRUE + FALSE:
        return text.strip().lower() in TRUE
    raise InputError(f"must be one of {', '.join(TRUE + FALSE[:-1])}")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise InputError(f"must be a whole number from {low} to {high}")
        return number

    return read


def _model(text: str) -> str:
    find_model(text.strip())
    return text.strip()


def _models(text: str) -> str:
    for name in names(text) if text.strip() != AUTO else ():
        find_model(name)
    return text.strip()


def _way(text: str) -> str:
    if text.strip() not in (AUTO, *WAYS):
        raise InputError(f"must be one of {', '.join((AUTO, *WAYS))}")
    return text.strip()


def _feedback(text: str) -> str:
    text = text.strip()
    return text if text in ("", "none") or dataset(text) else str(_folder(text))


def _login(text: str) -> str:
    if text.strip() not in ("", HF):
        raise InputError(f"must be {HF} or empty")
    return text.strip()


def _owner_password(text: str) -> str:
    if text and not 8 <= len(text) <= 200:
        raise InputError("must have 8 to 200 characters")
    return text


def _folder(text: str) -> Path:
    return own_path(text).resolve()


def _how(read: Callable[[str], Any], text: str, *variables: str) -> dict[str, Any]:
    return dict(read=read, help=text, variables=variables)


@dataclass(frozen=True)
class Settings:
    """How to run the page. Each field is the flag `--its-name` and the variable `DERMAFLUX_ITS_NAME`.

    Other variables named in a field's entry are read when neither is given.
    """

    model: str = field(
        default="nano",
        metadata=_how(_model, "generator: a name in the registry, or the folder of a FluxPipeline or FLUX.1"),
    )
    lora: str = field(
        default="default", metadata=_how(_text, "LoRA file or Hub id; “default” is the model's own, “none” is none")
    )
    models: str = field(
        default=AUTO,
        metadata=_how(
            _models,
            "models that visitors may load too, separated by commas; “auto”: all if on this machine alone; empty: none",
        ),
    )
    loras: str = field(
        default="", metadata=_how(_text, "LoRA files or Hub ids that visitors may put on, separated by commas")
    )
    classifier: str = field(default="nano", metadata=_how(_text, "classifier, by name or folder"))
    writer: str = field(
        default="",
        metadata=_how(_text, "Llama that words the form: meta-llama/Llama-3.2-3B-Instruct or a folder; empty for none"),
    )
    describer: str = field(
        default="",
        metadata=_how(
            _text, "Llama that describes images: meta-llama/Llama-3.2-11B-Vision-Instruct or a folder; empty for none"
        ),
    )
    device: str = field(default="auto", metadata=_how(_text, "cpu, cuda, cuda:0, mps or auto"))
    memory: str = field(default=AUTO, metadata=_how(_way, f"how weights are kept: {', '.join((AUTO, *WAYS))}"))
    compile: bool = field(
        default=False,
        metadata=_how(
            _flag,
            "compile the model's blocks: a first image takes a minute or more longer, the next less; not on ZeroGPU",
        ),
    )
    data_dir: Path = field(default=Path("outputs"), metadata=_how(_folder, "folder for what the app keeps"))
    studies: str = field(
        default="",
        metadata=_how(
            _text, "reader studies: SQLite file or postgresql:// URL; empty for studies.sqlite in the data folder"
        ),
    )
    feedback: str = field(
        default="",
        metadata=_how(
            _feedback,
            "where ratings are kept: a folder, hf://datasets/OWNER/NAME or none; empty for feedback in the data folder",
        ),
    )
    images_per_hour: int = field(
        default=0,
        metadata=_how(
            _whole(0, 10_000), "images that a visitor may draw in an hour, and classify ten times that; 0 for no limit"
        ),
    )
    queue_length: int = field(default=20, metadata=_how(_whole(1, 1000), "visitors that may wait in line"))
    max_upload_mb: int = field(
        default=50, metadata=_how(_whole(1, 2000), "largest upload, in MB; an image may have 20 at most, a ZIP 256")
    )
    host: str = field(default="127.0.0.1", metadata=_how(_text, "address to listen on", "GRADIO_SERVER_NAME"))
    port: int = field(
        default=7860, metadata=_how(_whole(0, 65535), "port to listen on; 0 takes any free one", "GRADIO_SERVER_PORT")
    )
    root_path: str = field(
        default="",
        metadata=_how(_text, "path under which a proxy serves the page, such as /dermaflux", "GRADIO_ROOT_PATH"),
    )
    password: str = field(default="", metadata=_how(_text, "what visitors must give to see the page; empty for none"))
    login: str = field(
        default="", metadata=_how(_login, "hf: visitors log in with Hugging Face, on a Space only; empty for no login")
    )
    allowed: str = field(
        default="",
        metadata=_how(
            _text, "with a login, users and organisations that may see the page, separated by commas; empty for all"
        ),
    )
    owner_password: str = field(
        default="",
        metadata=_how(
            _owner_password, "what the owner of reader studies gives to use the tab Study; empty for no such tab"
        ),
    )
    mcp: bool = field(default=False, metadata=_how(_flag, "serve the API endpoints as MCP tools too"))
    share: bool = field(default=False, metadata=_how(_flag, "make a public link through gradio"))

    @property
    def alone(self) -> bool:
        """Whether the page is served to this machine alone, as far as can be known: not to others, by no proxy."""
        return self.host in LOOPBACK and not self.share and not self.root_path

    @property
    def store(self) -> str:
        """Where studies are kept: a file, or the URL of a database."""
        return self.studies or str(self.data_dir / "studies.sqlite")

    @property
    def ratings(self) -> str | None:
        """Where visitors' ratings are kept: a folder, or hf://datasets/OWNER/NAME; None for nowhere."""
        return None if self.feedback == "none" else self.feedback or str(self.data_dir / "feedback")

    @property
    def offered(self) -> tuple[ModelSpec, ...]:
        """The models that visitors may load, that of the page first: every one where it is served to this machine
        alone, on other pages those named by `models`; each once, and those of one name told apart."""
        others = (MODELS if self.alone else ()) if self.models == AUTO else names(self.models)
        return told_apart((find_model(self.model, self.lora), *map(find_model, others)))

    @property
    def torch_device(self) -> str | None:
        """The device to load models on, None for the best one present."""
        return None if self.device == "auto" else self.device


def from_env(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that flags, then variables, then defaults give; an empty variable only where empty has a meaning.

    Raises InputError for a bad value, naming the flag or variable. Unknown flags and --help exit as argparse does.
    """
    given = vars(_parser().parse_args(argv))
    values = {}
    for item in fields(Settings):
        sources = [(_flag_name(item.name), given[item.name])]
        none = item.default == "" or item.name == "models"
        sources += [(name, environ.get(name)) for name in _variables(item) if none or environ.get(name, "").strip()]
        for name, text in sources:
            if text is not None:
                values[item.name] = _read(name, text, item.metadata["read"])
                break
    return Settings(**values)


def check_together(settings: Settings) -> None:
    """Refuse settings about a login that do not go together. Raises InputError."""
    if settings.allowed and not settings.login:
        raise InputError(f"--allowed needs --login {HF}: without a login nobody's name is known.")
    if settings.login and settings.password:
        raise InputError("--login and --password exclude each other; choose one.")
    if settings.login and settings.mcp:
        raise InputError(f"--mcp cannot be had with --login {HF}: a tool has no way to log in.")


def check_login(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse to start where a login would protect nothing. Raises InputError.

    Outside a Space gradio only imitates it: every visitor would be logged in as the owner of the machine.
    """
    check_together(settings)
    if not settings.login:
        return
    if environ.get("SYSTEM") != "spaces" or not environ.get("SPACE_ID"):
        raise InputError(
            f"--login {HF} works on a Space of Hugging Face only; elsewhere it would be imitated and let anybody in. "
            "Use --password here."
        )
    missing = [name for name in OAUTH if not environ.get(name)]
    if missing:
        raise InputError(f"--login {HF} needs “hf_oauth: true” at the head of the Space's README.md: no {missing[0]}.")
    if not all(map(importlib.util.find_spec, ("authlib", "itsdangerous"))):
        raise InputError(f"--login {HF} needs `pip install gradio[oauth]`, which a Space has of itself.")


def _read(name: str, text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except NoHome as error:
        raise InputError(f"{name}: {error}") from None
    except InputError as error:
        given = "" if "password" in name.lower() else f", not “{text[:40]}”"
        raise InputError(f"{name} {error}{given}.") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("app.py", description="Serve the DermaFlux page.")
    for item in fields(Settings):
        names = ", ".join(_variables(item))
        text = f"{item.metadata['help']} (default: {item.default}; variable: {names})"
        switch = dict(nargs="?", const="true") if item.metadata["read"] is _flag else {}
        parser.add_argument(_flag_name(item.name), help=text, metavar=item.name.upper(), **switch)
    return parser


def _flag_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variables(item: Field) -> tuple[str, ...]:
    return "DERMAFLUX_" + item.name.upper(), *item.metadata["variables"]


def table() -> str:
    """The settings as a Markdown table: flag, variable, default, meaning."""
    rows = ["| Flag | Variable | Default | Meaning |", "|---|---|---|---|"]
    for item in fields(Settings):
        names = ", ".join(f"`{name}`" for name in _variables(item))
        rows.append(f"| `{_flag_name(item.name)}` | {names} | `{item.default}` | {item.metadata['help']} |")
    return "\n".join(rows)
