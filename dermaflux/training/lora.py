"""Fine-tune a LoRA on any FluxPipeline: the base stays frozen (DermaFlux, arXiv 2603.16392)."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import FluxPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save

from dermaflux.files import write_atomically
from dermaflux.lora import WEIGHTS
from dermaflux.training import flow
from dermaflux.training.flow import FlowOptions
from dermaflux.training.kohya import to_kohya
from dermaflux.training.pairs import Pairs

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
KOHYA = "kohya.safetensors"
TARGETS = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
    "norm.linear",
    "norm1.linear",
    "proj_mlp",
    "proj_out",
)
"""The linear layers of the double and single blocks: attention, feed-forward and modulation."""


@dataclass(frozen=True)
class LoraOptions:
    """rank and alpha of the adapter (64 and 64 as in the published file), and how the flow is trained. start: the
    folder of an adapter to go on from, whose rank, alpha and targets then hold."""

    rank: int = 64
    alpha: int = 64
    targets: tuple[str, ...] = TARGETS
    flow: FlowOptions = field(default_factory=lambda: FlowOptions(learning_rate=1e-3))
    start: Path | None = None


def train(
    pipe: FluxPipeline,
    pairs: Pairs,
    out: Path,
    options: LoraOptions,
    sample: Callable[[int], None] | None = None,
) -> None:
    """Train an adapter for `pipe.transformer` on `pairs`; writes `out/lora` in the diffusers format, and the same as
    kohya's sd-scripts name it to `out/kohya.safetensors`.

    sample: see `flow.train`.
    """
    transformer = pipe.transformer.requires_grad_(False)
    torch.manual_seed(options.flow.seed)
    if options.start is None:
        config = LoraConfig(
            r=options.rank, lora_alpha=options.alpha, target_modules=list(options.targets), init_lora_weights="gaussian"
        )
        transformer.add_adapter(config)
    else:
        _go_on(pipe, options.start)
    flow.train(transformer, pairs, out, options.flow, sample)
    layers = {name: tensor.to(torch.bfloat16) for name, tensor in get_peft_model_state_dict(transformer).items()}
    FluxPipeline.save_lora_weights(
        out / "lora",
        transformer_lora_layers=layers,
        transformer_lora_adapter_metadata=transformer.peft_config["default"].to_dict(),
    )
    adapted = [name.removesuffix(DOWN) for name in layers if name.endswith(DOWN)]
    downs_and_ups = {name: (layers[name + DOWN], layers[name + UP]) for name in adapted}
    own = transformer.peft_config["default"]
    tensors = to_kohya(downs_and_ups, own.lora_alpha / own.r, transformer)
    write_atomically(out / KOHYA, lambda file: file.write(save(tensors)))


@torch.no_grad()
def _go_on(pipe: FluxPipeline, start: Path) -> None:
    """Put the adapter of the folder `start` on `pipe`."""
    path = start / WEIGHTS
    with safe_open(path, "pt") as stream:
        config = json.loads(stream.metadata()["lora_adapter_metadata"])
    own = {name.removeprefix("transformer."): value for name, value in config.items()}
    pipe.transformer.add_adapter(LoraConfig(**own))
    given = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    for name, parameter in pipe.transformer.named_parameters():
        if "lora_" in name:
            parameter.copy_(given[name.replace(".default", "")])
