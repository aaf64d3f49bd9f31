"""The files of a model, a FluxPipeline's folder or the single files of FLUX.1's code, and what they tell of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SINGLE_FILES: Mapping[str, str] = {
    "transformer": "flux1-*.safetensors",
    "vae": "ae.safetensors",
    "text_encoder": "clip_l.safetensors",
    "text_encoder_2": "t5xxl*.safetensors",
}
"""The parts of FLUX.1 as the original code, and the demo of the method's authors, keep them on disk."""

FLUX1_LATENTS = dict(_class_name="AutoencoderKL", latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159)
"""What the configuration of an autoencoder says whose latents are FLUX.1's."""
NATIVE, NATIVE_TO_FLUX = 256, 512
"""The side in px of the images that the embedded autoencoder is made for, and that a LoRA for FLUX.1 is trained at."""


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


def native_size(vae: Mapping) -> int:
    """The side in px that an autoencoder of this configuration was made for. An AutoencoderTiny does not say."""
    return int(vae.get("sample_size") or (NATIVE if is_embedded(vae) else NATIVE_TO_FLUX))


def is_embedded(vae: Mapping) -> bool:
    """Whether it is of the kind that `train autoencoder` makes, which alone halves an image four times."""
    return vae.get("_class_name") == "AutoencoderTiny" and len(vae.get("decoder_block_out_channels", ())) == 5


def single_files(folder: Path) -> dict[str, Path]:
    """The file of each of SINGLE_FILES in `folder` or the folders in it, where there is one; the first by name."""
    found = {part: next(iter(sorted(folder.rglob(pattern))), None) for part, pattern in SINGLE_FILES.items()}
    return {part: path for part, path in found.items() if path}


def weight_files(folder: Path) -> list[tuple[str, Path]]:
    """The safetensors of the model in `folder`, a FluxPipeline or single files, each with the name of its part."""
    index = folder / "model_index.json"
    if not index.is_file():
        return sorted(single_files(folder).items())
    parts = sorted(name for name in json.loads(index.read_text(encoding="utf-8")) if not name.startswith("_"))
    return [(part, path) for part in parts for path in sorted((folder / part).glob("*.safetensors"))]
