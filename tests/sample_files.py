"""Image files and archives made byte by byte, for the tests of what reads them."""

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image


def encode(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def photograph(width: int = 48, height: int = 32) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    values = np.stack([x * 5, y * 7, (x + y) * 3], axis=-1)
    return Image.fromarray((values % 256).astype(np.uint8))


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *others: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *others, chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def archive(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    return buffer.getvalue()


def near(image: Image.Image, other: Image.Image, tolerance: int) -> bool:
    difference = np.asarray(image).astype(int) - np.asarray(other).astype(int)
    return image.size == other.size and np.abs(difference).max() <= tolerance


PNG = encode(photograph(), "PNG")


JPEG = encode(photograph(), "JPEG", quality=95)
