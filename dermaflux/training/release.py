"""The folder that is shipped: base, autoencoder, LoRA and the map to previews, each from the run that made it."""

import json
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import FluxPipeline
from safetensors.torch import save_file

from dermaflux import likeness
from dermaflux.errors import InputError
from dermaflux.model_files import native_size
from dermaflux.training.pairs import Pairs

WHENCE = "_name_or_path"
"""Where a part was loaded from, which its configuration notes and nobody else needs to know."""
INDEX = "model_index.json"
PARTS = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer")


def release(base: Path, vae: Path, lora: Path, pairs: Path, out: Path) -> None:
    """Write the parts to `out`, whatever else is there: of the FluxPipeline `base` all but its autoencoder, which `vae`
    replaces (of the same latents), the folder `lora`, and previews.safetensors, fitted to the latents of `pairs`. A
    likeness, which was learned of what the former parts drew, goes. A part's own card and the place that it was loaded
    from stay behind. Parts may be those of `out` itself; what is there is replaced when all is made. Raises
    FileNotFoundError for a part that is not there."""
    made = out.with_name(out.name + ".part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        latents = Pairs.load(pairs)
        for name, source in {**{name: base / name for name in PARTS}, "vae": vae, "lora": lora}.items():
            shutil.copytree(source, made / name, ignore=shutil.ignore_patterns("README.md"))
            for path in (made / name).glob("*.json"):
                kept = json.loads(path.read_text(encoding="utf-8"))
                if kept.pop(WHENCE, None):
                    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        index = json.loads((base / INDEX).read_text(encoding="utf-8"))
        index["vae"] = ["diffusers", json.loads((vae / "config.json").read_text(encoding="utf-8"))["_class_name"]]
        (made / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        fit_previews(FluxPipeline.from_pretrained(made), latents, made / "previews.safetensors")
        out.mkdir(parents=True, exist_ok=True)
        for path in made.iterdir():
            if (out / path.name).is_dir():
                shutil.rmtree(out / path.name)
            path.replace(out / path.name)
        (out / likeness.NAME).unlink(missing_ok=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)


@torch.inference_mode()
def fit_previews(pipe: FluxPipeline, pairs: Pairs, path: Path) -> None:
    """Fit the linear map from a latent and its neighbours to a patch of RGB on 256 decoded squares of `pairs`; writes
    safetensors. Raises InputError if there is no square."""
    latents = next((bucket.latents for bucket in pairs.buckets if bucket.grid[0] == bucket.grid[1]), None)
    if latents is None:
        raise InputError("Previews are fitted to square images, and the pairs hold none.")
    chosen = torch.randperm(latents.shape[0], generator=torch.Generator().manual_seed(0))[:256]
    latents = pipe._unpack_latents(
        latents[chosen, torch.zeros_like(chosen)].float(),
        native_size(pipe.vae.config),
        native_size(pipe.vae.config),
        pipe.vae_scale_factor,
    )
    scaled = latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    pixels = torch.cat([pipe.vae.decode(z).sample for z in scaled.split(16)]).clamp(-1, 1) / 2 + 0.5
    patches = F.pixel_unshuffle(pixels, pipe.vae_scale_factor)  # (N, 3 p p, h, w)
    around = F.unfold(F.pad(latents, (1, 1, 1, 1), mode="replicate"), 3)  # (N, 9 C, h w)
    x = F.pad(around.movedim(1, -1).flatten(0, 1), (0, 1), value=1.0)  # (N h w, 9 C + 1)
    y = patches.movedim(1, -1).reshape(len(x), -1)  # (N h w, 3 p p)
    solution = torch.linalg.lstsq(x, y).solution
    weight = solution[:-1].T.unflatten(1, (-1, 3, 3))  # (3 p p, C, 3, 3)
    save_file({"weight": weight.contiguous(), "bias": solution[-1].contiguous()}, path)
