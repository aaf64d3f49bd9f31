"""The language models that are known, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dermaflux.model_files import Weights


@dataclass(frozen=True)
class TextModelSpec:
    """A language model: `source` is a folder or Hub id; weights: its size at 16 bits, where it is known."""

    title: str
    source: str
    licence: str = "as its source says"
    weights: Weights | None = None

    @property
    def gigabytes(self) -> float:
        """What its weights take, of 2^30 bytes: as known, or as they lie in its folder."""
        if self.weights:
            return self.weights.total
        return sum(path.stat().st_size for path in Path(self.source).glob("*.safetensors")) / 2**30


WRITER, VISION = "meta-llama/Llama-3.2-3B-Instruct", "meta-llama/Llama-3.2-11B-Vision-Instruct"
_LLAMA_LICENCE = "Llama 3.2 Community License"
TEXT_MODELS: Mapping[str, TextModelSpec] = {
    spec.source: spec
    for spec in (
        TextModelSpec("Llama 3.2 3B", WRITER, _LLAMA_LICENCE, Weights(0.0, 6.0, 0.0)),
        TextModelSpec("Llama 3.2 11B Vision", VISION, _LLAMA_LICENCE, Weights(0.0, 19.9, 0.0)),
    )
}


def find_text_model(source: str) -> TextModelSpec:
    """The language model at `source`, a folder or Hub id."""
    return TEXT_MODELS.get(source) or TextModelSpec(Path(source).name, source)
