"""Folders for the files that visitors make: within one of this process, which goes when it ends."""

import atexit
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

DELETE_EVERY, DELETE_OLDER = 3600, 86400
"""In seconds: how often old files are looked for, here and in gradio's cache, and the age at which they are deleted."""
KEPT, PASSING = "kept-", "passing-"


def new_folder(kept: bool = False) -> Path:
    """An empty folder that is removed a day later, or, if `kept`, by who asked for it: for files that a session holds,
    such as a gr.State with a delete_callback."""
    return Path(tempfile.mkdtemp(prefix=KEPT if kept else PASSING, dir=_own()))


def remove(paths) -> None:
    """Remove the files at `paths` and the folders that this leaves empty."""
    for path in map(Path, paths):
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def remove_old() -> None:
    """Remove the passing folders that are older than DELETE_OLDER."""
    for folder in _own().glob(f"{PASSING}*"):
        with suppress(FileNotFoundError):  # somebody else may remove it meanwhile
            if time.time() - folder.stat().st_mtime > DELETE_OLDER:
                shutil.rmtree(folder, ignore_errors=True)


@cache
def _own() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="dermaflux-page-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    threading.Thread(target=_keep_removing, daemon=True).start()
    return folder


def _keep_removing() -> None:
    while True:
        time.sleep(DELETE_EVERY)
        remove_old()
