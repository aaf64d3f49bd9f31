"""Untrusted bytes in, clean RGB out; the recipe of a synthetic image into its PNG and back.

Every file that is not ours is decoded here and nowhere else: an allow-list of formats, limits checked on the header
before any pixel is decoded, and a new image built from the pixels alone, so that no metadata goes further.
File names may hold patients' names: no message repeats one.
"""

import io
import logging
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from dermaflux.errors import InputError
from dermaflux.files import MAX_BYTES, PNG_SIGNATURE, kind_of, png_chunks, read_bytes
from dermaflux.provenance import (
    MANIFEST_COLUMNS,
    Provenance,
    bundle,
    manifest_row,
    read_provenance,
    save_synthetic,
)

_log = logging.getLogger(__name__)

__all__ = [
    "MANIFEST_COLUMNS",
    "Provenance",
    "bundle",
    "manifest_row",
    "open_archive",
    "open_file",
    "open_untrusted",
    "read_provenance",
    "save_synthetic",
]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
DECODED = ("a JPEG image", "a PNG image", "a WebP image", "a BMP image", "a TIFF image", "a GIF image")
MAX_PIXELS = 40_000_000
OWN_BYTES, OWN_PIXELS = 2**28, 89_000_000
"""Of a file that was not uploaded; from there on Pillow takes an image for a bomb."""
MIN_SIDE = 16
MAX_ENTRIES = 500
MAX_ARCHIVE_BYTES = 256 * 2**20
_ADVICE = "Use a JPEG, PNG, WebP, BMP, TIFF or GIF file."
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"eXIf")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 0x0112, 258, 262
"""Tags of Exif 2.32 and TIFF 6.0."""


def open_untrusted(
    path_or_bytes: str | Path | bytes, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The first frame of an image file as 8-bit sRGB, upright, free of metadata; transparency becomes white.

    Raises InputError, saying what the file seems to be, for anything but an image of at most `max_bytes` bytes and
    `max_pixels` pixels with sides of 16 px or more.
    """
    data = read_bytes(path_or_bytes, max_bytes)
    if not data:
        raise InputError("The file is empty (0 bytes); save or download it again.")
    kind = kind_of(data)
    try:
        return _decode(data, max_pixels)
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(_too_many_pixels(max_pixels)) from None
    except Exception as error:  # decoders of hostile bytes raise anything: struct.error, SyntaxError, MemoryError ...
        if kind not in DECODED:
            raise InputError(f"This looks like {kind}, not an image that can be read. {_ADVICE}") from None
        if isinstance(error, UnidentifiedImageError) and _deep_tiff(data):
            raise InputError(f"This looks like {kind} of a kind that is not read; export it with 8 bits.") from None
        raise InputError(f"This looks like {kind}, but it is damaged or cut short; save or export it again.") from error


def open_file(path: Path) -> Image.Image:
    """`open_untrusted` of a file that a manifest on this machine names, which may be larger than an upload."""
    return open_untrusted(path, OWN_BYTES, OWN_PIXELS)


def _deep_tiff(data: bytes) -> bool:
    """Whether the file is a TIFF whose samples have more than 8 bits."""
    stream = io.BytesIO(data)
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2] == 43 else 8])
        stream.seek(tags.next)
        tags.load(stream)
        return max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8
    except Exception:  # no TIFF, or a damaged one
        return False


def _too_many_pixels(max_pixels: int) -> str:
    return f"The image has more than {max_pixels / 1e6:.0f} million pixels; scale it down and try again."


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    with Image.open(io.BytesIO(_without_texts(data)), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise InputError(_too_many_pixels(max_pixels))
        if min(width, height) < MIN_SIDE:
            raise InputError(f"The image is only {width} x {height} px; both sides must be {MIN_SIDE} px or more.")
        image.load()
        turn = _TURNS.get(_orientation(image))
        pixels = _rgb(image)
    pixels = pixels if turn is None else pixels.transpose(turn)
    return Image.frombytes("RGB", pixels.size, pixels.tobytes())


def _without_texts(data: bytes) -> bytes:
    """A PNG less the chunks that hold no part of the picture, whose sheer size could stop the decoder."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    kept = (data[start:end] for kind, start, end in png_chunks(data) if kind in _PNG_CHUNKS)
    return b"".join((PNG_SIGNATURE, *kept))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _eight_bit(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(_to_srgb(image.convert("RGB"), profile), mask=image.getchannel("A"))
        return white
    if image.mode == "LAB":
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    if image.mode not in ("L", "CMYK", "LAB"):
        image = image.convert("RGB")
    return _to_srgb(image, profile)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            source, srgb = io.BytesIO(profile), ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
        except Exception as error:  # a broken profile, or one for another colour mode: the pixels still count
            _log.info("Colour profile ignored: %s", error)
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """A deep grey image as 8 bits: by its bit depth where the file declares one, else by its largest value."""
    if image.mode.startswith("I;"):
        tags = getattr(image, "tag_v2", {})
        peak = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
        grey = np.rint(np.arange(65536) / peak * 255).clip(0, 255).astype(np.uint8)
        grey = 255 - grey if tags.get(_PHOTOMETRIC) == 0 else grey
        return Image.fromarray(grey[np.asarray(image)])
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0, neginf=0)
    peak = next((peak for peak in (1, 255, 4095, 65535) if values.max() <= peak), values.max())
    values *= 255 / peak
    return Image.fromarray(np.rint(values, out=values).clip(0, 255, out=values).astype(np.uint8))


def open_archive(
    path_or_bytes: str | Path | bytes, max_entries: int = MAX_ENTRIES, max_total_bytes: int = MAX_ARCHIVE_BYTES
) -> Iterator[tuple[str, Image.Image | InputError]]:
    """The images of a ZIP by name, one at a time: (path in the ZIP, image or what is wrong with it).

    Nothing is extracted to disk. Folders, hidden files and `__MACOSX` are skipped. Raises InputError at once where
    the whole ZIP is of no use: damaged, encrypted, empty, of too many entries, or too large when unpacked.
    """
    data = read_bytes(path_or_bytes, max_total_bytes)
    too_many = InputError(f"The ZIP holds more than {max_entries} files; split it into smaller ones.")
    if not data or "ZIP" not in kind_of(data):
        raise InputError(f"This looks like {kind_of(data) if data else 'an empty file'}, not a ZIP archive.")
    if _directory_bytes(data) > 65536 + 1024 * max_entries:
        raise too_many
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = sorted((e for e in archive.infolist() if not _hidden(e.filename)), key=lambda e: e.filename)
    except Exception:  # zipfile raises far more than BadZipFile on hostile bytes, and names files in its messages
        raise InputError("The ZIP is damaged or cut short; make it again.") from None
    if not entries:
        raise InputError("The ZIP holds no files.")
    if len(entries) > max_entries:
        raise too_many
    if any(entry.flag_bits & 1 for entry in entries):
        raise InputError("The ZIP is protected by a password; make one without.")
    if sum(entry.file_size for entry in entries) > max_total_bytes:
        raise InputError(f"The ZIP unpacks to more than {max_total_bytes / 2**20:.0f} MB; split it into smaller ones.")
    return _members(archive, entries)


def _directory_bytes(data: bytes) -> int:
    """Size of the central directory as the end record states it; ZIP64, which hides it, counts as endless."""
    end = data.rfind(b"PK\5\6", -65557)
    if end < 0:
        return 0
    if data[max(end - 20, 0) : end].startswith(b"PK\6\7"):
        return 2**64
    return int.from_bytes(data[end + 12 : end + 16], "little")


def _hidden(name: str) -> bool:
    folders = name.replace("\\", "/").split("/")
    return not folders[-1] or folders[-1].startswith(".") or "__MACOSX" in folders


def _members(
    archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]
) -> Iterator[tuple[str, Image.Image | InputError]]:
    for entry in entries:
        try:
            content = open_untrusted(_unpack(archive, entry))
        except InputError as error:
            content = error
        yield _display_name(entry.filename), content


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError("This file is packed by an uncommon method; make the ZIP again by an ordinary program.")
    try:
        with archive.open(entry) as file:
            return file.read(MAX_BYTES + 1)
    except Exception:  # BadZipFile, zlib.error, EOFError, NotImplementedError ...
        raise InputError("This file is damaged inside the ZIP; make the ZIP again.") from None


def _display_name(name: str) -> str:
    """The path in the ZIP without control characters and what leads elsewhere, each part cut to 100 characters."""
    *folders, base = (
        "".join(c for c in part if unicodedata.category(c)[0] != "C").strip()[:100]
        for part in name.replace("\\", "/").split("/")
    )
    return "/".join((*(part for part in folders if part.strip(".")), base or "unnamed"))
