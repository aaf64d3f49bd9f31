"""Training a LoRA: the base stays as it is, and an adapter can be gone on from."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from dermaflux import phantom
from dermaflux.caption import caption
from dermaflux.errors import InputError, ModelUnavailable
from dermaflux.hub import LORA_FILES
from dermaflux.loading import QUANTISERS
from dermaflux.lora import attach
from dermaflux.models import LoraSpec
from dermaflux.training import lora
from dermaflux.training.encoding import encode
from dermaflux.training.flow import FlowOptions
from dermaflux.training.lora import LoraOptions
from dermaflux.training.pairs import Pairs

WEIGHTS = LORA_FILES[0]
pytestmark = pytest.mark.usefixtures("fresh_accelerate")
FLOW = FlowOptions(steps=4, batch=4, learning_rate=1e-2, warmup=1, distil_from=1.0, precision="no", ema=0.1)


def pipeline(folder: Path) -> FluxPipeline:
    return FluxPipeline.from_pretrained(folder / "pipeline", dtype=torch.float32)


def phantom_pairs(folder: Path) -> Pairs:
    """Four phantoms with two wordings each."""
    lesions = [phantom.random_attributes(seed) for seed in range(4)]
    images = [
        (phantom.draw(one, seed, size=tiny.SIZE).image, [caption(one, k) for k in range(2)])
        for seed, one in enumerate(lesions)
    ]
    return Pairs.of(encode(pipeline(folder), images, max_sequence_length=64, views=2))


@pytest.fixture(scope="module")
def pairs(tiny_folder) -> Pairs:
    return phantom_pairs(tiny_folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "lora" / "pytorch_lora_weights.safetensors")


def test_only_the_adapter_is_trained(tiny_folder, pairs, tmp_path):
    pipe = pipeline(tiny_folder)
    before = {name: value.clone() for name, value in pipe.transformer.state_dict().items()}
    lora.train(pipe, pairs, tmp_path, LoraOptions(rank=2, alpha=2, flow=FLOW))
    after = {name.replace(".base_layer", ""): value for name, value in pipe.transformer.state_dict().items()}
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert any(value.any() for name, value in weights(tmp_path).items() if "lora_B" in name)


def test_what_training_writes_is_read_whole(tiny_folder):
    path = tiny_folder / "lora" / WEIGHTS
    assert not attach(tiny.pipeline(), LoraSpec("own", "Own", str(path), "none")).unused and load_file(path)


def changes(folder_or_file: Path, base: Path) -> dict[str, torch.Tensor]:
    """By layer, what the adapter in a file adds to its weights."""
    pipe = pipeline(base)
    assert not attach(pipe, LoraSpec("own", "Own", str(folder_or_file), "none")).unused
    return {
        name: module.get_delta_weight(next(iter(module.lora_A)))
        for name, module in pipe.transformer.named_modules()
        if isinstance(module, LoraLayer)
    }


@pytest.mark.parametrize("targets", [lora.TARGETS, ("attn.to_k", "proj_mlp", "norm_out.linear", "x_embedder")])
def test_the_file_for_kohyas_tools_changes_the_same_layers_by_the_same(targets, tiny_folder, pairs, tmp_path):
    options = LoraOptions(rank=2, alpha=6, targets=targets, flow=FLOW)
    lora.train(pipeline(tiny_folder), pairs, tmp_path, options)
    ours, theirs = (changes(tmp_path / name, tiny_folder) for name in (Path("lora") / WEIGHTS, lora.KOHYA))
    assert ours and all(change.any() for change in ours.values())
    for name, change in ours.items():
        assert torch.allclose(change, theirs[name], atol=1e-5 * change.abs().max())
    assert not any(change.any() for name, change in theirs.items() if name not in ours)
    assert all(key.startswith("lora_unet_") for key in load_file(tmp_path / lora.KOHYA))


def test_an_adapter_is_gone_on_from(tiny_folder, pairs, tmp_path):
    lora.train(pipeline(tiny_folder), pairs, tmp_path / "first", LoraOptions(rank=2, alpha=2, flow=FLOW))
    still = FlowOptions(**{**vars(FLOW), "learning_rate": 0.0})
    for name, flow in (("still", still), ("on", FLOW)):
        options = LoraOptions(flow=flow, start=tmp_path / "first" / "lora")
        lora.train(pipeline(tiny_folder), pairs, tmp_path / name, options)
    first, same, other = (weights(tmp_path / name) for name in ("first", "still", "on"))
    assert first.keys() == same.keys() == other.keys()
    assert all(torch.allclose(first[name], same[name], atol=1e-6) for name in first)
    assert not all(torch.allclose(first[name], other[name], atol=1e-6) for name in first)


@pytest.mark.parametrize("bits", QUANTISERS)
def test_an_adapter_is_trained_on_a_base_of_fewer_bits(bits, tiny_folder, pairs, tmp_path):
    pipe = pipeline(tiny_folder)
    QUANTISERS[bits](pipe.transformer)
    pipe.transformer.to("cpu")
    lora.train(pipe, pairs, tmp_path, LoraOptions(rank=2, alpha=2, flow=FLOW))
    small, exact = weights(tmp_path), tmp_path / "exact"
    lora.train(pipeline(tiny_folder), pairs, exact, LoraOptions(rank=2, alpha=2, flow=FLOW))
    assert small.keys() == weights(exact).keys()
    assert any(value.any() for name, value in small.items() if "lora_B" in name)
    assert changes(tmp_path / "lora" / WEIGHTS, tiny_folder)


def test_a_checkpoint_holds_the_adapter_alone_and_goes_on_with_no_other(tiny_folder, pairs, tmp_path):
    lora.train(pipeline(tiny_folder), pairs, tmp_path, LoraOptions(rank=2, alpha=2, flow=FLOW))
    assert all(".lora_" in name for name in load_file(tmp_path / "checkpoint" / "model.safetensors"))
    options = dict(rank=2, alpha=2, flow=FLOW)
    for other, said in (
        (dict(rank=3), "rank: 2, now 3"),
        (dict(alpha=64), "alpha: 2, now 64"),
        (dict(targets=("attn.to_q", "x_embedder")), "layers: "),
        (dict(flow=replace(FLOW, learning_rate=0.5)), "learning_rate: .*, now 0.5"),
    ):
        with pytest.raises(InputError, match=f"made otherwise .*{said}"):
            lora.train(pipeline(tiny_folder), pairs, tmp_path, LoraOptions(**options | other))
    (tmp_path / "checkpoint" / "made_of.json").unlink()  # as an earlier version left it
    with pytest.raises(InputError, match="checkpoint of a run with another model, rank or targets"):
        lora.train(pipeline(tiny_folder), pairs, tmp_path, LoraOptions(**options | dict(rank=3)))


def test_a_run_that_was_killed_ends_with_the_losses_and_weights_of_an_unbroken_one(tiny_folder, pairs, tmp_path):
    def halt(step: int) -> None:
        raise KeyboardInterrupt

    options = FlowOptions(**vars(FLOW) | dict(steps=8, save_every=3, log_every=1, distil_from=0.5))
    broken = FlowOptions(**vars(options) | dict(sample_every=5))
    lora.train(pipeline(tiny_folder), pairs, tmp_path / "whole", LoraOptions(rank=2, alpha=2, flow=options))
    with pytest.raises(KeyboardInterrupt):
        lora.train(pipeline(tiny_folder), pairs, tmp_path / "broken", LoraOptions(rank=2, alpha=2, flow=broken), halt)
    assert (tmp_path / "broken" / "checkpoint" / "step").read_text() == "3"
    lora.train(pipeline(tiny_folder), pairs, tmp_path / "broken", LoraOptions(rank=2, alpha=2, flow=options))
    whole, again = ((tmp_path / name / "loss.csv").read_text() for name in ("whole", "broken"))
    assert whole == again and whole.count("\n") == 9
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_targets_are_groups_or_ends_of_names(tiny_folder):
    transformer = pipeline(tiny_folder).transformer
    attention = lora._layers_of(("attn",), transformer)
    assert len(attention) == 8 and lora._layers_of(("ff", "x_embedder"), transformer)[-2:] == ["proj_out", "x_embedder"]
    assert set(lora.TARGETS) < set(lora._layers_of(tuple(lora.GROUPS), transformer))
    for wrong in ("to_queue", "q", "attn.norm_q", ""):
        with pytest.raises(InputError, match=f"“{wrong}” is no linear layer of this transformer.*attn, ff, mod"):
            lora._layers_of(("attn", wrong), transformer)


def test_a_lora_to_go_on_from_that_does_not_fit_is_refused_in_a_sentence(tiny_folder, pairs, tmp_path):
    lora.train(pipeline(tiny_folder), pairs, tmp_path, LoraOptions(rank=2, alpha=2, flow=FLOW))
    refused = {
        tmp_path / "lora": "was made for another base than this one; name its own with --base",
        tmp_path / lora.KOHYA: "not a LoRA that notes its own rank and targets",
        tmp_path / "none.safetensors": "was not found",
    }
    wider = FluxTransformer2DModel.from_config(dict(pipeline(tiny_folder).transformer.config) | {"num_layers": 2})
    for start, sentence in refused.items():
        pipe = pipeline(tiny_folder)
        pipe.transformer = wider
        with pytest.raises(ModelUnavailable, match=sentence):
            lora.train(pipe, pairs, tmp_path / "on", LoraOptions(flow=FLOW, start=start))
    assert not (tmp_path / "on").exists()
