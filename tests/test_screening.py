"""Screens of drawn images, and runs that keep only what passes them."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import tiny_classifier
from PIL import Image, ImageOps
from typer.testing import CliRunner

from dermaflux import ordering, phantom, screening, synthesis
from dermaflux.classifier import Classifier
from dermaflux.cli import app
from dermaflux.data import features, manifest
from dermaflux.errors import InputError
from dermaflux.images import read_provenance
from dermaflux.lesion import LABELS, LesionAttributes
from dermaflux.models import SamplingOptions

BENIGN, MALIGNANT = (LesionAttributes(label=label) for label in LABELS)


class EverySecond:
    """A screen that refuses every second image that it sees."""

    def __init__(self):
        self.seen = 0

    def refusal(self, image, asked):
        self.seen += 1
        return "" if self.seen % 2 else "It is a second one."


@pytest.fixture
def orders(tiny_folder):
    options = SamplingOptions.defaults(tiny.spec(tiny_folder), seeds=(5,), steps=1)
    return ordering.of_attributes((BENIGN,), 6, options)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.png")}


def test_refused_images_are_kept_apart_with_their_recipes_and_reasons(tiny_generator, orders, tmp_path):
    screen = EverySecond()
    outcomes = list(synthesis.synthesise(tiny_generator, orders, tmp_path, [screen]))
    assert [bool(outcome.refused) for outcome in outcomes] == [False, True] * 3
    folders = tmp_path, tmp_path / "rejected"
    kept, apart = ({row["file"] for row in rows(folder / "manifest.csv")} for folder in folders)
    assert (kept, apart) == tuple(map(names, folders)) and len(kept) == len(apart) == 3
    assert {row["reason"] for row in rows(tmp_path / "rejected" / "manifest.csv")} == {"It is a second one."}
    assert read_provenance(tmp_path / "rejected" / orders[1].file).seed == 6


def test_a_run_that_goes_on_neither_draws_nor_judges_again_what_is_done(tiny_generator, orders, tmp_path):
    first = EverySecond()
    run = synthesis.synthesise(tiny_generator, orders, tmp_path, [first])
    for _ in range(4):
        next(run)
    run.close()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    second = EverySecond()
    outcomes = list(synthesis.synthesise(tiny_generator, orders, tmp_path, [second]))
    assert second.seen == 2
    assert [(outcome.kept, bool(outcome.refused)) for outcome in outcomes[:4]] == [(True, False), (True, True)] * 2
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert len(rows(tmp_path / "rejected" / "manifest.csv")) == 3


def test_a_folder_is_not_gone_on_with_by_other_screens_or_other_arithmetic(
    tiny_generator, orders, tmp_path, monkeypatch
):
    run = lambda some, how: list(synthesis.synthesise(tiny_generator, some, tmp_path, how=how))
    run(orders[:2], {"distinct": "True", "agree": "0.8"})
    run(orders[:3], {"distinct": "True", "agree": "0.8"})
    with pytest.raises(InputError, match=r"drawn otherwise \(distinct: True, now none; agree: 0.8, now 0.9\)"):
        run(orders, {"agree": "0.9"})
    (tmp_path / "how.json").write_text("{")
    with pytest.raises(InputError, match=r"how\.json is damaged"):
        run(orders, {"distinct": "True"})
    monkeypatch.setattr(tiny_generator, "arithmetic", "bf16 on cuda")
    with pytest.raises(InputError, match="drawn with float32 on cpu, now bf16 on cuda; choose an empty folder"):
        run(orders, None)


def test_images_without_a_manifest_are_seen_to_be_of_other_orders(tiny_generator, orders, tmp_path):
    list(synthesis.synthesise(tiny_generator, orders[:2], tmp_path))
    (tmp_path / "manifest.csv").unlink()
    others = [replace(order, file=order.file.replace("-5.", "-95.").replace("-6.", "-96.")) for order in orders[:2]]
    with pytest.raises(InputError, match="another plan or model"):
        list(synthesis.synthesise(tiny_generator, others, tmp_path))


def test_what_readers_note_in_a_manifest_stays_when_the_folder_is_extended(tiny_generator, orders, tmp_path):
    list(synthesis.synthesise(tiny_generator, orders[:2], tmp_path))
    given = rows(tmp_path / "manifest.csv")
    manifest.write(tmp_path / "manifest.csv", [given[0] | {"left_out": "yes"}, given[1]], [*given[0], "left_out"])
    list(synthesis.synthesise(tiny_generator, orders[:4], tmp_path))
    assert [row["left_out"] for row in rows(tmp_path / "manifest.csv")] == ["yes", "", "", ""]
    assert len(manifest.read(tmp_path / "manifest.csv")) == 3


def test_processes_that_share_the_orders_draw_each_once_and_list_all(tiny_generator, tiny_folder, tmp_path):
    options = SamplingOptions.defaults(tiny.spec(tiny_folder), seeds=(5,), steps=1)
    orders = ordering.of_attributes((BENIGN, MALIGNANT, LesionAttributes("benign", tone=4)), 7, options)
    for process in range(2):
        list(synthesis.synthesise(tiny_generator, orders, tmp_path / "shared", part=(process, 2)))
    synthesis.gather(tiny_generator, orders, tmp_path / "shared")
    list(synthesis.synthesise(tiny_generator, orders, tmp_path / "alone"))
    shared, alone = ((tmp_path / name / "manifest.csv").read_bytes() for name in ("shared", "alone"))
    assert shared == alone and len(names(tmp_path / "shared")) == 7


@pytest.fixture
def doubled(orders):
    """Six orders of which the last three are the first three again, under other names."""
    return [*orders[:3], *(replace(order, file=f"1{order.file}") for order in orders[:3])]


def test_of_images_that_look_alike_the_first_ordered_is_kept_by_one_process_as_by_several(
    tiny_generator, doubled, tmp_path
):
    run = lambda name, **more: list(synthesis.synthesise(tiny_generator, doubled, tmp_path / name, **more))
    run("alone", distinct=True)
    for process in (1, 0):
        run("shared", part=(process, 2), distinct=True)
    assert len(names(tmp_path / "shared")) == 6  # none is compared before all are drawn
    synthesis.gather(tiny_generator, doubled, tmp_path / "shared", distinct=True)
    for folder in (tmp_path / "alone", tmp_path / "shared"):
        assert names(folder) == {order.file for order in doubled[:3]}
        assert names(folder / "rejected") == {order.file for order in doubled[3:]}
        apart = rows(folder / "rejected" / "manifest.csv")
        assert [row["reason"] for row in apart] == ["It looks like an image known before: 0 of 64 bits differ."] * 3


def test_images_that_look_alike_are_rejected_after_an_interruption_too(tiny_generator, doubled, tmp_path):
    run = synthesis.synthesise(tiny_generator, doubled, tmp_path, distinct=True)
    for _ in range(5):
        next(run)
    run.close()
    assert len(names(tmp_path)) == 5
    list(synthesis.synthesise(tiny_generator, doubled, tmp_path, distinct=True))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    outcomes = list(synthesis.synthesise(tiny_generator, doubled, tmp_path, distinct=True))
    assert [bool(outcome.refused) for outcome in outcomes] == [False] * 3 + [True] * 3
    assert all(outcome.kept for outcome in outcomes) and len(times) == 6
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}


def test_images_that_look_alike_are_refused_but_others_are_not():
    first, other = (Image.fromarray(phantom.draw(phantom.random_attributes(seed), seed).image) for seed in (1, 2))
    screen = screening.Apart()
    assert screen.refusal(first, BENIGN) == ""
    screen.add(first)
    assert "known before: 0 of 64 bits" in screen.refusal(first, BENIGN)
    assert screen.refusal(first.resize((200, 200)), BENIGN) and not screen.refusal(other, BENIGN)
    for copy in (ImageOps.mirror(first), first.rotate(90), ImageOps.flip(first).rotate(270)):
        assert "known before" in screen.refusal(copy, BENIGN)
    known = screening.Apart([other])
    assert known.refusal(other, BENIGN) and not known.refusal(first, BENIGN)


def test_an_image_near_to_a_known_one_in_features_is_refused_though_its_hash_differs():
    first, other = (Image.fromarray(phantom.draw(phantom.random_attributes(seed), seed).image) for seed in (1, 2))
    moved = ImageOps.expand(first.crop((24, 24, 256, 256)), (0, 0, 24, 24), first.getpixel((250, 250)))
    away = screening.Away(features.load("nano"), [first], 0.9)
    assert not screening.Apart([first]).refusal(moved, BENIGN)
    assert "features are those of an image known before: cosine 0.9" in away.refusal(moved, BENIGN)
    assert "cosine 1.000" in away.refusal(first, BENIGN) and not away.refusal(other, BENIGN)


def test_the_nearest_training_image_is_judged_on_the_command_line(tmp_path):
    known = tiny_classifier.write_manifest(tmp_path, [{"label": label} for label in LABELS])
    drawn = ["generate", "--label", "benign", "--count", "2", "--steps", "2", "--features", "nano"]
    done = CliRunner().invoke(app, [*drawn, "--out", str(tmp_path / "a")])
    assert done.exit_code == 2 and "give that with --apart-from" in done.stderr
    given = [*drawn, "--apart-from", str(known), "--cosine", "-1", "--out", str(tmp_path / "b")]
    done = CliRunner().invoke(app, given)
    reasons = (tmp_path / "b" / "rejected" / "reasons.csv").read_text()
    assert done.exit_code == 0 and reasons.count("features are those of an image known before: cosine") == 2


def test_the_classifier_must_agree_with_the_label_asked_for(trained):
    classifier = Classifier.load(trained / "run" / "classifier")
    image = tiny_classifier.lesion(0)
    p = classifier.predict([image])[0].p_malignant
    for asked, given in ((MALIGNANT, p), (BENIGN, 1 - p)):
        assert screening.Agreement(classifier, given - 0.01).refusal(image, asked) == ""
        assert f"{given:.2f}" in screening.Agreement(classifier, given + 0.01).refusal(image, asked)
    assert screening.Agreement(classifier, 1.0).refusal(image, replace(BENIGN, label=None)) == ""


def test_the_gate_refuses_what_is_no_lesion(trained):
    gate = screening.Gate(Classifier.load(trained / "run" / "classifier"))
    assert gate.refusal(tiny_classifier.lesion(1), BENIGN) == ""
    assert "no lesion" in gate.refusal(Image.effect_noise((64, 64), 120).convert("RGB"), BENIGN)
