"""A ZIP of images: one at a time, within limits, nothing written to disk."""

import io
import json
import struct
import zipfile

import pytest
from PIL import Image
from sample_files import JPEG, PNG, archive, photograph

from dermaflux.errors import InputError
from dermaflux.images import open_archive


def test_an_archive_gives_its_images_in_name_order(tmp_path):
    path = tmp_path / "images.zip"
    path.write_bytes(archive({"b/2.png": PNG, "a/1.jpg": JPEG, "b/": b"", "a/3.txt": b"hello"}))
    found = list(open_archive(path))
    assert [name for name, _ in found] == ["a/1.jpg", "a/3.txt", "b/2.png"]
    assert found[2][1].tobytes() == photograph().tobytes()
    assert isinstance(found[1][1], InputError) and "text" in str(found[1][1])


def test_hidden_files_are_skipped():
    files = {"__MACOSX/._a.png": b"x", "__MACOSX/sub/b.png": b"x", ".DS_Store": b"x", "sub/.hidden.png": b"x"}
    assert [name for name, _ in open_archive(archive({**files, "a.png": PNG}))] == ["a.png"]


def test_paths_that_climb_are_shown_without_what_climbs_and_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["../../etc/passwd.png", "/abs/olute.png", "C:\\Windows\\sys.png", "a\x1b[31m\u202egnp.png", ".."]
    found = [name for name, _ in open_archive(archive(dict.fromkeys(names, PNG)))]
    assert sorted(found) == sorted(["etc/passwd.png", "abs/olute.png", "C:/Windows/sys.png", "a[31mgnp.png"])
    assert list(tmp_path.iterdir()) == []


def test_very_long_names_are_cut():
    [(name, _)] = open_archive(archive({"f" * 5000 + "/" + "n" * 5000 + ".png": PNG}))
    assert name == "f" * 100 + "/" + "n" * 100


def test_images_of_one_name_are_told_apart_by_their_folders():
    files = {"patient1/img.png": PNG, "patient2/img.png": PNG}
    assert [name for name, _ in open_archive(archive(files))] == list(files)


def test_a_nested_archive_is_one_failed_item():
    found = list(open_archive(archive({"inner.zip": archive({"a.png": PNG}), "z.png": PNG})))
    assert isinstance(found[0][1], InputError) and "ZIP" in str(found[0][1])
    assert isinstance(found[1][1], Image.Image)


@pytest.mark.parametrize("prefix", ["", "long/folder/name/" * 4])
def test_ten_thousand_entries_are_refused(prefix):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for i in range(10_000):
            zipped.writestr(f"{prefix}{i}.png", b"")
    with pytest.raises(InputError, match="more than 500 files"):
        open_archive(buffer.getvalue())


def test_a_huge_directory_is_refused_before_it_is_read():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for i in range(12_000):
            zipped.writestr(f".hidden{i}", b"")
    ordinary = archive({"a.png": PNG})
    end = ordinary.rfind(b"PK\5\6")
    zip64 = ordinary[:end] + b"PK\6\7" + b"\0" * 16 + ordinary[end:]
    for data in (buffer.getvalue(), zip64):
        with pytest.raises(InputError, match="more than 500 files"):
            open_archive(data)


def test_as_many_entries_as_allowed_are_read():
    assert len(list(open_archive(archive({f"{i}.png": b"x" for i in range(500)})))) == 500


def test_an_archive_that_unpacks_to_too_much_is_refused():
    with pytest.raises(InputError, match="unpacks to more than"):
        open_archive(archive({f"{i}.png": b"\0" * 2**20 for i in range(5)}), max_total_bytes=4 * 2**20)


def test_an_entry_that_understates_its_size_stays_within_its_limit():
    bomb = bytearray(archive({"a.png": b"\0" * 100_000_000}))
    assert len(bomb) < 200_000
    central = bomb.find(b"PK\1\2")
    bomb[central + 24 : central + 28] = struct.pack("<I", 1000)
    [(_, content)] = open_archive(bytes(bomb))
    assert isinstance(content, InputError)


def test_an_entry_larger_than_an_image_may_be_is_one_failed_item():
    [(_, content)] = open_archive(archive({"a.png": b"\0" * 30_000_000}))
    assert isinstance(content, InputError) and "larger than" in str(content)


def test_an_encrypted_archive_is_refused():
    data = bytearray(archive({"a.png": PNG}))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.find(signature) + offset] |= 1
    with pytest.raises(InputError, match="password"):
        open_archive(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packing_methods_without_a_bound_are_not_unpacked(method):
    [(_, content)] = open_archive(archive({"a.png": PNG}, method))
    assert isinstance(content, InputError) and "method" in str(content)


def test_a_damaged_entry_is_one_failed_item():
    files = archive({"a.png": PNG, "b.png": PNG}, zipfile.ZIP_STORED)
    damaged = files.replace(PNG, PNG[:60] + b"\0\0\0\0" + PNG[64:], 1)
    found = list(open_archive(damaged))
    assert isinstance(found[0][1], InputError) and isinstance(found[1][1], Image.Image)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (PNG, "PNG image, not a ZIP"),
        (b"%PDF-1.7", "PDF"),
        (archive({"a.png": PNG})[:-30], "damaged"),
        (archive({}), "holds no files"),
        (archive({"folder/": b"", ".hidden": b"x"}), "holds no files"),
    ],
)
def test_what_is_no_useful_archive_is_refused_at_once(data, said):
    with pytest.raises(InputError, match=said):
        open_archive(data)


def test_no_message_names_a_file(tmp_path):
    path = tmp_path / "Jane_Doe.zip"
    path.write_bytes(archive({"Jane_Doe.png": b"x", "Jane_Doe.jpg": JPEG[:300]}))
    messages = json.dumps([str(content) for _, content in open_archive(path)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError) as caught:
        open_archive(path)
    assert "Jane" not in messages + str(caught.value)
