"""A download in a process of its own, so that it can be ended at once, whatever it waits for."""

import multiprocessing
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from os import devnull
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from tqdm import tqdm

from dermaflux import hub
from dermaflux.errors import ModelUnavailable
from dermaflux.models import ModelSpec
from dermaflux.workers import end_with_parent

LOOK_EVERY = 0.2
"""Seconds between two reports, and the longest that it takes to end."""
_UNFINISHED = re.compile(r"\.[0-9a-f]{8}\.incomplete$")
"""What the library calls a file on its way here, which no later download goes on with."""


@dataclass(frozen=True)
class Progress:
    """How much is here of what is known to be needed, in bytes."""

    done: int = 0
    total: int = 0


def fetching(spec: ModelSpec) -> Iterator[Progress]:
    """Bring the model of `spec`, its LoRA and its tiny decoder here, telling every LOOK_EVERY seconds how far it is.

    Closing the iterator ends it; files that are whole stay and are not fetched again. Raises ModelUnavailable.
    """
    if Path(spec.source).is_dir() and (spec.lora is None or Path(spec.lora.source).exists()):
        return
    kept = set(_unfinished(spec))
    start = multiprocessing.get_context("spawn")
    ours, theirs = start.Pipe(duplex=False)
    process = start.Process(target=_work, args=(spec, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield from _reports(ours, spec)
    finally:
        process.kill()
        process.join()
        for path in set(_unfinished(spec)) - kept:
            path.unlink(missing_ok=True)


def _reports(ours: Connection, spec: ModelSpec) -> Iterator[Progress]:
    progress = Progress()
    while True:
        if ours.poll(LOOK_EVERY):
            try:
                said = ours.recv()
            except EOFError:
                raise ModelUnavailable(f"The download of {spec.title} broke off. Start again; {hub.KEPT}.") from None
            if said is None:
                return
            if isinstance(said, str):
                raise ModelUnavailable(said)
            progress = Progress(*said)
        yield progress


def _work(spec: ModelSpec, theirs: Connection) -> None:
    """Send (done, total) while it goes on, then None, or the sentence of what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this process decides
    end_with_parent()
    try:
        hub.fetch(spec, bar=_bar(theirs))
        if spec.lora:
            hub.fetch_lora(spec.lora)
        hub.fetch_tiny_decoder(spec)
        theirs.send(None)
    except ModelUnavailable as error:
        theirs.send(str(error))


def _bar(theirs: Connection) -> type[tqdm]:
    """Bars that are not shown but sent: of those that count bytes, that which has counted the most."""
    seen, lock, sent = {}, threading.Lock(), [0.0]
    nowhere = open(devnull, "w")  # noqa: SIM115

    class Sent(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs | dict(file=nowhere, disable=False))

        def update(self, n=1):
            super().update(n)
            if self.unit != "B":
                return
            with lock:
                seen[id(self)] = (int(self.n), int(self.total or 0))
                if time.monotonic() - sent[0] >= LOOK_EVERY / 2:
                    sent[0] = time.monotonic()
                    theirs.send(max(seen.values()))

    return Sent


def _unfinished(spec: ModelSpec) -> Iterator[Path]:
    """The files in the Hub's cache that were, or are, on their way for `spec`."""
    for source in filter(None, (spec.source, spec.lora and spec.lora.source, spec.tiny_decoder)):
        folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=source, repo_type="model"), "blobs")
        yield from (path for path in folder.glob("*.incomplete") if _UNFINISHED.search(path.name))
