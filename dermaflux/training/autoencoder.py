"""Train the embedded AutoencoderKL: 256 px RGB to 32 x 16 x 16 latents and back.

The encoder is linear and in closed form (`components.py`), so the latents are fixed before any training and the flow
does not have to wait for the decoder. The decoder starts from the least-squares way back and learns what a linear map
cannot; its loss is L1 + L1 of image gradients, with a little noise on the latents, as a flow's are never exact. That
alone smooths texture away, so from a point of the run on a critic joins, balanced by the gradients that reach the
decoded image (as in VQGAN: Esser et al., arXiv 2012.09841).
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
from dermaflux.training import components
from dermaflux.training.critic import Critic, critic_loss, decoder_loss
from dermaflux.training.loop import fit
from dermaflux.training.phantoms import draw_phantoms

WIDTHS = (12, 16, 32)
"""Components kept after the first three stages of the encoder."""
CONFIG = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=32,
    block_out_channels=(16, 32, 64, 128, 128),
    down_block_types=("DownEncoderBlock2D",) * 5,
    up_block_types=("UpDecoderBlock2D",) * 5,
    layers_per_block=1,
    norm_num_groups=1,
    mid_block_add_attention=False,
    use_quant_conv=False,
    use_post_quant_conv=False,
    sample_size=256,
    scaling_factor=1.0,
    shift_factor=0.0,
)


@dataclass(frozen=True)
class AutoencoderOptions:
    """How the decoder is trained.

    noise: on the latents. phantoms: how many drawn images join the real ones. fitted: how many images the components
    are fitted to. critic: the norm of the critic's gradient as a share of the loss's; 0 is none. critic_from: the share
    of the run after which it counts. critic_rate: its learning rate. matching: the weight of its features. compiled: 1
    to compile the decoder first.
    """

    steps: int = 3000
    batch: int = 8
    learning_rate: float = 3e-4
    noise: float = 0.05
    phantoms: int = 600
    fitted: int = 100
    critic: float = 0.5
    critic_from: float = 0.1
    critic_rate: float = 1e-3
    matching: float = 2.0
    ema: float = 0.995
    compiled: int = 0
    seed: int = 0


def start(pixels: torch.Tensor, options: AutoencoderOptions) -> tuple[AutoencoderKL, list[components.Stage]]:
    """The linear autoencoder for images like `pixels` (N, 3, H, W) uint8, and the stages of its encoder."""
    torch.manual_seed(options.seed)
    model = AutoencoderKL(**CONFIG)
    chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(options.seed))[: options.fitted]
    x = pixels[chosen].float() / 127.5 - 1
    stages = components.fit(x, WIDTHS, CONFIG["latent_channels"])
    components.place(model, stages, x[: max(1, options.fitted // 2)])
    return model, stages


def train(
    pixels: torch.Tensor,
    drawn: torch.Tensor,
    out: Path,
    options: AutoencoderOptions,
    latents: torch.Tensor | None = None,
) -> AutoencoderKL:
    """Train the decoder, checkpointing to `out`; returns the model in eval mode.

    pixels: real images (N, 3, H, W) uint8, to which the components are fitted; drawn: others (M, 3, H, W) uint8.
    latents: (L, C, h, w) as a flow draws them. Once the critic counts, every second step decodes some of these: what is
    decoded shall have the same latents again, and look real.
    """
    accelerator = Accelerator(mixed_precision="bf16")
    model, stages = start(pixels, options)
    model.encoder.requires_grad_(False)
    decoder = model.decoder.to(memory_format=torch.channels_last)
    pixels = torch.cat([pixels, drawn])
    adam = lambda part, rate: torch.optim.AdamW(part.parameters(), lr=rate, betas=(0.5, 0.99), weight_decay=1e-4)
    optimizer = adam(decoder, options.learning_rate)
    schedule = get_cosine_schedule_with_warmup(optimizer, 50, options.steps)
    critic = Critic().to(memory_format=torch.channels_last)
    critic_optimizer = adam(critic, options.critic_rate)
    if options.compiled:
        decoder.compile()
    decoder, critic, optimizer, critic_optimizer, schedule = accelerator.prepare(
        decoder, critic, optimizer, critic_optimizer, schedule
    )
    parameters = list(decoder.parameters())
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)

    def pull(y: torch.Tensor, x: torch.Tensor, gradient: torch.Tensor, matching: float) -> torch.Tensor:
        """The critic's gradient at the decoded images `y`, its norm a share of that of `gradient`."""
        with accelerator.autocast():
            loss = decoder_loss(critic(x), critic(y), matching)
        (found,) = torch.autograd.grad(loss, y)
        return found * (options.critic * gradient.norm() / found.norm().clamp(min=1e-12))

    def train_critic(y: torch.Tensor, x: torch.Tensor) -> float:
        with accelerator.autocast():
            loss = critic_loss(critic(x), critic(y))
        accelerator.backward(loss)
        critic_optimizer.step()
        critic_optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def step(i: int) -> dict[str, float]:
        x = augment(pixels, options.batch)
        judged = options.critic > 0 and i >= options.critic_from * options.steps
        by_flow = judged and latents is not None and i % 2 == 1
        if by_flow:
            z = latents[torch.randint(len(latents), (options.batch,))]
        else:
            z = components.encode(x, stages)[-1]
            z = z + options.noise * torch.randn_like(z)
        with accelerator.autocast():
            decoded = decoder(z.contiguous(memory_format=torch.channels_last)).float()
        y = decoded.detach().requires_grad_()
        if by_flow:
            loss = F.l1_loss(components.encode(y, stages)[-1], z)
            losses = {"return": loss.item()}
        else:
            loss = F.l1_loss(y, x) + gradient_loss(y, x)
            mse = F.mse_loss(y.detach(), x) / 4  # of values in [0, 1]
            losses = {"loss": loss.item(), "psnr": float(-10 * torch.log10(mse))}
        (gradient,) = torch.autograd.grad(loss, y)
        if judged:
            gradient = gradient + pull(y, x, gradient, 0.0 if by_flow else options.matching)
            losses["critic of flow" if by_flow else "critic"] = train_critic(y.detach(), x)
        decoded.backward(gradient)
        accelerator.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        average.step(parameters)
        return losses

    fit(accelerator, step, steps=options.steps, out=out, seed=options.seed, save_every=200)
    average.copy_to(parameters)
    return model.eval()


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


def main(manifests: list[Path], out: Path, options: AutoencoderOptions, latents: torch.Tensor | None = None) -> None:
    """Train on the manifests' train split and on phantoms, and on `latents`; writes `out/vae`."""
    size = CONFIG["sample_size"]
    pixels = read_pixels([row for path in manifests for row in manifest.read(path, "train")], size)
    drawn = draw_phantoms(options.phantoms, size, seed=0)
    train(pixels, drawn, out, options, latents).save_pretrained(out / "vae")
