"""Fine-tuning of any timm network: on real and synthetic images, stopped on a validation set."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_classifier
import torch
from accelerate import Accelerator
from typer.testing import CliRunner

from dermaflux.classifier import Classifier, is_vit
from dermaflux.cli import app
from dermaflux.data import manifest
from dermaflux.data.curate import subset
from dermaflux.data.pixels import open_rgb
from dermaflux.errors import DataError, InputError, ModelUnavailable
from dermaflux.hub import TRANSPORT
from dermaflux.saliency import explain
from dermaflux.training import finetune as finetuning
from dermaflux.training.finetune import FinetuneOptions, _Best, finetune
from dermaflux.training.loop import TrainingDiverged, update

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
QUICK = FinetuneOptions(
    arch="resnet10t", pretrained=0, image_size=64, steps=30, batch=8, learning_rate=1e-3, check_every=10, ema=0.8
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Thirty images, twelve of them malignant and dark; every third is of the split val."""
    folder = tmp_path_factory.mktemp("images")
    labels = ["malignant", "benign", "benign", "malignant", "benign"] * 6
    given = [{"label": label, "split": "val" if i % 3 == 0 else "train"} for i, label in enumerate(labels)]
    return manifest.read(tiny_classifier.write_manifest(folder, given))


def parts(rows):
    return ([row for row in rows if row.split == split] for split in ("train", "val"))


@pytest.mark.parametrize("arch", ["resnet10t", "vit_tiny_patch16_224"])
def test_any_network_is_written_as_a_classifier_that_loads_and_explains(arch, rows, tmp_path):
    made = finetune(*parts(rows), tmp_path, replace(QUICK, arch=arch))
    read = Classifier.load(tmp_path / "classifier")
    assert is_vit(read.model) == arch.startswith("vit") and read.card.image_size == 64
    images = [tiny_classifier.lesion(seed, dark=seed % 2 == 0) for seed in range(4)]
    told = [[one.p_malignant for one in classifier.predict(images)] for classifier in (read, made)]
    assert told[0] == pytest.approx(told[1], abs=1e-5)
    assert explain(read, images[0], "hirescam").values.shape == images[0].size[::-1]
    assert "20 real and 0 synthetic images" in read.card.trained_on
    card = (tmp_path / "classifier" / "README.md").read_text()
    assert f"# {arch}, fine-tuned" in card and "license: other" in card and "Trained from scratch on 20 real" in card


def test_what_it_learns_separates_the_classes(rows, tmp_path):
    classifier = finetune(*parts(rows), tmp_path, replace(QUICK, steps=60))
    assert classifier.card.auc > 0.95 and classifier.card.mean == pytest.approx((0.485, 0.456, 0.406))


def test_training_stops_where_the_validation_set_gains_no_more_and_keeps_the_best_weights(rows, tmp_path):
    options = replace(QUICK, steps=400, check_every=5, patience=2)
    classifier = finetune(*parts(rows), tmp_path, options)
    seen = [line.split(",") for line in (tmp_path / "loss.csv").read_text().splitlines()[1:]]
    aucs = [float(line[2]) for line in seen]
    assert len(aucs) < 80 and max(aucs[-2:]) <= max(aucs[:-2])
    assert classifier.card.auc == pytest.approx(max(aucs), abs=0.02)
    again = finetune(*parts(rows), tmp_path, options)
    states = classifier.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_two_launched_processes_have_the_losses_of_one_with_the_same_batch_and_write_once(rows, tmp_path):
    folder = rows[0].manifest
    few = dict(pretrained=0, image_size=32, check_every=2, augmented=0, precision="no", ema=0.5)
    given = ["train", "classifier", folder, "--val", folder, "--arch", "vit_tiny_patch16_224", "--steps", 4]
    given = [*map(str, given), "--batch", "4", *(f"--set={name}={value}" for name, value in few.items())]
    losses = []
    for name, launch in (("one", []), ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2"])):
        command = [sys.executable, *launch, "-m", "dermaflux", *given, "--out", str(tmp_path / name)]
        root = Path(__file__).parent.parent
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        losses.append(np.loadtxt(tmp_path / name / "loss.csv", delimiter=",", skiprows=1))
        assert Classifier.load(tmp_path / name / "classifier").card.arch == "vit_tiny_patch16_224"
    assert losses[0].shape == (2, 3) and np.allclose(*losses, rtol=1e-4)


def test_a_training_that_was_killed_ends_with_the_losses_and_answers_of_an_unbroken_one(rows, tmp_path, monkeypatch):
    def halt(*given, calls=[]) -> None:  # noqa: B006
        calls.append(1)
        if len(calls) > 15:
            raise KeyboardInterrupt
        update(*given)

    whole = finetune(*parts(rows), tmp_path / "whole", QUICK)
    with monkeypatch.context() as changed:
        changed.setattr(finetuning, "update", halt)
        with pytest.raises(KeyboardInterrupt):
            finetune(*parts(rows), tmp_path / "broken", QUICK)
    assert (tmp_path / "broken" / "checkpoint" / "step").read_text() == "10"
    again = finetune(*parts(rows), tmp_path / "broken", QUICK)
    assert (tmp_path / "whole" / "loss.csv").read_text() == (tmp_path / "broken" / "loss.csv").read_text()
    images = [tiny_classifier.lesion(seed, dark=seed % 2 == 0) for seed in range(4)]
    told = [[one.p_malignant for one in classifier.predict(images)] for classifier in (whole, again)]
    assert told[0] == told[1]


def test_a_batch_that_processes_cannot_share_is_refused_in_a_sentence(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(InputError, match="A batch of 8 images cannot be shared by 3 processes"):
        finetune(*parts(rows), tmp_path, QUICK)


def test_looks_without_a_better_auc_are_counted_from_the_best_one():
    best, model = _Best(2), torch.nn.Linear(1, 1)
    for auc, over in ((0.5, False), (0.6, False), (0.6, False), (0.7, False), (0.1, False), (0.2, True)):
        best.see(auc, model)
        assert best.over() == over
    assert best.auc == 0.7


def test_without_patience_training_goes_to_its_end_and_the_last_weights_are_kept():
    best, model = _Best(0), torch.nn.Linear(1, 1)
    for auc in (0.7, 0.5, 0.4):
        torch.nn.init.constant_(model.weight, auc)
        best.see(auc, model)
        assert not best.over()
    assert best.weights["weight"].item() == pytest.approx(0.4)


def test_a_subset_keeps_the_proportion_of_labels_and_lies_in_every_larger_one(rows):
    for count in (5, 10, 20):
        some = subset(rows, count, seed=3)
        assert len({row.path for row in some}) == count
        assert abs(np.mean([row.label == "malignant" for row in some]) - 0.4) <= 0.5 / count + 0.05
        assert {row.path for row in subset(rows, count - 3, seed=3)} < {row.path for row in some}
    assert subset(rows, 8, 3) == subset(rows, 8, 3) != subset(rows, 8, 4)
    with pytest.raises(DataError, match="31 images are asked for, but there are only 30"):
        subset(rows, 31, 0)


def test_a_class_that_is_absent_is_named(rows, tmp_path):
    learned, tried = parts(rows)
    with pytest.raises(DataError, match="validation images hold none that is malignant"):
        finetune(learned, [row for row in tried if row.label == "benign"], tmp_path, QUICK)


def test_weights_that_cannot_be_fetched_are_a_sentence(rows, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable, match="--set pretrained=0"):
        finetune(*parts(rows), tmp_path, replace(QUICK, pretrained=1))
    with pytest.raises(ModelUnavailable, match="no architecture"):
        finetune(*parts(rows), tmp_path, replace(QUICK, arch="resnet_of_dreams"))


def test_a_download_of_weights_that_breaks_off_is_a_sentence(rows, tmp_path, monkeypatch):
    def broken(*given, **more):
        raise TRANSPORT("peer closed connection\nwith half a file")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", broken)
    with pytest.raises(ModelUnavailable, match=r"cannot be fetched: peer closed connection\. .* --set pretrained=0\."):
        finetune(*parts(rows), tmp_path, replace(QUICK, pretrained=1))


@pytest.mark.parametrize("arch", ["dla34", "deit_tiny_distilled_patch16_224"])
def test_a_network_that_does_not_end_in_one_linear_layer_is_refused_before_it_is_trained(arch, rows, tmp_path):
    with pytest.raises(ModelUnavailable, match=f"{arch} does not end in a single linear layer.* such as resnet50"):
        finetune(*parts(rows), tmp_path, replace(QUICK, arch=arch))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["patience", "weight_decay"])
def test_an_option_below_0_is_refused(name):
    with pytest.raises(InputError, match=f"{name} must not be below 0, as -1 is"):
        replace(QUICK, **{name: -1})


def test_without_real_images_to_learn_from_the_gate_is_measured_on_images_that_it_was_not_fitted_to(rows, tmp_path):
    learned, tried = parts(rows)
    drawn = [replace(row, values={**row.values, "source": "synthetic"}) for row in learned]
    classifier = finetune(drawn, tried, tmp_path, QUICK)
    assert classifier.card.gate.n == 5 and classifier.card.operating_point.n == 10
    one = "The gate refuses 0.0% of 5 lesions that it was not fitted to"
    assert one in (tmp_path / "classifier" / "README.md").read_text()
    malignant, benign = ([row for row in tried if row.label == label] for label in ("malignant", "benign"))
    fitted, spared = ([*benign[k::2], *malignant[k::2]] for k in range(2))
    near, far = ([said.distance for said in classifier.predict(map(open_rgb, some))] for some in (fitted, spared))
    assert max(near) < max(far) <= classifier.card.gate.threshold < 1.01 * max(far)


def test_the_command_takes_some_real_images_and_synthetic_ones_in_a_ratio(rows, tmp_path):
    path = rows[0].path.parent / "manifest.csv"
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    tiny_classifier.write_manifest(
        drawn, [{"label": label, "split": "train"} for label in ("benign", "malignant") * 10]
    )
    few = [f"--set={name}={value}" for name, value in dict(pretrained=0, image_size=32, check_every=2, ema=0.5).items()]
    arguments = ["train", "classifier", path, "--val", path, "--arch", "resnet10t", "--out", tmp_path / "out"]
    arguments += ["--synthetic", drawn / "manifest.csv", "--ratio", 1.5, "--real", 10, "--steps", 2, *few]
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0 and "AUC" in done.output
    card = Classifier.load(tmp_path / "out" / "classifier").card
    assert card.trained_on == "10 real and 15 synthetic images, 12 of them malignant"


def test_images_that_are_given_twice_missing_splits_and_too_few_synthetic_ones_are_named(rows, tmp_path):
    folder = rows[0].path.parent
    path, other, bare = folder / "manifest.csv", folder / "other.csv", folder / "bare.csv"
    other.write_text(path.read_text())
    bare.write_text(path.read_text().replace("split", "part"))
    for arguments, sentence in (
        ([path, other, "--val", path], "other.csv, line "),
        ([path, other, "--val", path], f"this image is in {path}, line "),
        ([path, "--val", bare], "bare.csv has no rows of the split “val”"),
        ([bare, "--val", path], "bare.csv has no rows of the split “train”"),
        ([path, "--val", path, "--ratio", 1], "synthetic images, but --synthetic gives 0"),
    ):
        given = ["train", "classifier", *arguments, "--arch", "resnet10t", "--out", tmp_path / "out"]
        done = CliRunner().invoke(app, [str(one) for one in given])
        assert done.exit_code == 2 and sentence in " ".join(done.stderr.split()), done.stderr


def test_a_run_is_not_gone_on_with_by_other_pixels_of_the_same_names(rows, tmp_path):
    finetune(*parts(rows), tmp_path / "out", QUICK)
    for row in rows:
        (tmp_path / row.path.name).write_bytes(row.path.read_bytes())
    moved = [replace(row, path=tmp_path / row.path.name) for row in rows]
    finetune(*parts(moved), tmp_path / "out", QUICK)  # the same images elsewhere
    tiny_classifier.lesion(999, dark=True).save(moved[0].path)
    with pytest.raises(InputError, match="made otherwise"):
        finetune(*parts(moved), tmp_path / "out", QUICK)


def test_answers_that_are_no_numbers_end_a_run(rows, tmp_path, monkeypatch):
    def spoil(accelerator, loss, optimizer, schedule, parameters, average):
        update(accelerator, loss, optimizer, schedule, parameters, average)
        average.shadow_params = [torch.full_like(one, math.nan) for one in average.shadow_params]

    monkeypatch.setattr(finetuning, "update", spoil)
    with pytest.raises(TrainingDiverged, match="the loss is not a number"):
        finetune(*parts(rows), tmp_path, QUICK)
    assert not (tmp_path / "classifier").exists()


def test_options_of_the_two_recipes_are_not_mixed(rows, tmp_path):
    path = rows[0].path.parent / "manifest.csv"
    for arguments, sentence in (
        (["--arch", "resnet10t"], "need --val"),
        (["--val", path, "--teacher", path], "takes no"),
    ):
        done = CliRunner().invoke(app, ["train", "classifier", str(path), "--out", str(tmp_path), *map(str, arguments)])
        assert done.exit_code == 2 and sentence in done.stderr
