"""Models are fetched, quantised and placed, or refused with the reason and the way out."""

import errno
import threading
import weakref
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import huggingface_hub
import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file

from dermaflux import hub as the_hub
from dermaflux import loading, lora
from dermaflux.errors import ModelUnavailable
from dermaflux.generator import Generator, Sample
from dermaflux.models import MODELS, SamplingOptions

TEXT = "This photo depicts a malignant lesion. Its colours are red and black."
FLUX = MODELS["flux1-dev"]
PACKAGES = {"bf16": "torch", "int8": "torchao", "int4": "bitsandbytes"}


class Hub(BaseHTTPRequestHandler):
    """Answers every request as the Hub answers with `status` and `code`."""

    status, code = 404, "RepoNotFound"

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("X-Error-Code", self.code)
        self.send_header("X-Error-Message", "no")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A server in the place of the Hub, and a visitor without a token or anything downloaded."""
    server = HTTPServer(("127.0.0.1", 0), type("Answering", (Hub,), {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address, fetch = f"http://127.0.0.1:{server.server_port}", huggingface_hub.snapshot_download
    monkeypatch.setattr(
        the_hub, "snapshot_download", lambda *args, **more: fetch(*args, **more, endpoint=address, cache_dir=tmp_path)
    )
    monkeypatch.setattr(the_hub, "get_token", lambda: None)
    yield server
    server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "token", "said"),
    [
        (
            401,
            "GatedRepo",
            None,
            r"accept its licence at https://huggingface.co/black-forest-labs/FLUX.1-dev.*HF_TOKEN",
        ),
        (403, "GatedRepo", "hf_x", r"the account of your token has no access"),
        (404, "RepoNotFound", "hf_x", r"no such repository"),
        (401, "", None, r"answered 401.*HF_TOKEN"),
        (500, "", None, r"cannot be reached.*whole are kept"),
    ],
)
def test_what_the_hub_refuses_is_said_with_the_way_out(hub, monkeypatch, status, code, token, said):
    hub.RequestHandlerClass.status, hub.RequestHandlerClass.code = status, code
    monkeypatch.setattr(the_hub, "get_token", lambda: token)
    with pytest.raises(ModelUnavailable, match=said):
        the_hub.fetch(FLUX)


def test_a_dead_network_is_said(hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ModelUnavailable, match="network is down"):
        the_hub.fetch(FLUX)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("Data processing error: No space left on device")],
)
def test_a_full_disk_is_said_with_the_size_and_that_what_is_whole_is_kept(monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(the_hub, "snapshot_download", full)
    with pytest.raises(ModelUnavailable, match=r"disk is full. It needs about 31.5 GB .* whole are kept"):
        the_hub.fetch(FLUX)


def draw(generator: Generator, **changes) -> np.ndarray:
    items = generator.sample(TEXT, SamplingOptions.defaults(generator.spec, candidates=1, **changes))
    return np.stack([np.asarray(item.image).astype(float) for item in items if isinstance(item, Sample)])


@pytest.fixture(scope="module")
def exact():
    """An image of the embedded model at 32 bits, and how far it is from one without the LoRA."""
    generator = Generator.load("nano", device="cpu")
    drawn = draw(generator, steps=8)
    return drawn, np.abs(draw(generator, steps=8, lora_strength=0.0) - drawn).mean()


@pytest.mark.parametrize(("way", "share"), [("bf16", 0.25), ("int8", 0.4), ("int4", 2)])
def test_fewer_bits_draw_nearly_the_same_image_with_the_lora_in_them(exact, way, share):
    """What rounding changes, against what the LoRA changes; at 4 bits a model as small as this one suffers."""
    pytest.importorskip(PACKAGES[way])
    small = Generator.load("nano", device="cpu", memory=way)
    assert small.plan.way.name == way and small.arithmetic == f"{way} on cpu"
    image, without_lora = exact
    assert 0 < np.abs(draw(small, steps=8) - image).mean() < share * without_lora


def test_at_4_bits_captions_are_read_nearly_as_at_16():
    pytest.importorskip("bitsandbytes")
    small, whole = (Generator.load("nano", device="cpu", memory=way) for way in ("int4", "bf16"))
    read = lambda generator: generator._encode(TEXT, 1.0)[0].float()
    assert (read(small) - read(whole)).norm() < 0.4 * read(whole).norm()


def test_a_device_that_is_not_there_is_said(tiny_folder):
    for device in ("cuda:7", "toaster"):
        with pytest.raises(ModelUnavailable, match="cannot be used here"):
            Generator.from_spec(tiny.spec(tiny_folder), device)


def test_a_fused_lora_keeps_its_strength_and_its_place(tiny_folder):
    pytest.importorskip("torchao")
    generator = Generator.from_spec(tiny.spec(tiny_folder), "cpu", "int8")
    assert not any(isinstance(module, lora.LoraLayer) for module in generator.pipe.transformer.modules())
    with pytest.raises(ModelUnavailable, match="at strength 1"):
        draw(generator, lora_strength=0.5)
    with pytest.raises(ModelUnavailable, match="part of the weights"):
        generator.use_lora(None)
    assert draw(generator).shape == (1, tiny.SIZE, tiny.SIZE, 3)


def test_parts_cannot_come_to_a_card_that_is_not_there(tiny_folder):
    with pytest.raises(ModelUnavailable, match="needs a graphics card"):
        Generator.from_spec(tiny.spec(tiny_folder), "cpu", "bf16-offload")


@pytest.mark.parametrize("kept", ["bf16", "int8", "int4"])
def test_parts_that_come_one_by_one_draw_the_same_image(kept, tiny_folder, monkeypatch):
    """Each part comes to the device while it works, which is the CPU here, and leaves it for the next."""
    pytest.importorskip(PACKAGES[kept])
    whole = Generator.from_spec(tiny.spec(tiny_folder), "cpu", kept)
    way = loading.memory.WAYS[f"{kept}-offload"]
    monkeypatch.setattr(loading.memory, "plan", lambda *_: loading.memory.Plan(way, 0.1, 0.1))
    parted = Generator.from_spec(tiny.spec(tiny_folder), "cpu")
    hooked, came = (parted.pipe.text_encoder_2, parted.pipe.transformer, parted.pipe.vae), []
    for part in hooked:
        hook = part._hf_hook
        monkeypatch.setattr(hook, "pre_forward", lambda module, *args, _pre=hook.pre_forward, **more: (
            came.append(type(module).__name__), _pre(module, *args, **more))[1])  # fmt: skip
    assert (draw(parted) == draw(whole)).all() and parted.arithmetic == whole.arithmetic == f"{kept} on cpu"
    assert [name for i, name in enumerate(came) if came[i - 1 : i] != [name]] == [
        type(part).__name__ for part in hooked
    ]
    if not way.quantised:
        parted.use_lora(None)
        assert (draw(parted) == draw(whole, lora_strength=0.0)).all()


def test_running_out_of_the_cards_memory_offers_a_smaller_way_and_leaves_the_model_usable(tiny_folder, monkeypatch):
    """In the second step of a run, of a model as large as FLUX.1 on a card of 48 GB."""
    generator = Generator.from_spec(tiny.spec(tiny_folder), "cpu")
    before = draw(generator)
    computed, emptied, velocity = [], [], generator._velocity

    def full(x, *more):
        step = velocity(x, *more) + 0
        computed.append(weakref.ref(step))
        if len(computed) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step

    with monkeypatch.context() as patch:
        patch.setattr(generator, "_velocity", full)
        patch.setattr(generator, "plan", loading.memory.plan(FLUX, loading.memory.Free(48, 64)))
        patch.setattr(generator, "spec", replace(generator.spec, weights=FLUX.weights))
        patch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(not any(one() is not None for one in computed)))
        way_out = r"ran out of memory\. Draw fewer .* --memory bf16-offload, .*, which takes about 23.3 GB"
        with pytest.raises(ModelUnavailable, match=way_out):
            draw(generator)
    assert len(computed) == 2 and emptied == [True], "what was computed is let go before the memory is given back"
    assert (draw(generator) == before).all()


def test_the_fingerprint_changes_with_any_weight_of_a_small_model(tiny_folder, tmp_path):
    folder = tmp_path / "pipeline" / "transformer"
    folder.mkdir(parents=True)
    (folder.parent / "model_index.json").write_text(
        '{"_class_name": "FluxPipeline", "transformer": ["diffusers", "X"]}'
    )
    weights = torch.zeros(100)
    seen = set()
    for place in (0, 50, 99):
        weights[place] = 1
        save_file({"a": weights}, folder / "model.safetensors")
        seen.add(loading.fingerprint(folder.parent))
    assert len(seen) == 3
    (folder.parent / "classifier").mkdir()
    save_file({"a": weights}, folder.parent / "classifier" / "model.safetensors")
    assert loading.fingerprint(folder.parent) in seen


def test_the_fingerprint_of_a_large_model_is_made_of_pieces_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "WHOLE", 1000)
    monkeypatch.setattr(loading, "PIECE", 100)
    folder = tmp_path / "pipeline" / "transformer"
    folder.mkdir(parents=True)
    (folder.parent / "model_index.json").write_text(
        '{"_class_name": "FluxPipeline", "transformer": ["diffusers", "X"]}'
    )
    seen = set()
    for value in (0, 1):
        save_file({"a": torch.full((10_000,), value)}, folder / "model.safetensors")
        seen.add(loading.fingerprint(folder.parent))
    assert len(seen) == 2
