"""The models that can be loaded, as data, and the sampling options that they accept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dermaflux.errors import InputError, ModelUnavailable, shown
from dermaflux.files import own_path
from dermaflux.model_files import FLUX1, FLUX1_LATENTS, NATIVE, Weights, is_embedded, native_size, single_files
from dermaflux.ranges import real, whole

ASSETS = Path(__file__).resolve().parent.parent / "assets"
MAX_SEED, MAX_IMAGES = 2**32 - 1, 8
NOISES = ("packed", "authors")
MAX_STEPS, MAX_GUIDANCE, MAX_TRUE_CFG, MAX_LORA_STRENGTH, MAX_CACHE = 50, 10.0, 5.0, 1.5, 0.5
MAX_ETA, MAX_CONTRAST, MAX_CANDIDATES, MAX_NAME = 1.5, 2.0, 16, 300
FINEST = 0.2
"""The noise level below which steps renew no noise: the finest texture is settled there."""


@dataclass(frozen=True)
class LoraSpec:
    """A LoRA adapter: `source` is a safetensors file or Hub id, `strength` its default, `gigabytes` (of 2^30 bytes) its
    file's size, where that is known before it is there."""

    name: str
    title: str
    source: str
    licence: str
    strength: float = 1.0
    gigabytes: float | None = None

    @classmethod
    def at(cls, source: str) -> "LoraSpec":
        """The LoRA at `source`, of which nothing else is known; of a file its name is shown, not where it lies."""
        name = (Path(source).name if Path(source).is_absolute() else source)[-MAX_NAME:]
        return cls(name, name, source, "see its source")


@dataclass(frozen=True)
class ModelSpec:
    """A generator: where it is, what it may be used for, what it can do, and its default settings.

    sizes: side lengths in px; honours: the attributes that it was trained on; diagnoses: those among its training
    images; previews: safetensors with the linear map from a latent to RGB, where one was fitted; tiny_decoder: an
    AutoencoderTiny for previews, a folder or Hub id, where its latents have one; batch: how many images are drawn
    at once; weights: where they are known beforehand; noises: the ways of drawing noise worth choosing between; gated:
    whether its owner grants access one by one; documented: whether what it was trained on is known; early_guidance,
    guidance_below, eta, eta_below, candidates, postfilter: as in SamplingOptions.
    """

    name: str
    title: str
    source: str
    licence: str
    licence_note: str
    sizes: tuple[int, ...]
    size: int
    steps: int
    guidance: float
    max_sequence_length: int
    honours: frozenset[str]
    diagnoses: frozenset[str]
    lora: LoraSpec | None = None
    previews: str | None = None
    tiny_decoder: str | None = None
    batch: int = 1
    weights: Weights | None = None
    noises: tuple[str, ...] = NOISES[:1]
    gated: bool = False
    documented: bool = True
    early_guidance: float = 1.0
    guidance_below: float = 1.0
    eta: float = 0.0
    eta_below: float = 0.5
    candidates: int = 1
    postfilter: float = 0.0


NANO, TAEF1 = ASSETS / "nano", "madebyollin/taef1"
_DERMAFLUX_LORA = LoraSpec(
    "dermaflux",
    "DermaFlux LoRA (published)",
    "StathisGln/DermaFlux",
    "MIT, on top of the FLUX.1-dev licence",
    gigabytes=0.6,  # of rank 64 on every linear layer of FLUX.1's blocks, at 16 bits
)
MODELS: Mapping[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="nano",
            title="DermaFlux nano (embedded)",
            source=str(NANO),
            licence="Apache-2.0",
            licence_note="Trained by this project on CC0 dermoscopic images (ISIC 2017) and drawn phantoms.",
            sizes=(NATIVE,),
            size=NATIVE,
            steps=20,
            guidance=1.5,
            early_guidance=1.1,
            guidance_below=0.75,
            eta=1.3,
            eta_below=0.75,
            candidates=6,
            postfilter=1.0,
            max_sequence_length=32,
            honours=frozenset(
                ("label", "diagnosis", "asymmetry", "border", "colours", "structures", "size_mm", "tone", "artefacts")
            ),
            diagnoses=frozenset(("melanoma", "nevus", "seborrheic keratosis")),
            lora=LoraSpec("nano-dermoscopy", "Dermoscopy LoRA (embedded)", str(NANO / "lora"), "Apache-2.0"),
            previews=str(NANO / "previews.safetensors"),
            batch=8,
        ),
        ModelSpec(
            name="flux1-dev",
            title="FLUX.1-dev",
            source="black-forest-labs/FLUX.1-dev",
            licence="FLUX.1-dev non-commercial licence",
            licence_note="Gated. Non-commercial use only; outputs must be reviewed and disclosed as AI-generated.",
            sizes=(128, 256, 512),
            size=512,
            steps=20,
            guidance=3.5,
            max_sequence_length=512,
            honours=frozenset(("label", "asymmetry", "border", "colours", "size_mm")),
            diagnoses=frozenset(),
            lora=_DERMAFLUX_LORA,
            tiny_decoder=TAEF1,
            weights=FLUX1,
            noises=NOISES,
            gated=True,
        ),
        ModelSpec(
            name="flux1-schnell",
            title="FLUX.1-schnell",
            source="black-forest-labs/FLUX.1-schnell",
            licence="Apache-2.0",
            licence_note="Distilled to 4 steps; guidance has no effect. It was not trained on skin lesions.",
            sizes=(256, 512),
            size=512,
            steps=4,
            guidance=0.0,
            max_sequence_length=256,
            honours=frozenset(),
            diagnoses=frozenset(),
            tiny_decoder=TAEF1,
            weights=FLUX1,
            noises=NOISES,
        ),
    )
}


def find_model(name: str, lora: str = "default") -> ModelSpec:
    """The registered model called `name`, or that in the folder `name`, with its own LoRA, with none, or with the one
    at `lora` (file or Hub id).

    A folder holds a FluxPipeline, or the single files of the original FLUX.1 code: flux1-dev.safetensors,
    ae.safetensors and those of the text encoders. Raises ModelUnavailable, naming the known models.
    """
    spec = MODELS.get(name) or _of_folder(Path(name))
    if spec is None:
        raise ModelUnavailable(
            f"There is no model “{name[:200]}”. Known models: {', '.join(MODELS)}; or the folder of a FluxPipeline."
        )
    if lora == "default":
        return spec
    return replace(spec, lora=None if lora == "none" else LoraSpec.at(lora))


def _of_folder(folder: Path) -> ModelSpec | None:
    """What can be known of the model in `folder` before it is loaded; None if there is none."""
    folder = own_path(folder).resolve()
    if (folder / "model_index.json").is_file():
        return _of_pipeline(folder)
    transformer = single_files(folder).get("transformer") if folder.is_dir() else None
    if transformer is None:
        return None
    known = MODELS["flux1-schnell" if "schnell" in transformer.name else "flux1-dev"]
    lora = next(iter(sorted(folder.rglob("flux_lora*.safetensors"))), None)
    own = replace(_DERMAFLUX_LORA, source=str(lora)) if lora else known.lora
    return replace(known, title=f"{known.title} (single files)", source=str(folder), lora=own, weights=None)


def _of_pipeline(folder: Path) -> ModelSpec:
    try:
        transformer, vae, tokenizer = (
            json.loads((folder / part).read_text(encoding="utf-8"))
            for part in ("transformer/config.json", "vae/config.json", "tokenizer_2/tokenizer_config.json")
        )
        guided, largest = bool(transformer.get("guidance_embeds")), native_size(vae)
        length, size = int(min(tokenizer.get("model_max_length", 512), 512)), min(512, largest)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelUnavailable(f"{folder} is not the folder of a whole FluxPipeline: {error}.") from error
    own = dict(name=folder.name, title=f"{folder.name} (local folder)", source=str(folder))
    note = "A pipeline on this machine; its source says what it may be used for."
    own |= dict(licence="as its source says", licence_note=note)
    if is_embedded(vae):
        return replace(MODELS["nano"], lora=None, previews=None, **own)
    return ModelSpec(
        **own,
        sizes=tuple(sorted({side for side in (128, 256, 512, 1024) if side <= largest} | {size})),
        size=size,
        steps=20 if guided else 4,
        guidance=3.5 if guided else 0.0,
        max_sequence_length=length,
        honours=frozenset(),
        diagnoses=frozenset(),
        documented=False,
        tiny_decoder=TAEF1 if FLUX1_LATENTS.items() <= vae.items() else None,
    )


def told_apart(specs: Sequence[ModelSpec]) -> tuple[ModelSpec, ...]:
    """`specs` in their order, each model once; of several by one name, those in folders are named after these too."""
    once, named = {}, []
    for spec in specs:
        once.setdefault(spec.source, spec)
    for spec in once.values():
        same = [Path(one.source).parts[::-1] for one in once.values() if one.name == spec.name and one is not spec]
        if not same or spec.source in (known.source for known in MODELS.values()):
            named.append(spec)
            continue
        parts = Path(spec.source).parts[::-1]
        deep = 1 + max(next(i for i, (a, b) in enumerate(zip(parts, one, strict=False)) if a != b) for one in same)
        where = Path(*parts[:deep][::-1]).as_posix()
        named.append(replace(spec, name=f"{spec.name} ({where})", title=f"{spec.title} in {where}"))
    return tuple(named)


@dataclass(frozen=True)
class SamplingOptions:
    """How to draw: one image for each seed.

    seeds: 1-8 whole numbers in [0, 2^32 - 1]. steps: 1-50 Euler steps. guidance: 0-10, the distilled guidance scale up
    to the noise level guidance_below, 0-1 (all); above it is early_guidance, see `schedule.guidance_at`. negative,
    true_cfg: a caption to steer away from, and how strongly (1 is off, up to 5). lora_strength: 0-1.5. size: side of
    the square image in px. strength: with an initial image, the share of the way back to noise, 0.05-1. noise: packed
    is drawn on the CPU, the same on every machine; authors is drawn as the demo of the method's authors does, on the
    model's device at 16 bits, so that its seeds carry over. first_block_cache: 0 is off; above, up to 0.5, a step whose
    first block changes by a smaller share takes over the rest: faster, slightly different. eta: 0-1.5, how much noise
    each step renews, up to the noise level eta_below, 0.2-1, see `schedule.ancestral`. contrast: 0-2, how far to lead
    away from captions of other lesions, see `contrast`. candidates: 1-16, how often to draw an image at most, to keep
    what fits best and is likest photographs, see `candidates`. postfilter: 0-1, how much to leave out of what the
    autoencoder draws in all images alike, see `postfilter`. Raises InputError for a value out of range.
    """

    seeds: tuple[int, ...] = (0,)
    steps: int = 20
    guidance: float = 2.0
    early_guidance: float = 1.0
    guidance_below: float = 1.0
    negative: str = ""
    true_cfg: float = 1.0
    lora_strength: float = 1.0
    size: int = 256
    strength: float = 0.6
    noise: str = NOISES[0]
    first_block_cache: float = 0.0
    eta: float = 0.0
    eta_below: float = 0.5
    contrast: float = 0.0
    candidates: int = 1
    postfilter: float = 0.0

    def __post_init__(self):
        if not 1 <= len(self.seeds) <= MAX_IMAGES:
            raise InputError(f"A run draws 1 to {MAX_IMAGES} images, not {len(self.seeds)}.")
        for seed in self.seeds:
            whole("The seed", seed, 0, MAX_SEED)
        whole("The number of steps", self.steps, 1, MAX_STEPS)
        whole("The size in pixels", self.size, 16, 4096)
        real("Guidance", self.guidance, 0, MAX_GUIDANCE)
        real("Early guidance", self.early_guidance, 0, MAX_GUIDANCE)
        real("Guidance up to level (guidance_below)", self.guidance_below, 0, 1)
        real("True CFG", self.true_cfg, 1, MAX_TRUE_CFG)
        real("LoRA strength", self.lora_strength, 0, MAX_LORA_STRENGTH)
        real("Variation strength", self.strength, 0.05, 1)
        real("The first-block cache", self.first_block_cache, 0, MAX_CACHE)
        real("Fresh noise (eta)", self.eta, 0, MAX_ETA)
        real("Fresh noise up to level (eta_below)", self.eta_below, FINEST, 1)
        real("Contrast", self.contrast, 0, MAX_CONTRAST)
        real("The post-filter", self.postfilter, 0, 1)
        whole("The number of candidates", self.candidates, 1, MAX_CANDIDATES)
        if self.noise not in NOISES:
            raise InputError(f"The noise must be one of {', '.join(NOISES)}, not “{shown(self.noise)}”.")

    @classmethod
    def defaults(cls, spec: ModelSpec, **changes) -> "SamplingOptions":
        """The default options of `spec`, with `changes`; None stands for the default. Raises InputError."""
        own = {field.name for field in fields(cls)} & {field.name for field in fields(spec)}
        base = {name: getattr(spec, name) for name in own} | {"lora_strength": spec.lora.strength if spec.lora else 0.0}
        options = cls(**base | {name: value for name, value in changes.items() if value is not None})
        if options.size not in spec.sizes:
            sizes = ", ".join(str(size) for size in spec.sizes)
            raise InputError(f"{spec.title} draws at {sizes} px, not at {options.size} px.")
        return options
