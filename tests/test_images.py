"""Image files of every allowed kind come out as clean, upright sRGB."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from sample_files import PNG, chunk, encode, near, photograph, png

from dermaflux.errors import InputError
from dermaflux.images import open_untrusted


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(form):
    image = open_untrusted(encode(photograph(), form))
    assert image.mode == "RGB" and image.size == (48, 32)
    assert image.tobytes() == photograph().tobytes()


@pytest.mark.parametrize(("form", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("GIF", {})])
def test_lossy_formats_open(form, options):
    image = open_untrusted(encode(photograph(), form, **options))
    assert image.mode == "RGB" and image.size == (48, 32)


def test_path_string_and_bytes_give_the_same_image(tmp_path):
    path = tmp_path / "lesion.png"
    path.write_bytes(PNG)
    images = [open_untrusted(source) for source in (path, str(path), PNG, bytearray(PNG))]
    assert len({image.tobytes() for image in images}) == 1


def test_the_content_counts_not_the_extension(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(PNG)
    assert open_untrusted(path).tobytes() == photograph().tobytes()


def test_the_smallest_allowed_image_opens():
    assert open_untrusted(encode(photograph(16, 16), "PNG")).size == (16, 16)


def test_transparency_becomes_white():
    image = photograph().convert("RGBA")
    alpha = np.full((32, 48), 255, np.uint8)
    alpha[:16] = 0
    image.putalpha(Image.fromarray(alpha))
    for form in ("PNG", "TIFF"):
        opened = np.asarray(open_untrusted(encode(image, form)))
        assert (opened[:16] == 255).all()
        assert (opened[16:] == np.asarray(photograph())[16:]).all()


def test_a_palette_with_transparency_becomes_white():
    image = Image.new("P", (20, 20), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(0, (0, 0, 20, 10))
    for options in ({"transparency": 0}, {"transparency": b"\0\xff"}):
        opened = np.asarray(open_untrusted(encode(image, "PNG", **options)))
        assert (opened[:10] == 255).all() and (opened[10:] == (200, 100, 50)).all()


def test_a_transparent_colour_becomes_white():
    image = Image.new("RGB", (20, 20), (9, 8, 7))
    image.paste((100, 50, 25), (0, 10, 20, 20))
    opened = np.asarray(open_untrusted(encode(image, "PNG", transparency=(9, 8, 7))))
    assert (opened[:10] == 255).all() and (opened[10:] == (100, 50, 25)).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_modes_become_rgb(mode):
    image = open_untrusted(encode(photograph().convert(mode), "PNG"))
    assert near(image, photograph().convert(mode).convert("RGB"), 0)


def test_cmyk_jpeg():
    image = open_untrusted(encode(photograph().convert("CMYK"), "JPEG", quality=98))
    assert near(image, photograph(), 40) and np.asarray(image).std() > 30


def test_sixteen_bit_colour_png():
    samples = np.asarray(photograph()).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    assert open_untrusted(png(48, 32, 16, 2, rows)).tobytes() == photograph().tobytes()


def test_sixteen_bit_grey_png_is_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    opened = np.asarray(open_untrusted(encode(Image.fromarray(np.tile(ramp, (20, 1))), "PNG")))
    assert (opened[0, :, 0] == np.rint(ramp / 65535 * 255)).all()
    assert (opened[..., 0] == opened[..., 2]).all()


def test_sixteen_bit_png_with_a_transparent_value_opens():
    grey = b"".join(b"\0" + np.full(20, 40_000, ">u2").tobytes() for _ in range(20))
    assert open_untrusted(png(20, 20, 16, 0, grey, chunk(b"tRNS", b"\0\1"))).getpixel((3, 3)) == (156, 156, 156)
    colour = b"".join(b"\0" + np.full(60, 40_000, ">u2").tobytes() for _ in range(20))
    transparent = chunk(b"tRNS", b"\0\1\0\1\0\1")
    assert open_untrusted(png(20, 20, 16, 2, colour, transparent)).getpixel((3, 3)) == (156, 156, 156)


def tiff(samples: bytes, side: int, bits: int, photometric: int = 1) -> bytes:
    tags = [(256, side), (257, side), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8), (277, 1), (278, side), (279, len(samples))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(samples)) + samples + directory + b"\0\0\0\0"


def test_a_twelve_bit_tiff_is_scaled_by_its_bit_depth():
    packed = bytes.fromhex("ffffff") * (20 * 10)
    assert open_untrusted(tiff(packed, 20, 12)).getpixel((5, 5)) == (255, 255, 255)


def test_a_sixteen_bit_tiff_where_zero_is_white():
    samples = np.full((20, 20), 65535, "<u2").tobytes()
    assert open_untrusted(tiff(samples, 20, 16, photometric=0)).getpixel((5, 5)) == (0, 0, 0)
    assert open_untrusted(tiff(samples, 20, 16)).getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("peak", [1.0, 255.0, 4095.0, 65535.0])
def test_floating_point_tiff_is_scaled_by_its_range(peak):
    values = np.tile(np.linspace(0, peak, 32, dtype=np.float32), (20, 1))
    values[0, 0], values[0, 1] = np.nan, np.inf
    opened = np.asarray(open_untrusted(encode(Image.fromarray(values), "TIFF")))
    assert (opened[5, :, 0] == np.rint(np.linspace(0, 255, 32))).all()


@pytest.mark.parametrize("start", ["II*\0", "II+\0"])
def test_a_sound_tiff_of_a_kind_that_is_not_read_is_not_called_damaged(start):
    samples, large = np.zeros((20, 20, 3), "<f4").tobytes(), start == "II+\0"
    tags = {256: 20, 257: 20, 258: 32, 259: 1, 262: 2, 273: 16, 277: 3, 278: 20, 279: len(samples), 339: 3}
    entry = "<HHQQ" if large else "<HHII"
    directory = struct.pack("<Q" if large else "<H", len(tags))
    directory += b"".join(struct.pack(entry, tag, 4, 1, value) for tag, value in tags.items()) + bytes(8)
    head = struct.pack("<HHQ", 8, 0, 16 + len(samples)) if large else struct.pack("<IQ", 16 + len(samples), 0)
    whole = start.encode() + head + samples + directory
    with pytest.raises(InputError, match="of a kind that is not read; export it with 8 bits"):
        open_untrusted(whole)
    with pytest.raises(InputError, match="damaged or cut short"):
        open_untrusted(whole[: -len(directory)])


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(form):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ((200, 30, 30), (30, 200, 30), (30, 30, 200))]
    data = encode(frames[0], form, save_all=True, append_images=frames[1:])
    assert near(open_untrusted(data), frames[0], 6)


def test_a_multi_picture_jpeg_opens_as_its_first():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ((200, 30, 30), (30, 200, 30))]
    assert near(open_untrusted(encode(frames[0], "MPO", save_all=True, append_images=frames[1:])), frames[0], 6)


TURNED = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
"""Where (right, bottom) the first stored corner belongs, by EXIF orientation."""


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation, form):
    stored = Image.new("RGB", (64, 32), "black")
    stored.paste((255, 255, 255), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_untrusted(encode(stored, form, exif=exif))
    assert image.size == ((64, 32) if orientation < 5 else (32, 64))
    right, bottom = TURNED[orientation]
    corner = (image.width - 4 if right else 3, image.height - 4 if bottom else 3)
    assert min(image.getpixel(corner)) > 200


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_no_metadata_is_left(form):
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe, born 1961"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode(photograph(), form, exif=exif, icc_profile=profile)
    image = open_untrusted(data)
    assert image.info == {} and not image.getexif()
    again = encode(image, "PNG")
    assert b"Jane" in data and b"Jane" not in again and b"eXIf" not in again and b"iCCP" not in again


def test_an_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert open_untrusted(encode(photograph(), "PNG", icc_profile=profile)).tobytes() == photograph().tobytes()


def wide_gamut_profile() -> bytes:
    """An sRGB profile with red and green primaries exchanged: a visible difference, by name not sRGB."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.find(b"rXYZ"), profile.find(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_colours_are_converted_by_the_profile(form):
    red = Image.new("RGB", (20, 20), (255, 0, 0))
    assert near(
        open_untrusted(encode(red, form, icc_profile=wide_gamut_profile())), Image.new("RGB", (20, 20), (0, 255, 0)), 8
    )


def test_the_profile_holds_for_transparent_images_too():
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 255))
    image.paste((255, 0, 0, 0), (0, 0, 20, 10))
    opened = np.asarray(open_untrusted(encode(image, "PNG", icc_profile=wide_gamut_profile()))).astype(int)
    assert (opened[:10] == 255).all() and (abs(opened[10:] - (0, 255, 0)) <= 8).all()


def test_a_lab_tiff_opens():
    lab = Image.merge("LAB", [Image.new("L", (20, 20), value) for value in (255, 128, 128)])
    assert near(open_untrusted(encode(lab, "TIFF")), Image.new("RGB", (20, 20), "white"), 4)
