"""The report: self-contained, escaped, and honest about what the readings do not allow."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from dermaflux.errors import DataError, InputError
from dermaflux.study import readings as table_of
from dermaflux.study import report, simulate
from dermaflux.study.pictures import encode
from dermaflux.study.simulate import Reader

FEW = 40
FIGURES = ("accuracy", "match", "realism", "roc", "sequence")
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }} {% raw %} $\\frac{1}{0}$",
    "| a | b |\n|---|---|\n# heading\n<b>bold</b>",
    "[link](javascript:alert(1)) ![image](http://example.org/a.png) <http://example.org> http://example.org",
    "`code` *stars* _lines_ &lt;script&gt; @cite ^note^ ~~gone~~",
    "turned \u202e gnp.exe \x00\x1b[31m \ud800 end",
    "x" * 3000,
)


SHOWN = re.compile(r"\d \(.+ to .+\)|no interval|not estimable")


PICTURE = encode(Image.new("RGB", (400, 400), "brown"), 400)


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.addresses, self.attributes, self.text = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data):
        self.text.append(data)


def made(readers: int = 3, cases: int = 30, **options) -> pd.DataFrame:
    return simulate.readings(1, simulate.panel(1, readers), cases, **options)


def written(table: pd.DataFrame, out: Path, **options) -> tuple[str, str]:
    report.write(table, out, resamples=FEW, **options)
    return (out / "report.html").read_text("utf-8"), (out / "report.md").read_text("utf-8")


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Path:
    """The folder of a usual study's report."""
    out = tmp_path_factory.mktemp("usual")
    written(made(), out)
    return out


def test_the_page_holds_everything_and_asks_for_nothing(usual):
    html = (usual / "report.html").read_text("utf-8")
    page = Page(html)
    assert page.tags.count("img") == len(FIGURES) and not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(address.startswith(("data:image/png;base64,", "#s")) for address in page.addresses)
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", html).replace("http-equiv", "")
    assert "url(" not in html and "default-src 'none'" in html


def test_the_markdown_has_methods_tables_and_figures_that_exist(usual):
    text = (usual / "report.md").read_text("utf-8")
    for title in ("Real or synthetic", "Realism", "Match to the caption", "Artefacts", "Agreement", "Methods"):
        assert f"\n## {title}\n" in text
    named = re.findall(r"!\[[^\]]+\]\((figures/\w+\.png)\)", text)
    assert sorted(named) == [f"figures/{name}.png" for name in FIGURES]
    for name in named:
        assert Image.open(usual / name).width > 600
    rendered = MarkdownIt("commonmark").enable("table").render(text)
    assert rendered.count("<table>") == len(re.findall(r"^\| -{3,} \|", text, re.M)) and rendered.count("<img") == len(
        FIGURES
    )


def test_artefacts_are_ranked_with_their_pictures(tmp_path):
    table, asked = made(2, 20).assign(artefacts=""), []
    table.loc[table["case"].isin(["case-0003", "case-0004"]), "artefacts"] = "blur"
    table.loc[table["case"] == "case-0005", "artefacts"] = "hair"
    html, text = written(table, tmp_path, picture=lambda case: asked.append(case) or PICTURE)
    assert asked == ["case-0003", "case-0004", "case-0005"] and Page(html).tags.count("img") == len(FIGURES) + 3
    assert html.index("<p>blur</p>") < html.index(">case-0004</figcaption>") < html.index("<p>hair</p>")
    rows = [line for line in text.splitlines() if "(figures/case-" in line]
    assert [row[:9] for row in rows] == ["| blur | ", "| hair | "] and rows[0].count("![case-000") == 2
    named = re.findall(r"\((figures/case-\w+\.png)\)", text)
    assert len(named) == 3 and all(Image.open(tmp_path / name).size == (160, 160) for name in named)


def test_places_that_readers_marked_are_drawn_on_the_pictures_of_their_case(tmp_path):
    table = made(2, 20, repeats=0).assign(artefacts="", marked="", left_out=False)
    boxes = {"case-0003": "[[0.1, 0.1, 0.5, 0.5]]", "case-0004": "[[0.7, 0.7, 0.7, 0.7]]"}
    for case, marked in boxes.items():
        table.loc[table["case"] == case, ["artefacts", "marked"]] = "blur", marked
    table.loc[table["case"] == "case-0005", "artefacts"] = "blur"
    written(table, tmp_path, picture=lambda case: PICTURE)
    box, point, plain = (
        np.asarray(Image.open(tmp_path / "figures" / f"{report._case_figure(case)}.png")).astype(int)
        for case in ("case-0003", "case-0004", "case-0005")
    )
    white = lambda image, x, y: bool((image[round(y * 160) - 2 : round(y * 160) + 2, round(x * 160)] > 200).any())
    assert np.ptp(plain.reshape(-1, 3), axis=0).max() < 3
    assert [white(box, *at) for at in ((0.3, 0.1), (0.3, 0.5), (0.3, 0.3), (0.7, 0.7))] == [True, True, False, False]
    assert [white(point, *at) for at in ((0.7, 0.67), (0.7, 0.73), (0.7, 0.7), (0.3, 0.1))] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("marked", ["no JSON", "[[0, 0, 9, 9]]", "[[NaN, 0, 1, 1]]", "{}", "[" * 10**5, "[[1]]", "7"])
def test_marks_that_are_none_are_passed_over(tmp_path, marked):
    written(made(1, 10).assign(artefacts="blur", marked=marked), tmp_path, picture=lambda case: PICTURE)
    shown = next(tmp_path.glob("figures/case-*.png"))
    assert np.ptp(np.asarray(Image.open(shown)).astype(int).reshape(-1, 3), axis=0).max() < 3


def test_images_that_readers_want_left_out_are_named_and_shown(tmp_path):
    table = made(3, 20, repeats=0).assign(left_out=False)
    drawn = sorted(set(table.loc[table["source"] == "synthetic", "case"]))
    real = next(iter(table.loc[table["source"] == "real", "case"]))
    table.loc[table["case"].isin([drawn[1], real]), "left_out"] = True
    table.loc[(table["case"] == drawn[0]) & (table["reader"] == "R02"), "left_out"] = True
    html, text = written(table, tmp_path, picture=lambda case: PICTURE)
    section = text.partition("## Left out of synthesis")[2].partition("\n## ")[0]
    assert "Readers want 2 of 10 synthetic images left out" in section and real not in section
    assert f"| {drawn[1]} | 3 | 3 |\n| {drawn[0]} | 1 | 3 |" in section
    assert "Readers want 2 of 10" in text.partition("## Summary")[2].partition("\n## ")[0]
    assert html.index("<p>Left out</p>") > html.index("Left out of synthesis</h2>")
    _, text = written(table.assign(left_out=False), tmp_path / "none")
    assert "Left out of synthesis" not in text


def test_realism_and_match_are_given_for_each_value_that_was_asked_for(usual):
    text = (usual / "report.md").read_text("utf-8")
    for title in ("Realism of synthetic images by what was asked for", "Match by what was asked for"):
        rows = text.partition(f"**{title}")[2].partition("\n\n")[2].partition("\n\n")[0]
        for value in ("asymmetry | 2 axes", "border | 0 to 2 segments", "colours | white", "structures | dots"):
            assert f"| {value} | " in rows
        assert "| size | " in rows


@pytest.mark.skipif(not shutil.which("pandoc"), reason="no pandoc")
def test_pandoc_reads_the_markdown_and_shows_what_was_written_as_it_is(tmp_path):
    table = made(2, 20)
    table.loc[table.index[: len(HOSTILE)], "comment"] = list(HOSTILE)
    written(table, tmp_path, picture=lambda case: PICTURE)
    for kind in ("html", "docx"):
        call = f"pandoc report.md --standalone --from markdown-smart --shift-heading-level-by=-1 -o report.{kind}"
        done = subprocess.run(call.split(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stderr == ""
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    shown = " ".join("".join(page.text).split())
    assert all(report.plain(hostile) in shown for hostile in HOSTILE)
    assert all(address.startswith("figures/") for address in page.addresses) and "script" not in page.tags


def test_every_table_gives_n_and_every_figure_its_interval():
    for section in report.compute(made(), resamples=FEW).sections:
        for one in section.tables:
            if any("interval" in name.lower() for name in (one.caption, *one.head)):
                assert "n" in one.head
                assert all(any(SHOWN.search(cell) for cell in row) for row in one.rows)


def test_what_readers_and_owners_write_is_text_and_never_markup(usual, tmp_path):
    table = made(2, 20)
    for column in ("comment", "artefacts", "role", "said_diagnosis", "case"):
        for row, hostile in enumerate(HOSTILE):
            table.loc[table.index[[row, row + 25]], column] = hostile
    table["study"], table["reader"] = HOSTILE[0], table["reader"].replace({"R01": HOSTILE[1], "R02": HOSTILE[2]})
    html, text = written(table, tmp_path, picture=lambda case: PICTURE)
    page, known = Page(html), Page((usual / "report.html").read_text("utf-8"))
    assert set(page.tags) <= set(known.tags) and page.attributes <= known.attributes
    assert all(address.startswith(("data:image/png;base64,", "#s")) for address in page.addresses)
    assert "\u202e" not in html + text and "\x1b" not in html + text
    rendered = Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
    usually = Page(MarkdownIt("commonmark").enable("table").render((usual / "report.md").read_text("utf-8")))
    assert set(rendered.tags) <= set(usually.tags)
    assert all(address.startswith("figures/") for address in rendered.addresses)
    for hostile in HOSTILE:
        assert report.plain(hostile) in " ".join(page.text) and report.plain(hostile) in " ".join(rendered.text)


def test_text_that_markdown_reads_shows_as_it_was_written():
    for hostile in HOSTILE:
        shown = "".join(Page(MarkdownIt("commonmark", {"html": True}).render(report.escaped("a " + hostile))).text)
        assert shown.strip() == report.plain("a " + hostile)


def test_no_readings_make_a_page_that_says_so(tmp_path):
    html, text = written(table_of.frame([]), tmp_path)
    assert "There are no readings yet." in html and "There are no readings yet." in text


def test_one_reader_is_not_taken_for_all(tmp_path):
    _, text = written(made(1), tmp_path)
    assert "There is one reader" in text and "Agreement between readers cannot be estimated" in text


def test_few_readers_and_readings_are_named(tmp_path):
    _, text = written(made(2, 10), tmp_path)
    assert "There are only 2 readers" in text and "There are only 20 readings" in text


@pytest.mark.parametrize("share, absent", [(0, "real"), (1, "synthetic")])
def test_a_study_of_one_source_does_not_assess_discrimination(tmp_path, share, absent):
    _, text = written(made(real_share=share), tmp_path)
    assert f"The readings are of no {absent} images" in text and "TOST, p" not in text
    assert not (tmp_path / "figures" / "roc.png").exists() and (tmp_path / "figures" / "realism.png").exists()
    assert ("Whether images match their captions was not asked" in text) == (absent == "synthetic")


def test_questions_that_were_not_asked_are_named(tmp_path):
    table = made(repeats=0)
    for name in ("said_synthetic", "confidence", "realism", "match", "seen_asymmetry", "seen_border", "tone"):
        table[name] = pd.array([pd.NA] * len(table), dtype=table[name].dtype)
    for name in ("said_label", "said_diagnosis", "label", "diagnosis", "artefacts", "marked"):
        table[name] = ""
    table[[name for name in table if name.startswith("match_")]] = ""
    _, text = written(table, tmp_path)
    for sentence in (
        "Readers were not asked whether images are real or synthetic.",
        "Realism was not rated.",
        "Whether images match their captions was not asked",
        "No diagnosis or label can be compared with the truth.",
        "No artefact was reported in 90 readings.",
        "Agreement between readers cannot be estimated",
        "no repeated case is answered",
        "Whether accuracy changes over the sequence cannot be said",
    ):
        assert sentence in text
    assert list(tmp_path.glob("figures/*")) == []


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_a_study_that_has_only_begun_can_be_reported(tmp_path, rows):
    _, text = written(made(3, 20, repeats=0.3).sample(rows, random_state=rows), tmp_path)
    assert not re.search(r"\bnan\b", text)


def test_readers_who_answer_alike_and_rightly_throughout_can_be_reported(tmp_path):
    table = simulate.readings(1, [Reader(tremor=0)] * 4, 30, repeats=0.2)
    table = table.assign(said_synthetic=(table["source"] == "synthetic").astype("boolean"), confidence=5, realism=4)
    _, text = written(table, tmp_path)
    assert "Distinguishable" in text and not re.search(r"\bnan\b", text)


def test_a_report_is_written_anew_over_an_older_one(tmp_path):
    (tmp_path / "report.md").write_text("older")
    _, text = written(made(3), tmp_path)
    assert "3 readers" in text and not list(tmp_path.rglob("*.part"))


def test_what_cannot_be_reported_is_refused_before_anything_is_written(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="margin"):
        report.write(made(), out, margin=0.7)
    with pytest.raises(DataError, match="“case”"):
        report.write(made().drop(columns="case"), out)
    assert not out.exists()
    out.write_text("a file")
    with pytest.raises(InputError, match="another folder"):
        report.write(made(), out, resamples=FEW)
