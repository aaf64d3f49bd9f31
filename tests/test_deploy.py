"""A Space is checked before anything is sent, and then made through the Hub's own interface."""

import json
import re

import hub_in_place
import pytest
from hub_in_place import api
from huggingface_hub import HfApi, RepoCard
from typer.testing import CliRunner

from dermaflux import cli, deploy
from dermaflux.errors import InputError

README = """---
title: DermaFlux
emoji: x
colorFrom: green
colorTo: blue
sdk: gradio
sdk_version: 6.31.0
python_version: "3.12"
app_file: app.py
license: apache-2.0
short_description: Draws
---
# A page
"""


@pytest.fixture
def hub():
    with hub_in_place.serving() as server:
        yield server


@pytest.fixture
def root(tmp_path):
    """A small repository of the same shape."""
    for name, text in {
        "README.md": README,
        "LICENSE": "free",
        "app.py": "print()",
        "requirements.txt": "gradio>=6.31,<7\ntorch>=2.8",
        "dermaflux/__init__.py": "",
        "dermaflux/ui/style.css": "a {}",
        "dermaflux/__pycache__/x.pyc": "no",
        "assets/nano/card.md": "card",
        "tests/test_x.py": "no",
        "secrets.txt": "no",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


SENT = {"README.md", "LICENSE", "app.py", "requirements.txt", "dermaflux/__init__.py", "dermaflux/ui/style.css"}
SENT |= {"assets/nano/card.md"}


def test_a_deployment_makes_the_space_sets_the_model_and_sends_only_what_it_needs(hub, root):
    planned = deploy.plan("o/n", "cpu-upgrade", "nano", private=True, root=root)
    assert not planned.problems
    address = deploy.run(planned, api(hub), root)
    seen = dict(hub.RequestHandlerClass.seen)
    created = json.loads(seen["/api/repos/create"])
    assert created["type"] == "space" and created["sdk"] == "gradio"
    assert created.get("private") or created.get("visibility") == "private"
    assert json.loads(seen["/api/spaces/o/n/settings"])["visibility"] == "private"
    assert json.loads(seen["/api/spaces/o/n/variables"]) == {"key": "DERMAFLUX_MODEL", "value": "nano"}
    assert json.loads(seen["/api/spaces/o/n/hardware"])["flavor"] == "cpu-upgrade"
    assert hub.RequestHandlerClass.files.keys() == SENT
    assert hub.RequestHandlerClass.files["README.md"].decode() == README
    assert hub.RequestHandlerClass.deleted == {"dermaflux/gone.py"}
    assert address.endswith("/spaces/o/n")


@pytest.mark.parametrize(
    ("refused", "status", "said"),
    [
        ("/repos/create", 401, "does not let this token write"),
        ("/commit/", 403, "does not let this token write"),
        ("/hardware", 402, "asks for payment"),
        ("/commit/", 422, "answered 422"),
    ],
)
def test_what_the_hub_refuses_is_said_in_a_sentence(hub, root, refused, status, said):
    hub.RequestHandlerClass.refused, hub.RequestHandlerClass.status = refused, status
    planned = deploy.plan("o/n", "cpu-upgrade", "nano", private=False, root=root)
    with pytest.raises(InputError, match=said):
        deploy.run(planned, api(hub), root)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("sdk: gradio", "sdk: docker", "sdk is docker"),
        ("sdk_version: 6.31.0", "sdk_version: 5.0.0", "sdk_version is 5.0.0"),
        ("sdk_version: 6.31.0", "sdk_version: new", "sdk_version is new"),
        ("colorTo: blue", "colorTo: teal", "colorTo is teal"),
        ("app_file: app.py", "app_file: main.py", "app_file is main.py"),
        ('python_version: "3.12"', "python_version: latest", "python_version is latest"),
        ("license: apache-2.0\n", "", "license is missing"),
        ("short_description: Draws", f"short_description: {'x' * 61}", "short_description"),
    ],
)
def test_front_matter_that_the_hub_refuses_is_named_before_anything_is_sent(hub, root, before, after, said):
    (root / "README.md").write_text(README.replace(before, after))
    planned = deploy.plan("o/n", "cpu-basic", "nano", private=False, root=root)
    assert len(planned.problems) == 1 and said in planned.problems[0]
    with pytest.raises(InputError, match=re.escape(said)):
        deploy.run(planned, api(hub), root)
    assert not hub.RequestHandlerClass.seen


def test_settings_of_the_page_become_variables_and_a_login_stands_in_the_front_matter(hub, root):
    given = ["login=hf", "allowed=clinic", "images-per-hour=20", "feedback=hf://datasets/o/ratings"]
    planned = deploy.plan("o/n", "cpu-basic", "nano", private=False, others=given, root=root)
    assert not planned.problems and planned.secrets == ("HF_TOKEN",)
    deploy.run(planned, api(hub), root)
    sent = [json.loads(body) for path, body in hub.RequestHandlerClass.seen if path.endswith("/variables")]
    assert {one["key"]: one["value"] for one in sent} == {
        "DERMAFLUX_MODEL": "nano",
        "DERMAFLUX_LOGIN": "hf",
        "DERMAFLUX_ALLOWED": "clinic",
        "DERMAFLUX_IMAGES_PER_HOUR": "20",
        "DERMAFLUX_FEEDBACK": "hf://datasets/o/ratings",
    }
    readme = hub.RequestHandlerClass.files["README.md"].decode()
    assert RepoCard(readme).data.to_dict() == RepoCard(README).data.to_dict() | {"hf_oauth": True}
    assert readme.endswith("# A page\n") and (root / "README.md").read_text() == README
    assert deploy.with_login(readme) == readme


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("colour=red", "no setting"),
        ("model=flux1-dev", "no setting"),
        ("password=x", "as a secret"),
        ("images_per_hour=many", "DERMAFLUX_IMAGES_PER_HOUR must be a whole number"),
        ("login=google", "DERMAFLUX_LOGIN must be hf"),
        ("allowed=clinic", "--login hf"),
        ("feedback=https://x", "hf://datasets/OWNER/NAME"),
    ],
)
def test_a_setting_that_the_page_would_refuse_is_refused_before_anything_is_sent(root, given, said):
    with pytest.raises(InputError, match=said):
        deploy.plan("o/n", "cpu-basic", "nano", private=False, others=[given], root=root)


def test_settings_that_the_page_would_not_start_with_together_are_refused(root):
    with pytest.raises(InputError, match="--mcp cannot be had with --login hf"):
        deploy.plan("o/n", "cpu-basic", "nano", private=False, others=["login=hf", "mcp=true"], root=root)


@pytest.mark.parametrize("given", ["port=8000", "host=127.0.0.1", "root-path=/x", "share=true"])
def test_where_the_page_is_served_is_left_to_the_space(root, given):
    said = f"--set {given.split('=')[0].replace('-', '_')}: a Space has its own. Leave it out."
    assert deploy.plan("o/n", "cpu-basic", "nano", False, others=[given], root=root).problems == (said,)


@pytest.mark.parametrize(
    ("given", "said"),
    [([], "A restart of the Space empties"), (["feedback=/data/feedback"], "a bucket is mounted that holds /data/fee")],
)
def test_where_ratings_would_not_outlive_a_restart_that_is_noted(root, given, said):
    notes = deploy.plan("o/n", "cpu-basic", "nano", private=False, others=given, root=root).notes
    assert any(said in one for one in notes)
    kept = deploy.plan("o/n", "cpu-basic", "nano", private=False, others=["feedback=hf://datasets/o/n"], root=root)
    assert not any("restart" in one for one in kept.notes)


def test_without_a_network_that_is_said(root):
    planned = deploy.plan("o/n", "cpu-basic", "nano", private=False, root=root)
    with pytest.raises(InputError, match="cannot be reached"):
        deploy.run(planned, HfApi(endpoint="http://127.0.0.1:9", token="hf_test"), root)


def test_missing_files_and_readme_without_a_head_are_named(root):
    (root / "app.py").unlink()
    (root / "README.md").write_text("# A page")
    problems = deploy.plan("o/n", "cpu-basic", "nano", private=False, root=root).problems
    assert "app.py is missing." in problems and any("title is missing" in one for one in problems)


def test_a_gated_model_names_its_secret_licence_and_memory(root):
    planned = deploy.plan("o/n", "a100-large", "flux1-dev", private=False, root=root)
    lines = "\n".join(planned.lines())
    assert planned.secrets == ("HF_TOKEN",) and not planned.problems
    assert "non-commercial" in lines and "36.2 GB on the card" in lines and "public Space" in lines
    small = deploy.plan("o/n", "cpu-basic", "flux1-dev", private=True, root=root)
    assert "does not fit" in small.problems[0]


def test_on_zerogpu_the_versions_that_it_has_are_asked_for(hub, root):
    planned = deploy.plan("o/n", "zero-a10g", "flux1-dev", private=False, root=root)
    assert not planned.problems and "requirements.txt: torch>=2.8,<2.12" in planned.lines()
    deploy.run(planned, api(hub), root)
    sent = hub.RequestHandlerClass.files["requirements.txt"].decode()
    assert sent == "gradio>=6.31,<7\ntorch>=2.8,<2.12\n"
    (root / "README.md").write_text(README.replace('"3.12"', '"3.13"'))
    assert "ZeroGPU has Python 3.10 and 3.12" in deploy.plan("o/n", "zero-a10g", "nano", False, root=root).problems[0]
    assert not deploy.plan("o/n", "cpu-basic", "nano", False, root=root).problems


@pytest.mark.parametrize("given", ["models=nano", "loras=o/lora", "writer=o/llama", "describer=o/llama"])
def test_on_zerogpu_more_models_than_one_are_refused(root, given):
    said = f"--set {given.split('=')[0]}: on ZeroGPU the one model is placed before the page is served. Leave it out."
    planned = deploy.plan("o/n", "zero-a10g", "flux1-dev", private=False, others=[given], root=root)
    assert planned.problems == (said,)
    assert not deploy.plan("o/n", "a100-large", "flux1-dev", private=False, others=[given], root=root).problems


def test_a_package_for_fewer_bits_is_asked_for_where_only_so_the_model_fits(hub, root, monkeypatch):
    monkeypatch.setattr(deploy.memory, "_installed", lambda way: not way.package)
    monkeypatch.setitem(deploy.HARDWARE, "t4-medium", deploy.memory.Free(16, 40))
    planned = deploy.plan("o/n", "t4-medium", "flux1-dev", private=True, root=root)
    assert planned.requirements == ("torchao",) and not planned.problems
    deploy.run(planned, api(hub), root)
    assert hub.RequestHandlerClass.files["requirements.txt"].decode() == "gradio>=6.31,<7\ntorch>=2.8\ntorchao\n"


def test_the_way_that_the_page_is_to_load_its_model_is_planned_with_its_package(root, monkeypatch):
    monkeypatch.setattr(deploy.memory, "_installed", lambda way: not way.package)
    planned = deploy.plan("o/n", "a10g-large", "flux1-dev", True, others=["memory=int4"], root=root)
    assert planned.requirements == ("bitsandbytes",) and not planned.problems
    assert "Note: Loaded as: 4 bits: about 17.3 GB on the card" in "\n".join(planned.lines())
    small = deploy.plan("o/n", "t4-small", "flux1-dev", True, others=["memory=bf16"], root=root)
    assert small.problems[0].startswith("--set memory=bf16: 16 bits: about 36.2 GB")
    assert not deploy.plan("o/n", "cpu-basic", "nano", True, others=["memory=bf16"], root=root).problems


def test_a_gated_model_that_visitors_may_load_names_its_secret(root):
    secrets = lambda *given: deploy.plan("o/n", "a100-large", "nano", False, others=given, root=root).secrets
    assert secrets("models=flux1-schnell,flux1-dev") == ("HF_TOKEN",)
    assert secrets() == secrets("models=flux1-schnell") == ()


def test_a_gated_llama_names_its_secret(root):
    given = ["writer=meta-llama/Llama-3.2-3B-Instruct"]
    assert deploy.plan("o/n", "a100-large", "nano", False, others=given, root=root).secrets == ("HF_TOKEN",)
    assert not deploy.plan("o/n", "a100-large", "nano", False, others=["writer=o/llama"], root=root).secrets


@pytest.mark.parametrize(
    ("space", "hardware", "model", "said"),
    [
        ("name", "cpu-basic", "nano", "owner/name"),
        ("o/n/x", "cpu-basic", "nano", "owner/name"),
        ("o/n", "abacus", "nano", "cpu-basic"),
        ("o/n", "cpu-basic", "none", "Known models"),
    ],
)
def test_wrong_names_are_refused(space, hardware, model, said):
    with pytest.raises(Exception, match=said):
        deploy.plan(space, hardware, model, private=False)


def test_a_model_of_this_machine_cannot_be_deployed(tiny_folder):
    with pytest.raises(InputError, match="folder of this machine"):
        deploy.plan("o/n", "cpu-basic", str(tiny_folder / "pipeline"), private=False)


def test_a_dry_run_of_this_repository_finds_nothing_wrong_and_sends_nothing():
    done = CliRunner().invoke(cli.app, ["deploy", "--space", "o/n", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "Problem" not in done.output and "DERMAFLUX_MODEL=nano" in done.output and "Done" not in done.output
