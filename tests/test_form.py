"""The form: controls and caption kept in step, recipes restored, the score remarked on."""

import json
from types import SimpleNamespace

import gradio as gr
import pytest

from dermaflux.caption import caption
from dermaflux.errors import InputError
from dermaflux.images import Provenance
from dermaflux.lesion import EXAMPLES, LesionAttributes, plausible
from dermaflux.models import MAX_SEED, MODELS, SamplingOptions
from dermaflux.ui import fields, score
from dermaflux.ui.form import filled, follow_caption, follow_controls, restored

NANO = MODELS["nano"]
NEVUS, MELANOMA = EXAMPLES["Two-tone nevus"], EXAMPLES["Early melanoma"]
LATER = len(fields.ATTRIBUTES)
HERE = "float32 on cpu"
LOADED = SimpleNamespace(spec=NANO, model_hash="a" * 64, adapter=SimpleNamespace(hash="b" * 64), arithmetic=HERE)


def recipe(attributes: LesionAttributes = MELANOMA, **given) -> Provenance:
    values = dict(seed=7, steps=9, guidance=2.5, negative="hair", true_cfg=1.5, lora_strength=0.4, size=NANO.size)
    values |= dict(model="nano", model_hash="a" * 64, lora="l", lora_hash="b" * 64, version="0.1.0")
    return Provenance(caption=caption(attributes, 5), attributes=attributes, **(values | given))


def values(attributes=NEVUS, text=None, agreed=None, source=None, **changes) -> list:
    text = caption(NEVUS) if text is None else text
    given = vars(SamplingOptions.defaults(NANO, steps=4)) | dict(count=1, seed=0, randomise=False) | changes
    settings = [given[name] for name in fields.SETTINGS]
    return [*fields.to_values(attributes), text, 0, agreed or fields.agreed(caption(NEVUS), NEVUS), *settings, source]


@pytest.mark.parametrize("seed", range(40))
def test_controls_hold_every_attribute(seed):
    attributes = plausible(seed)
    assert fields.to_attributes(fields.to_values(attributes)) == attributes


def test_controls_hold_what_is_not_specified():
    assert fields.to_attributes(fields.to_values(LesionAttributes())) == LesionAttributes()


def test_a_form_in_step_asks_for_its_caption_as_it_stands():
    free = "A benign lesion with glitter."
    asked = fields.request(
        NANO, values(LesionAttributes("benign"), free, fields.agreed(free, LesionAttributes("benign")))
    )
    assert (asked.text, asked.attributes) == (free, LesionAttributes("benign"))


def test_controls_changed_just_before_drawing_are_drawn():
    asked = fields.request(NANO, values(MELANOMA))
    assert (asked.text, asked.attributes) == (caption(MELANOMA), MELANOMA)


def test_a_caption_edited_just_before_drawing_is_drawn():
    asked = fields.request(NANO, values(text=caption(MELANOMA, 3)))
    assert (asked.text, asked.attributes) == (caption(MELANOMA, 3), MELANOMA)


def test_a_changed_control_rewrites_caption_and_score():
    text, noted, card, note, *_ = follow_controls(0, fields.agreed(caption(NEVUS), NEVUS), *fields.to_values(MELANOMA))
    assert text == caption(MELANOMA) == json.loads(noted)[0]
    assert score.arithmetic(MELANOMA) in card
    assert "<p>" not in note


@pytest.mark.parametrize(
    "changed, expected, label_or_diagnosis",
    [
        (dict(label="malignant"), LesionAttributes("malignant"), (gr.skip(), "")),
        (dict(diagnosis="melanoma"), LesionAttributes("malignant", "melanoma"), ("malignant", gr.skip())),
    ],
)
def test_label_and_diagnosis_are_made_to_agree_and_said_so(changed, expected, label_or_diagnosis):
    given = [changed.get(name, value) for name, value in zip(fields.ATTRIBUTES, fields.to_values(NEVUS), strict=True)]
    text, *_, note, label, diagnosis = follow_controls(0, fields.agreed(caption(NEVUS), NEVUS), *given)
    assert (label, diagnosis) == label_or_diagnosis and "changed to agree" in note
    asked = fields.request(NANO, [*given, *values()[LATER:]])
    assert (asked.attributes.label, asked.attributes.diagnosis) == (expected.label, expected.diagnosis)
    assert asked.text == text


def test_candidates_are_drawn_of_new_seeds_and_not_of_one_that_is_asked_for():
    assert fields.request(NANO, values(randomise=True)).options.candidates == NANO.candidates > 1
    assert fields.request(NANO, values(randomise=True, candidates=3)).options.candidates == 3
    assert fields.request(NANO, values(seed=7, randomise=False)).options.candidates == 1


def test_an_edited_caption_flows_into_the_controls_and_says_what_it_could_not_read():
    text = "This malignant lesion is asymmetric in both axes. It has a halo of <b>glitter</b>."
    *controls, noted, _, note = follow_caption(text, fields.agreed(caption(NEVUS), NEVUS))
    assert fields.to_attributes(controls) == LesionAttributes("malignant", asymmetry=2)
    assert "glitter" in note and "<b>" not in note and json.loads(noted)[0] == text


def test_a_caption_that_the_form_wrote_changes_nothing():
    answers = follow_caption(caption(NEVUS), fields.agreed(caption(NEVUS), NEVUS))
    assert all(answer == {"__type__": "update"} for answer in answers)


@pytest.mark.parametrize("source", [None, recipe(NEVUS, seed=3)])
def test_a_restored_recipe_asks_for_exactly_what_it_records(source):
    more = dict(first_block_cache=0.12, eta=0.35, eta_below=0.9, contrast=0.6, candidates=4, postfilter=0.5)
    more |= dict(early_guidance=1.3, guidance_below=0.4)
    given = recipe(strength=0.35 if source else None, source=source, **more)
    text_at = LATER
    answers = restored(LOADED, given)
    controls, (text, noted, wording) = answers[:LATER], answers[text_at : text_at + 3]
    settings = answers[-len(fields.SETTINGS) :]
    asked = fields.request(NANO, [*controls, text, wording, noted, *settings, answers[-len(fields.SETTINGS) - 2]])
    assert (asked.text, asked.attributes, asked.source) == (given.caption, given.attributes, source)
    assert asked.options == given.options() and asked.randomise is False
    assert settings[fields.SETTINGS.index("candidates")] == gr.skip(), "those are for new seeds"


def test_a_recipe_of_another_model_is_restored_with_a_warning():
    said = str(restored(LOADED, recipe(model="flux1-dev", model_hash="0" * 16)))
    assert "drawn with flux1-dev" in said and "will draw another image" in said
    assert "same pixels" in str(restored(LOADED, recipe()))
    assert "same pixels" in str(restored(LOADED, recipe(model="nano in another folder")))


@pytest.mark.parametrize("hashes", [{"model_hash": "0" * 16}, {"lora_hash": "0" * 16}])
def test_a_recipe_of_other_weights_is_restored_with_a_warning(hashes):
    assert "other weights" in str(restored(LOADED, recipe(**hashes)))


def test_a_recipe_of_other_arithmetic_is_restored_with_a_remark_on_its_pixels():
    said = str(restored(LOADED, recipe(arithmetic="bf16 on cuda, compiled")))
    assert "drawn with bf16 on cuda, compiled; here it is float32 on cpu" in said and "same pixels" not in said
    assert "same pixels" in str(restored(LOADED, recipe(arithmetic=HERE)))


def test_an_example_replaces_the_description_and_forgets_the_image_to_vary():
    answers = filled(MELANOMA)
    assert fields.to_attributes(answers[:LATER]) == MELANOMA and answers[-len(fields.SETTINGS) - 2] is None


def test_seeds_are_consecutive_and_wrap():
    assert fields.seeds(MAX_SEED, 3) == (MAX_SEED, 0, 1)


@pytest.mark.parametrize("seed, count", [(-1, 1), (2**40, 1), (float("nan"), 1), ("7", 1), (1.5, 1), (0, 9), (0, None)])
def test_a_seed_or_count_out_of_range_is_refused(seed, count):
    with pytest.raises(InputError):
        fields.seeds(seed, count)


@pytest.mark.parametrize(
    "value, said",
    [(10**400, "a number of over 40 digits"), (-(10**5000), "40 digits"), (None, "empty"), ("", "empty")],
    ids=["400", "5000", "none", "text"],
)
def test_what_is_no_whole_number_is_named_whatever_its_size(value, said):
    with pytest.raises(InputError, match=f"The seed must be a whole number, not .*{said}"):
        fields.whole("The seed", value)


def test_the_options_of_the_form_are_those_of_the_model():
    assert fields.request(NANO, values(count=2, seed=5)).options == SamplingOptions.defaults(
        NANO, seeds=(5, 6), steps=4, candidates=1
    )


def test_the_score_shows_its_arithmetic_and_band():
    card = score.card(LesionAttributes(asymmetry=2, border=4, colours=("red", "black", "white"), structures=("dots",)))
    assert "1.3 × 2 + 0.1 × 4 + 0.5 × 3 + 0.5 × 1 = 5.0" in card and "suspicious" in card


def test_a_score_that_lacks_something_names_it():
    assert "border" in score.card(LesionAttributes(asymmetry=1))


@pytest.mark.parametrize(
    "attributes, said",
    [
        (EXAMPLES["Atypical nevus, discordant look"], "Discordant: benign"),
        (EXAMPLES["Symmetric melanoma, discordant look"], "Discordant: malignant"),
        (EXAMPLES["Seborrheic keratosis"], "melanocytic"),
        (LesionAttributes(capture="clinical"), "clinical photographs"),
    ],
)
def test_the_score_is_remarked_on_where_it_is_discordant_or_does_not_hold(attributes, said):
    assert said in score.card(attributes)
    assert said not in score.card(NEVUS)
