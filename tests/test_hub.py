"""What can go wrong between here and the Hub, simulated with its own client: a full disk, a LoRA out of reach."""

import errno
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fake_hub
import pytest
from huggingface_hub import HfApi, constants, file_download

from dermaflux import hub as the_hub
from dermaflux.errors import ModelUnavailable
from dermaflux.models import MODELS, LoraSpec

LARGE, SMALL = "transformer/diffusion_pytorch_model.safetensors", "model_index.json"
FILES = {SMALL: b"{}", LARGE: bytes(10 * fake_hub.PIECE)}
SPEC = replace(MODELS["flux1-schnell"], source="o/m", tiny_decoder=None)
LORA = LoraSpec("mine", "My LoRA", "o/m", "MIT", gigabytes=0.6)


class SmallDisk:
    """A file on a disk that has room for `room` bytes more."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of the Hub's client, which does not wait between two tries."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return tmp_path / "models--o--m"


@pytest.fixture
def ask(monkeypatch, cache):
    """Lets the client ask the server at an address instead of the Hub."""

    def at(address: str) -> None:
        api = HfApi(endpoint=address)
        for name in ("list_repo_files", "hf_hub_download", "snapshot_download"):
            monkeypatch.setattr(the_hub, name, getattr(api, name))

    return at


@pytest.fixture
def files(ask):
    """A Hub with a model's files."""
    with fake_hub.serving(FILES, LARGE) as (address, handler):
        handler.slow.clear()
        ask(address)
        yield handler


def test_a_disk_that_fills_half_way_is_said_and_once_there_is_room_the_rest_is_fetched(files, cache, monkeypatch):
    get = file_download.http_get
    with monkeypatch.context() as patch:
        patch.setattr(
            file_download, "http_get", lambda url, file, **more: get(url, SmallDisk(file, 3 * fake_hub.PIECE), **more)
        )
        with pytest.raises(ModelUnavailable, match=r"disk is full. It needs about 31.5 GB .*HF_HOME.* whole are kept"):
            the_hub.fetch(SPEC)
    folder = cache / "snapshots" / fake_hub.SHA
    assert (folder / SMALL).read_bytes() == b"{}" and not (folder / LARGE).exists()
    assert not list((cache / "blobs").glob("*.incomplete")), "half a file takes the room that is wanted"
    files.asked.clear()
    assert the_hub.fetch(SPEC) == folder and (folder / LARGE).read_bytes() == FILES[LARGE]
    assert [name for name in files.asked if name] == [LARGE], "what was whole is not fetched again"


@pytest.mark.parametrize(
    ("status", "code", "token", "said"),
    [
        (401, "GatedRepo", None, r"LoRA could not be downloaded\. It is gated \(MIT\): accept .*o/m and set HF_TOKEN"),
        (403, "GatedRepo", "hf_x", r"the account of your token has no access"),
        (404, "RepoNotFound", "hf_x", r"no such repository .* Check the name"),
        (503, "", None, r"answered 503\. Check HF_TOKEN and start again"),
    ],
)
def test_a_lora_that_the_hub_refuses_is_said_with_the_way_out(ask, monkeypatch, status, code, token, said):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ask(f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(the_hub, "get_token", lambda: token)
    try:
        with pytest.raises(ModelUnavailable, match=said):
            the_hub.fetch_lora(LORA)
    finally:
        server.shutdown()
        server.server_close()


def test_without_a_network_a_lora_says_so(ask, monkeypatch):
    ask("http://127.0.0.1:9")
    with pytest.raises(ModelUnavailable, match=r"My LoRA could not be downloaded\. The Hub cannot be reached"):
        the_hub.fetch_lora(LORA)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable, match=r"switched off \(HF_HUB_OFFLINE\)"):
        the_hub.fetch_lora(LORA)


def test_a_repository_without_safetensors_holds_no_lora(files):
    files.files = {"lora.bin": b"pickle"}
    with pytest.raises(ModelUnavailable, match=r"has no safetensors at o/m\. Name another"):
        the_hub.fetch_lora(LORA)


@pytest.mark.parametrize("source", ["no/such/folder/lora", "a b", "-/-"])
def test_what_is_neither_file_nor_name_is_said(cache, source):
    with pytest.raises(ModelUnavailable, match=r"Give a \.safetensors file, or OWNER/NAME"):
        the_hub.fetch_lora(replace(LORA, source=source))
