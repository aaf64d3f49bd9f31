"""A server in place of the Hugging Face Hub: it keeps what it is sent, and refuses what a test says."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import HfApi


class Hub(BaseHTTPRequestHandler):
    """What a deployment and a dataset of ratings need; refuses requests with `refused` in their path by `status`."""

    seen, files, deleted, refused, status = [], {}, set(), "", 0
    private = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.seen.append((self.path, body))
        if self.refused and self.refused in self.path:
            return self.answer({"error": "no"}, self.status)
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]
            return self.answer({"files": modes})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "deletedFile":
                    self.deleted.add(line["value"]["path"])
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self.answer(
                {"commitUrl": "https://huggingface.co/spaces/o/n/commit/1", "commitOid": "1", "success": True}
            )
        if "/hardware" in self.path:
            hardware = json.loads(body)["flavor"]
            return self.answer({"stage": "BUILDING", "hardware": {"current": None, "requested": hardware}})
        if "/variables" in self.path:
            return self.answer({})
        kind = "datasets/" if json.loads(body).get("type") == "dataset" else "spaces/"
        self.answer({"url": f"https://huggingface.co/{kind}o/n", "name": "o/n", "id": "1"})

    def do_PUT(self):
        self.seen.append((self.path, self.rfile.read(int(self.headers["Content-Length"] or 0))))
        self.answer({"private": True})

    def do_GET(self):
        if "/tree/" in self.path:
            there = ("dermaflux/gone.py", "dermaflux/__init__.py", "notes.txt")
            return self.answer([{"type": "file", "oid": "1", "size": 1, "path": path} for path in there])
        if self.path.startswith("/api/datasets/o/n") and not self.refused:
            return self.answer({"id": "o/n", "private": self.private, "tags": [], "siblings": []})
        self.answer({"error": "Repository not found"}, 404)

    def answer(self, content: dict | list, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextmanager
def serving() -> Iterator[ThreadingHTTPServer]:
    """A hub that has been sent nothing yet; its handler class keeps what it is sent."""
    fresh = type("Answering", (Hub,), {"seen": [], "files": {}, "deleted": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), fresh)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def api(hub: ThreadingHTTPServer, token: str | bool = "hf_test") -> HfApi:
    return HfApi(endpoint=f"http://127.0.0.1:{hub.server_port}", token=token)
