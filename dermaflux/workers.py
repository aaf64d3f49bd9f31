"""Processes that end when the one that began them does, even if it is killed."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread


def pool_of(count: int | None = None) -> ProcessPoolExecutor:
    """`count` processes, or one a core, each of which works with one core."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin)


def end_with_parent() -> None:
    """Let this process end as soon as the one that began it has; a killed one does not tell its own to."""
    Thread(target=_await_end, args=(parent_process(),), daemon=True).start()


def end_with_input() -> None:
    """Let this process end as soon as its standard input does, which brings nothing and ends with who holds it."""
    Thread(target=_await_input, daemon=True).start()


def _await_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


def _await_end(parent) -> None:
    parent.join()
    os._exit(1)


def _begin() -> None:
    import cv2

    cv2.setNumThreads(1)
    end_with_parent()
