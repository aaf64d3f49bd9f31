"""The models that can be loaded, as data, and the sampling options that they accept."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dermaflux.errors import InputError, ModelUnavailable

ASSETS = Path(__file__).resolve().parent.parent / "assets"
MAX_SEED = 2**32 - 1
MAX_IMAGES = 8
MAX_STEPS, MAX_GUIDANCE, MAX_TRUE_CFG, MAX_LORA_STRENGTH = 50, 10.0, 5.0, 1.5


@dataclass(frozen=True)
class LoraSpec:
    """A LoRA adapter: `source` is a safetensors file or Hub id, `strength` its default."""

    name: str
    title: str
    source: str
    licence: str
    strength: float = 1.0


@dataclass(frozen=True)
class Weights:
    """The size of a model's parts at 16 bits a parameter, in GB of 2^30 bytes; text: both encoders of captions."""

    transformer: float
    text: float
    other: float

    @property
    def total(self) -> float:
        return self.transformer + self.text + self.other


FLUX1 = Weights(22.2, 9.1, 0.2)


@dataclass(frozen=True)
class ModelSpec:
    """A generator: where it is, what it may be used for, what it can do, and its default settings.

    sizes: side lengths in px; honours: the attributes that it was trained on; diagnoses: those among its training
    images; previews: safetensors with the linear map from a latent to RGB, where one was fitted; batch: how many images
    are drawn at once; weights: where they are known before they are there, as they are for models to download.
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
    batch: int = 1
    weights: Weights | None = None


NANO = ASSETS / "nano"
_DERMAFLUX_LORA = LoraSpec(
    "dermaflux",
    "DermaFlux LoRA (published)",
    "StathisGln/DermaFlux",
    "MIT, on top of the FLUX.1-dev licence",
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
            sizes=(256,),
            size=256,
            steps=20,
            guidance=3.0,
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
            weights=FLUX1,
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
            weights=FLUX1,
        ),
    )
}


def find_model(name: str, lora: str = "default") -> ModelSpec:
    """The registered model called `name`, with its own LoRA, with none, or with the one at `lora` (file or Hub id).

    Raises ModelUnavailable, naming the known models.
    """
    try:
        spec = MODELS[name]
    except KeyError:
        raise ModelUnavailable(f"There is no model “{name}”. Known models: {', '.join(MODELS)}.") from None
    if lora == "default":
        return spec
    return replace(spec, lora=None if lora == "none" else LoraSpec("custom", lora, lora, "see its source"))


@dataclass(frozen=True)
class SamplingOptions:
    """How to draw: one image for each seed.

    seeds: 1-8 whole numbers in [0, 2^32 - 1]. steps: 1-50 Euler steps. guidance: 0-10, the distilled guidance scale.
    negative, true_cfg: a caption to steer away from, and how strongly (1 is off, up to 5). lora_strength: 0-1.5.
    size: side of the square image in px. strength: with an initial image, the share of the way back to noise, (0, 1].
    Raises InputError for a value out of range.
    """

    seeds: tuple[int, ...] = (0,)
    steps: int = 20
    guidance: float = 3.0
    negative: str = ""
    true_cfg: float = 1.0
    lora_strength: float = 1.0
    size: int = 256
    strength: float = 0.6

    def __post_init__(self):
        if not 1 <= len(self.seeds) <= MAX_IMAGES:
            raise InputError(f"A run draws 1 to {MAX_IMAGES} images, not {len(self.seeds)}.")
        for seed in self.seeds:
            _whole("The seed", seed, 0, MAX_SEED)
        _whole("The number of steps", self.steps, 1, MAX_STEPS)
        _whole("The size in pixels", self.size, 16, 4096)
        _real("Guidance", self.guidance, 0, MAX_GUIDANCE)
        _real("True CFG", self.true_cfg, 1, MAX_TRUE_CFG)
        _real("LoRA strength", self.lora_strength, 0, MAX_LORA_STRENGTH)
        _real("Variation strength", self.strength, 0.05, 1)

    @classmethod
    def defaults(cls, spec: ModelSpec, **changes) -> "SamplingOptions":
        """The default options of `spec`, with `changes`; None stands for the default. Raises InputError."""
        base = dict(steps=spec.steps, guidance=spec.guidance, size=spec.size)
        base["lora_strength"] = spec.lora.strength if spec.lora else 0.0
        known = {field.name for field in fields(cls)}
        base |= {name: value for name, value in changes.items() if value is not None and name in known}
        options = cls(**base)
        if options.size not in spec.sizes:
            sizes = ", ".join(str(size) for size in spec.sizes)
            raise InputError(f"{spec.title} draws at {sizes} px, not at {options.size} px.")
        return options


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} must be a whole number from {low} to {high}, not {_shown(value)}.")


def _real(name: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise InputError(f"{name} must be a number from {low} to {high}, not {_shown(value)}.")


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) > 10**40:
        return "a number of over 40 digits"
    return str(value)[:40]
