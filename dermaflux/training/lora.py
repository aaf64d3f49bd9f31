"""Fine-tune a LoRA on any FluxPipeline: the base stays frozen (DermaFlux, arXiv 2603.16392)."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import FluxPipeline
from diffusers.training_utils import cast_training_params
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from dermaflux.errors import InputError, ModelUnavailable
from dermaflux.files import weights_of, write_atomically
from dermaflux.hub import fetch_lora
from dermaflux.models import LoraSpec
from dermaflux.training import flow
from dermaflux.training.diffusion import losses_of
from dermaflux.training.flow import FlowOptions
from dermaflux.training.guidance import NOTHING_WORSE, Worse
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


GROUPS: Mapping[str, tuple[str, ...]] = {
    "attn": tuple(name for name in TARGETS if name.startswith("attn.")),
    "ff": (*(name for name in TARGETS if name.startswith("ff")), "proj_mlp", "proj_out"),
    "mod": ("norm.linear", "norm1.linear", "norm1_context.linear"),
}
"""Targets by kind: attention, feed-forward, modulation; kohya's sd-scripts adapt all three."""


@dataclass(frozen=True)
class LoraOptions:
    """rank and alpha of the adapter (64 and 64 as in the published file), and how the flow is trained. targets: groups,
    or how the names of linear layers end. start: the folder of an adapter to go on from, whose rank, alpha and targets
    then hold. weaker: the folder of a FluxPipeline with the same encoders that was trained less, with its own LoRA in
    `lora` if it has one; distilled guidance leads away from it."""

    rank: int = 64
    alpha: int = 64
    targets: tuple[str, ...] = TARGETS
    flow: FlowOptions = field(default_factory=lambda: FlowOptions(learning_rate=1e-3))
    start: Path | None = None
    weaker: Path | None = None


def train(
    pipe: FluxPipeline,
    pairs: Pairs,
    out: Path,
    options: LoraOptions,
    sample: Callable[[int], None] | None = None,
    worse: Worse = NOTHING_WORSE,
) -> None:
    """Train an adapter for `pipe.transformer` on `pairs`; writes `out/lora` in the diffusers format, and the same as
    kohya's sd-scripts name it to `out/kohya.safetensors`.

    sample, worse: see `flow.train`.
    """
    transformer = pipe.transformer.requires_grad_(False)
    torch.manual_seed(options.flow.seed)
    if options.start is None:
        targets = _layers_of(options.targets, transformer)
        config = LoraConfig(
            r=options.rank, lora_alpha=options.alpha, target_modules=targets, init_lora_weights="gaussian"
        )
        transformer.add_adapter(config)
    else:
        _go_on(transformer, options.start)
    cast_training_params(transformer)
    made_of = {name: weights_of(path) for name in ("start", "weaker") if (path := getattr(options, name))}
    flow.train(transformer, pairs, out, options.flow, sample, losses_of(transformer), worse, made_of)
    if PartialState().is_main_process:
        _write(transformer, out)


def _layers_of(targets: Sequence[str], transformer: nn.Module) -> list[str]:
    """`targets` with groups as their layers. Raises InputError for one that no linear layer of `transformer` has."""
    names = [name for target in targets for name in GROUPS.get(target, (target,))]
    if not names:
        raise InputError(f"No layer to adapt is named. Name one, or a group: {', '.join(GROUPS)}.")
    linear = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    for name in names:
        if not any(f".{layer}".endswith(f".{name}") for layer in linear):
            raise InputError(
                f"“{name[:80]}” is no linear layer of this transformer. Name one of it, such as {linear[-1]}, or a "
                f"group: {', '.join(GROUPS)}."
            )
    return names


def _write(transformer: nn.Module, out: Path) -> None:
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
def _go_on(transformer: nn.Module, start: Path) -> None:
    """Put the adapter at `start` on `transformer`. Raises ModelUnavailable."""
    path = fetch_lora(LoraSpec.at(str(start)))
    try:
        with safe_open(path, "pt") as stream:
            notes = json.loads(stream.metadata()["lora_adapter_metadata"])
        config = LoraConfig(**{name.removeprefix("transformer."): value for name, value in notes.items()})
        given = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailable(
            f"{path} cannot be gone on from: it is not a LoRA that notes its own rank and targets, as those do that "
            "`train lora` writes."
        ) from error
    other = ModelUnavailable(f"The LoRA {path} was made for another base than this one; name its own with --base.")
    try:
        transformer.add_adapter(config)
    except ValueError as error:
        raise other from error
    own = {name.replace(".default", ""): each for name, each in transformer.named_parameters() if "lora_" in name}
    if {name: each.shape for name, each in own.items()} != {name: each.shape for name, each in given.items()}:
        raise other
    for name, parameter in own.items():
        parameter.copy_(given[name])
