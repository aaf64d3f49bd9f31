"""Speed and memory of the app on this machine: `python tests/benchmarks/run.py` prints a Markdown table.

Run it on an idle machine. Times are medians; whatever is timed has run once before, but for the start of the server.
"""

import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil
import torch
from drawing import REPEATS, choosing, drawing, leading, narrowing, shortening
from gradio_client import Client, handle_file
from PIL import Image
from timed import FRESH, ROOT, Row, alternated, median_seconds, seconds

from dermaflux import saliency
from dermaflux.caption import caption, read
from dermaflux.classifier import Classifier
from dermaflux.generator import Generator
from dermaflux.lesion import plausible
from dermaflux.models import MODELS, SamplingOptions
from dermaflux.slot import Choice, GeneratorSlot

STARTS, START_LIMIT = 3, 60.0


def exchanging(slot: GeneratorSlot, repeats: int = REPEATS) -> list[Row]:
    """Another LoRA beside another model, and a caption that was encoded before beside one that was not.

    slot: its model takes its own place, under another name.
    """
    choice, spec = slot.choice, slot.spec
    options = SamplingOptions.defaults(spec, steps=1)
    other = replace(spec, lora=replace(spec.lora, name="again"))
    switch = lambda i: slot.exchange(replace(choice, spec=replace(spec, name=f"{spec.name} {i}")))
    swap = lambda i: slot.exchange(replace(slot.choice, spec=replace(slot.spec, lora=(spec if i % 2 else other).lora)))
    encode = lambda text: slot()._encode(text, options.lora_strength)
    known, texts = caption(plausible(0)), {i: caption(plausible(10 * i)) for i in range(FRESH, FRESH + repeats + 1)}
    met, new = (lambda i: encode(known)), (lambda i: encode(texts[i]))
    for action in (switch, swap, met):
        action(0)
    return [
        Row("A caption met before / a new one, encoding", alternated(met, new, repeats), None, "x"),
        Row(f"Another model: release and load {spec.name}", median_seconds(switch, range(1, repeats + 1)), None, "s"),
        Row("Another LoRA / another model", alternated(swap, switch, repeats), None, "x"),
    ]


def judging(classifier: Classifier, image: Image.Image) -> Row:
    """A prediction with its Grad-CAM overlay."""

    def once() -> None:
        classifier.predict([image])
        saliency.overlay(image, saliency.explain(classifier, image))

    once()
    return Row("Classification with Grad-CAM", statistics.median(seconds(once) for _ in range(REPEATS)), 0.5, "s")


def reading() -> Row:
    """The slowest of texts that try a reader's patience."""
    units = ("-", "1", "light, ", "asymmetr", "(" * 9 + " ", caption(plausible(3)) + " ")
    slowest = max(statistics.median(seconds(read, unit * (20_000 // len(unit))) for _ in range(3)) for unit in units)
    return Row("Reading a caption of 20,000 characters", slowest, 2, "s")


@contextmanager
def server(*flags: str) -> Iterator[tuple[subprocess.Popen, str, float]]:
    """A running `python app.py` with `flags`: its process, its address, and the seconds until its first answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, start = f"http://127.0.0.1:{port}/", time.perf_counter()
    command = [sys.executable, "app.py", "--host", "127.0.0.1", "--port", str(port), *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not answers(url):
            if process.poll() is not None or time.perf_counter() - start > START_LIMIT:
                raise SystemExit(f"app.py did not answer within {START_LIMIT:.0f} s.")
            time.sleep(0.02)
        yield process, url, time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    """Whether the server answers with HTTP 200."""
    try:
        with urllib.request.urlopen(url, timeout=START_LIMIT) as response:
            return response.status == 200
    except OSError:
        return False


def serving() -> list[Row]:
    """Start-up of the server, and its resident memory after one image was drawn and classified."""
    starts = []
    for last in (*[False] * (STARTS - 1), True):
        with server() as (process, url, taken):
            starts.append(taken)
            if not last:
                continue
            client = Client(url, verbose=False)
            [drawn] = client.predict(api_name="/generate")
            client.predict(handle_file(drawn), api_name="/classify")
            parts = (process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True)))
            memory = sum(psutil.Process(pid).memory_info().rss for pid in parts) / 1e6
    return [
        Row("`python app.py` to the first HTTP answer", statistics.median(starts), 5, "s"),
        Row("Resident memory after one drawing and classification", memory, 2500, "MB"),
    ]


def main() -> None:
    """Measure everything and print the table."""
    start, memory = serving()
    spec = MODELS["nano"]
    slot = GeneratorSlot(Choice(spec), lambda choice: Generator.from_spec(choice.spec, "cpu", choice.memory))
    generator = slot()
    *_, drawn = generator.sample(caption(plausible(0)), SamplingOptions.defaults(generator.spec))
    rows = [
        start,
        *drawing(generator),
        *choosing(generator),
        *shortening(generator),
        leading(generator),
        *narrowing(generator),
        *exchanging(slot),
        judging(Classifier.load("nano"), drawn.image),
        reading(),
        memory,
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores ({platform.machine()}), Python {platform.python_version()}, torch {torch.__version__}\n")
    print("| Measured | Target, at most | Here | Here / target | Met |\n|---|---|---|---|---|")
    print("\n".join(row.markdown() for row in rows))


if __name__ == "__main__":
    main()
