"""Phantoms drawn by all cores, as one uint8 tensor."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import cv2
import numpy as np
import torch
from tqdm import tqdm

from dermaflux import phantom


def draw_phantoms(count: int, size: int, seed: int) -> torch.Tensor:
    """`count` phantoms of random attributes: (count, 3, size, size) uint8 RGB."""
    pixels, first = np.empty((count, size, size, 3), np.uint8), seed * 1_000_003
    with workers() as pool:
        drawn = pool.map(partial(_phantom, size), range(first, first + count), chunksize=32)
        for i, image in enumerate(tqdm(drawn, total=count, desc="drawing phantoms", mininterval=5)):
            pixels[i] = image
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _phantom(size: int, seed: int) -> np.ndarray:
    return phantom.draw(phantom.random_attributes(seed), seed=seed, size=size).image


def workers() -> ProcessPoolExecutor:
    """Processes, one a core, for work on images."""
    return ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,))
