"""Prove that the repository serves as a Space does: in a new environment that holds requirements.txt and nothing else.

Usage: python tests/benchmarks/space.py [--python python3.12]. Makes the environment in a temporary folder, starts
app.py with the variables that Spaces sets, draws and classifies over HTTP, and says how long each part took. It needs
a package index and several GB of disk, so it is no test.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAIN_JOB = """
import sys
from gradio_client import Client, handle_file
client = Client(sys.argv[1], verbose=False, download_files=sys.argv[2])
png, = client.predict(label="malignant", asymmetry=2, border=5, colours=["dark brown"], seed=7, api_name="/generate")
print(client.predict(handle_file(png), api_name="/classify"))
"""


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - started:.0f} s", flush=True)


def environment(port: int, home: Path) -> dict[str, str]:
    """What a Space on free hardware sets, without anything of this machine's user."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "PIP_INDEX_URL", "PIP_CONFIG_FILE") if name in os.environ
    }
    return kept | {
        "HOME": str(home),
        "SYSTEM": "spaces",
        "SPACE_ID": "somebody/dermaflux",
        "SPACE_AUTHOR_NAME": "somebody",
        "SPACE_REPO_NAME": "dermaflux",
        "SPACE_HOST": "somebody-dermaflux.hf.space",
        "SPACE_TITLE": "DermaFlux",
        "CPU_CORES": "2",
        "MEMORY": "16Gi",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
    }


def runs(python: str) -> bool:
    """Whether there is such an interpreter, and it starts: a shim of a version manager may not."""
    return bool(shutil.which(python)) and not subprocess.run([python, "--version"], capture_output=True).returncode


def wait_for(address: str, server: subprocess.Popen, patience_s: int) -> None:
    """Until the page answers. Raises RuntimeError if it ends before, or does not in time."""
    for _ in range(10 * patience_s):
        try:
            urllib.request.urlopen(address, timeout=5).read()
            return
        except (urllib.error.URLError, OSError):
            if server.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError("The page did not answer.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = next((name for name in ("python3.12", "python3.11") if runs(name)), sys.executable)
    parser.add_argument("--python", default=default, help=f"default: {default}")
    parser.add_argument("--patience", type=int, default=120, metavar="S", help="for the page and for its main job")
    given = parser.parse_args()
    chosen = given.python
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        home = Path(folder)
        python, space = home / "venv" / "bin" / "python", home / "space"
        with timed("Copying what a deployment sends"):
            for part in ("app.py", "requirements.txt", "README.md", "dermaflux", "assets"):
                copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
                space.mkdir(exist_ok=True)
                copy(ROOT / part, space / part)
        with timed(f"{chosen} -m venv, pip install -r requirements.txt"):
            subprocess.run([chosen, "-m", "venv", home / "venv"], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "-r", space / "requirements.txt"], check=True)
        address = f"http://127.0.0.1:{port}/"
        with timed("python app.py to the first answer, drawing and classifying"):
            server = subprocess.Popen([python, "app.py"], cwd=space, env=environment(port, home))
            try:
                wait_for(address, server, given.patience)
                subprocess.run([python, "-c", MAIN_JOB, address, folder], check=True, timeout=given.patience)
            finally:
                server.terminate()
                server.wait(30)
    print("The Space's main job is done.")


if __name__ == "__main__":
    main()
