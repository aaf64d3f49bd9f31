"""The menu of models: what is offered, what is said, and what follows."""

from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest

from dermaflux.errors import InputError, ModelUnavailable
from dermaflux.memory import AUTO
from dermaflux.models import MODELS, LoraSpec
from dermaflux.settings import Settings
from dermaflux.slot import Choice, GeneratorSlot
from dermaflux.ui import model
from dermaflux.ui.context import Context, Suited

SERVED = dict(host="0.0.0.0")


def page(load=lambda choice: pytest.fail("nothing is loaded here"), fetch=lambda choice: iter(()), **settings):
    """The context, the menu and its listeners by name, of a page whose model is nano; one text follows the model."""
    slot = GeneratorSlot(Choice(MODELS["nano"]), load, fetch)
    context = Context(Settings(**settings), slot, lambda: pytest.fail("not needed here"))
    with gr.Blocks(analytics_enabled=False) as app:
        chooser, title = model.build(context), gr.HTML()
        if chooser:
            model.wire(context, app, chooser, [Suited([title], lambda spec: [spec.title])])
    return context, chooser, {listener.name: listener.fn for listener in app.fns.values()}


def test_a_served_page_has_no_menu_unless_its_owner_offers_something():
    assert page(**SERVED)[1] is None and page(root_path="/behind/a/proxy")[1] is None
    assert page(**SERVED, models="flux1-dev")[1] and page(**SERVED, loras="owner/lora")[1]


def test_what_is_not_offered_is_refused():
    context, _, _ = page(**SERVED, models="flux1-schnell", loras="owner/lora")
    assert model._choice(context, "flux1-schnell", "owner/lora", AUTO).spec.lora.source == "owner/lora"
    for asked in (("flux1-dev", "own", AUTO), ("nano", "owner/other", AUTO), ("nano", "own", "float32")):
        with pytest.raises(InputError):
            model._choice(context, *asked)
    assert model._choice(page()[0], "nano", "own", "float32").memory == "float32"


@pytest.mark.parametrize("name", list(MODELS))
def test_turning_to_a_model_says_what_it_is(name):
    *_, listeners = page()
    lora, said = listeners["turn"](name, "own", AUTO)
    spec = MODELS[name]
    assert spec.title in said and spec.licence in said and "does not offer" not in said
    assert lora.value == ("own" if spec.lora else "none")


def test_a_way_to_keep_weights_that_takes_more_than_is_free_is_said(monkeypatch):
    *_, listeners = page()
    monkeypatch.setattr(model.memory.Free, "now", lambda device: model.memory.Free(None, 16.0))
    assert "That is more than is free." in listeners["tell"]("flux1-dev", "own", "float32")
    assert "That is more than is free." not in listeners["tell"]("nano", "own", "float32")


def test_paths_on_the_machine_are_not_shown(tmp_path):
    context, _, listeners = page(loras=str(tmp_path / "secret" / "mine.safetensors"))
    assert ("mine.safetensors", str(tmp_path / "secret" / "mine.safetensors")) in model._loras(context, MODELS["nano"])
    said = listeners["tell"]("nano", str(tmp_path / "secret" / "mine.safetensors"), AUTO)
    assert "mine.safetensors" in said and "secret" not in said
    folder = replace(MODELS["flux1-dev"], source=str(tmp_path))
    assert "href" in model.facts(MODELS["flux1-dev"]) and "href" not in model.facts(folder)


def test_the_download_is_that_of_the_model_and_of_its_lora(tmp_path):
    dev, schnell, nano = (MODELS[name] for name in ("flux1-dev", "flux1-schnell", "nano"))
    assert model.download(dev) == "about 32.1 GB with the LoRA, once"
    assert model.download(replace(dev, lora=None)) == model.download(schnell) == "about 31.5 GB, once"
    elsewhere = LoraSpec.at("owner/lora")
    assert model.download(replace(schnell, lora=elsewhere)) == "about 31.5 GB and the LoRA, once"
    assert model.download(replace(nano, lora=elsewhere)) == "the LoRA, once"
    assert model.download(nano) == model.download(replace(nano, lora=LoraSpec.at(str(tmp_path)))) == "none"


def test_an_open_page_follows_what_another_visitor_loaded(tiny_generator):
    context, _, listeners = page(load=lambda choice: tiny_generator)
    known = context.generator.choice
    assert listeners["look"](known) == [gr.skip()] * 6
    *_, (*_, chosen) = listeners["fetch"]("nano", "none", AUTO)
    *_, last = listeners["load"](chosen)
    assert last[2] == context.generator.choice != known
    seen, name, _, kept, said, title = listeners["look"](known)
    assert (seen, name, kept, title) == (context.generator.choice, "nano", AUTO, MODELS["nano"].title)
    assert "Dermoscopy LoRA" not in said


def test_a_failure_is_said_and_the_button_given_back():
    def fails(choice):
        raise ModelUnavailable("The disk is full.")

    _, _, listeners = page(load=fails)
    *_, (status, button, *rest) = listeners["load"](Choice(MODELS["flux1-schnell"]))
    assert "stays in use. The disk is full." in status and button.interactive
    assert rest == [gr.skip()] * 2
    *_, (status, button, stop, task) = page(fetch=fails)[2]["fetch"]("flux1-schnell", "none", AUTO)
    assert "stays in use. The disk is full." in status and button.interactive and not stop.interactive and task is None
    assert list(listeners["load"](None)) == [[gr.skip()] * 4]


def test_a_download_tells_how_far_it_is_and_can_be_stopped():
    ended = []

    def comes(choice):
        try:
            for done in range(1, 9):
                yield SimpleNamespace(done=done * 2**30, total=8 * 2**30)
        finally:
            ended.append(choice.spec.name)

    _, _, listeners = page(fetch=comes)
    run = listeners["fetch"]("flux1-schnell", "none", AUTO)
    (_, load, stop, _), _, (status, *_) = (next(run) for _ in range(3))
    assert stop.interactive and not load.interactive
    assert "Downloading FLUX.1-schnell: 2.00 of 8.00 GB" in status
    run.close()
    assert ended == ["flux1-schnell"]
    status, load, stop, task = listeners["stopped"]("fetching")
    assert "whole are kept" in status and load.interactive and not stop.interactive and task is None
    assert "Too many visitors" in listeners["stopped"]("asked")[0]
    assert listeners["stopped"](None) == [gr.skip()] * 4
    *_, last = listeners["fetch"]("flux1-schnell", "none", AUTO)
    assert last[-1].spec.name == "flux1-schnell" and listeners["stopped"](last[-1]) == [gr.skip()] * 4
