"""Pictures of a study: nothing but the picture tells real from synthetic, and what looks the same is found."""

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sample_pools import lesion, real, synthetic
from sklearn.metrics import roc_auc_score

from dermaflux.data import manifest
from dermaflux.data.check import alike
from dermaflux.errors import DataError, InputError
from dermaflux.files import PNG_SIGNATURE, png_chunks
from dermaflux.images import read_provenance
from dermaflux.study import pictures
from dermaflux.study.protocol import Protocol, Questions


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    """Candidates of both sources."""
    root = tmp_path_factory.mktemp("pools")
    return pictures.synthetic_pool(synthetic(root / "drawn")), pictures.real_pool(real(root / "photographs"))


@pytest.fixture(scope="module")
def shown(pools):
    """A study of both sources."""
    return pictures.prepare(*pools, Protocol(10))


def chunks(data: bytes) -> list[bytes]:
    kinds = [kind for kind, _, _ in png_chunks(data)]
    return [kind for place, kind in enumerate(kinds) if place == 0 or kind != kinds[place - 1]]


def test_the_shadows_that_macos_puts_beside_files_are_no_pictures(tmp_path):
    folder = synthetic(tmp_path / "drawn", 2)
    (folder / "._00.png").write_bytes(b"\0\5\x16\7 of a Mac")
    assert len(pictures.synthetic_pool(folder)) == 2


def test_files_of_both_sources_are_of_one_form(shown):
    assert Counter((one.source, one.practice) for one in shown) == {
        ("real", False): 5,
        ("synthetic", False): 5,
        ("real", True): 2,
        ("synthetic", True): 1,
    }
    assert {Image.open(io.BytesIO(one.data)).size for one in shown} == {(128, 128)}
    assert {Image.open(io.BytesIO(one.data)).mode for one in shown} == {"RGB"}
    assert {tuple(chunks(one.data)) for one in shown} == {(b"IHDR", b"IDAT", b"IEND")}
    assert all(one.data.startswith(PNG_SIGNATURE) and not Image.open(io.BytesIO(one.data)).info for one in shown)


def test_the_size_of_a_file_tells_nothing_of_its_source(shown):
    sizes = [len(one.data) for one in shown]
    assert len(set(sizes)) == 1
    assert roc_auc_score([one.source == "synthetic" for one in shown], sizes) == 0.5
    smooth, rough = (
        Image.new("RGB", (64, 64)),
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), "u1")),
    )
    assert len(pictures.encode(smooth, 64)) == len(pictures.encode(rough, 64))


def test_pixels_of_both_sources_are_quantised_by_one_table(shown):
    def changed(image: Image.Image) -> float:
        """Mean change of a pixel, in levels, when `image` is quantised (again)."""
        again = io.BytesIO()
        image.save(again, "JPEG", quality=pictures.QUALITY, subsampling=0)
        return float(np.abs(np.asarray(Image.open(again)).astype(int) - np.asarray(image)).mean())

    rough = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))
    assert changed(rough) > 1 and max(changed(Image.open(io.BytesIO(one.data))) for one in shown) < 0.3


def test_no_name_and_no_metadata_are_left(shown):
    for one in shown:
        assert b"jane" not in one.data.lower() and b"dermaflux" not in one.data.lower()
        assert "jane" not in str({name: value for name, value in vars(one).items() if name != "data"}).lower()
        assert one.origin == "" if one.source == "real" else len(one.origin) == 64


def test_a_case_is_named_by_its_content(pools, shown):
    assert [one.case for one in pictures.prepare(*pools, Protocol(10))] == [one.case for one in shown]
    assert len({one.case for one in shown}) == len(shown) == 13
    assert {one.case for one in pictures.prepare(*pools, Protocol(10, seed=1))} != {one.case for one in shown}


def test_the_middle_square_is_shown_and_nothing_is_enlarged():
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    image = Image.open(io.BytesIO(pictures.encode(wide, 50)))
    assert image.size == (50, 50) and np.asarray(image)[..., 2].min() > 240 and np.asarray(image)[..., 0].max() < 15


def test_recipes_give_captions_and_attributes_and_manifests_give_diagnosis_and_tone(shown):
    for one in shown:
        if one.source == "synthetic":
            assert one.caption and one.attributes.label == one.label and one.attributes.asymmetry is not None
            assert one.tone == one.attributes.tone and one.diagnosis == one.attributes.diagnosis
        else:
            assert (one.caption, one.diagnosis) == ("", "nevus") and one.attributes.asymmetry is None
            assert 1 <= one.tone <= 10


def test_a_manifest_gives_what_synthetic_images_without_recipe_lack(tmp_path):
    (tmp_path / "set").mkdir()
    for seed in range(8):
        lesion(seed).save(tmp_path / "set" / f"{seed}.png")
    row = {"label": "benign", "caption": "A lesion of 2 asymmetric axes.", "skin_tone": "7", "diagnosis": "nevus"}
    rows = [{"file": f"{seed}.png"} | row for seed in range(8)]
    rows[7] |= {"left_out": "yes", "file": "absent.png"}
    manifest.write(tmp_path / "set" / "manifest.csv", rows)
    found = pictures.synthetic_pool(tmp_path / "set" / "manifest.csv")
    assert len(found) == 7 and {(one.tone, one.diagnosis, one.attributes.asymmetry) for one in found} == {
        (7, "nevus", 2)
    }
    with pytest.raises(DataError, match=r"0\.png: This image carries no recipe.*Give a manifest"):
        pictures.synthetic_pool(tmp_path / "set")


def test_pools_that_do_not_fit_are_refused(tmp_path, pools):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no synthetic images"):
        pictures.synthetic_pool(tmp_path / "empty")
    with pytest.raises(DataError, match="image 1 is marked as synthetic"):
        pictures.real_pool(real(tmp_path / "mixed", 2, source="synthetic"))
    drawn, photographs = pools
    with pytest.raises(InputError, match="both sources only"):
        pictures.prepare(drawn, [], Protocol(4))
    with pytest.raises(InputError, match="match with a caption"):
        pictures.prepare([], photographs, Protocol(4, Questions(source=False)))
    with pytest.raises(InputError, match="17 pictures are needed, practice cases included, but the pool holds 16"):
        pictures.prepare(drawn, photographs, Protocol(14))
    assert len(pictures.prepare(drawn, [], Protocol(5, Questions(source=False)))) == 8


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_an_image_that_cannot_be_read_is_named_by_its_place(tmp_path, content):
    path = real(tmp_path / "set", 5)
    for file in path.parent.glob("*.jpg"):
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.csv, image \d: ") as raised:
        pictures.prepare([], pictures.real_pool(path), Protocol(2, Questions(source=False, match=False)))
    assert "jane" not in str(raised.value)


def test_the_same_picture_twice_is_refused(pools):
    drawn, photographs = pools
    twice = [replace(one, path=drawn[0].path, where=f"copy {place}") for place, one in enumerate(drawn)]
    with pytest.raises(DataError, match="is the same picture as copy"):
        pictures.prepare(twice, photographs, Protocol(8))


def test_near_duplicates_share_a_group_and_are_reported(pools, tmp_path):
    drawn, photographs = pools
    with Image.open(drawn[0].path) as image:
        image.resize((120, 120)).save(tmp_path / "again.png")
    near = replace(drawn[1], path=tmp_path / "again.png", label=drawn[0].label)
    shown = pictures.prepare([drawn[0], near, *drawn[2:]], photographs, Protocol(13))
    ((one, other),) = [(pair.case, pair.other) for pair in pictures.near_duplicates(shown)]
    groups = {picture.case: picture.group for picture in shown}
    assert groups[one] == groups[other] and len(set(groups.values())) == len(shown) - 1
    assert "look the same" in pictures.near_duplicates(shown)[0].line()
    assert alike([0, 0xFF, 0x0F, 2**64 - 1]) == [0, 0, 0, 1]


def test_a_practice_case_looks_like_no_other_so_that_its_feedback_tells_of_none(pools, tmp_path):
    drawn, photographs = pools
    first = pictures.prepare(drawn, photographs, Protocol(10))[:3]
    practised = next(one for one in drawn if pictures._opened(one)[1] == first[1].origin)
    with Image.open(practised.path) as image:
        image.resize((120, 120)).save(tmp_path / "again.png")
    others = [one for one in drawn if one != practised and one.label == practised.label]
    twins = [replace(one, path=tmp_path / "again.png") if one == others[0] else one for one in drawn]
    shown = pictures.prepare(twins, photographs, Protocol(12))
    groups = Counter(one.group for one in shown)
    assert max(groups.values()) == 2 and all(groups[one.group] == 1 for one in shown if one.practice)
    kinds = lambda some: [(one.source, one.label) for one in some]
    assert kinds(shown) == kinds(pictures.prepare(drawn, photographs, Protocol(12)))


def test_a_folder_of_photographs_is_a_pool_without_labels(pools, tmp_path):
    photographs = real(tmp_path / "set", 4)
    photographs.unlink()
    found = pictures.real_pool(photographs.parent)
    assert len(found) == 4 and {(one.source, one.label, one.diagnosis, one.caption) for one in found} == {
        ("real", "", "", "")
    }
    shown = pictures.prepare(pools[0], found, Protocol(4))
    assert "jane" not in str([{name: of for name, of in vars(one).items() if name != "data"} for one in shown]).lower()
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        pictures.real_pool(tmp_path / "none")


def test_a_synthetic_image_among_the_real_ones_is_found_by_its_recipe(pools):
    folder = pools[0][0].path.parent
    with pytest.raises(DataError, match=r"image \d is synthetic, as it says itself"):
        pictures.prepare([], pictures.real_pool(folder), Protocol(4, Questions(source=False, match=False)))


def test_synthetic_pictures_too_close_to_a_training_image_are_reported(pools, shown, tmp_path):
    case = next(one for one in shown if one.source == "synthetic")
    training = real(tmp_path / "training", 4)
    Image.open(io.BytesIO(case.data)).resize((300, 300)).save(training.parent / "jane-doe-2.jpg", quality=80)
    (near,) = pictures.near_training(shown, training, workers=1)
    assert (near.case, near.other) == (case.case, "training image 3") and near.bits <= 4
    (training.parent / "jane-doe-1.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="image 2: "):
        pictures.near_training(shown, training, workers=1)


def test_flags_become_a_column_of_the_folders_manifest(tmp_path):
    folder = synthetic(tmp_path / "drawn", 4)
    flagged = pictures.synthetic_pool(folder)[2]
    _, origin = pictures._opened(flagged)
    rows = pictures.marked(folder, [origin])
    assert [row["left_out"] for row in rows] == ["", "", "yes", ""]
    manifest.write(folder / "manifest.csv", rows)
    assert len(pictures.synthetic_pool(folder / "manifest.csv")) == 3
    again = pictures.marked(folder / "manifest.csv", [])
    assert [row["left_out"] for row in again] == ["", "", "yes", ""] and again[0]["caption"]
    assert read_provenance(folder / "02.png").seed == 2
