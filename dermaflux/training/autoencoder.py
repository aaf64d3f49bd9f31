"""Train the embedded AutoencoderKL: 128 px RGB to 16 x 16 x 16 latents and back.

The loss is L1 + L1 of image gradients + a small KL term (Kingma & Welling, arXiv 1312.6114, as weighted in
Rombach et al., arXiv 2112.10752). After training each latent channel is brought to mean 0 and variance 1 by folding
the affine map into the 1 x 1 quantisation convolutions, so that the flow sees unit-variance data.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL
from diffusers.optimization import get_cosine_schedule_with_warmup

from dermaflux.training.loop import fit
from dermaflux.training.pixels import load_pixels

CONFIG = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=16,
    block_out_channels=(16, 32, 64, 128),
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    layers_per_block=1,
    norm_num_groups=8,
    mid_block_add_attention=False,
    sample_size=128,
    scaling_factor=1.0,
    shift_factor=0.0,
)
START_LOGVAR = -4.0
"""Little noise at first: with the usual 0 the decoder sees hardly any signal for hundreds of steps."""


@dataclass(frozen=True)
class AutoencoderOptions:
    """How the autoencoder is trained; kl is the weight of the KL divergence a latent value."""

    steps: int = 1600
    batch: int = 16
    learning_rate: float = 1e-3
    kl: float = 1e-5
    seed: int = 0


def train(pixels: torch.Tensor, out: Path, options: AutoencoderOptions) -> AutoencoderKL:
    """Train on `pixels` (N, 3, H, W) uint8, checkpointing to `out`; returns the model in eval mode."""
    accelerator = Accelerator(mixed_precision="bf16")
    model = AutoencoderKL(**CONFIG).to(memory_format=torch.channels_last)
    torch.nn.init.constant_(model.quant_conv.bias[CONFIG["latent_channels"] :], START_LOGVAR)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = get_cosine_schedule_with_warmup(optimizer, 100, options.steps)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)

    def step(_: int) -> dict[str, float]:
        x = augment(pixels, options.batch)
        with accelerator.autocast():
            posterior = model.encode(x).latent_dist
            y = model.decode(posterior.sample()).sample
        y = y.float()
        reconstruction = F.l1_loss(y, x) + gradient_loss(y, x)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        accelerator.backward(reconstruction + options.kl * kl)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        mse = F.mse_loss(y.detach(), x) / 4  # of values in [0, 1]
        return {"loss": float(reconstruction), "kl": float(kl), "psnr": float(-10 * torch.log10(mse))}

    fit(accelerator, step, steps=options.steps, out=out, seed=options.seed, save_every=200)
    model = accelerator.unwrap_model(model).eval()
    standardise(model, pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:256]])
    return model


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
def standardise(model: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Fold per-channel mean and spread of the latents of `pixels` (N, 3, H, W) uint8 into the 1 x 1 convolutions."""
    means = torch.cat([model.encode(p.float() / 127.5 - 1).latent_dist.mean for p in pixels.split(16)])
    mean, std = means.mean((0, 2, 3)), means.std((0, 2, 3))
    quant, post = model.quant_conv, model.post_quant_conv
    c = len(mean)
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]
    quant.weight[:c] /= std[:, None, None, None]
    quant.bias[:c] = (quant.bias[:c] - mean) / std
    quant.bias[c:] -= 2 * std.log()


@torch.no_grad()
def psnr(model: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each reconstruction of `pixels` (N, 3, H, W) uint8: (N,)."""
    scores = []
    for p in pixels.split(8):
        x = p.float() / 127.5 - 1
        y = model.decode(model.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        scores.append(-10 * torch.log10(((y - x) / 2).pow(2).mean((1, 2, 3))))
    return torch.cat(scores)


def main(manifests: list[Path], out: Path, options: AutoencoderOptions) -> None:
    """Train on the manifests' train split and write `out/vae`."""
    model = train(load_pixels(manifests, "train", CONFIG["sample_size"]), out, options)
    model.save_pretrained(out / "vae")
