"""From a base and manifests to a LoRA: load, encode once and keep, free what is no longer needed, train, describe."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import FluxPipeline, FluxTransformer2DModel

from dermaflux import __version__, loading
from dermaflux.data import manifest
from dermaflux.data.curate import rows_of
from dermaflux.data.pixels import open_rgb
from dermaflux.errors import DataError, InputError, ModelUnavailable
from dermaflux.files import weights_of, write_atomically
from dermaflux.lora import fuse
from dermaflux.memory import WAYS, best_device
from dermaflux.model_files import native_size
from dermaflux.models import ModelSpec, find_model
from dermaflux.rewording import contrary, lopsided, worst
from dermaflux.training import lora
from dermaflux.training.encoding import VIEWS, Part, Seen, encode
from dermaflux.training.fitting import BUCKET, CROP, fitted
from dermaflux.training.guidance import Contraries, Worse
from dermaflux.training.lora import LoraOptions
from dermaflux.training.nano import CHANGED_FOR_LORA, Captioned, Fit, latents_of, real_images
from dermaflux.training.pairs import Pairs
from dermaflux.training.precision import mixed_precision
from dermaflux.training.validation import Validation, sheets

log = logging.getLogger("dermaflux")
SIZE, LENGTH = 512, 512
"""The method's: px of a side, and tokens of a caption at most; a model made for less has its own."""
TAKEN = ("in_channels", "joint_attention_dim", "pooled_projection_dim", "guidance_embeds")
MANIFEST, APPEARANCE = CAPTIONS = "manifest", "appearance"
LEADS = {
    "contrast": (contrary, "contrary captions"),
    "worst": (worst, "the worst ones"),
    "lopsided": (lopsided, "lopsided lesions"),
}
"""By the option that says how far guidance leads from what they make: changes of captions, and what these ask for."""
LONGEST_WAIT = timedelta(days=2)
"""For the process that encodes while the others wait."""


@dataclass(frozen=True)
class Material:
    """What is learned from: the train split of `manifests`.

    size: px of a side; the smaller of 512 and the model's own if None. fit: one of `fitting.FITS`.
    captions: from the manifest's column, or from measured appearance, in several wordings and with changed images
    beside; the column if it is filled and captions is None. teacher: a file for `Taef2.load`, which then gives latents.
    """

    manifests: tuple[Path, ...]
    size: int | None = None
    fit: str = CROP
    captions: str | None = None
    teacher: Path | None = None


def train_lora(
    base: str,
    material: Material,
    out: Path,
    options: LoraOptions,
    bits: int = 0,
    validation: Validation | None = None,
) -> None:
    """Train a LoRA for the model called `base`, a registered name or a folder; writes what `lora.train` does, and the
    model card `out/lora/README.md`.

    bits: of the frozen base's weights, 8 or 4; 0 keeps them. Of several processes the main one encodes, once.
    Raises InputError, DataError or ModelUnavailable.
    """
    spec = find_model(base, "none")
    if bits:
        _check_package(bits)
    rows = rows_of(material.manifests, "train")
    material = replace(material, captions=material.captions or _where_captions_are(rows))
    processes = PartialState(cpu=best_device() == "cpu", timeout=LONGEST_WAIT)
    exact = processes.device.type == "cpu" or mixed_precision(options.flow.precision) == "no"
    loaded = loading.load(spec, "cpu", "float32" if exact else "bf16")
    pipe, length = loaded.pipe, min(loaded.pipe.tokenizer_2.model_max_length, LENGTH)
    size = material.size or min(SIZE, native_size(pipe.vae.config))
    multiple = 2 * pipe.vae_scale_factor
    if size % multiple:
        raise InputError(f"--size must be a multiple of {multiple} px for this model, not {size}.")
    weaker = _weaker(options, pipe.transformer)
    for name in ("vae", "text_encoder", "text_encoder_2"):
        getattr(pipe, name).to(processes.device)

    def make(seen: Seen) -> Iterator[Part]:
        fit = partial(fitted, size=size, fit=material.fit, multiple=multiple)
        images = _images(material, rows, fit, options.flow.seed)
        return encode(pipe, images, max_sequence_length=length, encoder=latents_of(material.teacher), seen=seen)

    source = _source(material, rows, size, length, loaded.hash, options.flow.seed)
    with processes.main_process_first():
        pairs = Pairs.cached(out / "pairs.safetensors", make, source)
    if material.fit != BUCKET and pairs.buckets[0].grid != (size // multiple,) * 2:
        raise InputError(
            f"{out / 'pairs.safetensors'} was made at another size than {size} px. Delete it, or give its."
        )
    shown = validation or Validation.plausible(options.flow.seed)
    sample = sheets(pipe, shown, size, length, out / "samples")
    led = _led(options, pairs.captions, pipe, length)
    pipe.text_encoder = pipe.text_encoder_2 = None
    pipe.vae.to(torch.float32)
    if bits:
        loading.QUANTISERS[bits](pipe.transformer)
    pipe.transformer.to(processes.device)
    worse = Worse(weaker and weaker.to(processes.device), *led)
    lora.train(pipe, pairs, out, options, sample, worse)
    if processes.is_main_process:
        text = card(spec, loaded.hash, material, options, size, pairs, bits)
        write_atomically(out / "lora" / "README.md", lambda file: file.write(text.encode()))


def _weaker(options: LoraOptions, like: FluxTransformer2DModel) -> FluxTransformer2DModel | None:
    """The network that guidance is to lead away from, its LoRA in it, if there is one. Raises InputError where it takes
    other than what `like` takes, and where no guidance is distilled that it or contrary captions could change."""
    if not (options.weaker or any(getattr(options.flow, name) for name in LEADS)):
        return None
    if options.flow.distil_from >= 1 or not like.config.guidance_embeds:
        raise InputError(
            f"--weaker and --set {' and '.join(LEADS)} change the guidance that is distilled, and none is: the model "
            "must have a guidance embedding, and distil_from be below 1."
        )
    if options.weaker is None:
        return None
    own = options.weaker / "lora"
    pipe = loading.load(find_model(str(options.weaker), str(own) if own.exists() else "none"), "cpu", "float32").pipe
    if any(pipe.transformer.config[name] != like.config[name] for name in TAKEN):
        raise InputError(f"{options.weaker} takes other latents or captions than the base; name a model of its kind.")
    fuse(pipe, 1.0)
    return pipe.transformer.requires_grad_(False)


def _led(
    options: LoraOptions, captions: Sequence[str], pipe: FluxPipeline, length: int
) -> tuple[Contraries | None, dict[str, tuple[Contraries, Contraries]]]:
    """Of `captions`: those that half of a batch asks for instead, and what guidance leads from besides."""
    changes = {name: change for name, (change, _) in LEADS.items() if getattr(options.flow, name)}
    if not changes:
        return None, {}
    of = partial(Contraries.of, captions, pipe, length)
    both = lambda change: (of(change), of(lambda text, seed: change(contrary(text, seed), seed)))
    return of(contrary), {name: both(change) for name, change in changes.items() if change is not contrary}


def _check_package(bits: int) -> None:
    package = WAYS[f"int{bits}"].package
    if find_spec(package) is None:
        raise ModelUnavailable(f"--quantise {bits}bit needs a package more: pip install {package}.")


def _where_captions_are(rows: Sequence[manifest.Row]) -> str:
    return MANIFEST if any(row.values.get("caption") for row in rows) else APPEARANCE


def _images(material: Material, rows: Sequence[manifest.Row], fit: Fit, seed: int) -> Iterator[Captioned]:
    if material.captions == APPEARANCE:
        return real_images(material.manifests, seed, fit, CHANGED_FOR_LORA)
    for row in rows:
        if not (row.values.get("caption") or "").strip():
            raise DataError(f"{row.place} has no caption. Fill the column first: python -m dermaflux caption MANIFEST.")
    sound = [row for row in rows if not row.values.get("caption_faults")]
    if len(sound) < len(rows):
        log.warning("%d of %d captions have faults; their images are left out.", len(rows) - len(sound), len(rows))
    if not sound:
        raise DataError(f"{rows[0].manifest}: every caption has faults. Caption the images anew.")
    return ((fit(open_rgb(row)), [row.values["caption"]]) for row in sound)


def _source(material: Material, rows: Sequence[manifest.Row], size: int, length: int, base: str, seed: int) -> str:
    """What pairs are made of, in a few words that differ where they would."""
    teacher = material.teacher and weights_of(material.teacher)
    made_of = [length, base, seed, str(teacher), manifest.fingerprint(rows)]
    digest = hashlib.sha256(json.dumps(made_of).encode())
    for path in material.manifests:
        digest.update(path.read_bytes())
    how = f"captions from the {material.captions}" if material.captions == MANIFEST else "captions by appearance"
    return f"{size} px, {material.fit}, {how}, {digest.hexdigest()[:8]}"


def card(
    spec: ModelSpec,
    base: str,
    material: Material,
    options: LoraOptions,
    size: int,
    pairs: Pairs,
    bits: int,
) -> str:
    """A short model card. base: the hash of its weights."""
    flow = options.flow
    images, words = sum(pairs.pictures) // VIEWS, pairs.buckets[0].words.shape[1]
    fit = f"{size} px ({material.fit})" if material.fit != BUCKET else f"about {size} x {size} px, their aspect kept"
    batches = f"{flow.batch} images" if flow.accumulate == 1 else f"{flow.accumulate} x {flow.batch} images"
    start = f"gone on from {options.start}" if options.start else f"rank {options.rank}, alpha {options.alpha}"
    time = f"N({flow.time_mean:g}, {flow.time_spread:g})"
    guided = "not distilled" if flow.distil_from >= 1 else f"distilled from {flow.distil_from:.0%} of the steps on"
    if options.weaker:
        guided += f", {flow.away:g} away from {options.weaker.name}"
    for name, (_, what) in LEADS.items():
        if far := getattr(flow, name):
            guided += f", {far:g} away from {what}"
    sets = ", ".join(path.name for path in material.manifests)
    return f"""---
license: other
library_name: diffusers
pipeline_tag: text-to-image
tags: [flux, rectified-flow, lora, dermoscopy, synthetic-data, not-for-medical-use]
---
# A LoRA for {spec.title}

It draws synthetic skin lesions from a caption. A research demonstration: not a medical device, not for diagnosis.
Its licence is bound by that of its base ({spec.licence}) and by those of the images.

| What | |
|---|---|
| base | {spec.title}, weights {base}{f", kept in {bits} bits" if bits else ""} |
| adapter | {start} |
| images | {images:,} of {sets}, {fit}, each in {VIEWS} turns with {words} captions |
| captions | {"from the manifest" if material.captions == MANIFEST else "by measured appearance and diagnosis"} |
| training | {flow.steps:,} steps of {batches} a process, learning rate {flow.learning_rate:g}, seed {flow.seed} |
| loss | rectified flow; {flow.caption_dropout:.0%} empty captions; t: sigmoid of {time} |
| guidance | {guided} |

`pytorch_lora_weights.safetensors` is in the format of diffusers; `../{lora.KOHYA}` is the same for kohya's sd-scripts.
No quality was measured by this training; `python -m dermaflux evaluate` does that.
Made by `python -m dermaflux train lora`, version {__version__}.
"""
