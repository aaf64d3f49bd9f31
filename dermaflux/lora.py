"""Read a LoRA of any format, account for each of its tensors, and put it on a Flux pipeline, whole or not at all.

An adapter adds alpha / rank * up @ down to the weights of a layer (Hu et al., arXiv 2106.09685). A layer that a file
names in the way of the original FLUX.1 code may hold the rows of several layers of diffusers, which then share `down`.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import FluxPipeline
from diffusers.utils.peft_utils import recurse_remove_peft_layers
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import nn

from dermaflux import lora_keys
from dermaflux.errors import ModelUnavailable
from dermaflux.hub import LORA_CONFIG, fetch_lora
from dermaflux.models import LoraSpec

COMPONENTS = ("transformer", "text_encoder", "text_encoder_2")
TEXT_ENCODERS = COMPONENTS[1:]
ADAPTER = "lesion"
FOLDED = 2**26
"""The most parameters that are kept twice, without and with an adapter in them: 0.25 GB at 32 bits."""
ANOTHER = "Choose a plain LoRA for this model, or none."
AGAIN = "Fetch the file again, or choose another."

Layers = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""By the name of a layer: down (rank, in) and up (out, rank), the latter with alpha / rank in it."""


@dataclass(frozen=True)
class Attached:
    """A LoRA that is on a pipeline: the first 16 hex digits of its file's SHA-256; the components that it changes; and
    the tensors of the file that nothing was found for."""

    hash: str = ""
    components: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def reads_text(self) -> bool:
        """Whether it changes how captions are read."""
        return any(component in TEXT_ENCODERS for component in self.components)

    @property
    def warning(self) -> str:
        """What to tell the user about tensors left aside; empty if there are none."""
        if not self.unused:
            return ""
        some = ", ".join(self.unused[:3]) + (", …" if len(self.unused) > 3 else "")
        return f"{len(self.unused)} tensors of the LoRA fit no layer of this model and are not used: {some}."


def attach(pipe: FluxPipeline, spec: LoraSpec) -> Attached:
    """Put the adapter of `spec` on `pipe` in place of one that is there, at strength 1.

    Raises ModelUnavailable if the file is missing, is not safetensors, or does not fit the pipeline, which then is as
    it was before.
    """
    path = fetch_lora(spec)
    tensors, metadata = _read(path, spec)
    layers, unused = convert(tensors, metadata, pipe, spec.title)
    detach(pipe)
    for component, pairs in layers.items():
        _inject(getattr(pipe, component), pairs)
    return Attached(hashlib.sha256(path.read_bytes()).hexdigest()[:16], tuple(layers), unused)


def detach(pipe: FluxPipeline) -> None:
    """Take an adapter off `pipe`, whose own weights are as they were before it."""
    for component in COMPONENTS:
        model = getattr(pipe, component)
        if layers := _adapted(model):
            _unfold(layers)
            recurse_remove_peft_layers(model)
            vars(model).pop("peft_config", None)


def set_strength(pipe: FluxPipeline, strength: float) -> None:
    """Add `strength` times the adapter; at 0 the pipeline computes what it does without one."""
    layers = _layers(pipe)
    _unfold(layers)
    for layer in layers:
        layer.set_scale(ADAPTER, strength)
        layer.enable_adapters(strength != 0)


def fold(pipe: FluxPipeline) -> None:
    """Add the adapter, at its strength, to the weights of `pipe`, which then computes faster, and the same but for
    rounding. The base's weights come back to the bit when another strength is set or the adapter is taken off.

    Does nothing if the weights have fewer than 32 bits, as the images would show the rounding, or are more than FOLDED.
    """
    layers = _layers(pipe)
    weights = [layer.get_base_layer().weight for layer in layers]
    if any(weight.dtype != torch.float32 for weight in weights) or sum(map(torch.numel, weights)) > FOLDED:
        return
    for layer, weight in zip(layers, weights, strict=True):
        if not layer.merged and not layer.disable_adapters:
            layer.unfolded = weight.data
            weight.data = weight.data + layer.get_delta_weight(ADAPTER)
            layer.merged_adapters.append(ADAPTER)


def fuse(pipe: FluxPipeline, strength: float) -> None:
    """Add `strength` times the adapter to the weights of `pipe` for good, and take it off."""
    set_strength(pipe, strength)
    for layer in _layers(pipe):
        layer.merge()
    detach(pipe)


def convert(
    tensors: dict[str, torch.Tensor], metadata: dict[str, dict], pipe: FluxPipeline, title: str
) -> tuple[dict[str, Layers], tuple[str, ...]]:
    """The layers of each component of `pipe` that `tensors` change, and the keys that belong to none.

    metadata: of each component, peft's lora_alpha and alpha_pattern, where a file keeps them.
    Raises ModelUnavailable if half of a pair is missing, is no matrix of finite numbers or does not fit by its shape,
    and if nothing fits at all.
    """
    known = {component: dict(_linear_layers(getattr(pipe, component))) for component in COMPONENTS}
    names = {part: {layer.replace(".", "_"): layer for layer in layers} for part, layers in known.items()}
    pairs, unused = {}, []
    for key, tensor in tensors.items():
        component, name, kind = _parse(key)
        layers = _find(name, component, names[component])
        pair = pairs.setdefault((component, name, layers), {}) if kind and layers else {kind: None}
        if kind in pair:  # it fits no layer, or the file says it twice
            unused.append(key)
        else:
            pair[kind] = tensor
    other = lora_keys.made_for(unused)
    if not any(component == "transformer" for component, *_ in pairs) and (other or not pairs):
        raise ModelUnavailable(
            f"The LoRA {title} was made for {other}, not for FLUX.1, and cannot be applied. {ANOTHER}"
            if other
            else f"The LoRA {title} was made for another model: none of its tensors belongs to a layer of this one. "
            f"{ANOTHER}"
        )
    parts: dict[str, Layers] = {}
    for (component, name, layers), pair in pairs.items():
        if not {"down", "up"} <= pair.keys():
            raise ModelUnavailable(f"The LoRA {title} is damaged: half of the pair for {name} is missing. {AGAIN}")
        down, up = pair["down"].float(), pair["up"].float()
        rank = len(down) if down.ndim == up.ndim == 2 else 0
        alpha = _alpha(pair.get("alpha"), metadata.get(component, {}), layers[0], rank)
        if not (rank and math.isfinite(alpha) and down.isfinite().all() and up.isfinite().all()):
            said = f"for {name} it must hold two matrices and a scale, all of finite numbers, and does not"
            raise ModelUnavailable(f"The LoRA {title} is damaged: {said}. {AGAIN}")
        up = up * (alpha / rank)
        widths = [known[component][layer].out_features for layer in layers]
        if down.shape != (rank, known[component][layers[0]].in_features) or up.shape != (sum(widths), rank):
            other = other or lora_keys.WIDTHS.get(down.shape[1], "a model of another size")
            raise ModelUnavailable(f"The LoRA {title} was made for {other}: {name} does not fit this one. {ANOTHER}")
        rows = up.chunk(2)[::-1] if name == lora_keys.SWAPPED else up.split(widths)
        up = torch.cat(rows)
        found = parts.setdefault(component, {})
        if any(layer in found for layer in layers):  # the same layer by another name, as some files have it
            unused.append(name)
            continue
        found.update(zip(layers, zip([down] * len(layers), up.split(widths), strict=True), strict=True))
    return parts, tuple(unused)


def _parse(key: str) -> tuple[str, str, str]:
    """The component, the name of the layer with underscores for dots, and the kind of a tensor; no kind if unknown."""
    prefix = next(prefix for prefix in lora_keys.PREFIXES if key.startswith(prefix))
    suffix = next((suffix for suffix in lora_keys.SUFFIXES if key.endswith(suffix)), "")
    name = key.removeprefix(prefix).removesuffix(suffix).replace(".", "_")
    return lora_keys.PREFIXES[prefix], name, lora_keys.SUFFIXES.get(suffix, "")


def _find(name: str, component: str, names: dict[str, str]) -> tuple[str, ...]:
    """The layers that `name` stands for; none unless all are there. names: layers by their names with underscores."""
    if found := names.get(name) or names.get(name.removeprefix("text_model_")):
        return (found,)
    layers = lora_keys.native(name) if component == "transformer" else ()
    return layers if all(layer.replace(".", "_") in names for layer in layers) else ()


def _layers(pipe: FluxPipeline) -> list[LoraLayer]:
    """The layers of `pipe` that have an adapter."""
    return [layer for component in COMPONENTS for layer in _adapted(getattr(pipe, component))]


def _adapted(model: nn.Module | None) -> list[LoraLayer]:
    """The layers of `model` that have an adapter."""
    return [module for module in model.modules() if isinstance(module, LoraLayer)] if model is not None else []


def _unfold(layers: list[LoraLayer]) -> None:
    """Give layers that an adapter was folded into their own weights again."""
    for layer in layers:
        own = vars(layer).pop("unfolded", None)
        if own is not None:
            layer.get_base_layer().weight.data = own
            layer.merged_adapters.clear()


def _linear_layers(model: nn.Module | None) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of `model` by name, without those of an adapter that is on it."""
    for name, module in model.named_modules() if model is not None else ():
        if isinstance(module, LoraLayer):
            yield name, module.get_base_layer()
        elif isinstance(module, nn.Linear) and not re.search(r"\.(base_layer|lora_[AB]\.\w+)$", name):
            yield name, module


def _alpha(given: torch.Tensor | None, metadata: dict, layer: str, rank: int) -> float:
    """The scale of a pair: that `given` beside it, or else peft's, or the rank; NaN for what is no single number."""
    try:
        if given is not None:
            return float(given)
        pattern = metadata.get("alpha_pattern") or {}
        return float(pattern.get(get_pattern_key(pattern, layer), metadata.get("lora_alpha") or rank))
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError, re.error):
        return math.nan


def _inject(model: nn.Module, layers: Layers) -> None:
    rank = max(len(down) for down, _ in layers.values())
    state = {}
    for layer, (down, up) in layers.items():
        missing = rank - len(down)
        state[f"{layer}.lora_A.weight"] = F.pad(down, (0, 0, 0, missing))
        state[f"{layer}.lora_B.weight"] = F.pad(up, (0, missing))
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers))
    inject_adapter_in_model(config, model, ADAPTER, state_dict=state)
    set_peft_model_state_dict(model, state, ADAPTER)
    for layer in _adapted(model):
        weight = layer.get_base_layer().weight
        dtype = weight.dtype if weight.dtype.is_floating_point else torch.bfloat16  # a quantised base
        layer.lora_A.to(weight.device, dtype)
        layer.lora_B.to(weight.device, dtype)
    model.requires_grad_(False)


def _read(path: Path, spec: LoraSpec) -> tuple[dict[str, torch.Tensor], dict[str, dict]]:
    """The tensors of a safetensors file, and what peft notes of each component in it or beside it."""
    try:
        with safe_open(path, "pt") as stream:
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
            notes = json.loads((stream.metadata() or {}).get("lora_adapter_metadata", "{}"))
        config = path.with_name(LORA_CONFIG)
        metadata = {"transformer": dict(json.loads(config.read_text(encoding="utf-8")))} if config.exists() else {}
        for name, value in dict(notes).items():
            component, _, option = name.partition(".")
            metadata.setdefault(component, {})[option] = value
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        said = (
            f"The LoRA {spec.title} is not a whole safetensors file, or what it notes of itself is damaged: {path}. "
            f"{AGAIN}"
        )
        raise ModelUnavailable(said) from error
    if not tensors:
        raise ModelUnavailable(f"The LoRA {spec.title} holds no weights. {AGAIN}")
    options = {option for component in metadata.values() for option, value in component.items() if value}
    kinds = {kind for mark, kind in lora_keys.VARIANTS.items() if any(mark in key for key in (*tensors, *options))}
    if kinds:
        kind = " and ".join(sorted(kinds))
        raise ModelUnavailable(f"The LoRA {spec.title} is a {kind}, which is not supported. {ANOTHER}")
    return tensors, metadata
