"""Llama 3.2 on the page: what it answers, and what is said where it is not set up; with models of random weights."""

import gradio as gr
import pytest
import tiny
import tiny_llama
from PIL import Image

from dermaflux import phantom
from dermaflux.caption import caption
from dermaflux.lesion import EXAMPLES
from dermaflux.settings import Settings
from dermaflux.ui import fields, form, llama
from dermaflux.ui.context import Context

LESION = EXAMPLES["Early melanoma"]


def listeners(generator, **settings) -> tuple[gr.Blocks, dict]:
    """A page with the two parts, and its listeners by name."""
    context = Context(Settings(**settings), tiny.slot(generator), lambda: pytest.fail("not needed here"))
    with gr.Blocks(analytics_enabled=False) as app:
        described = form.build(context)
        form.build_caption(described)
        described.settings["strength"].render()
        llama.build_writer(context, described)
        llama.build_describer(context, gr.Image(type="filepath"))
    return app, {listener.name: listener.fn for listener in app.fns.values()}


def test_where_it_is_not_set_up_the_page_says_why_and_offers_nothing(tiny_generator):
    app, found = listeners(tiny_generator)
    shown = [str(block.value) for block in app.blocks.values() if isinstance(block, gr.HTML)]
    for flag in ("--writer meta-llama/Llama-3.2-3B-Instruct", "--describer meta-llama/Llama-3.2-11B-Vision-Instruct"):
        assert any(flag in text for text in shown)
    buttons = {block.value: block for block in app.blocks.values() if isinstance(block, gr.Button)}
    assert not buttons["Word it"].interactive and not buttons["Describe this image"].interactive
    assert "word" not in found and "describe" not in found


def test_a_form_is_worded_and_stays_in_step(tiny_generator, tmp_path):
    _, found = listeners(tiny_generator, writer=str(tiny_llama.writer(tmp_path)))
    text, noted, _, note = found["word"](*fields.to_values(LESION))
    assert text.startswith("This photo depicts a malignant lesion.") and text != caption(LESION)
    assert noted == fields.agreed(text, LESION)
    assert form.follow_caption(text, noted) == [gr.skip()] * (len(fields.ATTRIBUTES) + 3)
    assert 'role="status"' in note


def test_an_image_is_described_without_and_with_the_label(tiny_generator, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    _, found = listeners(tiny_generator, describer=str(tiny_llama.describer(tmp_path)))
    Image.fromarray(phantom.draw(LESION, 0).image).save(tmp_path / "a.png")
    answers = found["describe"]({"path": str(tmp_path / "a.png")}, "malignant")
    assert len(answers) == 2 and all(answers)
    for other in (None, {"path": "/elsewhere/lesion.png"}):
        with pytest.raises(gr.Error, match="Choose an image first"):
            found["describe"](other, "benign")


def test_a_model_that_cannot_be_loaded_is_said_and_the_template_stays(tiny_generator, tmp_path):
    _, found = listeners(tiny_generator, writer=str(tmp_path))
    with pytest.raises(gr.Error, match="cannot be loaded"):
        found["word"](*fields.to_values(LESION))
