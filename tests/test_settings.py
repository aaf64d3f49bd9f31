"""Settings: flags over variables over defaults, and bad values refused in a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dermaflux.errors import DermaFluxError
from dermaflux.files import MAX_BYTES
from dermaflux.images import MAX_ARCHIVE_BYTES
from dermaflux.settings import Settings, from_env, table

ROOT = Path(__file__).resolve().parent.parent


def test_nothing_given_gives_the_defaults():
    assert from_env([], {}) == Settings()


def test_a_flag_wins_over_its_variable_and_the_variable_over_the_default():
    environ = {"DERMAFLUX_QUEUE_LENGTH": "5", "DERMAFLUX_DEVICE": "cuda"}
    settings = from_env(["--queue-length", "7"], environ)
    assert (settings.queue_length, settings.device) == (7, "cuda")


def test_gradios_own_variables_are_honoured_after_ours():
    environ = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": "9000", "DERMAFLUX_PORT": "9001"}
    settings = from_env([], environ)
    assert (settings.host, settings.port) == ("0.0.0.0", 9001)


@pytest.mark.parametrize("argv, expected", [(["--mcp"], True), (["--mcp", "no"], False), ([], False)])
def test_switches_need_no_value(argv, expected):
    assert from_env(argv, {}).mcp is expected


def test_an_empty_variable_counts_as_not_set_where_empty_means_nothing():
    names = ("MODEL", "LORA", "CLASSIFIER", "DEVICE", "MEMORY", "DATA_DIR", "IMAGES_PER_HOUR", "HOST", "PORT", "MCP")
    environ = {f"DERMAFLUX_{name}": " " for name in names}
    assert from_env([], environ) == Settings()
    assert from_env([], environ | {"GRADIO_SERVER_PORT": "9000", "GRADIO_SERVER_NAME": ""}) == Settings(port=9000)


def test_an_empty_variable_counts_where_empty_means_none():
    environ = {"DERMAFLUX_MODELS": "", "DERMAFLUX_ROOT_PATH": "", "GRADIO_ROOT_PATH": "/elsewhere"}
    assert from_env([], environ) == Settings(models="", root_path="")


def test_the_help_of_uploads_names_the_limits_that_hold_whatever_is_set():
    said = Settings.__dataclass_fields__["max_upload_mb"].metadata["help"]
    assert f"an image may have {MAX_BYTES // 2**20} at most, a ZIP {MAX_ARCHIVE_BYTES // 2**20}" in said


def test_every_setting_can_be_given_as_its_variable():
    values = dict(model="flux1-schnell", lora="none", classifier="x", device="cpu", data_dir="/tmp", queue_length="3")
    values |= dict(max_upload_mb="9", host="::", port="0", mcp="1", share="off")
    settings = from_env([], {f"DERMAFLUX_{name.upper()}": text for name, text in values.items()})
    assert {name: str(getattr(settings, name)).lower() for name in values} == values | {"mcp": "true", "share": "false"}


@pytest.mark.parametrize(
    "argv, environ, named",
    [
        (["--port", "none"], {}, "--port"),
        (["--port", "70000"], {}, "65535"),
        ([], {"DERMAFLUX_QUEUE_LENGTH": "0"}, "DERMAFLUX_QUEUE_LENGTH"),
        ([], {"GRADIO_SERVER_PORT": "7860.5"}, "GRADIO_SERVER_PORT"),
        (["--model", "stable-diffusion"], {}, "nano"),
        (["--models", "nano, stable-diffusion"], {}, "no model “stable-diffusion”"),
        ([], {"DERMAFLUX_MCP": "perhaps"}, "DERMAFLUX_MCP"),
        (["--data-dir", "~nosuchuser/x"], {}, "--data-dir: There is no home folder for “~nosuchuser/x”"),
        ([], {"DERMAFLUX_MODEL": "~nosuchuser/x"}, "DERMAFLUX_MODEL: There is no home folder"),
    ],
)
def test_a_bad_value_is_refused_naming_where_it_came_from(argv, environ, named):
    with pytest.raises(DermaFluxError, match=named):
        from_env(argv, environ)


@pytest.mark.parametrize(
    "argv, offered",
    [
        ([], ["nano", "flux1-dev", "flux1-schnell"]),
        (["--model", "flux1-dev"], ["flux1-dev", "nano", "flux1-schnell"]),
        (["--host", "0.0.0.0"], ["nano"]),
        (["--share"], ["nano"]),
        (["--root-path", "/dermaflux"], ["nano"]),
        (["--host", "0.0.0.0", "--models", "flux1-schnell, nano"], ["nano", "flux1-schnell"]),
        (["--models", ""], ["nano"]),
    ],
)
def test_visitors_may_load_every_model_where_they_are_alone_and_elsewhere_those_named(argv, offered):
    assert [spec.name for spec in from_env(argv, {}).offered] == offered


def test_folders_of_one_name_are_offered_by_different_names(tmp_path):
    for place in ("a/flux", "b/flux", "c/checkpoints"):
        (tmp_path / place).mkdir(parents=True)
        for part in ("transformer", "vae", "tokenizer_2") if "flux" in place else ():
            (tmp_path / place / part).mkdir()
            name = "tokenizer_config.json" if part == "tokenizer_2" else "config.json"
            (tmp_path / place / part / name).write_text("{}")
        (tmp_path / place / ("model_index.json" if "flux" in place else "flux1-dev.safetensors")).write_text("{}")
    folders = [str(tmp_path / place) for place in ("a/flux", "b/flux", "c/checkpoints")]
    offered = from_env(["--model", folders[0], "--models", ",".join([*folders, "nano", "flux1-dev"])], {}).offered
    names = ["flux (a/flux)", "flux (b/flux)", "flux1-dev (checkpoints)", "nano", "flux1-dev"]
    assert [spec.name for spec in offered] == names
    assert [spec.source for spec in offered[:3]] == folders and len({spec.title for spec in offered}) == 5
    assert from_env(["--model", folders[1]], {}).offered[0].name == "flux"


def test_the_app_ends_with_a_sentence_and_status_2_for_a_bad_setting():
    environ = os.environ | {"DERMAFLUX_PORT": "seven"}
    run = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert run.stderr.startswith("DERMAFLUX_PORT must be a whole number") and "Traceback" not in run.stderr


def test_the_table_names_every_flag_and_variable():
    rows = table().splitlines()
    assert len(rows) == 2 + len(Settings.__dataclass_fields__)
    assert any("`--port`" in row and "`GRADIO_SERVER_PORT`" in row for row in rows)
