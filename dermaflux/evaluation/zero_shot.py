"""Zero-shot peers: which of two texts an image-text model of the CLIP family finds nearer to an image.

Radford et al. (arXiv 2103.00020), with the mean of several wordings a class. Models are read by open_clip, which is
imported here alone and is no requirement of the program.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors import SafetensorError

from dermaflux.errors import ModelUnavailable, first_line
from dermaflux.hub import HUB_ERRORS
from dermaflux.lesion import LABELS

PEERS: Mapping[str, str] = {
    "biomedclip": "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    "dermlip": "redlessone/DermLIP_ViT-B-16",
    "make": "xieji-x/MAKE",
}
"""Those that the paper compares with, and open_clip can read."""
PANDERM = "redlessone/DermLIP_PanDerm-base-w-PubMed-256"
UNREADABLE: Mapping[str, str] = dict.fromkeys(
    ("dermlip-panderm", PANDERM.lower()),
    "DermLIP with the image network PanDerm cannot be read by open_clip: its weights are those of a network that only "
    "its authors' changed copy of open_clip has (github.com/SiyuanYan1/Derm1M), while its open_clip_config.json names "
    "another. Compare with dermlip, their model with a plain ViT.",
)
"""By name, why a published model is refused."""
TEMPLATES = (
    "a photo of a {} skin lesion",
    "a dermoscopic image of a {} skin lesion",
    "this photo depicts a {} lesion",
    "a {} mole",
)
WEIGHTS = ("open_clip_model.safetensors", "model.safetensors")
CONVERT = (
    'python -c "import torch, safetensors.torch as s; '
    "t = torch.load('open_clip_pytorch_model.bin', weights_only=True); "
    "s.save_file({n: x.clone().contiguous() for n, x in t.items()}, 'open_clip_model.safetensors')\""
)
"""A command that makes safetensors of a file of PyTorch's."""


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """An image-text model and its embeddings of the texts of LABELS: (2, D), unit length."""

    model: torch.nn.Module
    preprocess: Callable[[Image.Image], torch.Tensor]
    texts: torch.Tensor

    @classmethod
    def load(cls, name_or_folder: str | Path, device: str = "cpu") -> "ZeroShot":
        """One of PEERS, a Hub repository OWNER/NAME, or a folder with open_clip_config.json and safetensors.

        Raises ModelUnavailable, also where open_clip is not installed.
        """
        try:
            import open_clip
        except ImportError:
            raise ModelUnavailable("Zero-shot models need a package more: pip install open_clip_torch.") from None
        try:
            source = _source(name_or_folder)
            model, preprocess = open_clip.create_model_from_pretrained(source, device=device, weights_only=True)
            tokenizer = open_clip.get_tokenizer(source)
        except ModelUnavailable:
            raise
        except (*HUB_ERRORS, SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise ModelUnavailable(f"{name_or_folder} cannot be read by open_clip: {first_line(error)}") from error
        model.requires_grad_(False).eval()
        texts = open_clip.build_zero_shot_classifier(model, tokenizer, LABELS, TEMPLATES, device=device).T
        return cls(model, preprocess, texts)

    @torch.inference_mode()
    def p_malignant(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Probability in [0, 1] that each RGB image is nearer to the texts of malignant lesions: (N,). It is not
        calibrated."""
        pixels = torch.stack([self.preprocess(image) for image in images]).to(self.texts.device)
        seen = self.model.encode_image(pixels, normalize=True)  # (N, D)
        near = self.model.logit_scale.exp() * seen @ self.texts.T  # (N, 2)
        return near.softmax(1)[:, LABELS.index("malignant")].double().cpu().numpy()


def _source(name_or_folder: str | Path) -> str:
    """What open_clip calls the model, fetched if it is on the Hub. Raises ModelUnavailable for one without a config or
    safetensors."""
    folder = Path(name_or_folder)
    if not folder.is_dir():
        known = str(name_or_folder).lower()
        if known in UNREADABLE:
            raise ModelUnavailable(UNREADABLE[known])
        repository = PEERS.get(known, str(name_or_folder))
        if repository.count("/") != 1 or folder.is_absolute():
            raise ModelUnavailable(
                f"There is no zero-shot model “{name_or_folder}”: neither a folder, nor a repository OWNER/NAME, nor "
                f"of {', '.join(PEERS)}."
            )
        folder = Path(snapshot_download(repository, allow_patterns=(*WEIGHTS, "*.json", "*.txt", "*.model")))
    if not (folder / "open_clip_config.json").is_file():
        raise ModelUnavailable(f"{name_or_folder} is not a model of open_clip: open_clip_config.json is missing.")
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise ModelUnavailable(
            f"{name_or_folder} holds none of {', '.join(WEIGHTS)}; weights are read from safetensors only. If you "
            f"trust who made its .bin, download the repository, run in its folder\n{CONVERT}\nand name that folder."
        )
    return f"local-dir:{folder}"
