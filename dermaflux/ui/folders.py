"""Folders for the files that visitors make, removed after a day."""

import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "dermaflux-"
DELETE_EVERY, DELETE_OLDER = 3600, 86400
"""In seconds: how often gradio looks for old files in its cache, and the age at which they are deleted."""


def new_folder() -> Path:
    """An empty temporary folder; those made here more than DELETE_OLDER seconds ago are removed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime > DELETE_OLDER:
                shutil.rmtree(folder)
        except OSError:  # another visitor's event was first, or the folder is another user's
            continue
    return Path(tempfile.mkdtemp(prefix=PREFIX))


def remove(paths) -> None:
    """Remove the files at `paths` and the folders that this leaves empty."""
    for path in map(Path, paths):
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
