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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from gradio_client import Client, handle_file
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dermaflux import saliency  # noqa: E402
from dermaflux.caption import caption, read  # noqa: E402
from dermaflux.classifier import Classifier  # noqa: E402
from dermaflux.generator import Generator, Sample  # noqa: E402
from dermaflux.lesion import plausible  # noqa: E402
from dermaflux.models import MAX_IMAGES, MODELS, ModelSpec, SamplingOptions  # noqa: E402
from dermaflux.slot import Choice, GeneratorSlot  # noqa: E402

STARTS, REPEATS, BATCH_REPEATS = 3, 7, 3
THRESHOLDS = (0.12, 0.2)
START_LIMIT = 60.0
FRESH = 1000
"""Captions from this seed on were not drawn before, so that none of their embeddings is at hand."""


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, in which unit, and the most that it may be, where that was said."""

    what: str
    measured: float
    target: float | None
    unit: str

    def markdown(self) -> str:
        """The line in Markdown."""
        if self.target is None:
            return f"| {self.what} | | {self.measured:.3g} {self.unit} | | |"
        met = "yes" if self.measured <= self.target else "**no**"
        measured, target = (
            f"{value:.0f}" if value >= 100 else f"{value:.2f}" for value in (self.measured, self.target)
        )
        share = f"{self.measured / self.target:.2f}"
        return f"| {self.what} | {target} {self.unit} | {measured} {self.unit} | {share} | {met} |"


def seconds(action: Callable[..., object], *arguments: object) -> float:
    """How long one call of `action` takes."""
    start = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - start


def median_seconds(action: Callable[[int], object], arguments: Iterable[int]) -> float:
    """The median of how long the calls of `action` take."""
    return statistics.median(seconds(action, one) for one in arguments)


def alternated(one: Callable[[int], object], other: Callable[[int], object], repeats: int) -> float:
    """Median over `repeats` of the time of `one(i)` over that of `other(i)`, each going first every other time."""
    ratios = []
    for i in range(FRESH, FRESH + repeats + 1):
        order = (one, other) if i % 2 else (other, one)
        times = {action: seconds(action, i) for action in order}
        ratios.append(times[one] / times[other])
    return statistics.median(ratios[1:])


def drawing(generator: Generator) -> list[Row]:
    """The sampling stream at default settings: first preview, whole image, against the bare pipeline, in batches.

    One candidate each, but for the whole image.
    """
    spec = replace(generator.spec, candidates=1)

    def stream(i: int, spec: ModelSpec = spec) -> list[float]:
        start, lesion = time.perf_counter(), plausible(i)
        run = generator.sample(caption(lesion), SamplingOptions.defaults(spec, seeds=(i,)), attributes=lesion)
        return [time.perf_counter() - start for _ in run]

    def bare(i: int) -> None:
        generator.pipe(
            caption(plausible(i)),
            num_inference_steps=spec.steps,
            guidance_scale=spec.guidance,
            height=spec.size,
            width=spec.size,
            max_sequence_length=spec.max_sequence_length,
            generator=torch.Generator("cpu").manual_seed(i),
        )

    def run(seeds: Iterable[int]) -> None:
        deque(generator.sample(caption(plausible(0)), SamplingOptions.defaults(spec, seeds=tuple(seeds))), maxlen=0)

    def together(i: int) -> None:
        run(range(i, i + MAX_IMAGES))

    def bulk(i: int) -> None:
        each(generator, range(i, i + MAX_IMAGES))

    def singly(i: int) -> None:
        for seed in range(i, i + MAX_IMAGES):
            each(generator, [seed])

    def apart(i: int) -> None:
        for seed in range(i, i + MAX_IMAGES):
            run([seed])

    stream(0)
    first, once = zip(*((times[0], times[-1]) for times in map(stream, range(1, REPEATS + 1))), strict=True)
    whole = [stream(i, generator.spec)[-1] for i in range(1, REPEATS + 1)]
    return [
        Row("First preview", statistics.median(first), 1, "s"),
        Row("One candidate", statistics.median(once), None, "s"),
        Row(f"One image, up to {generator.spec.candidates} candidates", statistics.median(whole), 3, "s"),
        Row("Stream with previews / bare `FluxPipeline` call", alternated(stream, bare, REPEATS), 1.10, "x"),
        Row("8 images in one run / eight runs", alternated(together, apart, BATCH_REPEATS), 0.7, "x"),
        Row("8 captions at once, as in bulk / one at a time", alternated(bulk, singly, BATCH_REPEATS), 0.67, "x"),
    ]


def each(generator: Generator, seeds: Iterable[int], **changes) -> list[Sample]:
    """An image of another lesion for each of `seeds`, as bulk synthesis draws them, one candidate each."""
    options = SamplingOptions.defaults(generator.spec, seeds=tuple(seeds), candidates=1, **changes)
    lesions = [plausible(i) for i in seeds]
    return list(generator.sample_each([caption(lesion) for lesion in lesions], options, lesions))


def leading(generator: Generator) -> Row:
    """A contrast of 1 beside none: time in bulk."""
    led, plain = (
        lambda i, contrast=one: each(generator, range(i, i + MAX_IMAGES), contrast=contrast) for one in (1, 0)
    )
    led(0)
    return Row("Contrast 1 / without, 8 captions at once", alternated(led, plain, BATCH_REPEATS), None, "x")


def narrowing(generator: Generator) -> list[Row]:
    """16-bit numbers beside 32-bit ones: time in bulk, and how far the images are apart."""
    narrow = Generator.load("nano", memory="bf16")
    short, whole = (lambda i, drawn=drawn: each(drawn, range(i, i + MAX_IMAGES)) for drawn in (narrow, generator))
    pairs = zip(short(0), whole(0), strict=True)
    apart = statistics.mean(np.abs(np.subtract(a.image, b.image, dtype=float)).mean() for a, b in pairs)
    return [
        Row("16 bits / 32 bits, 8 captions at once", alternated(short, whole, BATCH_REPEATS), None, "x"),
        Row("16 bits: mean difference of the images, of 255 grey levels", apart, None, ""),
    ]


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


def shortening(generator: Generator, thresholds: Iterable[float] = THRESHOLDS, repeats: int = REPEATS) -> Iterator[Row]:
    """The first-block cache beside steps that are all computed in full: time, and how far the images are apart."""

    def drawn(i: int, threshold: float) -> np.ndarray:
        options = SamplingOptions.defaults(generator.spec, seeds=(i,), candidates=1, first_block_cache=threshold)
        items = generator.sample(caption(plausible(i)), options)
        return np.stack([np.asarray(item.image, float) for item in items if isinstance(item, Sample)])

    for threshold in thresholds:
        short, whole = (lambda i, t=threshold: drawn(i, t)), (lambda i: drawn(i, 0.0))
        apart = statistics.mean(np.abs(short(i) - whole(i)).mean() for i in range(repeats))
        title = f"First-block cache {threshold:g}"
        yield Row(f"{title} / every step in full", alternated(short, whole, repeats), None, "x")
        yield Row(f"{title}: mean difference of the images, of 255 grey levels", apart, None, "")


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
