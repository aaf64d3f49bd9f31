"""Learn how like a photograph an image is: logistic regression on what the autoencoder makes of photographs and of
drawn images, see `dermaflux.likeness`."""

from pathlib import Path

import torch
from diffusers import FluxPipeline
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dermaflux import latents
from dermaflux.data.curate import rows_of
from dermaflux.data.manifest import Row, read
from dermaflux.data.pixels import read_pixels
from dermaflux.likeness import NAME, statistics
from dermaflux.model_files import native_size

PENALTY = 30
"""The inverse of the regression's `C`: the heavier, the less it leans on single channels."""
BATCH, FOLDS = 16, 5


def train(base: Path, manifests: list[Path], drawn: Path, out: Path) -> float:
    """Tell the train split of `manifests` from the images in the folder `drawn` by the autoencoder of the pipeline in
    the folder `base`; writes `out/likeness.safetensors`. Returns the area under the ROC curve, of images in folds that
    the regression had not seen."""
    pipe = FluxPipeline.from_pretrained(base, transformer=None, text_encoder=None, text_encoder_2=None)
    kinds = [_seen(pipe, rows) for rows in (rows_of(manifests, "train"), read(drawn / "manifest.csv"))]
    x, photograph = torch.cat(kinds).numpy(), torch.tensor([1] * len(kinds[0]) + [0] * len(kinds[1])).numpy()
    regression = LogisticRegression(C=1 / PENALTY, class_weight="balanced", max_iter=1000)
    model = make_pipeline(StandardScaler(), regression)
    held_out = cross_val_predict(model, x, photograph, cv=FOLDS, method="decision_function")
    scale, regression = model.fit(x, photograph)[0], model[1]
    weight = torch.from_numpy(regression.coef_[0] / scale.scale_).float()
    of_drawn = kinds[1] @ weight
    weight, bias = weight / of_drawn.std(), -of_drawn.mean() / of_drawn.std()
    out.mkdir(parents=True, exist_ok=True)
    save_file({"weight": weight.contiguous(), "bias": bias}, out / NAME)
    return float(roc_auc_score(photograph, held_out))


@torch.inference_mode()
def _seen(pipe: FluxPipeline, rows: list[Row]) -> torch.Tensor:
    """The statistics (N, 2C) of the latents of `rows`."""
    pixels = read_pixels(rows, native_size(pipe.vae.config))
    return torch.cat([statistics(latents.encode(pipe, some.float() / 127.5 - 1)) for some in pixels.split(BATCH)])
