"""HTTPS in front of a server that speaks HTTP, as the Hub sets its Spaces up, with a certificate made on the spot."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@contextmanager
def serving(folder: Path, port: int, behind: int) -> Iterator[None]:
    """Pass on what comes to `port` by HTTPS to the port `behind` by HTTP; the certificate lies in `folder`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(folder))
    loop, started = asyncio.new_event_loop(), threading.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            there, back = await asyncio.open_connection("127.0.0.1", behind)
            await asyncio.gather(_copy(reader, back), _copy(there, writer))

    async def serve() -> None:
        async with await asyncio.start_server(pass_on, "127.0.0.1", port, ssl=context):
            started.set()
            await asyncio.Event().wait()

    thread = threading.Thread(target=lambda: _until_cancelled(loop, serve()), daemon=True)
    thread.start()
    started.wait(10)
    yield
    loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
    thread.join(10)


def _until_cancelled(loop: asyncio.AbstractEventLoop, work) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(work)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


def _certificate(folder: Path) -> Path:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "front.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
