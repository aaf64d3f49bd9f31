"""Public sets whose folders, not tables, name the diagnosis."""

from collections import Counter

from test_data import by_file, made

from dermaflux.data.prepare import prepare
from dermaflux.data.registry import SOURCES
from dermaflux.lesion import LABELS


def test_sets_whose_folders_name_the_diagnosis(tmp_path):
    folder = made(tmp_path / "m", "complete/melanoma/1.jpg complete/naevus/2.jpg other/3.jpg")
    found = prepare(SOURCES["med-node"], folder, folder)
    assert by_file(found) == {"1.jpg": ("malignant", "melanoma"), "2.jpg": ("benign", "nevus")}
    assert sum(found.left_out.values()) == 1
    folder = made(tmp_path / "k", "train/benign/1.jpg test/malignant/2.jpg")
    found = prepare(SOURCES["kaggle-benign-malignant"], folder, folder)
    assert [(row["label"], row["split"]) for row in found.rows] == [("malignant", "test"), ("benign", "train")]


def test_images_of_one_name_in_several_folders_are_several_but_a_folder_that_is_there_twice_is_one(tmp_path):
    names = [f"{split}/{label}/{i}.jpg" for split in ("train", "test") for label in LABELS for i in range(3)]
    folder = made(tmp_path / "k", " ".join([*names, "data/train/benign/0.jpg"]))
    found = prepare(SOURCES["kaggle-benign-malignant"], folder, folder)
    assert Counter((row["split"], row["label"]) for row in found.rows) == {
        (split, label): 3 for split in ("train", "test") for label in LABELS
    }
    assert found.left_out == {"there twice": 1}


def test_folders_above_a_set_say_nothing_of_it(tmp_path):
    folder = made(tmp_path / "train" / "malignant" / "masks" / "k", "test/benign/1.jpg other/2.jpg")
    found = prepare(SOURCES["kaggle-benign-malignant"], folder, folder)
    assert [(row["split"], row["label"]) for row in found.rows] == [("test", "benign")]
    assert sum(found.left_out.values()) == 1
