"""The same on a card: `python tests/benchmarks/gpu.py --model flux1-dev` prints the table of `run.py`, and what others
published beside it.

For a user with a card and access to the weights; it was run by this project on the embedded model only. Times are
medians of what ran warm; memory is the peak that torch reserved on the card.
"""

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from drawing import shortening
from run import exchanging, server
from timed import Row

from dermaflux.caption import caption
from dermaflux.generator import Generator
from dermaflux.lesion import plausible
from dermaflux.memory import AUTO, MEASURED, best_device
from dermaflux.model_files import FLUX1
from dermaflux.models import ModelSpec, SamplingOptions, find_model
from dermaflux.slot import Choice, GeneratorSlot

REPEATS = 3
SIZE, STEPS = 1024, 50
"""With which MEASURED and SECONDS were published, guidance 3.5, on one H100 of 80 GB."""
SECONDS = {"bf16": 12, "bf16-offload": 20, "int8": 15, "int4": 12, "int8-offload": 26, "int4-offload": 17}
"""For one image of FLUX.1-dev (huggingface.co/blog/diffusers-quantization)."""
THRESHOLD, SHORTENED = 0.08, 17.0 / 26.4
"""A first-block cache on one L20, 28 steps (github.com/chengzeyi/ParaAttention)."""

Line = tuple[str, str, str]
"""What was measured, here, and as published by others."""


def timed(action: Callable[[], object]) -> float:
    """How long `action` takes, the card's work included, in seconds."""
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def line(row: Row, published: str = "") -> Line:
    return row.what, f"{row.measured:.3g} {row.unit}".strip(), published


def is_compared(spec: ModelSpec) -> bool:
    """Whether it is the model of which others published figures: FLUX.1-dev."""
    return spec.weights == FLUX1 and spec.steps > 4


def drawing(generator: Generator) -> Iterator[Line]:
    """One image of each size of the model, and of FLUX.1 that of which others published time and memory."""
    spec, way = generator.spec, generator.plan.way.name
    compared = is_compared(spec)
    for size in (*spec.sizes, *([SIZE] if compared else [])):
        options = SamplingOptions.defaults(spec, candidates=1)
        options = replace(options, size=size, steps=STEPS if size == SIZE and compared else spec.steps)
        draw = lambda i=0, options=options: deque(generator.sample(caption(plausible(i)), options), maxlen=0)
        first = timed(lambda draw=draw, options=options: next(generator.sample(caption(plausible(1)), options)))
        draw()
        taken = statistics.median(timed(draw) for _ in range(REPEATS))
        published = f"{SECONDS.get(way, '')} s" if size == SIZE and compared else ""
        yield f"First preview of {size} px", f"{first:.2f} s", ""
        yield f"One image of {size} px, {options.steps} steps", f"{taken:.2f} s", published
    if torch.cuda.is_available():
        peak = f"{torch.cuda.max_memory_reserved() / 2**30:.1f} GB"
        yield "Peak memory on the card", peak, f"{MEASURED.get(way, '')} GB" if compared else ""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("model", "flux1-dev"), ("lora", "default"), ("memory", AUTO), ("device", best_device())):
        parser.add_argument(f"--{name}", default=default)
    asked = parser.parse_args()
    with server("--model", asked.model, "--lora", asked.lora, "--device", asked.device) as (_, _, taken):
        lines = [("`python app.py` to the first HTTP answer", f"{taken:.2f} s", "")]
    spec = find_model(asked.model, asked.lora)
    load = lambda choice: Generator.from_spec(choice.spec, asked.device, choice.memory)
    slot = GeneratorSlot(Choice(spec, asked.memory), load)
    start = timed(slot)
    lines.append((f"Loading {spec.title}, {slot().plan.way.title}", f"{start:.1f} s", ""))
    lines += drawing(slot())
    for row in shortening(slot(), (THRESHOLD, 0.12, 0.2), REPEATS):
        known = is_compared(spec) and row.what.startswith(f"First-block cache {THRESHOLD} /")
        lines.append(line(row, f"{SHORTENED:.2f} x" if known else ""))
    if spec.lora and not slot().plan.way.quantised:
        lines += map(line, exchanging(slot, REPEATS))
    if torch.cuda.is_available():
        print(f"{torch.cuda.get_device_name()}, ", end="")
    print(f"torch {torch.__version__}\n\n| Measured | Here | Published by others |\n|---|---|---|")
    print("\n".join(f"| {what} | {here} | {others} |" for what, here, others in lines))


if __name__ == "__main__":
    main()
