"""Hostile and damaged files: one clear sentence each, and nothing but InputError."""

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_files import JPEG, PNG, archive, chunk, encode, photograph, png

from dermaflux.errors import InputError
from dermaflux.images import open_archive, open_untrusted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html><body><svg/>Not found</body></html>", "web page"),
        (b"\xef\xbb\xbf\n <html><head></head></html>", "web page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "SVG"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "PDF"),
        (archive({"a.txt": b"a"}), "ZIP"),
        (b"\0" * 128 + b"DICM" + b"\0" * 200, "DICOM"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"just some words", "text"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0" * 9, "another kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "text"),
        (b"P6 48 32 255\n" + photograph().tobytes(), "another kind"),
    ],
)
def test_a_renamed_file_is_told_by_what_it_seems_to_be(tmp_path, content, said):
    path = tmp_path / "Jane_Doe_1961.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_untrusted(path)
    assert said in str(caught.value) and "JPEG, PNG, WebP" in str(caught.value)
    assert "Jane" not in str(caught.value)


def test_zero_bytes():
    with pytest.raises(InputError, match="empty"):
        open_untrusted(b"")


@pytest.mark.parametrize("given_instead", [None, 5, "/no/such/Jane_Doe.png", "Jane\0Doe.png", "/", "J" * 5000])
def test_what_is_no_file_is_an_input_error_without_its_name(given_instead):
    with pytest.raises(InputError) as caught:
        open_untrusted(given_instead)
    assert "J" not in str(caught.value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_truncated_files_are_told_to_be_damaged(form, share):
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    whole = encode(noise, form)
    with pytest.raises(InputError, match=r"damaged|another kind|text"):
        open_untrusted(whole[: int(len(whole) * share)])


def test_a_bomb_is_refused_by_its_header():
    row = b"\0" * (30_000 // 8 + 1)
    bomb = png(30_000, 30_000, 1, 0, row * 30_000)
    assert len(bomb) < 200_000
    with pytest.raises(InputError, match="pixels"):
        open_untrusted(bomb)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
def test_too_many_pixels_whatever_the_format(form):
    with pytest.raises(InputError, match="pixels"):
        open_untrusted(encode(photograph(), form), max_pixels=1000)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [7_000, 10_000, 60_000])
def test_bomb_warnings_of_the_decoder_do_not_escape(side):
    with pytest.raises(InputError, match="pixels"):
        open_untrusted(png(side, side, 8, 2, b"\0"))


def test_too_many_bytes(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(PNG)
    for source in (path, PNG):
        with pytest.raises(InputError, match="larger than"):
            open_untrusted(source, max_bytes=100)


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15)])
def test_tiny_images_are_refused(size):
    with pytest.raises(InputError, match=f"only {size[0]} x {size[1]} px"):
        open_untrusted(encode(photograph(*size), "PNG"))


def segments(payload: bytes) -> bytes:
    parts = [payload[i : i + 65_000] for i in range(0, len(payload), 65_000)]
    return b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)


@pytest.mark.parametrize("filler", [b"\0", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\x08\0\0\0\xff\xff\x12\x01"])
def test_huge_exif_does_not_matter(filler):
    huge = (filler * (9_000_000 // len(filler)))[:9_000_000]
    jpeg = JPEG[:2] + segments(huge) + JPEG[2:]
    assert open_untrusted(jpeg).tobytes() == open_untrusted(JPEG).tobytes()
    for text in (chunk(b"eXIf", huge), chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(huge))):
        assert open_untrusted(PNG[:33] + text + PNG[33:]).tobytes() == photograph().tobytes()


@pytest.mark.parametrize("profile", [b"no profile at all", b"\0" * 5000])
def test_a_broken_profile_is_ignored(profile):
    assert open_untrusted(encode(photograph(), "PNG", icc_profile=profile)).tobytes() == photograph().tobytes()


FORMS = [encode(photograph(), form) for form in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")]


FORMS += [encode(photograph().convert("P"), "PNG", transparency=3), encode(photograph().convert("CMYK"), "JPEG")]


FORMS += [encode(photograph(), "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg")]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_bytes_raise_input_errors_only(data):
    damaged = bytearray(data.draw(st.sampled_from(FORMS)))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = damaged[: data.draw(st.integers(len(damaged) // 2, len(damaged)))]
    try:
        assert open_untrusted(bytes(damaged)).mode == "RGB"
    except InputError as error:
        assert str(error)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", *(form[:40] for form in FORMS), archive({"a.png": PNG})[:60]]))
def test_any_bytes_raise_input_errors_only(tail, head):
    for use in (open_untrusted, lambda data: list(open_archive(data))):
        try:
            use(head + tail)
        except InputError as error:
            assert str(error)
