"""The same on a card: `python tests/benchmarks/gpu.py --model flux1-dev` draws, exchanges the LoRA and prints a table.

For a user with a card and access to the weights; it was never run by this project. Times are medians of what ran warm;
memory is the peak that torch allocated on the card.
"""

import argparse
import statistics
import sys
import time
from collections import deque
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dermaflux.caption import caption
from dermaflux.generator import Generator
from dermaflux.lesion import plausible
from dermaflux.memory import AUTO, MEASURED
from dermaflux.models import SamplingOptions, find_model

REPEATS = 3
PEERS = (
    ("FLUX.1-dev, bf16 on the card, 1024 px (published by others)", f"{MEASURED['bf16']} GB"),
    ("FLUX.1-dev, bf16 with offload (published by others)", f"{MEASURED['bf16-offload']} GB"),
    ("FLUX.1-dev, 8 bits on the card (published by others)", f"{MEASURED['int8']} GB"),
    ("FLUX.1-dev, 4 bits on the card (published by others)", f"{MEASURED['int4']} GB"),
)


def timed(action) -> float:
    """How long `action` takes, the card's work included, in seconds."""
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("model", "flux1-dev"), ("lora", "default"), ("memory", AUTO), ("device", None)):
        parser.add_argument(f"--{name}", default=default)
    asked = parser.parse_args()
    spec, loaded = find_model(asked.model, asked.lora), []
    start = timed(lambda: loaded.append(Generator.from_spec(spec, asked.device, asked.memory)))
    (generator,) = loaded
    rows = [(f"Loading {spec.title}, {generator.plan.way.title}", f"{start:.1f} s")]
    for size in spec.sizes:
        options = SamplingOptions.defaults(spec, size=size)
        draw = lambda i=0, options=options: deque(generator.sample(caption(plausible(i)), options), maxlen=0)
        draw()
        taken = statistics.median(timed(draw) for _ in range(REPEATS))
        rows.append((f"One image of {size} px, {options.steps} steps", f"{taken:.2f} s"))
        rows.append((f"A step of {size} px", f"{taken / options.steps:.3f} s"))
    if spec.lora and not generator.plan.way.quantised:
        swap = lambda: (generator.use_lora(None), generator.use_lora(spec.lora))
        rows.append(("The LoRA off and on again", f"{timed(swap):.2f} s"))
    if torch.cuda.is_available():
        rows.append(("Peak memory on the card", f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GB"))
        print(f"{torch.cuda.get_device_name()}, ", end="")
    print(f"torch {torch.__version__}\n\n| Measured | Here |\n|---|---|")
    print("\n".join(f"| {what} | {value} |" for what, value in (*rows, *PEERS)))


if __name__ == "__main__":
    main()
