"""The rules of the house that a machine can check."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "dermaflux").rglob("*.py"))
FILES = [ROOT / "app.py", *PACKAGE, *sorted((ROOT / "tests").rglob("*.py"))]
MOST_LINES = 300
READ_THE_WORLD = {"app.py", "dermaflux/cli.py", "dermaflux/cli_options.py", "dermaflux/settings.py"}
HEAVY = ("torch", "diffusers", "transformers", "timm", "peft", "accelerate", "pytorch_grad_cam")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module(path: Path) -> str:
    return name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere, with each name imported from them as a candidate submodule."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)} imports relatively"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def attributes(path: Path) -> set[str]:
    """Dotted names such as os.environ that a file uses."""
    nodes = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute))
    return {f"{node.value.id}.{node.attr}" for node in nodes if isinstance(node.value, ast.Name)}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", [path for path in PACKAGE if "dermaflux/ui/" not in name(path)], ids=name)
def test_only_the_page_imports_gradio(path):
    assert not {"gradio", "gradio_client"} & {each.partition(".")[0] for each in imported(path)}


@pytest.mark.parametrize("path", [ROOT / "app.py", *PACKAGE], ids=name)
def test_nothing_is_read_by_pickle(path):
    assert not {"pickle", "dill", "joblib", "cloudpickle"} & {each.partition(".")[0] for each in imported(path)}
    assert "torch.load" not in attributes(path)


@pytest.mark.parametrize("path", [path for path in PACKAGE if name(path) not in READ_THE_WORLD], ids=name)
def test_only_settings_and_commands_read_arguments_and_environment(path):
    assert not {"os.environ", "os.getenv", "sys.argv"} & attributes(path)
    assert "argparse" not in set(imported(path))


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_nothing_below_knows_the_roof(path):
    seen = {each for each in imported(path) if each.startswith("dermaflux.")}
    above = {"dermaflux.ui"} if "dermaflux/ui/" not in name(path) else set()
    above |= {"dermaflux.cli", "app"} if name(path) != "dermaflux/__main__.py" else set()
    assert not {each for each in seen if any(each == top or each.startswith(top + ".") for top in above)}


def test_no_two_modules_import_each_other():
    modules = {module(path): path for path in PACKAGE}
    uses = {one: set(imported(path)) & modules.keys() - {one, "dermaflux"} for one, path in modules.items()}
    while ready := [one for one, used in uses.items() if not used & uses.keys()]:
        for one in ready:
            del uses[one]
    assert not uses, f"these import each other in a circle: {', '.join(uses)}"


@pytest.mark.parametrize("entry", ["dermaflux.ui.shell", "dermaflux.cli", "app"])
def test_the_page_and_the_commands_start_without_the_heavy_libraries(entry):
    code = f"import sys, {entry}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []
