"""Training and calibrating the classifier."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_classifier import TINY, lesion, rows, write_manifest

from dermaflux.classifier import Classifier
from dermaflux.errors import DataError, InputError
from dermaflux.evaluation import classification
from dermaflux.training import classifier as training
from dermaflux.training import folds, loop, views
from dermaflux.training.teacher import Lessons, echo_loss


def test_a_run_is_not_gone_on_with_by_other_pixels_of_the_same_names(tmp_path):
    path = write_manifest(tmp_path, rows())
    training.train([path], tmp_path / "run", TINY)
    lesion(999, dark=True).save(tmp_path / "0.png")
    with pytest.raises(InputError, match="was made otherwise"):
        training.train([path], tmp_path / "run", TINY)


def test_folds_part_neither_lesions_nor_patients_where_one_is_known_of_some_images_only(tmp_path):
    given = [{"patient_id": "P1", "source_id": "L1"}, {"source_id": "L1"}, {"patient_id": "P9", "source_id": "L5"}]
    path = write_manifest(tmp_path, [{"label": "benign", "patient_id": ""} | one for one in given])
    first, second, third = folds.groups(folds.read_rows([path]))
    assert first == second != third


def test_training_writes_a_classifier_measured_on_images_held_out(trained):
    card = Classifier.load(trained / "run" / "classifier").card
    assert card.operating_point.n == 50
    assert "5 times a part held out" in card.operating_point.measured_on
    assert card.gate.false_alarm_rate <= 0.02
    assert card.operating_point.sensitivity >= 0.95
    assert f"AUC {card.auc:.3f}" in (trained / "run" / "classifier" / "README.md").read_text()


def test_the_answers_to_images_held_out_are_kept_and_evaluated(trained):
    path = trained / "run" / "held_out.csv"
    whole, *folds = classification.of_held_out(path)
    card = Classifier.load(trained / "run" / "classifier").card
    assert whole.n == 50 and whole.value == pytest.approx(card.auc, abs=1e-6)
    assert len(folds) == 5 and sum(fold.n for fold in folds) == 50
    assert classification.of_held_out(path, "train")[0].n == 50
    with pytest.raises(DataError, match="held out of val"):
        classification.of_held_out(path, "val")
    with pytest.raises(DataError, match=r"manifest\.csv holds no answers"):
        classification.of_held_out(trained / "manifest.csv")


def test_training_interrupted_and_resumed_equals_an_unbroken_run(trained, tmp_path, monkeypatch):
    save = loop._save

    def save_and_interrupt(accelerator, out, *state):
        save(accelerator, out, *state)
        if out.name == "fold-1":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_save", save_and_interrupt)
        training.train([trained / "manifest.csv"], tmp_path, TINY)
    assert (tmp_path / "fold-1" / "checkpoint" / "step").read_text() == "4"
    assert not (tmp_path / "classifier").exists()
    training.train([trained / "manifest.csv"], tmp_path, TINY)
    resumed, whole = (load_file(path / "classifier" / "model.safetensors") for path in (tmp_path, trained / "run"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_test_split_is_left_alone_drawn_images_only_train_and_patients_stay_together(tmp_path):
    rows = [{"label": "benign", "split": "train", "patient_id": f"p{i // 3}"} for i in range(30)]
    rows += [{"label": "malignant", "split": "val", "patient_id": f"q{i // 2}"} for i in range(20)]
    rows += [{"label": "malignant", "split": "train", "source": source} for source in ("phantom", "synthetic")]
    rows += [{"label": "benign", "split": "test", "patient_id": "z"}]
    path = write_manifest(tmp_path, rows)
    held = []
    for train, held_out in folds.divide(folds.read_rows([path]), 5, 0):
        patients = [
            {row.values["patient_id"] for row in part if row.values["patient_id"]} for part in (train, held_out)
        ]
        assert not patients[0] & patients[1] and "z" not in patients[0] | patients[1]
        assert {row.values["source"] for row in held_out} == {""}
        assert len(train) + len(held_out) == 52
        held += [row.path for row in held_out]
    assert len(held) == len(set(held)) == 50


def test_the_same_picture_is_never_learned_from_and_held_out(tmp_path):
    path = write_manifest(tmp_path, [{"label": label, "split": "train"} for label in ("benign", "malignant") * 12])
    for copy in range(2, 24, 4):  # every fourth is one before it again, a little brighter
        Image.open(tmp_path / f"{copy - 2}.png").point(lambda value: value + 2).save(tmp_path / f"{copy}.png")
    rows = folds.read_rows([path])
    found = folds.groups(rows)
    assert all(found[copy] == found[copy - 2] for copy in range(2, 24, 4)) and len(set(found)) > 12
    for learned, held_out in folds.divide(rows, 3, 0):
        apart = [{found[rows.index(row)] for row in part} for part in (learned, held_out)]
        assert not apart[0] & apart[1]


def two_splits() -> list[dict]:
    labels = ["benign"] * 12 + ["malignant"] * 8
    return [{"label": label, "split": split} for split in ("train", "val") for label in labels]


def test_a_spared_split_is_measured_and_not_learned(tmp_path):
    path = write_manifest(tmp_path, two_splits())
    training.train([path], tmp_path / "run", replace(TINY, spared="val"))
    card = Classifier.load(tmp_path / "run" / "classifier").card
    assert card.operating_point.n == 20 and "held out of its training" in card.operating_point.measured_on
    assert card.trained_on == "20 photographs, 8 of them malignant"
    with pytest.raises(DataError, match="split “none”"):
        training.train([path], tmp_path / "other", replace(TINY, spared="none"))


def brightness(views: torch.Tensor) -> torch.Tensor:
    """A teacher that knows the mean colour of each patch of the tiny network, in views of twice its size."""
    assert views.dtype == torch.uint8 and views.shape[1:] == (3, 64, 64)
    return torch.nn.functional.avg_pool2d(views.float(), 16).flatten(2).transpose(1, 2)


def losses(folder: Path) -> list[dict[str, str]]:
    with (folder / "loss.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_teacher_is_heard_on_phantoms_then_on_images_before_their_labels(tmp_path):
    options = replace(TINY, steps=60, phantoms=16, drawn_steps=60, labels_from=0.9, spared="val")
    training.train([write_manifest(tmp_path, two_splits())], tmp_path / "run", options, brightness)
    on_phantoms, on_images = losses(tmp_path / "run" / "drawn"), losses(tmp_path / "run" / "fold-0")
    assert float(on_phantoms[-1]["lesson"]) < 0.8 * float(on_phantoms[0]["lesson"])
    assert "loss" not in on_phantoms[0]
    assert float(on_images[-1]["lesson"]) < float(on_phantoms[0]["lesson"])
    assert not on_images[0]["loss"] and on_images[-1]["loss"]


def test_drawn_images_teach_features_before_any_label_and_belong_to_no_fold(tmp_path):
    drawn = [{"label": label, "split": "train", "source": "synthetic"} for label in ("benign", "malignant") * 6]
    path = write_manifest(tmp_path, two_splits() + drawn)
    options = replace(TINY, phantoms=4, drawn_steps=4, spared="val")
    training.train([path], tmp_path / "run", options, brightness)
    card = Classifier.load(tmp_path / "run" / "classifier").card
    assert "20 photographs, 8 of them malignant" in card.trained_on
    assert "of 4 phantoms and 12 other drawn images first" in card.trained_on
    held = pd.read_csv(tmp_path / "run" / "held_out.csv")
    assert len(held) == 20 and set(held["split"]) == {"val"}


def test_an_image_and_its_mirror_image_are_answered_alike_where_views_are_averaged(tmp_path):
    training.train([write_manifest(tmp_path, rows())], tmp_path / "run", replace(TINY, views=4))
    classifier, image = Classifier.load(tmp_path / "run" / "classifier"), lesion(3, (32, 32))
    ways, mirrored = (None, *Image.Transpose), {None, *map(Image.Transpose, (0, 1, 3))}
    seen = [image.transpose(way) if way is not None else image for way in ways]
    for count, alike in ((1, {None}), (4, mirrored), (8, set(ways))):
        one = replace(classifier, card=replace(classifier.card, views=count))
        said = dict(zip(ways, (prediction.p_malignant for prediction in one.predict(seen)), strict=True))
        assert {way for way in ways if abs(said[way] - said[None]) < 1e-6} == alike


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        *((dict(views=views), f"views={views} is none of 1, 2, 4, 8") for views in (3, 16)),
        (dict(views=0), "views must be at least 1"),
        (dict(batch=1), "batch=1 cannot hold as many images of each class"),
        (dict(folds=1), "folds must be at least 2, not 1"),
        (dict(phantoms=-1), "phantoms must not be below 0"),
        (dict(mixup=-0.1), "mixup must not be below 0, as -0.1 is"),
        (dict(labels_from=2.0), "labels_from must be from 0 to 1"),
    ],
)
def test_options_by_which_no_classifier_can_be_trained_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        training.ClassifierOptions(**wrong)


def test_a_killed_run_is_not_gone_on_with_by_other_labels_options_drawn_images_or_teacher(tmp_path):
    drawn = [{"label": "benign", "split": "train", "source": "synthetic"} for _ in range(6)]
    path, out = write_manifest(tmp_path, rows() + drawn), tmp_path / "run"
    options = replace(TINY, phantoms=2, drawn_steps=2, folds=2)
    training.train([path], out, options, brightness)
    shutil.rmtree(out / "whole")  # as if killed after the folds

    def refused(options=options, teacher=brightness):
        with pytest.raises(InputError, match="was made otherwise"):
            training.train([path], out, options, teacher)

    refused(replace(options, phantoms=4))
    refused(replace(options, learning_rate=1e-2))
    refused(teacher=lambda views: brightness(views) + views.float().std())
    lesion(99).save(tmp_path / "52.png")  # one of the drawn
    refused()
    lesion(52, dark=False).save(tmp_path / "52.png")

    path.write_text(path.read_text().replace("0.png,benign", "0.png,malignant", 1))
    refused()


def test_more_steps_train_every_fold_for_longer(tmp_path):
    path = write_manifest(tmp_path, rows())
    training.train([path], tmp_path / "run", replace(TINY, folds=2))
    training.train([path], tmp_path / "run", replace(TINY, folds=2, steps=16))
    for part in ("fold-0", "fold-1", "whole"):
        assert (tmp_path / "run" / part / "checkpoint" / "step").read_text() == "16"
    with pytest.raises(InputError, match="has done 16 steps, more than 12"):
        training.train([path], tmp_path / "run", replace(TINY, folds=2))


def test_a_card_says_what_was_learned_from(tmp_path):
    known = [row | {"licence": "CC0-1.0"} for row in rows()]
    phantoms = [{"label": label, "split": "train", "source": "phantom"} for label in ("benign", "malignant")]
    path = write_manifest(tmp_path, known + phantoms)
    options = replace(TINY, folds=2, drawn_steps=0, title="My own", licence="MIT")
    training.train([path], tmp_path / "run", options, brightness)
    card = Classifier.load(tmp_path / "run" / "classifier").card
    assert card.trained_on == (
        "50 photographs (CC0-1.0), 20 of them malignant, beside 2 drawn ones, with the features of an ImageNet "
        "MobileNetV2 as a teacher"
    )
    text = (tmp_path / "run" / "classifier" / "README.md").read_text()
    assert "# My own" in text and "license: mit" in text


def test_synthetic_images_are_not_learned_with_their_labels_beside_folds_of_photographs(tmp_path):
    synthetic = [{"label": label, "split": "train", "source": "synthetic"} for label in ("benign", "malignant")]
    path = write_manifest(tmp_path, two_splits() + synthetic)
    with pytest.raises(InputError, match="what a generator knows of the images of any fold"):
        training.train([path], tmp_path / "run", TINY)
    training.train([path], tmp_path / "run", replace(TINY, spared="val"))
    assert "beside 2 drawn ones" in Classifier.load(tmp_path / "run" / "classifier").card.trained_on


def test_a_split_without_one_of_the_classes_cannot_be_spared(tmp_path):
    held = [{"label": "benign", "split": "val"}]
    with pytest.raises(DataError, match="some images must be learned from and some held out"):
        training.train([write_manifest(tmp_path, rows() + held)], tmp_path / "run", replace(TINY, spared="val"))


def test_there_must_be_drawn_images_to_learn_from_first_and_a_transformer_to_learn(tmp_path):
    path = write_manifest(tmp_path, rows())
    with pytest.raises(InputError, match="needs drawn images"):
        training.train([path], tmp_path / "run", replace(TINY, phantoms=0), brightness)
    with pytest.raises(InputError, match="resnet10t is no vision transformer"):
        training.train([path], tmp_path / "run", replace(TINY, arch="resnet10t", model=()))


def test_lessons_are_told_in_units_of_their_own_spread():
    views = torch.randint(0, 256, (64, 3, 64, 64), dtype=torch.uint8)
    lessons = Lessons.of(lambda x: 1000 * brightness(x) + 5, views)
    silent = [torch.zeros(64, 16, 3), torch.zeros(64, 3)]
    assert float(echo_loss(silent, lessons.hear(views))) == pytest.approx(2, abs=0.05)


def test_what_a_teacher_sees_tells_the_label_of_images_it_was_not_fitted_to():
    torch.manual_seed(0)
    labels = torch.arange(256) % 2
    views = (torch.rand(256, 3, 64, 64) * 200 + 40 * labels[:, None, None, None]).byte()
    lessons = Lessons.of(brightness, views).knowing([views[:128]] * 2, labels[:128])
    verdict = lessons.verdict(lessons.hear(views[128:]))
    assert verdict[labels[128:] == 1].min() > verdict[labels[128:] == 0].max()


def test_too_few_images_of_a_class_are_refused(tmp_path):
    path = write_manifest(tmp_path, [{"label": "benign", "split": "train"} for _ in range(9)])
    with pytest.raises(DataError, match="at least 5"):
        training.train([path], tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()


def test_an_unreadable_image_is_named(tmp_path):
    path = write_manifest(tmp_path, rows())
    (tmp_path / "7.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"7\.png"):
        training.train([path], tmp_path / "run", TINY)


def test_views_stay_in_range_and_only_borders_are_covered():
    torch.manual_seed(0)
    seen = views.augment(torch.full((64, 3, 80, 80), 128, dtype=torch.uint8), 64)
    assert seen.shape == (64, 3, 64, 64) and seen.dtype == torch.uint8
    centre = seen[:, :, 16:48, 16:48].flatten(2)
    assert torch.equal(centre.amax(2), centre.amin(2))
    spread = (seen.flatten(2).amax(2).int() - seen.flatten(2).amin(2)).amax(1)
    assert 10 < int((spread > 5).sum()) < 54


def test_a_view_never_loses_what_lies_in_the_middle():
    torch.manual_seed(0)
    pixels = torch.zeros(64, 3, 64, 64, dtype=torch.uint8)
    pixels[:, :, 30:34, 30:34] = 255
    seen = views.augment(pixels, 128).float().mean(1).flatten(1)
    assert int((seen > 128).any(1).sum()) >= 62  # a covered border may hide one
