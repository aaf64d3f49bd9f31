"""Options that would do nothing, and devices that are not there, are refused with a sentence."""

import pytest
from typer.testing import CliRunner, Result

from dermaflux.cli import app


def run(*arguments: object, **variables: str) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=variables)


@pytest.mark.parametrize(
    ("given", "need"),
    [
        (("--negative", "hair"), "--true-cfg above 1"),
        (("--eta-below", "0.6", "--eta", "0"), "--eta above 0"),
        (("--early-guidance", "2", "--guidance-below", "1"), "--guidance-below below 1"),
        (("--cosine", "0.8"), "--features"),
        (("--classifier", "nano"), "--agree or --lesions-only"),
    ],
)
def test_an_option_of_generate_that_would_do_nothing_is_refused(given, need, tmp_path):
    result = run("generate", "--out", tmp_path / "out", *given)
    assert result.exit_code == 2 and f"{given[0]} does nothing without {need}" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_negative_caption_serves_a_plan_of_which_a_row_is_steered_away_from_it(tmp_path):
    plan = tmp_path / "plan.csv"
    given = ("generate", "--out", tmp_path / "out", "--plan", plan, "--negative", "hair", "--steps", 1)
    plan.write_text("caption,true_cfg\nA benign lesion.,1\n")
    assert run(*given).exit_code == 2
    plan.write_text("caption,true_cfg\nA benign lesion.,2\n")
    assert run(*given).exit_code == 0


def test_a_classifier_that_a_variable_names_for_the_page_is_no_reason_not_to_draw(tmp_path):
    result = run("generate", "--out", tmp_path / "out", "--steps", 1, DERMAFLUX_CLASSIFIER="elsewhere")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("given", [("--model", "o/llama"), ("--batch", 4), ("--no-label-in-prompt",)])
def test_options_of_llama_are_refused_with_another_captioner(given, tmp_path):
    (tmp_path / "manifest.csv").write_text("file,label\n")
    result = run("caption", tmp_path / "manifest.csv", *given)
    assert result.exit_code == 2 and "does nothing without --captioner llama" in result.stderr
    assert (tmp_path / "manifest.csv").read_text() == "file,label\n"


@pytest.mark.parametrize("device", ["foo", "meta", "hpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_with_a_sentence(device, tmp_path):
    result = run("classify", tmp_path / "a.png", DERMAFLUX_DEVICE=device)
    assert result.exit_code == 2 and f"The device “{device}” cannot be used here" in result.stderr
    result = run("generate", "--out", tmp_path / "out", "--device", device)
    assert result.exit_code == 2 and f"The device “{device}” cannot be used here" in result.stderr
