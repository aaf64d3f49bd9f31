"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes that each compute on all cores stand in each other's way; those that a test starts are of the same kind.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of a tiny model, as `tiny.build` writes them."""
    import tiny

    return tiny.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_generator(tiny_folder: Path):
    """A Generator with a LoRA and linear previews, of random weights; see `tiny`."""
    import tiny

    from dermaflux.generator import Generator

    return Generator.from_spec(tiny.spec(tiny_folder), "cpu")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a briefly trained tiny classifier, with its images; see `tiny_classifier`."""
    import tiny_classifier

    return tiny_classifier.trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def fresh_accelerate():
    """Lets a test train with a precision of its own: accelerate keeps that of the first run in a process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
