"""Manifests that are wrong, images that cannot be read, a full disk: every verb says where, in a sentence."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from dermaflux.cli import app
from dermaflux.data import manifest
from dermaflux.data.check import look
from dermaflux.data.pixels import open_rgb
from dermaflux.files import MAX_BYTES

VERBS = {
    "data split": ["data", "split", "{}"],
    "caption": ["caption", "{}"],
    "train lora": ["train", "lora", "{}", "--base", "nano", "--out", "{out}"],
    "train classifier": ["train", "classifier", "{}", "--val", "{}", "--out", "{out}"],
    "evaluate classifier": ["evaluate", "classifier", "{}", "--split", "train"],
}


def run(verb: str, path: Path) -> Result:
    given = [part.format(path, out=path.parent / "out") for part in VERBS[verb]]
    return CliRunner().invoke(app, given)


@pytest.fixture
def images(tmp_path) -> list[str]:
    """The lines of a manifest of twelve images, in `tmp_path`, half of them malignant."""
    random = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(random.integers(0, 255, (48, 48, 3), np.uint8)).save(tmp_path / f"{i}.png")
    return ["file,label,split", *(f"{i}.png,{'benign' if i % 2 else 'malignant'},train" for i in range(12))]


@pytest.mark.parametrize("verb", VERBS)
def test_a_column_that_is_there_twice_is_named(verb, images, tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join([f"{images[0]},label", *(f"{line},benign" for line in images[1:])]))
    done = run(verb, path)
    assert done.exit_code == 2 and "line 1: the column “label” is there twice" in " ".join(done.stderr.split())


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("3.png,malignant,train", "line 14, column “file”: “3.png” is in line 5 too; leave one of them"),
        ("/etc/a.png,benign,train", "line 14, column “file”: “/etc/a.png” must be a path inside the manifest's folder"),
        ("../a.png,benign,train", "line 14, column “file”: “../a.png” must be a path inside"),
        ("a/../../a.png,benign,train", "line 14, column “file”: “a/../../a.png” must be a path inside"),
        (",benign,train", "line 14, column “file”: “.” must be a path inside"),
        ("a.png,naevus,train", "line 14, column “label”: “naevus” is neither benign nor malignant"),
        ("a.png", "line 14, column “label”: “None” is neither"),
        ("a.png,benign,train,dark brown", "line 14: there are more cells than columns"),
        ('a.png,benign,"train', "line 14: unexpected end of data; is a quote left open?"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_before_anything_is_done(verb, line, said, images, tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join([*images, line]))
    done = run(verb, path)
    assert done.exit_code == 2 and f"{path}, {said}" in done.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"file,split\na.png,train\n", "line 1: the column “label” is missing"),
        (b"", "line 1: the column “file” is missing"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "cannot be read as a CSV manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(verb, content, said, tmp_path):
    (tmp_path / "manifest.csv").write_bytes(content)
    done = run(verb, tmp_path / "manifest.csv")
    assert done.exit_code == 2 and f"{tmp_path / 'manifest.csv'}" in done.stderr and said in done.stderr


@pytest.fixture
def spoilt(images, tmp_path) -> Path:
    """A manifest with a cut image, a text and no file at all in its midst."""
    (tmp_path / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:3000])
    (tmp_path / "text.png").write_text("no image")
    lines = [*images[:7], "cut.png,benign,train", "text.png,benign,train", "gone.png,benign,train", *images[7:]]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    return tmp_path / "manifest.csv"


def test_images_that_cannot_be_read_are_named_by_line_and_the_rest_is_captioned(spoilt):
    done = run("caption", spoilt)
    assert done.exit_code == 1
    for line, name in ((8, "cut.png"), (9, "text.png"), (10, "gone.png")):
        assert f"{spoilt}, line {line}: {name}: " in done.stderr
    assert sum(bool(row.values["caption"]) for row in manifest.read(spoilt)) == 12


@pytest.mark.parametrize("verb", ["train classifier", "evaluate classifier"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cut.png", "line 8: cut.png cannot be read as an image: "),
        ("text.png", "line 8: text.png cannot be read as an image: This looks like a text file, not an image"),
        ("gone.png", "line 8: gone.png: there is no such file"),
    ],
)
def test_training_and_evaluation_stop_at_an_image_that_cannot_be_read(verb, name, said, spoilt):
    lines = spoilt.read_text().splitlines()
    spoilt.write_text("\n".join([*lines[:7], f"{name},benign,train", *lines[10:]]))
    if verb == "train classifier":
        for i in (1, 2):
            shutil.copy(spoilt.with_name(f"{i}.png"), spoilt.with_name(f"val-{i}.png"))
        spoilt.with_name("val.csv").write_text("file,label,split\nval-1.png,benign,val\nval-2.png,malignant,val")
        quick = ["--arch", "resnet10t", *(f"--set={each}" for each in ("pretrained=0", "image_size=32"))]
        out = str(spoilt.parent / "out")
        given = ["train", "classifier", str(spoilt), "--val", str(spoilt.with_name("val.csv")), "--out", out, *quick]
        done = CliRunner().invoke(app, given)
    else:
        done = run(verb, spoilt)
    assert done.exit_code == 2 and f"{spoilt}, {said}" in done.stderr


def test_an_image_is_learned_from_as_the_page_shows_it(tmp_path):
    """Turned as its EXIF block says, transparency white, 16 bits of grey brought to 8."""
    left = np.zeros((40, 60, 3), np.uint8)
    left[:, :20] = 250
    turned, exif = Image.fromarray(left), Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    Image.new("RGBA", (40, 40), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((40, 40), 32768, np.uint16)).save(tmp_path / "deep.png")
    names = ("turned.png", "clear.png", "deep.png")
    (tmp_path / "m.csv").write_text("file,label\n" + "".join(f"{name},benign\n" for name in names))
    seen = [np.asarray(open_rgb(row)) for row in manifest.read(tmp_path / "m.csv")]
    assert seen[0].shape == (60, 40, 3) and seen[0][:20].min() > 240 and seen[0][20:].max() < 10
    assert (seen[1] == 255).all() and (seen[2] == 128).all()


def test_an_image_larger_than_an_upload_may_be_is_learned_from(tmp_path):
    Image.new("RGB", (2700, 2700)).save(tmp_path / "large.bmp")
    assert (tmp_path / "large.bmp").stat().st_size > MAX_BYTES
    (tmp_path / "m.csv").write_text("file,label\nlarge.bmp,benign\n")
    (row,) = manifest.read(tmp_path / "m.csv")
    assert open_rgb(row).size == (2700, 2700) and not look(row.path)[2]


def test_a_class_that_a_split_lacks_is_said_by_check_and_split(images, tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join([*images[:11], "11.png,benign,val"]))
    done = CliRunner().invoke(app, ["data", "check", str(path), "--workers", "1"])
    assert done.exit_code == 1 and "manifest.csv: no usable image of the split “val” is malignant." in done.stdout
    few = [images[0], *(f"{i}.png,{'malignant' if i == 0 else 'benign'},train" for i in range(12))]
    path.write_text("\n".join(few))
    done = CliRunner().invoke(app, ["data", "split", str(path)])
    assert done.exit_code == 0 and done.stdout.count("0 malignant") == 2
    assert "is malignant; try another --seed or share." in done.stderr


def test_a_full_disk_is_a_sentence_with_the_file_and_leaves_the_manifest_as_it_was(images, tmp_path):
    """By a limit on the size of files, which fails where a full disk does."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(images))
    before, limit = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
        done = CliRunner().invoke(app, ["data", "split", str(path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert done.exit_code == 1 and done.stderr == f"{path} cannot be used: File too large.\n"
    assert path.read_bytes() == before and not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*"))
