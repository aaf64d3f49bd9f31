"""Put this repository on Hugging Face as a Space: check everything first, say what will be done, then do it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, metadata_load
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from dermaflux import memory
from dermaflux.errors import InputError, ModelUnavailable
from dermaflux.hub import HUB_ERRORS
from dermaflux.models import MODELS, ModelSpec, find_model

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("README.md", "LICENSE", "app.py", "requirements.txt", "dermaflux/**/*", "assets/**/*")
"""What a Space needs of the repository."""
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
MAX_DESCRIPTION = 60
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


@dataclass(frozen=True)
class Deployment:
    """What is to be done, and what stands in the way. files: below the repository's root; bytes: their size; secrets:
    names that the Space's owner must set; notes: what to know."""

    space: str
    hardware: str
    model: str
    private: bool
    files: tuple[str, ...]
    bytes: int
    secrets: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The plan for people, a line at a time."""
        kind = "private" if self.private else "public"
        yield f"Space {self.space} ({kind}) on {self.hardware}, serving the model {self.model}"
        yield f"{len(self.files)} files, {self.bytes / 2**20:.0f} MB"
        yield f"Variable: DERMAFLUX_MODEL={self.model}"
        for name in self.secrets:
            yield f"Secret to set at https://huggingface.co/spaces/{self.space}/settings: {name}"
        yield from (f"Note: {note}" for note in self.notes)
        yield from (f"Problem: {problem}" for problem in self.problems)


def plan(space: str, hardware: str, model: str, private: bool, root: Path = ROOT) -> Deployment:
    """Check the repository at `root` for a Space called `space` (owner/name). Raises InputError for a wrong name."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]{1,96}", space):
        raise InputError(f"The Space must be named as owner/name, not “{space[:60]}”.")
    if hardware not in HARDWARE:
        raise InputError(f"The hardware must be one of {', '.join(HARDWARE)}, not “{hardware[:40]}”.")
    spec = find_model(model)
    if model not in MODELS:
        raise InputError(f"{spec.title} is a folder of this machine; a Space needs a model of the registry.")
    paths = sorted(path for pattern in PARTS for path in root.glob(pattern) if path.is_file())
    paths = [path for path in paths if "__pycache__" not in path.parts]
    sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in paths}
    large = [name for name, size in sizes.items() if size > LARGE]
    problems = [*_missing(root), *_front_matter(root / "README.md", root)]
    if sum(sizes.values()) > MOST:
        problems.append(f"The files take {sum(sizes.values()) / 2**30:.1f} GB; a Space may hold 1 GB.")
    notes = [f"{len(large)} files over 10 MB are stored as large files: {', '.join(large)}"] if large else []
    fits, does_not = _loading(spec, hardware)
    return Deployment(
        space=space,
        hardware=hardware,
        model=model,
        private=private,
        files=tuple(sizes),
        bytes=sum(sizes.values()),
        secrets=("HF_TOKEN",) if spec.gated else (),
        notes=(*notes, *fits, *_licence(spec, private)),
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
        api.add_space_variable(deployment.space, "DERMAFLUX_MODEL", deployment.model)
        api.upload_folder(
            repo_id=deployment.space,
            repo_type="space",
            folder_path=root,
            allow_patterns=list(deployment.files),
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


def _refused(error: HfHubHTTPError, deployment: Deployment) -> str:
    status = error.response.status_code
    if status in (401, 403):
        return f"The Hub does not let this token write to {deployment.space} ({status}). Take one that may write."
    if status == 402:
        return f"The Hub asks for payment for {deployment.hardware} first (402)."
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


def _loading(spec: ModelSpec, hardware: str) -> tuple[list[str], list[str]]:
    """How the model would be loaded on `hardware`, as notes, or why not, as problems."""
    try:
        planned = memory.plan(spec, HARDWARE[hardware])
    except ModelUnavailable as error:
        return [], [str(error)]
    package = f" Add {planned.way.package} to requirements.txt for it." if planned.way.package else ""
    return [f"Loaded as: {planned.sentence}{package}"], []
