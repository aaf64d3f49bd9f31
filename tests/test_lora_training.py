"""Training a LoRA: the base stays as it is, and an adapter can be gone on from."""

from pathlib import Path

import pytest
import tiny
import torch
from diffusers import FluxPipeline
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from dermaflux import phantom
from dermaflux.caption import caption
from dermaflux.lora import WEIGHTS, attach
from dermaflux.models import LoraSpec
from dermaflux.training import lora
from dermaflux.training.flow import FlowOptions
from dermaflux.training.lora import LoraOptions
from dermaflux.training.pairs import Pairs, encode

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
FLOW = FlowOptions(steps=4, batch=4, learning_rate=1e-2, warmup=1, distil_from=1.0, precision="no", ema=0.1)


def pipeline(folder: Path) -> FluxPipeline:
    return FluxPipeline.from_pretrained(folder / "pipeline", dtype=torch.float32)


@pytest.fixture(scope="module")
def pairs(tiny_folder) -> Pairs:
    """Four phantoms with two wordings each."""
    lesions = [phantom.random_attributes(seed) for seed in range(4)]
    images = [
        (phantom.draw(one, seed, size=tiny.SIZE).image, [caption(one, k) for k in range(2)])
        for seed, one in enumerate(lesions)
    ]
    return encode(pipeline(tiny_folder), images, max_sequence_length=64, views=2)


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
