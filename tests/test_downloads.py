"""A download can be ended at once; what came whole is kept, and the next one takes the rest."""

import time
from dataclasses import replace

import fake_hub
import pytest
from huggingface_hub import constants

from dermaflux.downloads import Progress, fetching
from dermaflux.errors import ModelUnavailable
from dermaflux.models import MODELS, LoraSpec

LARGE, SMALL = "transformer/diffusion_pytorch_model.safetensors", "model_index.json"
FILES = {SMALL: b"{}", "vae/config.json": b"{}", LARGE: bytes(10 * fake_hub.PIECE)}
SPEC = replace(MODELS["flux1-schnell"], source="o/m", tiny_decoder=None)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub whose large file stands still after its first piece, and an empty cache for it."""
    with fake_hub.serving(FILES, LARGE) as (address, handler):
        for name, value in dict(HF_ENDPOINT=address, HF_HUB_CACHE=str(tmp_path), HF_HUB_DISABLE_XET="1").items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        yield handler


def snapshot(tmp_path):
    return tmp_path / "models--o--m" / "snapshots" / fake_hub.SHA


def until(happens, run, seconds=60):
    """Let `run` go on until `happens`, and say how far it was."""
    end, progress = time.monotonic() + seconds, Progress()
    while not happens():
        assert time.monotonic() < end, "the download does not come so far"
        progress = next(run)
    return progress


def test_a_download_that_is_stopped_ends_within_a_second_and_goes_on_later(hub, tmp_path):
    run = fetching(SPEC)
    until(lambda: LARGE in hub.asked and (snapshot(tmp_path) / "vae/config.json").exists(), run)
    assert list((tmp_path / "models--o--m" / "blobs").glob("*.incomplete"))
    started = time.monotonic()
    run.close()
    assert time.monotonic() - started < 1
    assert not list((tmp_path / "models--o--m" / "blobs").glob("*.incomplete")), "a half file is left behind"
    assert not (snapshot(tmp_path) / LARGE).exists() and (snapshot(tmp_path) / SMALL).read_bytes() == b"{}"
    hub.asked.clear()
    hub.slow.clear()
    assert all(isinstance(progress, Progress) for progress in fetching(SPEC))
    assert (snapshot(tmp_path) / LARGE).read_bytes() == FILES[LARGE]
    assert LARGE in hub.asked and SMALL not in hub.asked


def test_how_far_it_is_is_told_while_it_stands_still(hub):
    run = fetching(SPEC)
    first, second = next(run), next(run)
    assert first.done <= second.done
    run.close()


def test_what_the_hub_refuses_is_said_by_the_process_that_asks(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelUnavailable, match=f"{SPEC.title} could not be downloaded"):
        list(fetching(SPEC))


def test_what_is_here_needs_no_download(tmp_path, monkeypatch):
    monkeypatch.setattr("multiprocessing.get_context", lambda kind: pytest.fail("nothing is to be downloaded"))
    own = LoraSpec("l", "L", str(tmp_path), "")
    assert not list(fetching(replace(SPEC, source=str(tmp_path), lora=own)))
