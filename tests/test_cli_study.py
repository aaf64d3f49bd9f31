"""`python -m dermaflux study`: from pools of images to an export, in sentences and exit statuses."""

import csv
import re

import pytest
from sample_pools import real, synthetic
from sample_study import BACKGROUND, PASSWORD, read_all
from typer.testing import CliRunner

from dermaflux.cli import app
from dermaflux.data import manifest
from dermaflux.settings import from_env
from dermaflux.study import readings
from dermaflux.study.store import Store


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    """A folder of synthetic images and a manifest of real ones."""
    root = tmp_path_factory.mktemp("pools")
    return synthetic(root / "drawn", 10), real(root / "photographs", 10)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a verb on a store of this test."""
    monkeypatch.setenv("DERMAFLUX_STUDIES", str(tmp_path / "studies.sqlite"))
    return lambda *arguments, **more: CliRunner().invoke(app, ["study", *map(str, arguments)], **more)


@pytest.fixture
def pilot(run, pools):
    """A study of both sources, open, with two readers' tokens."""
    drawn, photographs = pools
    made = run(
        "create", "Pilot", "--cases", 12, "--synthetic", drawn, "--real", photographs, "--password", PASSWORD,
        "--training", photographs, "--closes", "2999-12-31",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "3 synthetic, malignant" in made.stdout and "No cases look the same." in made.stdout
    assert run("open", "Pilot").exit_code == 0
    return re.findall(r"^R\d\d\thttps://x\.org/review\?reader=(.{22})$", run_invite(run), re.MULTILINE)


def run_invite(run) -> str:
    return run("invite", "Pilot", 2, "--page", "https://x.org/").stdout


def test_a_study_goes_from_pictures_to_an_export(run, pilot, tmp_path):
    store = Store(tmp_path / "studies.sqlite")
    for token in pilot:
        reader = store.reader(token)
        reader.consent(BACKGROUND)
        read_all(reader, 10)
    assert store.verify_owner("Pilot", PASSWORD) and store.summary("Pilot").closes.startswith("3000-01-01")
    listed = run("list").stdout
    assert "Pilot: open, 12 cases, 2 readers, closes 3000" in listed and re.search(r"R01: 10 of \d\d answers", listed)
    assert run("export", "Pilot", "--out", tmp_path / "out").exit_code == 0
    table = readings.read(tmp_path / "out" / "readings.csv")
    assert set(table["reader"]) == {"R01", "R02"} and len(table) >= 10
    assert all(f"| {name} |" in (tmp_path / "out" / "codebook.md").read_text() for name in readings.COLUMNS)
    assert run("backup", "--out", tmp_path / "copy.sqlite").exit_code == 0
    assert Store(tmp_path / "copy.sqlite").readings("Pilot").equals(store.readings("Pilot"))
    assert run("report", "Pilot", "--out", tmp_path / "report").exit_code == 0
    html = (tmp_path / "report" / "report.html").read_text("utf-8")
    shown = [path.stem for path in (tmp_path / "report" / "figures").glob("case-*.png")]
    assert 1 <= len(shown) <= 8 and html.count("</figcaption>") > len(shown) and "<p>hair</p>" in html
    assert run("withdraw", "Pilot", "R02").exit_code == 0 and "R02: withdrawn" in run("list").stdout
    logged = [line.split("\t") for line in run("log", "Pilot").stdout.splitlines()]
    assert [line[1] for line in logged] == [
        "created",
        "opened",
        "invited",
        "exported",
        "backed up",
        "reported",
        "withdrawn",
    ]
    assert logged[-1][2] == "R02, by the owner" and re.fullmatch(r"[\d-]{10}T[\d:.]{12}Z", logged[0][0])
    assert run("close", "Pilot").exit_code == 0 and "Pilot: closed" in run("list").stdout


def test_flagged_images_flow_into_the_manifest_of_their_folder(run, pilot, pools, tmp_path):
    drawn, reader = pools[0], Store(tmp_path / "studies.sqlite").reader(pilot[0])
    reader.consent(BACKGROUND)
    for step in read_all(reader, 4):  # practice, with one synthetic picture
        reader.flag(step.showing)
    out = drawn / "flags.csv"
    result = run("flags", "Pilot", "--synthetic", drawn, "--out", out)
    assert result.exit_code == 0 and "1 of 10 images are left out." in result.stdout
    assert [row.values["left_out"] for row in manifest.read(out, left_out=True)].count("yes") == 1
    assert run("flags", "Pilot", "--synthetic", drawn, "--out", out, "--readers", 2).stdout.startswith("0 of 10")
    result = run("flags", "Pilot", "--synthetic", drawn, "--out", tmp_path / "flags.csv")
    assert result.exit_code == 2 and "must lie beside" in result.stderr and not (tmp_path / "flags.csv").exists()


def test_a_draft_is_deleted_and_its_log_stays(run, pilot, tmp_path):
    assert run("delete", "Pilot").exit_code == 0 and run("list").stdout.strip() == ""
    assert [line.split("\t")[1] for line in run("log", "Pilot").stdout.splitlines()][-1] == "deleted"
    assert run("delete", "Pilot").exit_code == 2


def test_a_study_with_answers_is_not_deleted(run, pilot, tmp_path):
    reader = Store(tmp_path / "studies.sqlite").reader(pilot[0])
    reader.consent(BACKGROUND)
    read_all(reader, 1)
    result = run("delete", "Pilot")
    assert result.exit_code == 2 and "Readers have answered in “Pilot”" in result.stderr
    assert "Pilot: open" in run("list").stdout


def test_real_images_may_be_a_folder(run, pools, tmp_path):
    folder = real(tmp_path / "photographs", 6)
    folder.unlink()
    made = run("create", "Bare", "--cases", 5, "--synthetic", pools[0], "--real", folder.parent, "--password", PASSWORD)
    assert made.exit_code == 0 and "real, no label" in made.stdout, made.output


def test_without_a_store_the_verbs_use_that_of_the_page(run, tmp_path, monkeypatch):
    monkeypatch.delenv("DERMAFLUX_STUDIES")
    monkeypatch.setenv("DERMAFLUX_DATA_DIR", str(tmp_path / "kept"))
    assert run("list").exit_code == 0 and from_env([]).store == str(tmp_path / "kept" / "studies.sqlite")
    assert (tmp_path / "kept" / "studies.sqlite").is_file()


def test_a_rating_study_needs_no_real_images(run, pools, tmp_path):
    result = run("create", "Rating", "--cases", 5, "--synthetic", pools[0], input=f"{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    questions = Store(tmp_path / "studies.sqlite").summary("Rating").protocol.questions
    assert not questions.source and questions.match and questions.realism


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--cases", 500], "but the pool holds 10"),
        (["--cases", 5, "--repeats", 0.9], "share of repeats"),
        (["--cases", 5, "--strata", "age"], "no stratum “age”"),
        (["--cases", 5, "--questions", "source"], "both sources only"),
        (["--cases", 5, "--closes", "soon"], "--closes is a date"),
        (["--cases", 5, "--closes", "2001-01-01"], "passed already"),
        (["--cases", 5, "--store", "mysql://host/name"], "not one of mysql"),
    ],
)
def test_a_study_that_cannot_be_is_refused_in_a_sentence(run, pools, arguments, sentence):
    result = run("create", "Pilot", "--synthetic", pools[0], "--password", PASSWORD, *arguments)
    assert result.exit_code == 2 and sentence in result.stderr and "Traceback" not in result.output
    assert run("list").stdout.strip() == ""


@pytest.mark.parametrize("verb", ["open", "close", "delete", "invite", "export", "withdraw", "report"])
def test_an_unknown_study_is_named(run, verb, tmp_path):
    more = {"export": ["--out", tmp_path / "out"], "report": ["--out", tmp_path / "out"], "withdraw": ["R01"]}
    result = run(verb, "None", *more.get(verb, []))
    assert result.exit_code == 2 and "There is no study “None”" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_plan_gives_cases_for_each_number_of_readers(run):
    lines = run("plan", "--margin", 0.12, "--readers", "3, 8").stdout.splitlines()
    assert len(lines) == 2 and re.match(r"8 readers with \d+ cases each", lines[1])
    for wrong, sentence in (("eight", "such as 5,8, not “eight”"), ("1", "2 readers or more")):
        result = run("plan", "--readers", wrong)
        assert result.exit_code == 2 and sentence in result.stderr


def test_a_simulated_study_is_written_like_an_export(run, tmp_path):
    result = run("simulate", "--out", tmp_path, "--readers", 2, "--cases", 20, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert set(readings.read(tmp_path / "readings.csv").columns) == set(readings.COLUMNS)
    with (tmp_path / "readings.csv").open() as file:
        assert next(csv.reader(file)) == list(readings.COLUMNS)


def test_a_report_is_of_a_study_or_of_an_export(run, tmp_path):
    result = run("report", "--out", tmp_path / "report")
    assert result.exit_code == 2 and "Give either the name of a study" in result.stderr
