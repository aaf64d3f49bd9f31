"""What the owner of studies does in the Study tab: a study from uploads to its files, over HTTP."""

# ruff: noqa: F401, F811

import io
import zipfile
from pathlib import Path

import pytest
import sample_review
from sample_owner import HOSTILE, PASSWORD, browser, desk, kept, served, store
from sample_pools import real, synthetic
from sample_study import BACKGROUND, read_all

from dermaflux.data import manifest
from dermaflux.errors import InputError
from dermaflux.study import readings
from dermaflux.study.store import Store
from dermaflux.ui import owner_files


def test_a_study_goes_from_uploads_to_a_closed_study(desk, store, kept, tmp_path):
    drawn, photographs = synthetic(tmp_path / "drawn", 6), real(tmp_path / "real", 6).parent
    packed = zipped(photographs, tmp_path / "real.zip")
    pngs = [desk.upload(one) for one in sorted(drawn.glob("*.png"))]
    given = {"df-owner-name": " Second ", "df-owner-cases": 6, "df-owner-synthetic": pngs, "Closing date": "2999-12-31"}
    made, study = desk.press("df-owner-create", **given | {"df-owner-real": [desk.upload(packed)]})
    assert "“Second” is a draft with:" in made and "No cases look the same." in made and study["value"] == "Second"
    one = store.summary("Second")
    assert one.state == "created" and one.protocol.questions.source and one.closes.startswith("3000-01-01")
    assert len(list(kept.glob("pools/*/synthetic/*.png"))) == 6 and store.verify_owner("Second", PASSWORD)
    again = given | {"df-owner-cases": 3, "Questions": ["realism"]}
    assert "already" in desk.refused("df-owner-create", **again) and len(list((kept / "pools").iterdir())) == 1
    desk.choose("Second")
    desk.press("df-owner-open")
    assert "cannot be undone" in desk.refused("df-owner-close")
    desk.press("df-owner-close", **{"df-owner-sure": True})
    assert [what for _, what, _ in store.events("Second")] == ["created", "opened", "closed"]


def test_a_draft_is_deleted_once_confirmed_and_a_study_with_answers_is_not(desk, store, tmp_path):
    sample_review.create(store, tmp_path, name="Draft")
    desk.choose("Draft")
    assert "cannot be undone; then press Delete" in desk.refused("df-owner-delete")
    desk.press("df-owner-delete", **{"df-owner-sure": True})
    assert "Draft" not in [one.name for one in store.studies()] and store.events("Draft")[-1][1] == "deleted"
    after = desk.listener("df-owner-delete")._id
    looks = next(one for one in desk.app.fns.values() if one.trigger_after == after and len(one.outputs) > 5)
    listed, study, *_ = desk.call(looks)["output"]["data"]
    assert "Draft" not in listed and study["value"] in [one.name for one in store.studies()]
    desk.choose("Pilot")
    assert "Readers have answered" in desk.refused("df-owner-delete", **{"df-owner-sure": True})


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"set/{file.name}")
    return path


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"Synthetic images": "/nowhere/at\x00all"}, "nothing at"),
        ({"Synthetic images": "~no-such-user/x"}, "nothing at"),
        ({"Synthetic images": str(sample_review.EXAMPLES), "df-owner-cases": 60}, "but the pool holds 6"),
        ({"Synthetic images": str(sample_review.EXAMPLES), "Closing date": "soon"}, "The closing date is a date"),
        ({"Synthetic images": str(sample_review.EXAMPLES), "df-owner-name": " "}, "1 to 100 characters"),
        ({}, "but the pool holds 0"),
    ],
)
def test_a_study_that_cannot_be_is_refused_in_a_sentence(desk, store, given, sentence):
    found = desk.refused("df-owner-create", **{"df-owner-name": "Third", "df-owner-cases": 3} | given)
    assert sentence in found and "Third" not in [one.name for one in store.studies()]


def test_files_are_those_of_the_command_line_and_stand_in_the_log(desk, store, tmp_path):
    (report,) = desk.press("Report (HTML)")
    assert report["orig_name"] == "Pilot.html" and b"Reader study: Pilot" in desk.saved(report)
    (report,) = desk.press("Report (Markdown, ZIP)")
    with zipfile.ZipFile(io.BytesIO(desk.saved(report))) as archive:
        assert {"report.md", "report.html", "figures/accuracy.png"} <= set(archive.namelist())
    (export,) = desk.press("Readings and codebook (ZIP)")
    with zipfile.ZipFile(io.BytesIO(desk.saved(export))) as archive:
        archive.extractall(tmp_path)
    assert readings.read(tmp_path / "readings.csv").equals(store.readings("Pilot"))
    assert "| realism |" in (tmp_path / "codebook.md").read_text()
    (copy,) = desk.press("Backup of all studies")
    (tmp_path / "copy.sqlite").write_bytes(desk.saved(copy))
    assert Store(tmp_path / "copy.sqlite").readings("Pilot").equals(store.readings("Pilot"))
    assert [what for _, what, _ in store.events("Pilot")][-4:] == ["reported", "reported", "exported", "backed up"]


def test_what_the_owner_leaves_out_flows_into_a_manifest_beside_the_images(desk, store, tmp_path):
    drawn = synthetic(tmp_path / "drawn", 8)
    desk.press("df-owner-create", **{"df-owner-name": "Fourth", "df-owner-cases": 4, "Synthetic images": str(drawn)})
    desk.choose("Fourth")
    store.open("Fourth")
    (_, token), *_ = store.invite("Fourth")
    case = next(iter(store.readings("Pilot")["case"]))
    assert "has no case" in desk.refused("Leave out", **{"df-owner-case": case})
    reader = store.reader(token)
    reader.consent(BACKGROUND)
    for step in read_all(reader):
        reader.flag(step.showing)
    cases = [one.case for one in store.flagged("Fourth")]
    desk.press("Leave out", **{"df-owner-case": cases[0]})
    desk.press("Take back in", **{"df-owner-case": cases[0]})
    said, file = desk.press("df-owner-flags", **{"Synthetic images": str(drawn)})
    assert f"{len(cases)} of 8 images are left out." in said
    assert desk.saved(file) == (drawn / "left-out.csv").read_bytes()
    assert [row.values["left_out"] for row in manifest.read(drawn / "left-out.csv", left_out=True)].count("yes") == len(
        cases
    )
    for bad in ("../out.csv", "/etc/x.csv", "out.txt", ".csv", ""):
        found = {"Synthetic images": str(drawn), "File to write beside them": bad}
        assert "plain name" in desk.refused("df-owner-flags", **found)


def test_a_reader_is_withdrawn_only_when_that_is_confirmed(desk, store):
    desk.choose(HOSTILE)
    assert "Tick that all answers" in desk.refused("df-owner-withdraw", **{"df-owner-withdrawn": "R01"})
    desk.press("df-owner-withdraw", **{"df-owner-withdrawn": "R01", "df-owner-agreed": True})
    assert store.readers(HOSTILE)[0].withdrawn and store.events(HOSTILE)[-1][2] == "R01, by the owner"


@pytest.mark.parametrize("name", ["../out.png", "/out.png", "C:\\out.png", "a/../../out.png", ".hidden.png"])
def test_nothing_of_a_zip_is_written_elsewhere(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match=r"no PNG and no manifest|holds no files"):
        owner_files.received([tmp_path / "one.zip"], tmp_path / "pool")
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["one.zip", "pool"]


def test_bad_uploads_are_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\3\4 no archive")
    (tmp_path / "x.exe").write_bytes(b"MZ")
    for number, (name, sentence) in enumerate({"x.zip": "damaged", "x.exe": "Upload PNGs"}.items()):
        with pytest.raises(InputError, match=sentence), owner_files.kept(tmp_path / str(number)) as folder:
            owner_files.received([tmp_path / name], folder / "pool")
        assert not (tmp_path / str(number)).exists()
    with pytest.raises(InputError, match="not both"):
        owner_files.pool(str(tmp_path), ["x.png"], tmp_path / "pool")
