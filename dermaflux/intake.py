"""Images by name from files, folders and ZIPs."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from dermaflux.errors import InputError
from dermaflux.files import MANIFEST, REJECTED
from dermaflux.images import open_archive, open_untrusted

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_SIDE = 1024
"""Larger images are scaled down to this, as on the page."""


def opened(paths: Iterable[Path]) -> Iterator[tuple[str, Image.Image | InputError]]:
    """The images of files, of folders with all below them, and of ZIPs: (name, RGB image or what is wrong with it).

    A name is the path as it was given, going on with the path in the folder or ZIP. Images are at most MAX_SIDE px wide
    or high. In folders only files with an image's suffix count, and a folder without any is wrong. Passed over are
    names that begin with a dot, and beside a manifest the folder of the images that a screen rejected.
    """
    for path in paths:
        try:
            for name, image in _each(path):
                if not isinstance(image, InputError):
                    image.thumbnail((MAX_SIDE, MAX_SIDE))
                yield name, image
        except InputError as error:
            yield str(path), error


def _each(path: Path) -> Iterator[tuple[str, Image.Image | InputError]]:
    if path.is_dir():
        files = sorted(_below(path))
        if not files:
            raise InputError("The folder holds no images.")
        for file in files:
            yield str(file), _image(file)
    elif path.suffix.lower() == ".zip":
        for name, image in open_archive(path):
            yield f"{path}/{name}", image
    else:
        yield str(path), _image(path)


def _below(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        aside = {REJECTED} if MANIFEST in names else set()
        folders[:] = [name for name in folders if not name.startswith(".") and name not in aside]
        files = (Path(at, name) for name in names if not name.startswith("."))
        yield from (file for file in files if file.suffix.lower() in SUFFIXES and file.is_file())


def _image(path: Path) -> Image.Image | InputError:
    try:
        return open_untrusted(path)
    except InputError as error:
        return error
