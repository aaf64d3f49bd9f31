"""Phantoms drawn by all cores, as one uint8 tensor."""

from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from dermaflux import phantom
from dermaflux.workers import pool_of


def draw_phantoms(count: int, size: int, seed: int) -> torch.Tensor:
    """`count` phantoms of random attributes: (count, 3, size, size) uint8 RGB."""
    pixels, first = np.empty((count, size, size, 3), np.uint8), seed * 1_000_003
    with pool_of() as pool:
        drawn = pool.map(partial(_phantom, size), range(first, first + count), chunksize=32)
        for i, image in enumerate(tqdm(drawn, total=count, desc="drawing phantoms", mininterval=5)):
            pixels[i] = image
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _phantom(size: int, seed: int) -> np.ndarray:
    return phantom.draw(phantom.random_attributes(seed), seed=seed, size=size).image
