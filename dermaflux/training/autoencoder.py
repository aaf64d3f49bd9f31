"""Train the embedded AutoencoderKL: 256 px RGB to 32 x 16 x 16 latents and back.

It is distilled from TAEF2 (`taef2.py`), which sees the images at half their size: the encoder learns the teacher's
latents, the decoder the way back to the whole size. The inner layers, at a sixteenth of the side, are a hundredth of
the work of all, so they learn first: the encoder's between principal components (`components.py`), which its outer
layers give, and latents; the decoder's between latents and what an earlier autoencoder's outer layers take. Then all of
the decoder learns. Least squares would smooth away what a latent does not settle; the teacher's pictures are crisp and
a function of the latents, so they can be learned without a critic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderKL
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from dermaflux.data import manifest
from dermaflux.data.pixels import read_pixels
from dermaflux.training import components
from dermaflux.training.loop import fit, update
from dermaflux.training.phantoms import draw_phantoms
from dermaflux.training.taef2 import LATENTS, Taef2

BATCH = 32
CONFIG = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=LATENTS,
    block_out_channels=(16, 32, 64, 128, 128),
    down_block_types=("DownEncoderBlock2D",) * 5,
    up_block_types=("UpDecoderBlock2D",) * 5,
    layers_per_block=1,
    norm_num_groups=1,
    mid_block_add_attention=False,
    use_quant_conv=False,
    use_post_quant_conv=False,
    sample_size=256,
    scaling_factor=1.3,
    shift_factor=0.0,
)
"""The scaling factor takes the root mean square of the teacher's latents, 0.78 over the train split, to 1."""
WIDTHS = (12, 32, 64, 64)
"""Components kept after each stage of the encoder's outer layers."""
LOGVAR = -20.0
"""The encoder is as good as deterministic."""


@dataclass(frozen=True)
class AutoencoderOptions:
    """How the autoencoder is trained.

    steps, batch, learning_rate: of the whole decoder, after the inner layers had inner_steps of inner_batch out of
    inner_images views at inner_rate. sharp: the share of the teacher's picture, against the image's own, in what the
    decoder shall draw; what is finer than the teacher sees is always the image's. noise: on the latents decoded, as a
    flow's are never exact. phantoms: how many drawn images join the real ones. fitted: how many images the components
    are fitted to.
    """

    steps: int = 500
    batch: int = 4
    learning_rate: float = 3e-4
    inner_steps: int = 8000
    inner_batch: int = 16
    inner_rate: float = 1e-3
    inner_images: int = 6000
    sharp: float = 1.0
    noise: float = 0.05
    phantoms: int = 600
    fitted: int = 100
    ema: float = 0.995
    seed: int = 0


def train(
    pixels: torch.Tensor, teacher: Taef2, earlier: AutoencoderKL, out: Path, options: AutoencoderOptions
) -> AutoencoderKL:
    """Train on images `pixels` (N, 3, H, W) uint8, checkpointing to `out`; returns the model in eval mode.

    earlier: an autoencoder of the same shape, whose decoder the new one starts from.
    """
    model, stages = start(pixels, earlier, options)
    _train_inner(model, stages, pixels, teacher, earlier, out / "inner", options)
    _train_decoder(model, pixels, teacher, out, options)
    return model.eval()


def start(
    pixels: torch.Tensor, earlier: AutoencoderKL, options: AutoencoderOptions
) -> tuple[AutoencoderKL, list[components.Stage]]:
    """The autoencoder whose inner layers know nothing of the teacher, and the stages in the encoder's outer ones."""
    torch.manual_seed(options.seed)
    model = AutoencoderKL(**CONFIG)
    chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(options.seed))[: options.fitted]
    stages = components.fit(pixels[chosen].float() / 127.5 - 1, WIDTHS)
    components.place(model.encoder, stages)
    model.decoder.load_state_dict(earlier.decoder.state_dict())
    with torch.no_grad():
        last = model.encoder.conv_out
        last.weight[LATENTS:], last.bias[LATENTS:] = 0, LOGVAR
    return model, stages


def _train_inner(
    model: AutoencoderKL, stages, pixels, teacher: Taef2, earlier: AutoencoderKL, out: Path, options: AutoencoderOptions
) -> None:
    """Teach the inner layers what lies between views of `pixels` and their latents, both ways."""
    if options.inner_steps == 0:
        return
    accelerator = Accelerator(mixed_precision="bf16")
    encoder, decoder = _InnerEncoder(model.encoder), _InnerDecoder(model.decoder)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer, schedule = _optimizer(parameters, options.inner_rate, options.inner_steps)
    encoder, decoder, optimizer, schedule = accelerator.prepare(encoder, decoder, optimizer, schedule)
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)
    inverse = tuple(one.to(accelerator.device) for one in components.block_inverse(stages))

    @cache  # not before the first step: a finished run needs none
    def prepared() -> tuple[_Lessons, torch.Tensor, Callable]:
        with torch.random.fork_rng():  # a run that goes on shall draw what an unbroken one draws
            lessons = _Lessons.of(pixels, teacher, stages, earlier, options)
        spread = lessons.features[:1000].float().std((0, 2, 3), keepdim=True).clamp(min=1e-3)
        return lessons, spread.to(accelerator.device), lessons.readout()

    def step(_: int) -> dict[str, float]:
        lessons, spread, drawn = prepared()
        chosen = torch.randint(len(lessons.latents), (options.inner_batch,))
        c, z, h = (one[chosen].float().to(accelerator.device) for one in vars(lessons).values())
        with accelerator.autocast():
            found, h_found = encoder(c), decoder(z + options.noise * torch.randn_like(z))
        error, off = F.mse_loss(found.float(), z), F.mse_loss(h_found.float() / spread, h / spread)
        y, x = (components.decode(drawn(one), inverse) for one in (h_found.float(), h))
        update(accelerator, error + off + 4 * F.l1_loss(y, x), optimizer, schedule, parameters, average)
        return {"latents": error.item(), "features": off.item(), "psnr of components": decibels(y, x)}

    fit(accelerator, step, steps=options.inner_steps, out=out, seed=options.seed, save_every=500)
    average.copy_to(parameters)


@dataclass(frozen=True)
class _Lessons:
    """Of V views: whitened components (V, K, h, w), the teacher's latents, and the features that the earlier decoder's
    outer layers take to draw what the teacher draws, all float16."""

    components: torch.Tensor
    latents: torch.Tensor
    features: torch.Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, pixels, teacher: Taef2, stages, earlier: AutoencoderKL, options: AutoencoderOptions) -> "_Lessons":
        found, inner = [], _InnerDecoder(earlier.decoder)
        set_seed(options.seed)
        for _ in tqdm(range(-(-options.inner_images // BATCH)), desc="encoding views", mininterval=5):
            x = augment(pixels, BATCH)
            z = teacher.encode(x)
            wanted = target(x, teacher.decode(z), options.sharp)
            with torch.autocast(x.device.type, torch.bfloat16):
                code = earlier.encode(wanted).latent_dist.mode()
            found.append([one.half() for one in (components.encode(x, stages)[-1], z, inner(code.float()))])
        return cls(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def readout(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The least-squares map from features to components: what of a feature is seen in the image."""
        flat = lambda one: one[:500].float().movedim(1, -1).flatten(0, 2)
        x = F.pad(flat(self.features), (0, 1), value=1.0)
        solution = torch.linalg.lstsq(x, flat(self.components)).solution
        return lambda h: F.conv2d(h, solution[:-1].T[..., None, None].to(h.device), solution[-1].to(h.device))


def _train_decoder(model: AutoencoderKL, pixels, teacher: Taef2, out: Path, options: AutoencoderOptions) -> None:
    """Teach all of the decoder to draw what the teacher draws."""
    accelerator = Accelerator(mixed_precision="bf16")
    teacher = teacher.to(accelerator.device)
    decoder = model.decoder.to(memory_format=torch.channels_last)
    parameters = list(decoder.parameters())
    optimizer, schedule = _optimizer(parameters, options.learning_rate, options.steps)
    decoder, optimizer, schedule = accelerator.prepare(decoder, optimizer, schedule)
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)

    def step(_: int) -> dict[str, float]:
        x = augment(pixels, options.batch).to(accelerator.device)
        z = teacher.encode(x)
        wanted = target(x, teacher.decode(z), options.sharp)
        with accelerator.autocast():
            y = decoder((z + options.noise * torch.randn_like(z)).contiguous(memory_format=torch.channels_last)).float()
        loss = F.l1_loss(y, wanted) + gradient_loss(y, wanted)
        update(accelerator, loss, optimizer, schedule, parameters, average)
        return {"psnr of target": decibels(y, wanted), "psnr": decibels(y, x)}

    fit(accelerator, step, steps=options.steps, out=out, seed=options.seed, save_every=200)
    average.copy_to(parameters)


class _InnerEncoder(nn.Module):
    """Whitened components (N, K, h, w) to the means of latents, by the inner layers of `encoder`."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.block, self.middle = encoder.down_blocks[-1], encoder.mid_block
        self.norm, self.act, self.out = encoder.conv_norm_out, encoder.conv_act, encoder.conv_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (0, 0, 0, 0, 0, self.out.in_channels - x.shape[1]))
        return self.out(self.act(self.norm(self.middle(self.block(x)))))[:, :LATENTS]


class _InnerDecoder(nn.Module):
    """Latents to what the outer layers of `decoder` take, by its inner ones."""

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.first, self.middle, self.resnets = decoder.conv_in, decoder.mid_block, decoder.up_blocks[0].resnets

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        h = self.middle(self.first(z))
        for resnet in self.resnets:
            h = resnet(h, None)
        return h


def _optimizer(parameters, rate: float, steps: int):
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    return optimizer, get_cosine_schedule_with_warmup(optimizer, 50, steps)


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
def psnr(model: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each reconstruction of `pixels` (N, 3, H, W) uint8: (N,)."""
    scores = []
    for p in pixels.split(8):
        x = p.float() / 127.5 - 1
        y = model.decode(model.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        scores.append(-10 * torch.log10(((y - x) / 2).pow(2).mean((1, 2, 3))))
    return torch.cat(scores)


def main(manifests: list[Path], teacher: Path, earlier: Path, out: Path, options: AutoencoderOptions) -> None:
    """Train on the manifests' train split and on phantoms; writes `out/vae`."""
    size, known = CONFIG["sample_size"], Taef2.load(teacher)
    pixels = read_pixels([row for path in manifests for row in manifest.read(path, "train")], size)
    drawn = draw_phantoms(options.phantoms, size, seed=0)
    before = AutoencoderKL.from_pretrained(earlier).eval()
    train(torch.cat([pixels, drawn]), known, before, out, options).save_pretrained(out / "vae")
