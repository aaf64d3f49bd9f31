"""A server in the place of the Hugging Face Hub, for one model whose large file comes slowly."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "1" * 40
PIECE = 2**16


class Hub(BaseHTTPRequestHandler):
    """Serves `files` of any model at one revision; those that `slow` names stand still while it says so."""

    files: Mapping[str, bytes]
    slow: dict[str, bool]
    asked: list[str]

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        if "/resolve/" in path:
            name = path.partition("/resolve/")[2].partition("/")[2]
            return self.send(self.files[name], name if body else None)
        if "/tree/" in path:
            listed = [dict(type="file", path=name, size=len(data), oid=etag(data)) for name, data in self.files.items()]
            return self.send(json.dumps(listed).encode(), "")
        known = dict(id="o/m", sha=SHA, siblings=[dict(rfilename=name) for name in self.files])
        self.send(json.dumps(known).encode(), "")

    def send(self, data: bytes, name: str | None) -> None:
        self.send_response(200)
        for header, value in {"ETag": f'"{etag(data)}"', "X-Repo-Commit": SHA, "Content-Length": len(data)}.items():
            self.send_header(header, str(value))
        self.end_headers()
        if name is None:
            return
        self.asked.append(name)
        with suppress(ConnectionError):  # who asked has gone
            for start in range(0, len(data), PIECE):
                self.wfile.write(data[start : start + PIECE])
                self.wfile.flush()
                while self.slow.get(name):
                    time.sleep(0.02)

    def log_message(self, *_):
        pass


def etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def serving(files: Mapping[str, bytes], slow: str) -> Iterator[tuple[str, type[Hub]]]:
    """The address of a Hub with `files`, and its class; the file `slow` stands still after its first piece."""
    handler = type("Serving", (Hub,), dict(files=files, slow={slow: True}, asked=[]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        handler.slow.clear()
        server.shutdown()
        server.server_close()


def of_folder(folder: Path) -> dict[str, bytes]:
    """The files of a model, as a Hub serves them."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
