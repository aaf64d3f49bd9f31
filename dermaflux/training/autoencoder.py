"""Train the embedded AutoencoderKL: 256 px RGB to 32 x 16 x 16 latents and back.

It is distilled from TAEF2 (`taef2.py`), which sees the images at half their size: the encoder learns the teacher's
latents, the decoder the way back to the whole size. Least squares alone would smooth away what a latent does not
settle; the teacher's pictures are crisp and a function of the latents, so they can be learned without a critic.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel

from dermaflux.data import manifest
from dermaflux.data.pixels import read_pixels
from dermaflux.training.loop import fit
from dermaflux.training.phantoms import draw_phantoms
from dermaflux.training.taef2 import LATENTS, Taef2

CONFIG = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=LATENTS,
    block_out_channels=(16, 32, 64, 128, 128),
    down_block_types=("DownEncoderBlock2D",) * 5,
    up_block_types=("UpDecoderBlock2D",) * 5,
    layers_per_block=1,
    norm_num_groups=8,
    mid_block_add_attention=False,
    use_quant_conv=False,
    use_post_quant_conv=False,
    sample_size=256,
    scaling_factor=1.3,
    shift_factor=0.0,
)
"""The scaling factor takes the root mean square of the teacher's latents, 0.78 over the train split, to 1."""
LOGVAR = -20.0
"""The encoder is as good as deterministic."""


@dataclass(frozen=True)
class AutoencoderOptions:
    """How the autoencoder is trained.

    sharp: the share of the teacher's picture, against the image's own, in what the decoder shall draw; what is finer
    than the teacher sees is always the image's. noise: on the latents decoded, as a flow's are never exact. phantoms:
    how many drawn images join the real ones. compiled: 1 to compile both parts first.
    """

    steps: int = 3000
    batch: int = 8
    learning_rate: float = 1e-3
    sharp: float = 0.7
    noise: float = 0.05
    phantoms: int = 600
    ema: float = 0.995
    compiled: int = 0
    seed: int = 0


def train(pixels: torch.Tensor, teacher: Taef2, out: Path, options: AutoencoderOptions) -> AutoencoderKL:
    """Train on images `pixels` (N, 3, H, W) uint8, checkpointing to `out`; returns the model in eval mode."""
    accelerator = Accelerator(mixed_precision="bf16")
    torch.manual_seed(options.seed)
    model = start()
    encoder = model.encoder.to(memory_format=torch.channels_last)
    decoder = model.decoder.to(memory_format=torch.channels_last)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = get_cosine_schedule_with_warmup(optimizer, 50, options.steps)
    if options.compiled:
        encoder.compile()
        decoder.compile()
    encoder, decoder, optimizer, schedule = accelerator.prepare(encoder, decoder, optimizer, schedule)
    teacher = teacher.to(accelerator.device)
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)

    def step(_: int) -> dict[str, float]:
        x = augment(pixels, options.batch).to(accelerator.device)
        z = teacher.encode(x)
        wanted = target(x, teacher.decode(z), options.sharp)
        with accelerator.autocast():
            found = encoder(x)[:, :LATENTS].float()
            y = decoder((z + options.noise * torch.randn_like(z)).contiguous(memory_format=torch.channels_last)).float()
        latents = F.mse_loss(found, z)
        accelerator.backward(latents + F.l1_loss(y, wanted) + gradient_loss(y, wanted))
        accelerator.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        average.step(parameters)
        decibels = lambda one: float(-10 * torch.log10(F.mse_loss(y.detach(), one) / 4))  # of values in [0, 1]
        return {"latents": latents.item(), "psnr of target": decibels(wanted), "psnr": decibels(x)}

    fit(accelerator, step, steps=options.steps, out=out, seed=options.seed, save_every=200)
    average.copy_to(parameters)
    return model.eval()


@torch.no_grad()
def start() -> AutoencoderKL:
    """The untrained autoencoder, whose latents have next to no variance."""
    model = AutoencoderKL(**CONFIG)
    last = model.encoder.conv_out
    last.weight[LATENTS:], last.bias[LATENTS:] = 0, LOGVAR
    return model


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


def main(manifests: list[Path], teacher: Path, out: Path, options: AutoencoderOptions) -> None:
    """Train on the manifests' train split and on phantoms; writes `out/vae`."""
    size, known = CONFIG["sample_size"], Taef2.load(teacher)
    pixels = read_pixels([row for path in manifests for row in manifest.read(path, "train")], size)
    drawn = draw_phantoms(options.phantoms, size, seed=0)
    train(torch.cat([pixels, drawn]), known, out, options).save_pretrained(out / "vae")
