"""Train the embedded AutoencoderTiny: 256 px RGB to 32 x 16 x 16 latents and back.

It is distilled from TAEF2 (`taef2.py`), which sees the images at half their size, and has its shape but for two things:
a stage more at the image's own size, and none of the branches that normalise over the whole image. So it is taught
piece by piece (`pieces.py`): each block learns alone to give what the teacher's gives, from what the teacher's takes.
Then the decoder learns as a whole to draw the teacher's picture at the whole size, and the encoder the teacher's
latents. The teacher's pictures are crisp and a function of the latents, so that least error serves; what is finer than
they show is not, and a critic (`critic.py`) teaches it last.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderTiny
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from dermaflux.data.curate import rows_of
from dermaflux.data.pixels import read_pixels
from dermaflux.model_files import NATIVE
from dermaflux.training.critic import Critic
from dermaflux.training.loop import checked, digest, fit, settings, update
from dermaflux.training.phantoms import draw_phantoms
from dermaflux.training.pieces import inner_decoder, lessons, pieces
from dermaflux.training.precision import mixed_precision
from dermaflux.training.taef2 import LATENTS, Taef2

BATCH = 32
CONFIG = dict(
    latent_channels=LATENTS,
    encoder_block_out_channels=(64,) * 5,
    decoder_block_out_channels=(64,) * 5,
    num_encoder_blocks=(0, 1, 3, 3, 6),
    num_decoder_blocks=(6, 3, 3, 1, 0),
    scaling_factor=1.3,
    shift_factor=0.0,
)
"""The scaling factor takes the root mean square of the teacher's latents, 0.78 over the train split, to 1."""
WINDOW, MARGIN = 10, 2
"""Side of the part of a picture that is learned at once, in latents, and what of it is too near a cut to count."""


@dataclass(frozen=True)
class AutoencoderOptions:
    """How the autoencoder is trained.

    views: how many are drawn to learn from. pieces_steps, pieces_batch, pieces_rate: of the pieces; steps, batch,
    learning_rate: of the whole. sharp: the share of the teacher's picture, against the image's own, in what the decoder
    shall draw; what is finer than the teacher sees is always the image's. detail_steps, detail_rate: with the critic,
    whose pull is `detail` of what holds the picture. noise: on the latents decoded, as a flow's
    are never exact. phantoms: how many drawn images join the real ones.
    """

    steps: int = 3000
    batch: int = 16
    learning_rate: float = 5e-4
    pieces_steps: int = 4000
    pieces_batch: int = 16
    pieces_rate: float = 1.5e-3
    detail_steps: int = 1500
    detail_rate: float = 2e-4
    detail: float = 1.0
    views: int = 3000
    sharp: float = 1.0
    noise: float = 0.05
    phantoms: int = 600
    ema: float = 0.998
    seed: int = 0

    def __post_init__(self):
        checked(self)


def train(pixels: torch.Tensor, teacher: Taef2, out: Path, options: AutoencoderOptions) -> AutoencoderTiny:
    """Train on images `pixels` (N, 3, H, W) uint8, checkpointing to `out`; returns the model in eval mode."""
    torch.manual_seed(options.seed)
    model = AutoencoderTiny(**CONFIG).to(memory_format=torch.channels_last)
    run = partial(fit, seed=options.seed, made_of=settings(options) | digest(pixels))
    _train_pieces(model, pixels, teacher, out / "pieces", options, run)
    views = cache(lambda: _whole_views(pixels, teacher, options))
    _train_whole(model, views, out / "whole", options, run)
    _train_detail(model, views, teacher, out, options, run)
    return model.eval()


def _train_pieces(
    model: AutoencoderTiny, pixels, teacher: Taef2, out: Path, options: AutoencoderOptions, run: Callable
) -> None:
    """Teach each piece of the model what the teacher's does."""
    if options.pieces_steps == 0:
        return
    accelerator = Accelerator(mixed_precision=mixed_precision())
    learned = pieces(model, teacher)
    parameters = [p for piece in learned for p in piece.student.parameters()]
    optimizer, schedule = optimizer_of(parameters, options.pieces_rate, options.pieces_steps)
    optimizer, schedule = accelerator.prepare(optimizer, schedule)
    accelerator.register_for_checkpointing(model)
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)

    @cache  # not before the first step: a finished run needs none
    def prepared() -> list[tuple[torch.Tensor, torch.Tensor]]:
        with _views(pixels, options) as views:
            return lessons(learned, teacher, views)

    def step(_: int) -> dict[str, float]:
        chosen, loss, unexplained = torch.randint(len(prepared()[0][0]), (options.pieces_batch,)), 0.0, {}
        for piece, (given, wanted) in zip(learned, prepared(), strict=True):
            with accelerator.autocast():
                found = piece.student(_last(given[chosen].to(accelerator.device).float()))
            wanted = wanted[chosen].to(accelerator.device).float()
            error = F.mse_loss(piece.inside(found.float()), piece.inside(wanted)) / piece.spread
            loss, unexplained[piece.name] = loss + error, error.item()
        update(accelerator, loss, optimizer, schedule, parameters, average)
        return unexplained

    run(accelerator, step, steps=options.pieces_steps, out=out, save_every=500)
    average.copy_to(parameters)


@contextmanager
def _views(pixels, options: AutoencoderOptions) -> Iterator[Iterable[torch.Tensor]]:
    """Batches of views to learn from, always the same; a run that goes on then draws what an unbroken one draws."""
    with torch.random.fork_rng():
        set_seed(options.seed)
        batches = -(-options.views // BATCH)
        yield tqdm((augment(pixels, BATCH) for _ in range(batches)), total=batches, desc="the teacher", mininterval=5)


@torch.no_grad()
def _whole_views(pixels, teacher: Taef2, options: AutoencoderOptions) -> tuple[torch.Tensor, ...]:
    """V views (V, 3, H, W), the teacher's latents of them and what the decoder shall draw of these, float16."""
    with _views(pixels, options) as views:
        found = [(x, z, target(x, teacher.decode(z), options.sharp)) for x in views for z in [teacher.encode(x)]]
    return tuple(torch.cat([one.half() for one in kind]) for kind in zip(*found, strict=True))


def _train_whole(
    model: AutoencoderTiny, views: Callable, out: Path, options: AutoencoderOptions, run: Callable
) -> None:
    """Teach the decoder as a whole to draw what the teacher draws, and the encoder its latents."""
    accelerator = Accelerator(mixed_precision=mixed_precision())
    parameters = list(model.parameters())
    optimizer, schedule = optimizer_of(parameters, options.learning_rate, options.steps)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)

    def step(_: int) -> dict[str, float]:
        x, z, wanted = _batch(views(), options.batch, accelerator.device)
        few = -(-len(x) // 4)  # the encoder needs the whole image, the decoder a window
        with accelerator.autocast():
            error = F.mse_loss(model.encoder(x[:few]).float(), z[:few])
            y, wanted = _drawn(model, z, options.noise, wanted)
        loss = F.l1_loss(y, wanted) + gradient_loss(y, wanted)
        update(accelerator, loss + 0.2 * error, optimizer, schedule, parameters, average)
        return {"latents": error.item(), "psnr of target": decibels(y, wanted)}

    run(accelerator, step, steps=options.steps, out=out, save_every=200)
    average.copy_to(parameters)


def _train_detail(
    model: AutoencoderTiny, views: Callable, teacher: Taef2, out: Path, options: AutoencoderOptions, run: Callable
) -> None:
    """Teach the decoder to draw what is finer than the latents say as photographs have it, by a critic.

    Where the critic pulls the picture, it does so with `options.detail` of the force that holds it to its target.
    """
    accelerator = Accelerator(mixed_precision=mixed_precision())
    critic = Critic(teacher).to(accelerator.device)
    parameters, judges = list(model.decoder.parameters()), list(critic.heads.parameters())
    optimizer, schedule = optimizer_of(parameters, options.detail_rate, options.detail_steps)
    learner, pace = optimizer_of(judges, 4 * options.detail_rate, options.detail_steps)
    model, critic, optimizer, schedule, learner, pace = accelerator.prepare(
        model, critic, optimizer, schedule, learner, pace
    )
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)

    def step(_: int) -> dict[str, float]:
        x, z, wanted = _batch(views(), options.batch, accelerator.device)
        with accelerator.autocast():
            y, wanted, real = _drawn(model, z, options.noise, wanted, x)
        (held,) = torch.autograd.grad(F.l1_loss(y, wanted) + gradient_loss(y, wanted), y, retain_graph=True)
        drawn, seen = y.detach().requires_grad_(), critic.features(real)
        features = critic.features(drawn)
        (pull,) = torch.autograd.grad(critic.judge(features), drawn)
        pull = pull * options.detail * held.norm() / (pull.norm() + 1e-8)
        update(accelerator, (y * (held + pull)).sum(), optimizer, schedule, parameters, average)
        told = critic.learn(seen, features)
        update(accelerator, told, learner, pace, judges)
        return {"critic": told.item(), "psnr of target": decibels(y, wanted)}

    run(accelerator, step, steps=options.detail_steps, out=out, save_every=200)
    average.copy_to(parameters)


def _batch(views: tuple[torch.Tensor, ...], size: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    chosen = torch.randint(len(views[0]), (size,))
    return tuple(_last(one[chosen].float().to(device)) for one in views)


def _drawn(model: AutoencoderTiny, z: torch.Tensor, noise: float, *images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """A random window of what the decoder draws of noisy latents `z`, in [-1, 1], and the same one of `images`."""
    first, rest = inner_decoder(model)
    h = first(_last(z + noise * torch.randn_like(z)))
    k, last = images[0].shape[-1] // h.shape[-1], h.shape[-1] - WINDOW
    top, left = (int(torch.randint(last + 1, ())) for _ in range(2))
    y = rest(h[..., top : top + WINDOW, left : left + WINDOW]).float() * 2 - 1
    edges = [(MARGIN * (at > 0), WINDOW - MARGIN * (at < last)) for at in (top, left)]  # the image's own edges count
    rows, columns = (slice(first * k, end * k) for first, end in edges)
    there = slice(top * k + rows.start, top * k + rows.stop), slice(left * k + columns.start, left * k + columns.stop)
    return y[..., rows, columns], *(one[..., there[0], there[1]] for one in images)


def _last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def optimizer_of(parameters, rate: float, steps: int, warmup: int = 50):
    """AdamW, and its rate's rise over `warmup` steps and fall over the others of `steps`."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    return optimizer, get_cosine_schedule_with_warmup(optimizer, warmup, steps)


def decibels(y: torch.Tensor, x: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of images in [-1, 1], all together."""
    return float(-10 * torch.log10(F.mse_loss(y.detach(), x) / 4))


def target(x: torch.Tensor, seen: torch.Tensor, sharp: float) -> torch.Tensor:
    """`x` (N, 3, H, W) with a share `sharp` of what the teacher's picture `seen` (N, 3, H / 2, W / 2) has else."""
    changed = seen - F.avg_pool2d(x, 2)
    return x + sharp * F.interpolate(changed, scale_factor=2.0, mode="bicubic")


def augment(pixels: torch.Tensor, batch: int) -> torch.Tensor:
    """Random images with flips, quarter turns and, for a third, changes of brightness and colour: in [-1, 1].

    The colour changes reach far past dermoscopy of light skin, so that dark skin is reconstructed as well.
    """
    chosen = [torch.rot90(pixels[i], int(torch.randint(4, ())), (1, 2)) for i in torch.randint(len(pixels), (batch,))]
    x = torch.stack([one.flip(2) if torch.rand(()) < 0.5 else one for one in chosen]).float() / 255  # (N, 3, H, W)
    strong = (torch.rand(batch, 1, 1, 1) < 0.33).float()
    x = x ** torch.exp(strong * 0.4 * torch.randn(batch, 1, 1, 1))
    x = x * (1 + strong * (0.2 * torch.randn(batch, 3, 1, 1))).clamp(0.4, 1.6)
    return (x.clamp(0, 1) * 2 - 1).contiguous(memory_format=torch.channels_last)


def gradient_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 distance of horizontal and vertical differences; keeps edges and hair sharp."""
    return sum(F.l1_loss(y.diff(dim=d), x.diff(dim=d)) for d in (2, 3))


@torch.no_grad()
def psnr(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each reconstruction of `pixels` (N, 3, H, W) uint8: (N,)."""
    scores = []
    for x in (some.float() / 127.5 - 1 for some in pixels.split(8)):
        y = model.decode(model.encode(x).latents).sample.clamp(-1, 1)
        scores.append(-10 * torch.log10(((y - x) / 2).pow(2).mean((1, 2, 3))))
    return torch.cat(scores)


def main(manifests: list[Path], teacher: Path, out: Path, options: AutoencoderOptions) -> None:
    """Train on the manifests' train split and on phantoms; writes `out/vae`."""
    known, real = Taef2.load(teacher), read_pixels(rows_of(manifests, "train"), NATIVE)
    drawn = draw_phantoms(options.phantoms, NATIVE, seed=0)
    save(train(torch.cat([real, drawn]), known, out, options), out / "vae")


def save(model: AutoencoderTiny, folder: Path) -> None:
    """Write the folder that `from_pretrained` reads without a warning: diffusers saves a value that it then refuses."""
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    own = {name: value for name, value in config.items() if name not in ("block_out_channels", "_name_or_path")}
    path.write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")
