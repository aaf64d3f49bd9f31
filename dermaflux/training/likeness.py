"""Learn how like a photograph an image is: logistic regression on what the encoder sees in photographs and in
drawn images, see `dermaflux.likeness`."""

from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FluxPipeline
from safetensors.torch import save
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from dermaflux.data.curate import rows_of
from dermaflux.data.manifest import Row, read
from dermaflux.data.pixels import read_pixels
from dermaflux.errors import DataError, InputError
from dermaflux.files import write_atomically
from dermaflux.likeness import NAME, statistics
from dermaflux.model_files import native_size

PENALTY = 100
"""The inverse of the regression's `C`: the heavier, the less it leans on single channels."""
BATCH, FOLDS, LEAST = 16, 5, 20
"""Images encoded at once; folds of which each is judged by what the others taught; images of a kind, at least."""


def train(base: Path, manifests: list[Path], drawn: Path, out: Path) -> float:
    """Tell the train split of `manifests` from the images in the folder `drawn` by the autoencoder of the pipeline in
    the folder `base`; writes `out/likeness.safetensors`. Returns the area under the ROC curve, of images in folds that
    the regression had not seen. Raises DataError where there are fewer than LEAST images of a kind, InputError where
    the autoencoder is no AutoencoderTiny."""
    photographs, images = rows_of(manifests, "train"), read(drawn / "manifest.csv")
    kinds = {"photographs in the train split": photographs, f"images in {drawn}": images}
    for what, rows in kinds.items():
        if len(rows) < LEAST:
            raise DataError(f"There are {len(rows)} {what}; {LEAST} are needed at least.")
    parts = dict(transformer=None, text_encoder=None, text_encoder_2=None)
    pipe = FluxPipeline.from_pretrained(base, use_safetensors=True, local_files_only=True, **parts)
    if not isinstance(pipe.vae, AutoencoderTiny):
        raise InputError(f"{base} has no AutoencoderTiny, which likeness is told by.")
    pipe.vae.to(memory_format=torch.channels_last)
    real, made = (_seen(pipe, rows, what) for what, rows in kinds.items())
    x, photograph = torch.cat([real, made]).numpy(), torch.tensor([1] * len(real) + [0] * len(made)).numpy()
    regression = LogisticRegression(C=1 / PENALTY, class_weight="balanced", max_iter=1000)
    model = make_pipeline(StandardScaler(), regression)
    held_out = cross_val_predict(model, x, photograph, cv=FOLDS, method="decision_function")
    scaler = model.fit(x, photograph)[0]
    weight = torch.from_numpy(regression.coef_[0] / scaler.scale_).float()
    of_drawn = made @ weight
    tensors = {"weight": weight / of_drawn.std(), "bias": -of_drawn.mean() / of_drawn.std()}
    if not all(one.isfinite().all() for one in tensors.values()):
        raise DataError(f"The images in {drawn} are all alike.")
    write_atomically(out / NAME, lambda file: file.write(save(tensors)))
    return float(roc_auc_score(photograph, held_out))


@torch.inference_mode()
def _seen(pipe: FluxPipeline, rows: list[Row], what: str) -> torch.Tensor:
    """The statistics (N, S) of the images of `rows`."""
    pixels = read_pixels(rows, native_size(pipe.vae.config)).split(BATCH)
    each = tqdm(pixels, desc=what, mininterval=5)
    return torch.cat([statistics(pipe.vae, some.float() / 127.5 - 1) for some in each])
