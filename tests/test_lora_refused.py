"""A LoRA for another model, half of one, or one of another kind is refused with the reason and the way out."""

import json

import original_lora
import pytest
import tiny
import torch
from original_lora import dotted, velocity, written

from dermaflux import lora
from dermaflux.errors import ModelUnavailable

RANK, ALPHA = 2, 1.0


@pytest.fixture
def pipe():
    return tiny.pipeline()


@pytest.mark.parametrize(
    ("key", "model"),
    [
        ("lora_unet_down_blocks_1_attentions_0_proj_in", "Stable Diffusion or SDXL"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "SDXL"),
        ("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", "FLUX.2"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", "Stable Diffusion 3"),
        ("diffusion_model.blocks.0.cross_attn.k", "Wan"),
        ("a.b.c", "another model"),
    ],
)
def test_a_lora_for_another_architecture_is_recognised_and_refused(pipe, tmp_path, key, model):
    before = velocity(pipe.transformer)
    tensors = {f"{key}.lora_down.weight": torch.ones(2, 8), f"{key}.lora_up.weight": torch.ones(8, 2)}
    with pytest.raises(ModelUnavailable, match=rf"{model}.* Choose a plain LoRA for this model, or none\."):
        lora.attach(pipe, written(tmp_path, tensors))
    assert torch.equal(velocity(pipe.transformer), before)


def test_a_lora_of_sdxl_is_refused_though_it_has_a_text_encoder_in_common(pipe, tmp_path):
    tensors = original_lora.kohya(original_lora.encoder_pairs(pipe.text_encoder, RANK), "lora_te1_text_model_", ALPHA)
    key = "lora_unet_input_blocks_4_1_proj_in"
    tensors |= {f"{key}.lora_down.weight": torch.ones(2, 8), f"{key}.lora_up.weight": torch.ones(8, 2)}
    with pytest.raises(ModelUnavailable, match="made for Stable Diffusion or SDXL"):
        lora.attach(pipe, written(tmp_path, tensors))


def test_a_lora_of_another_width_is_refused(pipe, tmp_path):
    key = "lora_unet_double_blocks_0_img_attn_qkv"
    tensors = {f"{key}.lora_down.weight": torch.ones(2, 5120), f"{key}.lora_up.weight": torch.ones(3 * 5120, 2)}
    with pytest.raises(ModelUnavailable, match=r"a model of another size: .* Choose a plain LoRA"):
        lora.attach(pipe, written(tmp_path, tensors))


@pytest.mark.parametrize("single", ["single_transformer_blocks.0.attn.to_qkv_mlp_proj", None])
def test_a_lora_of_flux2_is_named_though_its_double_blocks_are_called_as_those_of_flux1(pipe, tmp_path, single):
    layers = [f"transformer_blocks.0.attn.to_{one}" for one in "qkv"] + ([single] if single else [])
    tensors = {}
    for name in layers:
        tensors[f"transformer.{name}.lora_A.weight"] = torch.ones(2, 6144)
        tensors[f"transformer.{name}.lora_B.weight"] = torch.ones(6144, 2)
    with pytest.raises(ModelUnavailable, match=r"was made for FLUX\.2: .* Choose a plain LoRA"):
        lora.attach(pipe, written(tmp_path, tensors))


def test_half_a_pair_is_refused(pipe, tmp_path):
    tensors = original_lora.kohya(original_lora.pairs(pipe.transformer, RANK), "lora_unet_", ALPHA)
    del tensors["lora_unet_img_in.lora_up.weight"]
    with pytest.raises(ModelUnavailable, match="half of the pair for img_in"):
        lora.attach(pipe, written(tmp_path, tensors))


@pytest.mark.parametrize(("option", "kind"), [("use_dora", "DoRA"), ("use_rslora", "rank-stabilised")])
def test_variants_that_a_plain_sum_would_get_wrong_are_refused_by_what_they_note(pipe, tmp_path, option, kind):
    tensors = dotted(original_lora.pairs(pipe.transformer, RANK))
    notes = {"lora_adapter_metadata": json.dumps({f"transformer.{option}": True})}
    with pytest.raises(ModelUnavailable, match=f"{kind}.* not supported"):
        lora.attach(pipe, written(tmp_path, tensors, notes))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_img_in.dora_scale", "DoRA"),
        ("transformer.x_embedder.lora_magnitude_vector", "DoRA"),
        ("lycoris_x_embedder.lokr_w1", "LoKr"),
        ("lora_unet_img_in.hada_w1_a", "LoHa"),
    ],
)
def test_variants_are_refused_by_their_tensors(pipe, tmp_path, key, kind):
    tensors = dotted(original_lora.pairs(pipe.transformer, RANK)) | {key: torch.ones(4)}
    with pytest.raises(ModelUnavailable, match=f"is a {kind}, which is not supported"):
        lora.attach(pipe, written(tmp_path, tensors))


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        ({"alpha": torch.ones(2)}, {}),
        ({"alpha": torch.tensor(torch.inf)}, {}),
        ({"lora_down.weight": torch.ones(0, 64), "lora_up.weight": torch.ones(32, 0)}, {}),
        ({"lora_down.weight": torch.tensor(1.0)}, {}),
        ({"lora_down.weight": torch.ones(4), "lora_up.weight": torch.ones(4)}, {}),
        ({"lora_up.weight": torch.full((32, RANK), torch.nan)}, {}),
        ({}, {"lora_alpha": "abc"}),
        ({}, {"lora_alpha": 10**400}),
        ({}, {"alpha_pattern": [1]}),
        ({}, {"alpha_pattern": {"(": 1}}),
    ],
    ids=str,
)
def test_a_damaged_pair_is_refused_by_the_name_of_its_layer(pipe, tmp_path, changes, notes):
    before = velocity(pipe.transformer)
    down, up = original_lora.pairs(pipe.transformer, RANK)["img_in"]
    pair = {"lora_down.weight": down, "lora_up.weight": up} | changes
    tensors = {f"lora_unet_img_in.{kind}": tensor for kind, tensor in pair.items()}
    noted = {"lora_adapter_metadata": json.dumps({f"transformer.{name}": value for name, value in notes.items()})}
    with pytest.raises(ModelUnavailable, match=r"Some LoRA is damaged: for img_in it must .* Fetch the file again"):
        lora.attach(pipe, written(tmp_path, tensors, noted))
    assert torch.equal(velocity(pipe.transformer), before)
