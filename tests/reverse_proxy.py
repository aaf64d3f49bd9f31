"""A small reverse proxy, as nginx would be set up: the page of another server under a prefix of its own address."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"}
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]


@contextmanager
def proxied(address: str, prefix: str) -> Iterator[str]:
    """The address at which the server at `address` is served under `prefix`, such as /skin, which it never sees."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = Starlette(routes=[Route(prefix + "/{path:path}", _pass_on(address.rstrip("/"), port), methods=METHODS)])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", proxy_headers=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}{prefix}/"
    server.should_exit = server.force_exit = True
    thread.join(10)


def _pass_on(target: str, port: int):
    client = httpx.AsyncClient(timeout=120)

    async def endpoint(request: Request) -> StreamingResponse:
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        before = [request.headers["x-forwarded-for"]] if "x-forwarded-for" in request.headers else []
        headers["x-forwarded-for"] = ", ".join((*before, request.client.host))
        headers |= {"x-forwarded-proto": "http", "x-forwarded-host": f"127.0.0.1:{port}"}
        url = httpx.URL(target + "/" + request.path_params["path"], query=request.url.query.encode())
        asked = client.build_request(request.method, url, headers=headers, content=request.stream())
        found = await client.send(asked, stream=True)
        kept = {name: value for name, value in found.headers.items() if name not in HOP_BY_HOP}
        return StreamingResponse(found.aiter_raw(), found.status_code, kept, background=BackgroundTask(found.aclose))

    return endpoint
