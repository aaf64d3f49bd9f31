"""The report of a classifier: subgroups, comparisons, figures and files, of real answers and of odd manifests."""

import io
import re

import numpy as np
import pandas as pd
import pytest
import tiny_clip
from PIL import Image
from tiny_classifier import write_manifest
from typer.testing import CliRunner

from dermaflux.classifier import Classifier
from dermaflux.cli import app
from dermaflux.data import manifest
from dermaflux.data.curate import groups_of, rows_of
from dermaflux.errors import DataError, InputError
from dermaflux.evaluation import answers, classifier_report
from dermaflux.evaluation.scores import Answers

PNG = b"\x89PNG"


def rows(count: int = 24) -> list[dict]:
    """Of two images a patient, a quarter malignant; every site has both labels, and no diagnosis has."""
    return [
        {
            "label": "malignant" if i % 8 < 2 else "benign",
            "split": "val",
            "diagnosis": "melanoma" if i % 8 < 2 else "nevus | odd <b>",
            "patient_id": f"p{i // 2}",
            "age": ("", "12", "30", "74.5", "90", "none")[i % 6],
            "site": ("trunk", "palm")[i // 12],
        }
        for i in range(count)
    ]


def asked(folder, p=None, rows=rows) -> answers.Asked:
    found = manifest.read(write_manifest(folder, rows()), "val")
    malignant = np.array([row.label == "malignant" for row in found])
    p = np.linspace(0.05, 0.6, len(found)) + 0.3 * malignant if p is None else p
    own = Answers(malignant, p, 0.5, groups_of(found))
    yes = np.ones(len(found), bool)
    return answers.Asked(found, own, yes, yes, ["light", "brown"] * (len(found) // 2))


def test_subgroups_are_named_in_order_and_hold_each_image_once(tmp_path):
    one = asked(tmp_path)
    found = answers.parts(one)
    kinds = {kind: [part.value for part in found if part.kind == kind] for kind in {part.kind for part in found}}
    assert kinds == {
        "diagnosis": ["melanoma", "nevus | odd <b>"],
        "site": ["palm", "trunk"],
        "apparent skin tone": ["light", "brown"],
        "age": ["under 30", "30 to 44", "60 to 74", "75 and over", "not recorded"],
    }
    for kind in kinds:
        assert (sum(part.chosen.astype(int) for part in found if part.kind == kind) == 1).all()
    assert answers.absent(one) == ["skin tone", "sex", "source"]


def test_images_of_a_patient_or_lesion_of_one_source_are_one_cluster():
    def numbers(*values):
        some = [manifest.Row(None, "benign", "", one) for one in values]
        return groups_of(some).tolist()

    assert numbers({"patient_id": "1"}, {"patient_id": "1"}, {"patient_id": "2"}) == [0, 0, 1]
    assert numbers({"patient_id": "1", "source": "a"}, {"patient_id": "1", "source": "b"}) == [0, 1]
    assert numbers({"source_id": "7"}, {"source_id": "7", "patient_id": ""}, {"patient_id": "7"}) == [0, 0, 1]
    assert numbers({}, {}) == [0, 1]


def test_the_report_says_what_is_not_defined_and_invents_nothing(tmp_path):
    result = classifier_report.measure("mine", asked(tmp_path), about=("Of *nobody*.",), resamples=200)
    text = classifier_report.markdown(result)
    assert "24 images of 12 patients or lesions, 6 malignant" in text and not re.search(r"\bnan\b", text)
    [melanoma] = [line for line in text.splitlines() if line.startswith("| melanoma")]
    assert melanoma.startswith("| melanoma | 6 | 6 | not defined | not defined |")
    assert "nevus \\| odd \\<b\\>" in text and "Of \\*nobody\\*." in text
    assert "The manifest does not record: skin tone, sex, source." in text


def test_files_are_written_whole_and_agree_with_the_figures(tmp_path):
    one = asked(tmp_path)
    result = classifier_report.measure("mine", one, {"a peer": 1 - one.answers.p}, resamples=200)
    out = tmp_path / "out"
    classifier_report.write(result, out)
    names = {
        "report.md",
        "figures.csv",
        "answers.csv",
        "comparisons.csv",
        "roc.png",
        "reliability.png",
        "confusion.png",
    }
    assert {path.name for path in out.iterdir()} == names
    table = pd.read_csv(out / "figures.csv")
    auc = table[(table.subgroup == "all") & (table.figure == "AUC")].iloc[0]
    assert auc.estimate == pytest.approx(result.overall[0].value, abs=1e-6) and auc.patients_or_lesions == 12
    assert table[(table.value == "melanoma") & (table.figure == "AUC")].estimate.isna().all()
    kept = pd.read_csv(out / "answers.csv")
    assert kept.p_malignant.to_numpy() == pytest.approx(one.answers.p, abs=1e-5) and "a peer" in kept
    assert ((kept.p_malignant >= 0.5) == (kept.decision == "malignant")).all()
    [peer] = pd.read_csv(out / "comparisons.csv").to_dict("records")
    assert (
        peer["auc"] == pytest.approx(1 - peer["auc_of_classifier"]) and peer["low"] < peer["difference"] < peer["high"]
    )
    for name in ("roc.png", "reliability.png", "confusion.png"):
        with Image.open(io.BytesIO((out / name).read_bytes())) as image:
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10


def test_a_split_of_one_class_has_a_report_without_a_roc(tmp_path):
    benign = lambda: [row for row in rows() if row["label"] == "benign"]
    result = classifier_report.measure("mine", asked(tmp_path, rows=benign), resamples=200)
    classifier_report.write(result, tmp_path / "out")
    assert not (tmp_path / "out" / "roc.png").exists()
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| AUC | not defined |  | 18 |" in text and "roc.png" not in text


def test_certain_answers_are_drawn(tmp_path):
    one = asked(tmp_path, np.repeat([0.0, 1.0], 12))
    classifier_report.write(classifier_report.measure("all | or $nothing$", one, resamples=50), tmp_path / "out")
    assert (tmp_path / "out" / "roc.png").read_bytes().startswith(PNG)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="choose another folder"):
        classifier_report.write(classifier_report.measure("mine", asked(tmp_path), resamples=50), tmp_path / "taken")


def test_the_command_judges_a_classifier_beside_itself_and_a_zero_shot_model(tmp_path):
    pytest.importorskip("open_clip")
    path, clip = write_manifest(tmp_path, rows(16)), tiny_clip.build(tmp_path / "clip")
    arguments = ["evaluate", "classifier", str(path), "--against", "nano", "--zero-shot", str(clip)]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    found = pd.read_csv(tmp_path / "out" / "comparisons.csv").set_index("model")
    assert found.loc["nano", "difference"] == 0 and found.loc["nano", "p"] == 1
    assert found.loc[f"{clip} (zero-shot)", "n"] == 16
    kept = pd.read_csv(tmp_path / "out" / "answers.csv")
    own = Classifier.load("nano").predict([Image.open(tmp_path / name) for name in kept.file])
    assert kept.p_malignant.to_numpy() == pytest.approx([one.p_malignant for one in own], abs=1e-5)
    assert "trained on dermoscopic images" in (tmp_path / "out" / "report.md").read_text()


def test_a_split_without_images_and_a_broken_one_are_refused_in_a_sentence(tmp_path):
    path = write_manifest(tmp_path, rows(8))
    with pytest.raises(DataError, match="has no rows of the split “test”"):
        rows_of([path], "test")
    (tmp_path / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png cannot be read"):
        answers.ask(Classifier.load("nano"), rows_of([path], "val"))
