"""`train lora` from a manifest to files: what is encoded and kept, shown on the way, written, and refused."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from dermaflux import phantom
from dermaflux.cli import app
from dermaflux.data.curate import rows_of
from dermaflux.hub import LORA_FILES
from dermaflux.models import MODELS
from dermaflux.training import lora_run
from dermaflux.training.pairs import Pairs

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
SET = dict(precision="no", warmup=1, log_every=1, distil_from=0.5)
SETTINGS = ["--rank", 2, "--steps", 6, "--batch", 2, *(f"--set={name}={value}" for name, value in SET.items())]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Three wide images with captions, one of which is not of the train split."""
    folder = tmp_path_factory.mktemp("set")
    lines = ["file,label,split,caption"]
    for seed, split in enumerate(("train", "train", "val")):
        image = phantom.draw(phantom.random_attributes(seed), seed, 96).image
        Image.fromarray(image[16:80]).save(folder / f"{seed}.png")
        lines.append(f'{seed}.png,benign,{split},"A lesion, number {seed}."')
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder / "manifest.csv"


@pytest.fixture
def train(tiny_folder, manifest, tmp_path):
    """Runs `train lora` with SETTINGS and more."""

    def run(*more: object, base: object = tiny_folder / "pipeline", of: Path = manifest) -> Result:
        given = ["train", "lora", of, "--base", base, "--out", tmp_path / "out", *SETTINGS, *more]
        return CliRunner().invoke(app, [str(each) for each in given])

    return run


def losses(out: Path) -> torch.Tensor:
    with (out / "loss.csv").open(newline="") as stream:
        return torch.tensor([float(value) for row in csv.DictReader(stream) for value in row.values() if value])


def test_a_run_writes_pairs_sheets_both_formats_and_a_card(train, tmp_path):
    (tmp_path / "shown.txt").write_text("One lesion.\n\nAnother lesion.\n")
    done = train("--validate-every", 3, "--captions", tmp_path / "shown.txt", "--targets", "attn", "--alpha", 6)
    assert done.exit_code == 0, done.output
    out = tmp_path / "out"
    pairs = Pairs.load(out / "pairs.safetensors")
    [bucket] = pairs.buckets
    assert bucket.latents.shape[:3] == (2, 8, 16) and bucket.words.tolist() == [[0], [1]]
    sheets = sorted((out / "samples").iterdir())
    assert [path.name for path in sheets] == ["000003.png", "000006.png"]
    first, last = (Image.open(path) for path in sheets)
    assert first.size == (128, 64) and first.tobytes() != last.tobytes()
    names = load_file(out / "lora" / LORA_FILES[0])
    assert all(".attn." in name for name in names) and (out / "kohya.safetensors").exists()
    card = (out / "lora" / "README.md").read_text()
    assert "rank 2, alpha 6" in card and "2 of manifest.csv, 64 px (crop)" in card and "6 steps of 2 images" in card


def test_images_that_are_not_square_keep_their_aspect_in_buckets(train, tmp_path):
    done = train("--fit", "bucket")
    assert done.exit_code == 0, done.output
    out = tmp_path / "out"
    pairs = Pairs.load(out / "pairs.safetensors")
    assert [bucket.grid for bucket in pairs.buckets] == [(3, 5), (5, 3)] and pairs.pictures == [8, 8]
    assert len(losses(out)) == 12 and losses(out).isfinite().all()
    assert "2 of manifest.csv, about 64 x 64 px, their aspect kept" in (out / "lora" / "README.md").read_text()
    assert "pairs.safetensors was made of 64 px, bucket" in train().stderr


def test_distilled_guidance_leads_away_from_a_weaker_model(train, tiny_folder, tmp_path):
    assert train().exit_code == 0
    alone, rows = load_file(tmp_path / "out" / "lora" / LORA_FILES[0]), losses(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    weaker = shutil.copytree(tiny_folder / "pipeline", tmp_path / "weaker")
    shutil.copytree(tiny_folder / "lora", weaker / "lora")
    done = train("--weaker", weaker, "--set", "away=2")
    assert done.exit_code == 0, done.output
    assert (
        "guidance | distilled from 50% of the steps on, 2 away from weaker |"
        in (tmp_path / "out" / "lora" / "README.md").read_text()
    )
    with (weaker / "transformer" / "diffusion_pytorch_model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(bytes(4))
    assert "made otherwise (weaker:" in train("--weaker", weaker, "--set", "away=2").stderr.replace("\n", " ")
    assert torch.equal(losses(tmp_path / "out")[:6], rows[:6]) and not torch.equal(losses(tmp_path / "out"), rows)
    assert not all(map(torch.equal, alone.values(), load_file(tmp_path / "out" / "lora" / LORA_FILES[0]).values()))


def test_a_weaker_model_of_another_kind_and_captions_without_contraries_are_refused(train, tmp_path):
    other = ["--weaker", MODELS["nano"].source]
    for more, said in (
        (other, "other latents or captions"),
        (["--set", "contrast=1"], "--set contrast"),
        ([*other, "--set", "distil_from=1"], "none is"),
        (["--set", "contrast=1", "--set", "distil_from=1"], "none is"),
        (["--set", "worst=1"], "--set contrast"),
        (["--set", "lopsided=1", "--set", "distil_from=1"], "none is"),
    ):
        done = train(*more)
        assert done.exit_code == 2 and said in done.stderr
    assert not (tmp_path / "out" / "lora").exists()


def test_two_launched_processes_have_the_losses_of_one_with_twice_the_batch(train, tiny_folder, manifest, tmp_path):
    assert train("--batch", 4).exit_code == 0
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "dermaflux",
        "train",
        "lora",
    ]
    given = [manifest, "--base", tiny_folder / "pipeline", "--out", tmp_path / "two", *SETTINGS]
    root = Path(__file__).parent.parent
    done = subprocess.run([*launch, *map(str, given)], cwd=root, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    one, two = (losses(tmp_path / name) for name in ("out", "two"))
    assert len(one) == 12 and torch.allclose(one, two, rtol=1e-5)
    one, two = (load_file(tmp_path / name / "lora" / LORA_FILES[0]) for name in ("out", "two"))
    assert all(torch.allclose(one[name].float(), two[name].float(), rtol=1e-2, atol=1e-4) for name in one)
    assert not list((tmp_path / "two").glob("*.part"))


def test_what_is_encoded_is_not_taken_for_other_images_or_another_size(train, tmp_path):
    assert train().exit_code == 0
    for more, said in (
        (["--size", 128], "not of 128 px"),
        (["--fit", "squeeze"], "squeeze"),
        (["--captions-from", "appearance"], "by appearance"),
    ):
        refused = train(*more)
        assert refused.exit_code == 2 and "pairs.safetensors was made of 64 px, crop" in refused.stderr
        assert said in refused.stderr


def test_latents_of_other_pixels_by_the_same_names_are_not_taken_over(train, manifest):
    assert train().exit_code == 0
    image = manifest.with_name("0.png")
    Image.open(image).transpose(Image.Transpose.ROTATE_180).save(image)
    refused = train()
    assert refused.exit_code == 2 and "pairs.safetensors was made of" in refused.stderr


def test_pairs_are_known_by_the_weights_of_their_teacher_not_by_its_place(manifest, tmp_path):
    def source(teacher: Path | None) -> str:
        material = lora_run.Material((manifest,), captions="manifest", teacher=teacher)
        return lora_run._source(material, rows_of((manifest,), "train"), 64, 8, "base", 0)

    file, moved = tmp_path / "taef2.safetensors", tmp_path / "moved.safetensors"
    file.write_bytes(b"some weights")
    moved.write_bytes(b"some weights")
    before = source(file)
    assert before == source(moved) != source(None)
    file.write_bytes(b"other weights")
    assert source(file) != before


def test_a_manifest_with_some_captions_missing_names_the_image(train, manifest, tmp_path):
    half = manifest.with_name("half.csv")
    half.write_text(manifest.read_text().replace('"A lesion, number 1."', ""))
    refused = train(of=half)
    assert refused.exit_code == 2 and f"{half}, line 3: 1.png has no caption" in refused.stderr


def test_captions_with_faults_are_not_learned_from(train, manifest, tmp_path, caplog):
    first, *lines = manifest.read_text().splitlines()
    faulty = manifest.with_name("faulty.csv")
    faulty.write_text(
        "\n".join([f"{first},caption_faults", f"{lines[0]},too short", *(f"{one}," for one in lines[1:])])
    )
    assert train(of=faulty).exit_code == 0
    assert "1 of 2 captions have faults; their images are left out" in caplog.text
    [bucket] = Pairs.load(tmp_path / "out" / "pairs.safetensors").buckets
    assert len(bucket.words) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--quantise", "2bit"], "--quantise must be 8bit or 4bit, not “2bit”"),
        (["--fit", "pad"], "--fit must be crop, squeeze or bucket, not “pad”"),
        (["--captions-from", "x"], "--captions-from must be manifest or appearance"),
        (["--size", 100], "--size must be a multiple of 16 px"),
        (["--captions", __file__], "--captions needs --validate-every"),
        (["--validate-every", 2, "--captions", __file__], "must hold 1 to 64 captions, one a line; it has"),
        (["--targets", "attn,brain"], "“brain” is no linear layer"),
        (["--targets", ","], "No layer to adapt is named"),
        (["--validation-seed", 9], "--validation-seed belongs to --captions"),
        (["--set", "away=2"], "--set away needs --weaker"),
    ],
)
def test_a_wrong_option_is_refused_in_a_sentence(more, said, train):
    refused = train(*more)
    assert refused.exit_code == 2 and said in refused.stderr.replace("\n", " ")


def test_a_base_that_is_none_and_a_missing_package_are_named(train, monkeypatch, tmp_path):
    assert "There is no model “nowhere”" in train(base="nowhere").stderr
    monkeypatch.setattr(lora_run, "find_spec", lambda name: None)
    assert "--quantise 4bit needs a package more: pip install bitsandbytes." in train("--quantise", "4bit").stderr
    assert not (tmp_path / "out").exists()
