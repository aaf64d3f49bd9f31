"""Put this repository on Hugging Face as a Space: check everything first, say what will be done, then do it."""

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from huggingface_hub import HfApi, metadata_load
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from dermaflux import memory
from dermaflux.errors import InputError, ModelUnavailable
from dermaflux.feedback import dataset
from dermaflux.hub import HUB_ERRORS
from dermaflux.models import MODELS, ModelSpec, find_model
from dermaflux.settings import Settings, check_together, from_env
from dermaflux.text_models import TEXT_MODELS

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("README.md", "LICENSE", "app.py", "requirements.txt", "dermaflux/**/*", "assets/**/*")
"""What a Space needs of the repository."""
OAUTH = "hf_oauth: true"
"""The line of a Space's front matter by which the Hub lets it log visitors in."""
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
MAX_DESCRIPTION = 60
PLAN = "Without a paid plan the Hub makes no new Spaces but two on ZeroGPU."
LARGE, MOST = 10 * 2**20, 2**30
"""Bytes: above the first a file is stored as a large one; the second is what a Space's repository may hold."""
HARDWARE: Mapping[str, memory.Free] = {
    "cpu-basic": memory.Free(None, 16),
    "cpu-upgrade": memory.Free(None, 32),
    "zero-a10g": memory.Free(48, 64),
    "t4-small": memory.Free(16, 15),
    "t4-medium": memory.Free(16, 30),
    "l4x1": memory.Free(24, 30),
    "a10g-small": memory.Free(24, 15),
    "a10g-large": memory.Free(24, 46),
    "l40sx1": memory.Free(48, 62),
    "a100-large": memory.Free(80, 142),
}
"""The memory of a Space's hardware, card and machine, as its maker states it."""
ZERO = "zero-a10g"
"""What the Hub calls ZeroGPU: a card is lent for a call at a time."""
ZERO_PYTHON, ZERO_TORCH = ("3.10", "3.12"), "torch>=2.8,<2.12"
"""The versions that ZeroGPU lists, as of August 2026 (huggingface.co/docs/hub/spaces-zerogpu)."""
FIXED = ("models", "loras", "writer", "describer")
"""Settings that ask for models beside the one that is placed before a page on ZeroGPU is served."""
OWN = ("host", "port", "root_path", "share")
"""Settings of where a page is served, which a Space decides."""


@dataclass(frozen=True)
class Deployment:
    """What is to be done, and what stands in the way. files: below the repository's root; bytes: their size;
    variables: what the Space's page is set to; requirements: lines for requirements.txt; login: whether visitors
    log in with Hugging Face; secrets: names that the Space's owner must set; notes: what to know."""

    space: str
    hardware: str
    model: str
    private: bool
    files: tuple[str, ...]
    bytes: int
    variables: Mapping[str, str]
    requirements: tuple[str, ...]
    login: bool
    secrets: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The plan for people, a line at a time."""
        kind = "private" if self.private else "public"
        yield f"Space {self.space} ({kind}) on {self.hardware}, serving the model {self.model}"
        yield f"{len(self.files)} files, {self.bytes / 2**20:.0f} MB"
        yield from (f"Variable: {name}={value}" for name, value in self.variables.items())
        yield from (f"requirements.txt: {line}" for line in self.requirements)
        if self.login:
            yield f"README.md: {OAUTH}"
        for name in self.secrets:
            yield f"Secret to set at https://huggingface.co/spaces/{self.space}/settings: {name}"
        yield from (f"Note: {note}" for note in self.notes)
        yield from (f"Problem: {problem}" for problem in self.problems)


def plan(
    space: str, hardware: str, model: str, private: bool, others: Iterable[str] = (), root: Path = ROOT
) -> Deployment:
    """Check the repository at `root` for a Space called `space` (owner/name). others: settings of its page, NAME=VALUE.

    Raises InputError for a wrong name or setting.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]{1,96}", space):
        raise InputError(f"The Space must be named as owner/name, not “{space[:60]}”.")
    if hardware not in HARDWARE:
        raise InputError(f"The hardware must be one of {', '.join(HARDWARE)}, not “{hardware[:40]}”.")
    spec = find_model(model)
    if model not in MODELS:
        raise InputError(f"{spec.title} is a folder of this machine; a Space needs a model of the registry.")
    variables = {"DERMAFLUX_MODEL": model} | dict(_variable(text) for text in others)
    settings = from_env([], {"GRADIO_SERVER_NAME": "0.0.0.0"} | variables)
    check_together(settings)
    paths = sorted(path for pattern in PARTS for path in root.glob(pattern) if path.is_file())
    paths = [path for path in paths if "__pycache__" not in path.parts]
    sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in paths}
    large = [name for name, size in sizes.items() if size > LARGE]
    problems = [*_missing(root), *_front_matter(root / "README.md", root), *_own(variables)]
    if hardware == ZERO:
        problems += _on_zero(settings, root / "README.md")
    if sum(sizes.values()) > MOST:
        problems.append(f"The files take {sum(sizes.values()) / 2**30:.1f} GB; a Space may hold 1 GB.")
    notes = [f"{len(large)} files over 10 MB are stored as large files: {', '.join(large)}"] if large else []
    way, does_not = _way(spec, hardware, settings.memory)
    notes += [f"Loaded as: {way.sentence}"] if way else []
    packages = [way.way.package] if way and way.way.package else []
    return Deployment(
        space=space,
        hardware=hardware,
        model=model,
        private=private,
        files=tuple(sizes),
        bytes=sum(sizes.values()),
        variables=variables,
        requirements=(*([ZERO_TORCH] if hardware == ZERO else []), *packages),
        login=bool(settings.login),
        secrets=("HF_TOKEN",) if dataset(settings.feedback) or _gated(settings) else (),
        notes=(PLAN, *notes, *_licence(spec, private), *_keeping(settings)),
        problems=(*problems, *does_not),
    )


def run(deployment: Deployment, api: HfApi, root: Path = ROOT) -> str:
    """Do what `deployment` says; gives the Space's address. Raises InputError for problems, and if the Hub refuses."""
    if deployment.problems:
        raise InputError(" ".join(deployment.problems))
    try:
        api.create_repo(
            deployment.space, repo_type="space", space_sdk="gradio", private=deployment.private, exist_ok=True
        )
        api.update_repo_settings(deployment.space, repo_type="space", private=deployment.private)
        for name, value in deployment.variables.items():
            api.add_space_variable(deployment.space, name, value)
        with tempfile.TemporaryDirectory() as folder:
            api.upload_folder(
                repo_id=deployment.space,
                repo_type="space",
                folder_path=_gathered(deployment, root, Path(folder)),
                delete_patterns=["dermaflux/*", "assets/*"],  # what an earlier deployment left there
                commit_message="Deploy DermaFlux",
            )
        api.request_space_hardware(deployment.space, deployment.hardware)
    except LocalTokenNotFoundError as error:
        raise InputError("There is no token of the Hub. Log in with `hf auth login`, or set HF_TOKEN.") from error
    except HfHubHTTPError as error:
        raise InputError(_refused(error, deployment)) from error
    except HUB_ERRORS as error:
        raise InputError(f"The Hub cannot be reached, or not with this name: {error}. Try again later.") from error
    return f"{api.endpoint}/spaces/{deployment.space}"


def _variable(text: str) -> tuple[str, str]:
    """The variable of a setting NAME=VALUE. Raises InputError for one that is none, or that nobody else may read."""
    name, _, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in {field.name for field in fields(Settings)} or name == "model":
        raise InputError(f"--set {text}: there is no setting “{name}” beside the model.")
    if "password" in name:
        raise InputError(
            f"--set {name}: a Space's variables can be read by all. Set DERMAFLUX_{name.upper()} as a secret."
        )
    return f"DERMAFLUX_{name.upper()}", value


def _gathered(deployment: Deployment, root: Path, folder: Path) -> Path:
    """Copy into `folder` what is to be sent; README.md asks for a login where there shall be one, and requirements.txt
    for what the hardware needs."""
    for name in deployment.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, folder / name)
    if deployment.login:
        readme = folder / "README.md"
        readme.write_text(with_login(readme.read_text(encoding="utf-8")), encoding="utf-8")
    if deployment.requirements:
        wanted = folder / "requirements.txt"
        wanted.write_text(with_requirements(wanted.read_text("utf-8"), deployment.requirements), encoding="utf-8")
    return folder


def with_requirements(text: str, added: Iterable[str]) -> str:
    """The text of requirements.txt with the lines `added`, each in the place of what it says of the same package."""
    names = {Requirement(line).name for line in added}
    kept = [line for line in text.splitlines() if line.strip() and Requirement(line).name not in names]
    return "\n".join((*kept, *added, ""))


def with_login(readme: str) -> str:
    """The text of README.md whose front matter asks the Hub to log visitors in."""
    head, end, text = readme.removeprefix("---\n").partition("\n---\n")
    lines = [line for line in head.splitlines() if not line.startswith("hf_oauth:")]
    return "\n".join(("---", *lines, OAUTH)) + end + text


def _keeping(settings: Settings) -> Iterator[str]:
    if not settings.feedback:
        yield (
            "A restart of the Space empties its own disk, with the ratings on it. Keep them in a private dataset by "
            "--set feedback=hf://datasets/OWNER/NAME, or in a bucket that you mount."
        )
    elif settings.feedback != "none" and not dataset(settings.feedback):
        yield f"Ratings outlive a restart if a bucket is mounted that holds {settings.feedback}."


def _refused(error: HfHubHTTPError, deployment: Deployment) -> str:
    status = error.response.status_code
    if status in (401, 403):
        return f"The Hub does not let this token write to {deployment.space} ({status}). Take one that may write."
    if status == 402:
        return f"The Hub asks for payment for {deployment.hardware} first (402), or for a paid plan: see its pricing."
    return f"The Hub answered {status}: {error.server_message or 'no reason given'}. What is uploaded stays; try again."


def _missing(root: Path) -> Iterator[str]:
    for name in PARTS:
        if "*" not in name and not (root / name).is_file():
            yield f"{name} is missing."


def _front_matter(readme: Path, root: Path) -> Iterator[str]:
    """What the Hub would refuse, or misunderstand, at the head of README.md."""
    head = (metadata_load(readme) if readme.is_file() else None) or {}
    wanted = {
        "title": lambda value: bool(value),
        "emoji": lambda value: bool(value),
        "sdk": lambda value: value == "gradio",
        "sdk_version": lambda value: _satisfies(value, root / "requirements.txt"),
        "python_version": lambda value: bool(re.fullmatch(r"3\.\d+(\.\d+)?", str(value))),
        "app_file": lambda value: bool(value) and (root / str(value)).is_file(),
        "license": lambda value: bool(value),
        "colorFrom": lambda value: value in COLOURS,
        "colorTo": lambda value: value in COLOURS,
        "short_description": lambda value: len(str(value or "")) <= MAX_DESCRIPTION,
    }
    for name, holds in wanted.items():
        if not holds(head.get(name)):
            yield f"README.md: {name} is {head.get(name, 'missing')}, which a Space cannot use."


def _satisfies(version: object, requirements: Path) -> bool:
    """Whether `version` of gradio is one that requirements.txt allows."""
    lines = requirements.read_text(encoding="utf-8").splitlines() if requirements.is_file() else []
    wanted = next((Requirement(line) for line in lines if line.startswith("gradio")), None)
    try:
        return wanted is None or Version(str(version)) in wanted.specifier
    except InvalidVersion:
        return False


def _licence(spec: ModelSpec, private: bool) -> Iterator[str]:
    yield f"{spec.title}: {spec.licence}. {spec.licence_note}"
    if spec.gated and not private:
        yield "A public Space lets others use the model; make sure that its licence allows what you do."


def _way(spec: ModelSpec, hardware: str, asked: str) -> tuple[memory.Plan | None, list[str]]:
    """How the model would be loaded on `hardware`, and what stands against it, as problems."""
    free = HARDWARE[hardware]
    try:
        way = memory.plan(spec, free, asked, installable=True)
    except ModelUnavailable as error:
        return None, [str(error)]
    fits = free.card is None or way.fits(free)
    return way, [] if fits else [f"--set memory={asked}: {way.sentence} {hardware} has less."]


def _on_zero(settings: Settings, readme: Path) -> Iterator[str]:
    """What ZeroGPU cannot do of what is asked for."""
    head = (metadata_load(readme) if readme.is_file() else None) or {}
    if not str(head.get("python_version", "")).startswith(ZERO_PYTHON):
        yield f"README.md: ZeroGPU has Python {' and '.join(ZERO_PYTHON)}, not {head.get('python_version')}."
    for name in FIXED:
        if getattr(settings, name) not in ("", memory.AUTO):
            yield f"--set {name}: on ZeroGPU the one model is placed before the page is served. Leave it out."


def _own(variables: Mapping[str, str]) -> Iterator[str]:
    for name in OWN:
        if f"DERMAFLUX_{name.upper()}" in variables:
            yield f"--set {name}: a Space has its own. Leave it out."


def _gated(settings: Settings) -> bool:
    """Whether a model of the page's is one that its owner grants access to one by one."""
    named = any(name in TEXT_MODELS for name in (settings.writer, settings.describer))
    return named or any(spec.gated for spec in settings.offered)
