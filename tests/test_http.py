"""The page over HTTP: its named endpoints, bad parameters, and visitors who cannot stop each other."""

import json
import threading
import time
import urllib.request

import httpx
import pytest
import tiny
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from dermaflux.caption import caption
from dermaflux.classifier import Classifier
from dermaflux.images import read_provenance
from dermaflux.lesion import LesionAttributes
from dermaflux.settings import Settings
from dermaflux.slot import once
from dermaflux.ui.context import NOTICE, UNEXPECTED
from dermaflux.ui.shell import build_app, launch_options

LESION = dict(label="malignant", asymmetry=2, border=4, colours=["dark brown", "black"], size_mm=7)


@pytest.fixture(scope="module")
def page(tiny_generator):
    """The address of a page whose generator is the tiny one."""
    classifier = once(lambda: Classifier.load("nano"))
    settings = Settings(host="127.0.0.1", port=0, mcp=True)
    app = build_app(settings, tiny.slot(tiny_generator), classifier)
    _, url, _ = app.launch(**launch_options(settings), prevent_thread_lock=True, quiet=True)
    yield url
    app.close()


@pytest.fixture
def client(page, tmp_path):
    return Client(page, verbose=False, download_files=str(tmp_path))


def config(page: str) -> dict:
    return json.load(urllib.request.urlopen(page + "config"))


def generate(client: Client, **given) -> list[str]:
    return client.predict(**(LESION | {"steps": 2, "size": 64} | given), api_name="/generate")


def test_only_the_named_endpoints_are_public(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/generate", "/caption", "/classify", "/measure"}


def test_the_page_keeps_no_history_and_sends_no_analytics(page):
    found = config(page)
    assert found["analytics_enabled"] is False and not found.get("run_history")


def test_the_notice_stands_above_the_tabs(page):
    values = [str(component["props"].get("value")) for component in config(page)["components"]]
    assert any(NOTICE in value for value in values)


def test_caption_words_the_attributes(client):
    expected = caption(LesionAttributes(**LESION), 3)
    assert client.predict(**LESION, wording=3, api_name="/caption") == expected


def test_generate_returns_pngs_that_carry_their_recipes(client):
    paths = generate(client, count=2, seed=2**32 - 1, guidance=2.5)
    recipes = [read_provenance(path) for path in paths]
    assert [recipe.seed for recipe in recipes] == [2**32 - 1, 0]
    assert {recipe.attributes for recipe in recipes} == {LesionAttributes(**LESION)}
    assert {(recipe.steps, recipe.guidance, recipe.size) for recipe in recipes} == {(2, 2.5, 64)}


def test_a_page_with_a_password_answers_only_who_gives_it(tiny_generator):
    settings = Settings(host="127.0.0.1", port=0, password="häut-42", root_path="/skin")
    app = build_app(settings, tiny.slot(tiny_generator), once(lambda: Classifier.load("nano")))
    _, url, _ = app.launch(**launch_options(settings), prevent_thread_lock=True, quiet=True)
    try:
        assert httpx.get(url + "gradio_api/info").status_code == 401
        assert httpx.post(url + "login", data={"username": "x", "password": "haut-42"}).status_code == 400
        with httpx.Client() as visitor:
            assert visitor.post(url + "login", data={"username": "x", "password": "häut-42"}).status_code == 200
            told = visitor.get(url + "config").json()
        assert told["root"].endswith("/skin")
    finally:
        app.close()


def test_the_same_request_draws_the_same_pixels_and_another_seed_others(client):
    first, again, other = (Image.open(generate(client, seed=seed)[0]).tobytes() for seed in (5, 5, 6))
    assert first == again != other


def test_a_free_caption_is_drawn_and_read_into_the_attributes(client):
    (path,) = generate(client, caption="A benign lesion with glitter.")
    recipe = read_provenance(path)
    assert (recipe.caption, recipe.attributes.label) == ("A benign lesion with glitter.", "benign")


@pytest.mark.parametrize(
    "given, named",
    [
        (dict(seed=-1), "seed"),
        (dict(seed=2**40), "seed"),
        (dict(seed="text"), "seed"),
        (dict(seed=1.5), "seed"),
        (dict(count=9), "1 to 8"),
        (dict(count=None), "images"),
        (dict(steps=0), "steps"),
        (dict(steps="many"), "steps"),
        (dict(size=65), "64, 128"),
        (dict(guidance="high"), "Guidance"),
        (dict(true_cfg=0), "True CFG"),
        (dict(lora_strength=9), "LoRA"),
        (dict(label="<script>"), "label"),
        (dict(asymmetry=3), "asymmetry"),
        (dict(asymmetry="2"), "asymmetry"),
        (dict(colours="red"), "colours"),
        (dict(colours=["mauve"]), "colours"),
        (dict(colours=[["red"]]), "colours"),
        (dict(tone=11), "tone"),
        (dict(caption="x" * 20_000), "shorten"),
        (dict(caption=["a"]), "text"),
        (dict(negative=7), "text"),
    ],
)
def test_a_bad_parameter_is_answered_in_a_sentence_and_the_server_lives(client, given, named):
    with pytest.raises(AppError) as failure:
        generate(client, **given)
    said = str(failure.value)
    assert named in said and UNEXPECTED not in said and "Traceback" not in said
    assert client.predict(api_name="/caption").startswith("This photo depicts")


@pytest.mark.parametrize(
    "name, written", [("seed", "NaN"), ("seed", "1e400"), ("guidance", "NaN"), ("steps", "-Infinity")]
)
def test_numbers_that_are_none_are_refused_in_a_sentence(page, name, written):
    info = httpx.get(page + "gradio_api/info").json()["named_endpoints"]["/generate"]["parameters"]
    given = {each["parameter_name"]: each["parameter_default"] for each in info} | LESION | {name: "here"}
    data = json.dumps(list(given.values())).replace('"here"', written)
    headers = {"Content-Type": "application/json"}
    call = page + "gradio_api/call/generate"
    event = httpx.post(call, content=f'{{"data": {data}}}', headers=headers).json()["event_id"]
    answer = httpx.get(f"{call}/{event}", timeout=60).text
    assert answer.startswith("event: error") and name in answer.lower()


def test_one_visitor_cannot_cancel_anothers_run(page, client, tmp_path):
    other = Client(page, verbose=False, download_files=str(tmp_path / "other"))
    drawn = []
    run = threading.Thread(target=lambda: drawn.extend(generate(client, steps=50, size=128)))
    run.start()
    endpoints = [each for each in config(page)["dependencies"] if each["api_name"] == "generate"]
    body = {"session_hash": other.session_hash, "fn_index": endpoints[0]["id"], "event_id": "unknown"}
    while run.is_alive():
        assert httpx.post(page + "gradio_api/cancel", json=body).json() == {"success": True}
        time.sleep(0.05)
    assert len(drawn) == 1


def test_the_endpoints_are_served_as_tools(page):
    tools = json.load(urllib.request.urlopen(page + "gradio_api/mcp/schema"))
    named = {tool["name"]: tool for tool in tools}
    assert {"generate", "caption"} <= {name.split("_")[-1] for name in named}
    assert all("DermaFlux" in tool["description"] or tool["description"] for tool in tools)
