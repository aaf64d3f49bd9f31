"""Llama 3.2: loading, the published question, and what is held against an answer; with models of random weights."""

from dataclasses import replace

import pytest
import tiny_llama
from PIL import Image

from dermaflux import llama, memory, phantom
from dermaflux.errors import ModelUnavailable
from dermaflux.lesion import EXAMPLES, LesionAttributes
from dermaflux.llama import Describer, Writer, contradiction, departures, faults, no_description
from dermaflux.text_models import TEXT_MODELS, TextModelSpec, find_text_model

LESION = EXAMPLES["Early melanoma"]
SAID = "The lesion is asymmetric with a border that ends abruptly."


@pytest.fixture(scope="module")
def writer(tmp_path_factory) -> Writer:
    return Writer(find_text_model(str(tiny_llama.writer(tmp_path_factory.mktemp("writer")))), "cpu")


@pytest.fixture(scope="module")
def describer(tmp_path_factory) -> Describer:
    return Describer(find_text_model(str(tiny_llama.describer(tmp_path_factory.mktemp("describer")))), "cpu")


def test_a_form_is_worded_under_the_published_opening_the_same_each_time(writer):
    found = writer.word(LESION)
    assert found.text.startswith("This photo depicts a malignant lesion. Here's a description of the mole:")
    assert len(found.text) > 100 and writer.word(LESION) == found


def test_images_are_described_with_and_without_the_label_alone_as_among_others(describer):
    images = [Image.fromarray(phantom.draw(LESION, seed).image) for seed in range(2)]
    asked = [images[0], images[0], images[1]]
    found = describer.describe(asked, [None, "malignant", "benign"])
    assert len(found) == 3 and all(one.text for one in found)
    assert describer.describe([images[0]], [None])[0].text == found[0].text


def test_the_question_is_the_published_one_and_names_the_label_only_where_it_is_given(describer, monkeypatch):
    asked = []
    monkeypatch.setattr(describer, "_answer", lambda inputs, tokenizer: asked.append(inputs) or [SAID] * 2)
    seen = []
    template = describer.prepare.apply_chat_template
    monkeypatch.setattr(
        describer.prepare, "apply_chat_template", lambda chat, **more: seen.append(chat) or template(chat, **more)
    )
    image = Image.fromarray(phantom.draw(LESION, 0).image)
    describer.describe([image, image], ["benign", None])
    told, plain = (chat[0]["content"][1]["text"] for chat in seen)
    assert told.startswith("This is an image containing a benign lesion. Give me a description of this mole regarding")
    assert plain.startswith("This is an image containing a lesion. ") and "benign" not in plain
    assert asked[0]["input_ids"].shape[0] == 2


@pytest.mark.parametrize("answer", ["", "  ", "I can’t help with that request.", "I'm sorry, but I cannot do it."])
def test_an_answer_that_describes_nothing_is_named(answer):
    assert no_description(answer) and faults(answer, "benign")


def test_an_answer_against_its_label_is_named():
    assert faults("This malignant lesion is asymmetric and dark.", "benign") == (
        "It calls the lesion malignant, against its label.",
    )
    assert not faults(SAID, "benign") and not faults("This malignant lesion is asymmetric.", None)


@pytest.mark.parametrize(
    ("answer", "label", "said"),
    [
        ("The mole is asymmetric. It looks like a melanoma.", "benign", "melanoma"),
        ("The irregular border is concerning for a malignant lesion.", "benign", "malignant"),
        ("It is a common nevus with even borders.", "malignant", "nevus"),
        ("No features of melanoma are seen. It is a nevus.", "benign", ""),
        ("This lesion does not look malignant.", "benign", ""),
        ("It looks like a melanoma.", "malignant", ""),
    ],
)
def test_a_contradiction_may_be_a_diagnosis_and_a_denial_is_none(answer, label, said):
    assert contradiction(answer, label) == (f"It calls the lesion {said}, against its label." if said else "")


def test_a_wording_that_departs_from_the_form_says_where():
    text = "This photo depicts a benign lesion. It is asymmetric along both axes. The pigment is black."
    said = departures(text, LesionAttributes("benign", asymmetry=0, colours=("black",)))
    assert said == ("It says asymmetry 2, asked was 0.",)
    assert departures(text, LesionAttributes("benign", asymmetry=2)) == ("It says colours black, asked was nothing.",)


def test_a_model_that_has_no_room_is_refused_before_it_is_fetched(monkeypatch):
    monkeypatch.setattr(llama.Free, "now", lambda device: memory.Free(8.0, 64.0))
    monkeypatch.setattr(llama, "fetch", lambda *_: pytest.fail("nothing may be fetched"))
    with pytest.raises(ModelUnavailable, match="takes about 21 GB of the card's memory, of which 8 GB are free"):
        Describer(TEXT_MODELS["meta-llama/Llama-3.2-11B-Vision-Instruct"], "cuda")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match="cannot be loaded from"):
        Writer(TextModelSpec("Nothing", str(tmp_path)), "cpu")


def test_an_answer_cut_short_ends_with_its_last_sentence():
    assert llama.to_last_sentence(" It is dark. The border is ") == "It is dark."
    assert llama.to_last_sentence("no end") == "no end"


def test_a_folder_is_as_large_as_its_weights(writer):
    assert 0 < find_text_model(writer.spec.source).gigabytes < 0.01


def test_a_refusal_leaves_the_template(writer, monkeypatch):
    monkeypatch.setattr(writer, "_answer", lambda *_: ["I cannot help with that."])
    with pytest.raises(ModelUnavailable, match="It refuses: “I cannot help"):
        writer.word(replace(LESION, label=None, diagnosis=None))
