"""Measure `data check`: images a second of one core, and memory and time for a large manifest, on generated images.

Usage: python tests/benchmarks/data_check.py [--rows 500000] [--images 1000] [--side 256]. The rate is that of reading
and hashing JPEGs of SIDE px, by the processor's time, so that a busy machine does not count. The manifest's ROWS name
hard links to small images, each of another name; their hashes are those of few images, so that the search for near ones
is also measured on as many random hashes, with every thousandth a near copy.
"""

import argparse
import csv
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dermaflux.data import check  # noqa: E402

SMALL, FOLDER = 32, 10_000


def picture(seed: int, side: int) -> Image.Image:
    """A blurred field of skin colours with fine noise, which compresses about as a photograph does."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 230, (6, 6, 3), dtype=np.uint8)).resize((side, side), Image.BICUBIC)
    return Image.fromarray(np.clip(np.asarray(coarse) + rng.normal(0, 6, (side, side, 3)), 0, 255).astype(np.uint8))


def rate(folder: Path, images: int, side: int) -> float:
    """Images a second of one core."""
    paths = [folder / f"{seed}.jpg" for seed in range(images)]
    for seed, path in enumerate(paths):
        picture(seed, side).save(path, quality=90)
    check.look(paths[0])
    started = time.process_time()
    faults = [fault for _, _, fault in map(check.look, paths) if fault]
    assert not faults
    return images / (time.process_time() - started)


def large(folder: Path, rows: int, images: int) -> Path:
    """A manifest of so many hard links to so many images; those of one image are in one split."""
    for seed in range(images):
        picture(seed, SMALL).save(folder / f"{seed}.png")
    path = folder / "manifest.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "label", "split", "diagnosis", "source", "source_id", "age", "sex", "licence"))
        for row in range(rows):
            source, part = row % images, f"{row // FOLDER:03d}"
            if row % FOLDER == 0:
                (folder / part).mkdir()
            os.link(folder / f"{source}.png", folder / part / f"{row}.png")
            split, label = ("train", "val", "test")[source % 3], ("benign", "malignant")[row % 2]
            writer.writerow((f"{part}/{row}.png", label, split, "nevus", "generated", row, row % 90, "female", "CC0"))
    return path


def peak_mb(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 500_000), ("images", 1000), ("side", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    print("| Measured | Target | Here |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        found = rate(Path(name), options.images, options.side)
    print(f"| Images of {options.side} px a second, one core | over 200 | {found:.0f} |", flush=True)
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, options.rows, dtype=np.uint64)
    hashes[::1000] = np.roll(hashes, 1)[::1000] ^ np.uint64(0b101)
    started = time.process_time()
    near = sum(1 for _ in check.near_pairs(hashes, rng.integers(0, 3, options.rows).tolist()))
    print(
        f"| {options.rows:,} random hashes compared | | {time.process_time() - started:.0f} s, {near} pairs |",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as name:
        path = large(Path(name), options.rows, options.images)
        before, started = peak_mb(resource.RUSAGE_SELF), time.perf_counter()
        report = check.check(path)
        wall = time.perf_counter() - started
        assert report.counts.total() == options.rows and not report.faults
        peak = peak_mb(resource.RUSAGE_SELF)
        print(f"| A manifest of {options.rows:,} rows | | {wall:.0f} s of this machine's {os.cpu_count()} cores |")
        print(f"| Its peak memory, MB | under 1000 | {peak:.0f}, of which {before:.0f} before |")
        print(f"| Peak memory of a process that looks at images, MB | | {peak_mb(resource.RUSAGE_CHILDREN):.0f} |")


if __name__ == "__main__":
    main()
