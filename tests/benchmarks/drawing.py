"""What drawing takes: the rows of the benchmarks that need a generator alone."""

import statistics
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
from timed import Row, alternated

from dermaflux import candidates, lora
from dermaflux.caption import caption
from dermaflux.generator import Generator, Sample
from dermaflux.lesion import plausible
from dermaflux.models import MAX_IMAGES, ModelSpec, SamplingOptions

REPEATS, BATCH_REPEATS = 7, 3
THRESHOLDS = (0.12, 0.2)


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


def choosing(generator: Generator) -> list[Row]:
    """An image's candidates drawn together beside one after another, and a LoRA folded into the weights beside one that
    is computed by itself."""

    def drawn(i: int, at_once: int) -> None:
        lesion = plausible(i)
        with patch.object(candidates, "AT_ONCE", at_once):
            options = SamplingOptions.defaults(generator.spec, seeds=(i,))
            deque(generator.sample(caption(lesion), options, attributes=lesion), maxlen=0)

    def adapted(i: int, folded: bool) -> None:
        lora.set_strength(generator.pipe, generator.spec.lora.strength)
        if folded:
            lora.fold(generator.pipe)
        each(generator, [i])

    together, in_turn = (lambda i, count=count: drawn(i, count) for count in (candidates.AT_ONCE, 1))
    folded, beside = (lambda i, whole=whole: adapted(i, whole) for whole in (True, False))
    rows = [
        Row("Candidates drawn together / one after another", alternated(together, in_turn, REPEATS), None, "x"),
        Row("A LoRA folded in / beside the weights, one candidate", alternated(folded, beside, REPEATS), None, "x"),
    ]
    folded(0)  # as it was
    return rows


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
