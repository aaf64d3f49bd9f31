"""The files of a model on disk: a FluxPipeline's folder, or the single files of the original FLUX.1 code."""

import json
from collections.abc import Mapping
from pathlib import Path

SINGLE_FILES: Mapping[str, str] = {
    "transformer": "flux1-*.safetensors",
    "vae": "ae.safetensors",
    "text_encoder": "clip_l.safetensors",
    "text_encoder_2": "t5xxl*.safetensors",
}
"""The parts of FLUX.1 as the original code, and the demo of the method's authors, keep them on disk."""


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
