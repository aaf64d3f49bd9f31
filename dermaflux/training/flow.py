"""The rectified-flow loop, for a whole transformer or for the LoRA on a frozen one.

x_t = (1 - t) x + t noise; the network learns the velocity noise - x by least squares (Liu et al., arXiv 2209.03003;
DermaFlux, arXiv 2603.16392), with t from a logit-normal distribution (Esser et al., arXiv 2403.03206). In the last
part of a run the guided velocity (see `guidance`) is distilled into the guidance embedding (Meng et al., arXiv
2210.03142), so that guidance costs no second pass when sampling. The teacher is frozen where that part begins: a
student that teaches itself drifts away within a few hundred steps. A network without such an embedding is not
distilled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import nn

from dermaflux.memory import best_device
from dermaflux.training import trained_weights
from dermaflux.training.guidance import NOTHING_WORSE, Teacher, Worse
from dermaflux.training.loop import checked, fit, settings, update
from dermaflux.training.pairs import Pairs
from dermaflux.training.precision import AUTO, mixed_precision

ALL_FROM = 1.5
"""The scale of guidance from which on it leads as far as it is to from a weaker network and contrary captions; at 1 it
does not."""


@dataclass(frozen=True)
class FlowOptions:
    """How the flow is trained.

    caption_dropout: share of samples with the empty caption. distil_from: share of the run after which every second
    step distils guidance; 1 is never. most_guidance: the distilled scale is drawn from 1 to this. away, contrast,
    worst, lopsided: how far the guided velocity leads, from a scale of ALL_FROM on, from a weaker network, contrary
    captions, and the captions of `rewording` of those names, where `train` is given them (see `Worse`).
    time_mean, time_spread: t is the sigmoid of a normal variable of this mean and standard deviation. What is the same
    all over an image, such as the tone of the skin, shows through much noise and is settled where t is near 1, so that
    end must be trained too.
    compiled: 1 to compile the network first (torch.compile, which needs a C++ compiler), 0 not to.
    accumulate: of how many batches, one after the other and on each process, a step gathers the gradients: it is the
    step that one process takes with one batch larger by both numbers. checkpointing: 1 to compute activations again on
    the way back instead of keeping them, which takes less memory and more time.
    """

    steps: int = 3000
    batch: int = 48
    accumulate: int = 1
    learning_rate: float = 5e-4
    warmup: int = 100
    caption_dropout: float = 0.1
    distil_from: float = 0.7
    most_guidance: float = 5.0
    away: float = 1.0
    contrast: float = 0.0
    worst: float = 0.0
    lopsided: float = 0.0
    time_mean: float = 0.8
    time_spread: float = 1.5
    ema: float = 0.998
    precision: str = AUTO
    save_every: int = 200
    log_every: int = 20
    sample_every: int = 0
    compiled: int = 0
    checkpointing: int = 0
    seed: int = 0

    def __post_init__(self):
        checked(self)


def train(
    transformer: FluxTransformer2DModel,
    pairs: Pairs,
    out: Path,
    options: FlowOptions,
    sample: Callable[[int], None] | None = None,
    objective: "type[Flow] | None" = None,
    worse: Worse = NOTHING_WORSE,
    made_of: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Train what requires a gradient in `transformer`, checkpointing to `out`; leaves the averaged weights in it.

    sample: called with the number of steps done, every `sample_every` steps where that is not 0. objective: the losses,
    Flow if not given. worse: what guidance leads away from. made_of: see `fit`. Of several processes
    (accelerate launch, torchrun) each takes its share of one large batch.
    """
    accelerator = Accelerator(
        mixed_precision=mixed_precision(options.precision),
        cpu=best_device() == "cpu",
        gradient_accumulation_steps=options.accumulate,
        dataloader_config=DataLoaderConfiguration(split_batches=True),  # the rate's schedule counts steps, not samples
    )
    parameters = [p for p in transformer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, options.warmup, options.steps)
    if options.checkpointing:
        transformer.enable_gradient_checkpointing()
    if options.compiled:
        transformer.compile()
        if worse.weaker:
            worse.weaker.compile()
    trained_weights.only(accelerator, transformer)
    network, optimizer, schedule = accelerator.prepare(transformer, optimizer, schedule)
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)
    teacher = Teacher(parameters)
    accelerator.register_for_checkpointing(teacher)
    shares = accelerator.num_processes * options.accumulate
    guided = transformer.config.guidance_embeds
    flow = (objective or Flow)(network, teacher, pairs, options, accelerator.device, shares, guided, worse)
    first = accelerator.process_index * options.accumulate
    made_of = {"losses": type(flow).__name__, **made_of} | settings(options) | _adapter(transformer) | pairs.digest()

    def step(i: int) -> dict[str, float]:
        distil = guided and i >= options.distil_from * options.steps and i % 2 == 1
        if distil:
            teacher.take(average)
        drawn, losses = flow.draw(0.0 if distil else options.caption_dropout), []
        for share in range(first, first + options.accumulate):
            with accelerator.accumulate(network):
                with accelerator.autocast():
                    noisy = flow.noisy(drawn, share)
                    loss = flow.distillation_loss(noisy) if distil else flow.matching_loss(noisy)
                update(accelerator, loss, optimizer, schedule, parameters, average)
            losses.append(loss.detach())
        mean = accelerator.reduce(torch.stack(losses).mean(), "mean")
        return {"distillation" if distil else "matching": float(mean)}

    fit(
        accelerator,
        step,
        steps=options.steps,
        out=out,
        seed=options.seed,
        save_every=options.save_every,
        log_every=options.log_every,
        sample_every=options.sample_every,
        sample=sample,
        made_of=made_of,
    )
    average.copy_to(parameters)


def _adapter(transformer: FluxTransformer2DModel) -> dict[str, object]:
    """What decides the shape and effect of the LoRA that is trained, if one is."""
    [one] = getattr(transformer, "peft_config", {}).values() or [None]
    return {"rank": one.r, "alpha": one.lora_alpha, "layers": sorted(one.target_modules)} if one else {}


class Drawn(NamedTuple):
    """What is drawn at random for the N samples of a step, by all processes alike: bucket: the number of the one that
    all are from, (N,); image, view, word: indices, (N,). dropped: (N,) bool, whose caption is empty. noise: (N, T, D).
    t: (N,). scale: (N,), of the distilled guidance. swapped: (N,) bool, who change places with their contraries."""

    bucket: torch.Tensor
    image: torch.Tensor
    view: torch.Tensor
    word: torch.Tensor
    dropped: torch.Tensor
    noise: torch.Tensor
    t: torch.Tensor
    scale: torch.Tensor
    swapped: torch.Tensor


class Noisy(NamedTuple):
    """A batch of B: x_t (B, T, D) between image and noise; t (B,); target: the velocity noise - x; tokens (B, L, E) and
    pooled (B, P) of the captions; scale (B,); image_ids (T, 3): where each latent token lies; words (B,): the
    captions' places among the texts; swapped (B,) bool."""

    x_t: torch.Tensor
    t: torch.Tensor
    target: torch.Tensor
    tokens: torch.Tensor
    pooled: torch.Tensor
    scale: torch.Tensor
    image_ids: torch.Tensor
    words: torch.Tensor
    swapped: torch.Tensor


class Flow:
    """Batches of noisy latents and the two losses over them; another objective overrides `times` and `error`."""

    def __init__(
        self,
        transformer: nn.Module | None,
        teacher: Teacher | None,
        pairs: Pairs,
        options: FlowOptions,
        device: torch.device,
        shares: int = 1,
        guided: bool = True,
        worse: Worse = NOTHING_WORSE,
    ):
        """shares: how many batches a step's samples are parted into, over processes and passes. guided: whether the
        network has a guidance embedding."""
        self.transformer, self.teacher = transformer, teacher
        self.pairs, self.options, self.device = pairs, options, device
        self.shares, self.guided, self.worse = shares, guided, worse
        self.image_ids = [
            FluxPipeline._prepare_latent_image_ids(1, *bucket.grid, device, torch.float32)  # (T, 3)
            for bucket in pairs.buckets
        ]
        self.text_ids = torch.zeros(len(pairs.empty_tokens), 3, device=device)

    def times(self, count: int) -> torch.Tensor:
        """`count` places on the path, drawn at random: (count,), 0 is the image and 1 noise."""
        normal = torch.randn(count, device=self.device)
        return torch.sigmoid(self.options.time_mean + self.options.time_spread * normal)

    def draw(self, dropout: float) -> Drawn:
        """What a step needs of chance. dropout: the share of empty captions."""
        n, number = self.options.batch * self.shares, 0
        if len(self.pairs.buckets) > 1:
            number = int(torch.multinomial(torch.tensor(self.pairs.pictures, dtype=torch.float), 1))
        bucket = self.pairs.buckets[number]
        images, views, *shape = bucket.latents.shape
        image, view, word = (torch.randint(high, (n,)) for high in (images, views, bucket.words.shape[1]))
        dropped = torch.rand(n) < dropout
        noise = torch.randn(n, *shape, device=self.device)
        t = self.times(n)
        scale = 1 + (self.options.most_guidance - 1) * torch.rand_like(t)
        swapped = torch.rand(n) < 0.5
        return Drawn(torch.full((n,), number), image, view, word, dropped, noise, t, scale, swapped)

    def noisy(self, drawn: Drawn, share: int) -> Noisy:
        """The batch of that number, of all that `drawn` holds."""
        n = self.options.batch
        own = Drawn(*(each[share * n : (share + 1) * n] for each in drawn))
        number = int(own.bucket[0])
        bucket = self.pairs.buckets[number]
        x = bucket.latents[own.image, own.view].to(self.device, torch.float32)  # (B, T, D)
        words = bucket.words[own.image, own.word]
        tokens, pooled = self.pairs.tokens[words,].float(), self.pairs.pooled[words,].float()
        tokens[own.dropped], pooled[own.dropped] = self.pairs.empty_tokens.float(), self.pairs.empty_pooled.float()
        x_t = (1 - own.t[:, None, None]) * x + own.t[:, None, None] * own.noise
        texts = tokens.to(self.device), pooled.to(self.device)
        return Noisy(x_t, own.t, own.noise - x, *texts, own.scale, self.image_ids[number], words, own.swapped)

    def matching_loss(self, noisy: Noisy) -> torch.Tensor:
        """Mean squared error of the velocity, at guidance 1."""
        return self.error(self.velocity(noisy, torch.ones_like(noisy.t)), noisy.target, noisy.t)

    def error(self, velocity: torch.Tensor, target: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """How far velocities (B, T, D) at times t (B,) are from their target: the mean square."""
        return F.mse_loss(velocity.float(), target.float())

    def distillation_loss(self, noisy: Noisy) -> torch.Tensor:
        """Mean squared error between one guided pass and what several unguided ones of the teacher add up to."""
        empty = noisy._replace(
            tokens=self.pairs.empty_tokens.to(noisy.tokens).expand_as(noisy.tokens),
            pooled=self.pairs.empty_pooled.to(noisy.pooled).expand_as(noisy.pooled),
        )
        scale, one = noisy.scale[:, None, None], torch.ones_like(noisy.t)
        more = ((scale - 1) / (ALL_FROM - 1)).clamp(max=1)
        with torch.no_grad():
            with self.teacher.lent():
                noisy, leads = self.worse.leads(noisy, self.options)
                with_text, without = self.velocity(noisy, one), self.velocity(empty, one)
                target = without + scale * (with_text - without)
                for other, far in leads:
                    target += more * far * (with_text - self.velocity(other, one))
            if self.worse.weaker:
                target += more * self.options.away * (with_text - self.velocity(noisy, one, self.worse.weaker))
        return self.error(self.velocity(noisy, noisy.scale), target, noisy.t)

    def velocity(self, noisy: Noisy, guidance: torch.Tensor, network: nn.Module | None = None) -> torch.Tensor:
        """What `network`, or the one in training, says of a batch, (B, T, D). guidance: (B,), its distilled scale."""
        return (network or self.transformer)(
            hidden_states=noisy.x_t,
            timestep=noisy.t,
            guidance=guidance if self.guided else None,
            pooled_projections=noisy.pooled,
            encoder_hidden_states=noisy.tokens,
            txt_ids=self.text_ids,
            img_ids=noisy.image_ids,
            return_dict=False,
        )[0]
