"""LoRAs of every format go onto a pipeline whole, say what they leave aside, or are refused with a reason."""

import json
from types import SimpleNamespace

import original_lora
import pytest
import tiny
import torch
from diffusers import FluxTransformer2DModel
from original_lora import dotted, velocity, written
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from dermaflux import lora
from dermaflux.errors import ModelUnavailable
from dermaflux.generator import Generator, Sample
from dermaflux.models import LoraSpec, SamplingOptions, find_model

RANK, ALPHA = 2, 1.0
TEXT = "This photo depicts a malignant lesion. Its colours are red and black."


@torch.inference_mode()
def reading(encoder) -> torch.Tensor:
    return encoder(torch.arange(1, 9)[None]).last_hidden_state


def samples_of(generator, **changes) -> list:
    options = SamplingOptions.defaults(generator.spec, steps=3, **changes)
    return [item.image for item in generator.sample(TEXT, options) if isinstance(item, Sample)]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max())


@pytest.fixture
def pipe():
    return tiny.pipeline()


def test_every_family_of_keys_at_flux_widths_equals_weights_merged_by_hand(tmp_path):
    """One double and one single block of FLUX.1's widths, and one layer of each text encoder at theirs."""
    clip = CLIPTextConfig(
        vocab_size=100, hidden_size=768, intermediate_size=3072, num_hidden_layers=1, bos_token_id=1, eos_token_id=2
    )
    t5 = T5Config(
        vocab_size=100, d_model=4096, d_kv=64, d_ff=10240, num_heads=64, num_layers=1,
        feed_forward_proj="gated-gelu", dropout_rate=0.0,
    )  # fmt: skip
    flux = SimpleNamespace(
        transformer=FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True).eval(),
        text_encoder=CLIPTextModel(clip).eval(),
        text_encoder_2=T5EncoderModel(t5).eval(),
    )
    assert flux.transformer.config.num_attention_heads * flux.transformer.config.attention_head_dim == 3072
    changes = original_lora.pairs(flux.transformer, RANK, 0.02)
    encoders = {name: getattr(flux, name) for name in lora.TEXT_ENCODERS}
    worded = {name: original_lora.encoder_pairs(model, RANK, 0.02) for name, model in encoders.items()}
    tensors = original_lora.kohya(changes, "lora_unet_", ALPHA)
    tensors |= original_lora.kohya(worded["text_encoder"], "lora_te1_text_model_", ALPHA)
    tensors |= original_lora.kohya(worded["text_encoder_2"], "lora_te3_", ALPHA)

    base = velocity(flux.transformer), *(reading(model) for model in encoders.values())
    attached = lora.attach(flux, written(tmp_path, tensors))
    assert not attached.unused and set(attached.components) == set(lora.COMPONENTS)
    adapted = velocity(flux.transformer), *(reading(model) for model in encoders.values())
    lora.set_strength(flux, 0)
    assert all(
        torch.equal(now, before)
        for now, before in zip(
            (velocity(flux.transformer), *(reading(model) for model in encoders.values())), base, strict=True
        )
    )
    lora.detach(flux)
    original_lora.merge(flux.transformer, changes, ALPHA / RANK)
    for name, model in encoders.items():
        original_lora.merge_encoder(model, worded[name], ALPHA / RANK)
    merged = velocity(flux.transformer), *(reading(model) for model in encoders.values())
    for ours, by_hand, before in zip(adapted, merged, base, strict=True):
        assert apart(before, by_hand) > 1e-2
        assert apart(ours, by_hand) < 1e-4


def test_a_folded_lora_computes_the_same_and_leaves_the_weights_as_they_were(pipe, tmp_path):
    before = {name: tensor.clone() for name, tensor in pipe.transformer.state_dict().items()}
    plain = velocity(pipe.transformer)
    lora.attach(pipe, written(tmp_path, dotted(original_lora.pairs(pipe.transformer, RANK))))
    whole = velocity(pipe.transformer)
    for strength in (1.0, 0.5, 1.0):
        lora.set_strength(pipe, strength)
        apart_from = velocity(pipe.transformer)
        lora.fold(pipe)
        lora.fold(pipe)  # once is enough
        folded = velocity(pipe.transformer)
        assert apart(folded, apart_from) < 1e-5 < apart(folded, plain)
        assert not torch.equal(folded, apart_from), "it was computed otherwise"
    lora.set_strength(pipe, 1.0)
    assert torch.equal(velocity(pipe.transformer), whole)
    lora.fold(pipe)
    lora.set_strength(pipe, 0)
    lora.fold(pipe)
    assert torch.equal(velocity(pipe.transformer), plain)
    lora.set_strength(pipe, 1.0)
    lora.fold(pipe)
    lora.detach(pipe)
    after = pipe.transformer.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_numbers_that_overflow_in_a_folded_lora_are_said_as_such(tiny_folder, tmp_path):
    generator = Generator.from_spec(tiny.spec(tiny_folder), "cpu")
    changes = original_lora.pairs(generator.pipe.transformer, RANK)
    huge = {name: (down * 1e25, up * 1e25) for name, (down, up) in changes.items()}
    generator.use_lora(written(tmp_path, dotted(huge)))
    with pytest.raises(ModelUnavailable, match="overflowed"):
        list(generator.sample(TEXT, SamplingOptions.defaults(generator.spec, steps=1)))
    assert samples_of(generator, lora_strength=0.0)


def test_runs_of_several_strengths_take_turns_and_draw_as_alone(tiny_folder):
    generator = Generator.from_spec(tiny.spec(tiny_folder), "cpu")
    strengths = (1.0, 0.5, 0.0)
    alone = [samples_of(generator, lora_strength=one) for one in strengths]
    options = [SamplingOptions.defaults(generator.spec, steps=3, lora_strength=one) for one in strengths]
    runs = [generator.sample(TEXT, one) for one in options]
    drawn = [[] for _ in runs]
    for turn in zip(*runs, strict=True):
        for kept, item in zip(drawn, turn, strict=True):
            kept.extend([item.image] if isinstance(item, Sample) else [])
    assert drawn == alone and alone[0] != alone[1] != alone[2]


def test_a_lora_is_not_folded_where_rounding_would_show_or_memory_would_double(pipe, tmp_path, monkeypatch):
    lora.attach(pipe, written(tmp_path, dotted(original_lora.pairs(pipe.transformer, RANK))))
    whole = velocity(pipe.transformer)
    monkeypatch.setattr(lora, "FOLDED", 10)
    lora.fold(pipe)
    assert torch.equal(velocity(pipe.transformer), whole)
    monkeypatch.undo()
    pipe.transformer.to(torch.bfloat16)
    weight = next(layer for layer in pipe.transformer.modules() if isinstance(layer, LoraLayer)).get_base_layer().weight
    before = weight.clone()
    lora.fold(pipe)
    assert torch.equal(weight, before)


def test_the_original_names_with_dots_are_read_as_well(pipe, tmp_path):
    changes = original_lora.pairs(pipe.transformer, RANK)
    attached = lora.attach(pipe, written(tmp_path, dotted(changes)))
    adapted = velocity(pipe.transformer)
    lora.detach(pipe)
    original_lora.merge(pipe.transformer, changes, 1.0)
    assert not attached.unused
    assert apart(adapted, velocity(pipe.transformer)) < 1e-4


def test_the_format_of_xlabs_is_read(pipe, tmp_path):
    names = {
        "double_blocks.0.img_attn.qkv": "double_blocks.0.processor.qkv_lora1",
        "double_blocks.0.txt_attn.qkv": "double_blocks.0.processor.qkv_lora2",
        "double_blocks.0.img_attn.proj": "double_blocks.0.processor.proj_lora1",
        "double_blocks.0.txt_attn.proj": "double_blocks.0.processor.proj_lora2",
        "single_blocks.0.linear2": "single_blocks.0.processor.proj_lora",
    }
    changes = {name: pair for name, pair in original_lora.pairs(pipe.transformer, RANK).items() if name in names}
    tensors = {}
    for name, (down, up) in changes.items():
        tensors |= {f"{names[name]}.down.weight": down, f"{names[name]}.up.weight": up}
    down, up = original_lora.pairs(pipe.transformer, RANK)["single_blocks.0.linear1"]
    rows = 3 * pipe.transformer.inner_dim
    tensors |= {
        "single_blocks.0.processor.qkv_lora.down.weight": down,
        "single_blocks.0.processor.qkv_lora.up.weight": up[:rows],
    }
    attached = lora.attach(pipe, written(tmp_path, tensors))
    adapted = velocity(pipe.transformer)
    lora.detach(pipe)
    silent = torch.cat([up[:rows], torch.zeros_like(up[rows:])])
    original_lora.merge(pipe.transformer, changes | {"single_blocks.0.linear1": (down, silent)}, 1.0)
    assert not attached.unused
    assert apart(adapted, velocity(pipe.transformer)) < 1e-4


@pytest.mark.parametrize("alpha", [None, 1.0])
def test_a_scale_that_peft_notes_in_the_file_counts(pipe, tmp_path, alpha):
    layer = pipe.transformer.transformer_blocks[0].attn.to_q
    down, up = torch.randn(4, layer.in_features), torch.randn(layer.out_features, 4)
    key = "transformer.transformer_blocks.0.attn.to_q.lora_{}.weight"
    notes = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": alpha})}
    spec = written(tmp_path, {key.format("A"): down, key.format("B"): up}, notes if alpha else None)
    lora.attach(pipe, spec)
    adapted = velocity(pipe.transformer)
    lora.detach(pipe)
    with torch.no_grad():
        layer.weight += (alpha or 4) / 4 * up @ down
    assert apart(adapted, velocity(pipe.transformer)) < 1e-4


def test_tensors_that_fit_no_layer_are_named(pipe, tmp_path):
    tensors = original_lora.kohya(original_lora.pairs(pipe.transformer, RANK), "lora_unet_", ALPHA)
    strange = {"lora_unet_double_blocks_7_img_attn_proj.lora_down.weight", "norm.scale", "lora_te1_nothing.alpha"}
    attached = lora.attach(pipe, written(tmp_path, tensors | {key: torch.ones(2, 2) for key in strange}))
    assert set(attached.unused) == strange
    assert "3 tensors of the LoRA fit no layer" in attached.warning and "norm.scale" in attached.warning
    assert not lora.Attached().warning


def test_a_layer_that_a_file_holds_under_two_names_is_changed_once_and_named(pipe, tmp_path):
    down, up = original_lora.pairs(pipe.transformer, RANK)["img_in"]
    once = {"lora_unet_img_in.lora_down.weight": down, "lora_unet_img_in.lora_up.weight": up}
    lora.attach(pipe, written(tmp_path, once))
    expected = velocity(pipe.transformer)
    again = {"transformer.x_embedder.lora_A.weight": down.clone(), "transformer.x_embedder.lora_B.weight": up.clone()}
    twice = once | again
    twice |= {"lycoris_x_embedder.lora_down.weight": 2 * down}
    attached = lora.attach(pipe, written(tmp_path, twice))
    assert torch.equal(velocity(pipe.transformer), expected)
    assert len(attached.unused) == 2


def test_a_scale_noted_beside_the_file_counts_and_a_damaged_note_is_refused(pipe, tmp_path):
    down, up = original_lora.pairs(pipe.transformer, RANK)["img_in"]
    key = "base_model.model.x_embedder.lora_{}.weight"
    save_file({key.format("A"): down, key.format("B"): up}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 3 * RANK}))
    folder = LoraSpec("peft", "A folder of peft", str(tmp_path), "none")
    lora.attach(pipe, folder)
    adapted = velocity(pipe.transformer)
    lora.detach(pipe)
    with torch.no_grad():
        pipe.transformer.x_embedder.weight += 3 * up @ down
    assert apart(adapted, velocity(pipe.transformer)) < 1e-4
    for broken in ("{", "[1]"):
        (tmp_path / "adapter_config.json").write_text(broken)
        with pytest.raises(ModelUnavailable, match="damaged"):
            lora.attach(pipe, folder)


def test_another_lora_swaps_in_and_a_refused_one_leaves_all_as_it_was(tiny_folder, tmp_path):
    generator = Generator.from_spec(tiny.spec(tiny_folder), "cpu")
    draw = lambda: [
        item.image.tobytes()
        for item in generator.sample(TEXT, SamplingOptions.defaults(generator.spec))
        if isinstance(item, Sample)
    ]
    own, first = generator.spec.lora, draw()
    weights = generator.pipe.transformer.proj_out.weight.data_ptr()
    tensors = original_lora.kohya(original_lora.pairs(generator.pipe.transformer, RANK), "lora_unet_", ALPHA)
    generator.use_lora(written(tmp_path, tensors))
    assert generator.spec.lora.name == "some" and draw() != first
    with pytest.raises(ModelUnavailable):
        generator.use_lora(LoraSpec("no", "No LoRA", str(tmp_path / "no.safetensors"), "none"))
    assert generator.spec.lora.name == "some"
    generator.use_lora(own)
    assert draw() == first
    assert generator.pipe.transformer.get_submodule("proj_out").weight.data_ptr() == weights


def test_a_lora_on_the_text_encoders_changes_captions_with_its_strength(tiny_folder, tmp_path):
    generator = Generator.from_spec(tiny.spec(tiny_folder), "cpu")
    changes = original_lora.encoder_pairs(generator.pipe.text_encoder_2, RANK, 1.0)
    generator.use_lora(written(tmp_path, original_lora.kohya(changes, "lora_te3_", ALPHA)))
    read = lambda strength: generator._encode(TEXT, strength)[0]
    assert generator.adapter.components == ("text_encoder_2",)
    assert apart(read(1.0), read(0.0)) > 1e-3
    assert torch.equal(read(1.0), read(1.0))
    plain = Generator.from_spec(tiny.spec(tiny_folder), "cpu")
    assert torch.equal(read(0.0), plain._encode(TEXT, 0.0)[0])


def test_a_recipe_tells_other_loras_by_their_name(tmp_path):
    assert find_model("nano", "owner/lora").lora.name == "owner/lora"
    assert find_model("nano", str(tmp_path / "mine.safetensors")).lora.name == "mine.safetensors"
    assert len(find_model("nano", "o/" + "x" * 400).lora.name) == 300
