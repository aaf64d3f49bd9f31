"""The recipe of the embedded models: which data each stage sees, and how the parts become a FluxPipeline folder."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast, T5EncoderModel

from dermaflux import phantom
from dermaflux.caption import caption
from dermaflux.data import manifest
from dermaflux.data.captioners import describe
from dermaflux.data.curate import rows_of
from dermaflux.data.pixels import open_rgb
from dermaflux.errors import InputError
from dermaflux.files import weights_of
from dermaflux.lesion import CAPTURES, SITES, LesionAttributes
from dermaflux.model_files import NATIVE, native_size
from dermaflux.models import MODELS
from dermaflux.noise_predictor import NoisePredictor
from dermaflux.training import autoencoder, flow, text
from dermaflux.training.changes import CHANGES
from dermaflux.training.diffusion import losses_of
from dermaflux.training.encoding import VIEWS, encode
from dermaflux.training.fitting import fitted
from dermaflux.training.flow import FlowOptions
from dermaflux.training.pairs import Pairs
from dermaflux.training.taef2 import Taef2
from dermaflux.training.validation import Validation, sheets
from dermaflux.workers import pool_of

SPEC = MODELS["nano"]
TRANSFORMER = dict(
    patch_size=1,
    in_channels=4 * autoencoder.CONFIG["latent_channels"],
    num_layers=2,
    num_single_layers=4,
    attention_head_dim=64,
    num_attention_heads=4,
    joint_attention_dim=text.WIDTH,
    pooled_projection_dim=text.WIDTH,
    guidance_embeds=True,
    axes_dims_rope=(8, 28, 28),
)
WORDINGS = 4
NAMED = 0.3
"""The share of captions that name a site, and of those that name a way of capture."""
CHANGED_FOR_BASE, CHANGED_FOR_LORA = 1, 2
"""Every how many photographs are seen changed as well: the base learns attributes, the LoRA what photographs show."""

FLOW = "flow"
OBJECTIVES = {FLOW: FluxTransformer2DModel, "diffusion": NoisePredictor}
"""What the base learns: velocities, or as a baseline the noise."""
Captioned = tuple[np.ndarray, list[str]]
"""An image (H, W, 3) uint8 RGB and its captions."""
Fit = Callable[[Image.Image], np.ndarray]
"""How an image is made to fit the model: `fitting.fitted` with its options."""


def train_base(
    vae: Path,
    texts: Path,
    out: Path,
    count: int,
    options: FlowOptions,
    manifests: Sequence[Path] = (),
    start: Path | None = None,
    teacher: Path | None = None,
    objective: str = FLOW,
) -> None:
    """Train the base on `count` phantoms and the train split of `manifests`; writes the FluxPipeline folder
    `out/pipeline`.

    vae: the AutoencoderTiny's folder. texts: the folder of tokenizers and text encoders. start: a FluxPipeline folder
    whose transformer is gone on from. teacher: a file for `Taef2.load`, whose latents
    the autoencoder learned and which then gives them. objective: one of OBJECTIVES.
    """
    torch.manual_seed(options.seed)
    for name in ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"):
        if not (texts / name).is_dir():
            raise InputError(f"{texts} holds no folder {name}; `train text` writes one.")
    transformer = OBJECTIVES[objective](**TRANSFORMER) if start is None else _transformer_of(start, objective)
    pipe = assemble(vae, texts, transformer)
    fit = partial(fitted, size=NATIVE)
    images = chain(phantom_images(count, options.seed), real_images(manifests, options.seed, fit, CHANGED_FOR_BASE))
    length = pipe.tokenizer_2.model_max_length
    encoder, told = latents_of(teacher), teacher and weights_of(teacher)
    folders = vae, texts / "text_encoder", texts / "text_encoder_2"
    encoders = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]
    digest, encoded = (
        hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:8] for paths in (manifests, encoders)
    )
    shown = manifest.fingerprint(rows_of(manifests, "train", needed=False))
    pairs = Pairs.cached(
        out / "pairs.safetensors",
        lambda seen: encode(pipe, images, max_sequence_length=length, views=VIEWS // 2, encoder=encoder, seen=seen),
        f"{count} phantoms of seed {options.seed}, manifests {digest} of {shown}, encoders {encoded}, {told}",
    )
    sample = sheets(pipe, Validation.plausible(options.seed), native_size(pipe.vae.config), length, out / "samples")
    made_of = {"start": weights_of(start / "transformer")} if start else {}
    flow.train(pipe.transformer, pairs, out, options, sample, losses_of(pipe.transformer), made_of=made_of)
    pipe.transformer.to(torch.bfloat16)
    pipe.save_pretrained(out / "pipeline")


def _transformer_of(start: Path, objective: str) -> FluxTransformer2DModel:
    """The transformer of the FluxPipeline folder `start`. Raises InputError if it has none, or one that was trained for
    another of OBJECTIVES."""
    config = start / "transformer" / "config.json"
    if not config.is_file():
        raise InputError(f"{start} is no FluxPipeline folder: {config} is missing.")
    known = {kind.__name__: name for name, kind in OBJECTIVES.items()}
    trained = known.get(json.loads(config.read_text(encoding="utf-8")).get("_class_name"))
    if trained != objective:
        raise InputError(f"{start} was trained for {trained or 'something else'}, not for --objective {objective}.")
    return OBJECTIVES[objective].from_pretrained(start / "transformer", dtype=torch.float32, local_files_only=True)


def latents_of(teacher: Path | None) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """What gives latents in place of a pipeline's autoencoder: TAEF2 in the file `teacher`, if there is one."""
    return Taef2.load(teacher).encode if teacher else None


def assemble(vae: Path, texts: Path, transformer: FluxTransformer2DModel) -> FluxPipeline:
    """A FluxPipeline from its trained parts, with the scheduler of FLUX.1-dev."""
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
        shift=3.0,
    )
    return FluxPipeline(
        scheduler=scheduler,
        vae=AutoencoderTiny.from_pretrained(vae),
        text_encoder=CLIPTextModel.from_pretrained(texts / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(texts / "tokenizer"),
        text_encoder_2=T5EncoderModel.from_pretrained(texts / "text_encoder_2"),
        tokenizer_2=PreTrainedTokenizerFast.from_pretrained(texts / "tokenizer_2"),
        transformer=transformer,
    )


def phantom_images(count: int, seed: int) -> Iterator[Captioned]:
    """`count` phantoms with captions; label and diagnosis are drawn with their attributes and have no look."""
    with pool_of() as pool:
        yield from pool.map(_phantom, range(seed * 1_000_003, seed * 1_000_003 + count), chunksize=32)


def _phantom(seed: int) -> Captioned:
    drawn = phantom.draw(phantom.random_attributes(seed), seed=seed, size=NATIVE)
    return drawn.image, wordings(drawn.attributes, seed)


def real_images(manifests: Sequence[Path], seed: int, fit: Fit, changed_every: int) -> Iterator[Captioned]:
    """The train split, worded by measured appearance and diagnosis: each image as it is, and one in `changed_every`
    changed as well, by each of CHANGES in turn, and worded by what it then shows."""
    rows = rows_of(manifests, "train", needed=False)
    work = partial(_real, fit=fit, changed_every=changed_every)
    with pool_of() as pool:
        yield from chain.from_iterable(pool.map(work, rows, range(seed, seed + len(rows)), chunksize=16))


def _real(row: manifest.Row, seed: int, fit: Fit, changed_every: int) -> list[Captioned]:
    rgb = fit(open_rgb(row))
    seen = [rgb]
    if seed % changed_every == 0:
        change = CHANGES[seed // changed_every % len(CHANGES)]
        seen.append(change(rgb, np.random.default_rng(seed)))
    return [(one, wordings(describe(one, row), 2 * seed + k)) for k, one in enumerate(seen)]


def wordings(attributes: LesionAttributes, seed: int) -> list[str]:
    """Captions of the honoured part of `attributes`; from half of them some attributes are left out, but no artefact,
    so that what is not named is not there. Site and capture, which have no look, are named at random."""
    rng = random.Random(seed)
    empty = LesionAttributes()
    honoured = replace(
        attributes, **{name: getattr(empty, name) for name in attributes.specified() if name not in SPEC.honours}
    )
    shares = (0.0, 0.0, 0.15, 0.5)
    partial = (text.drop(honoured, rng, shares[k % 4]) for k in range(WORDINGS))
    unseen = lambda: {
        name: rng.choice(values) if rng.random() < NAMED else None
        for name, values in (("site", SITES), ("capture", CAPTURES))
    }
    return [caption(replace(one, artefacts=honoured.artefacts, **unseen()), rng.randrange(2**31)) for one in partial]
