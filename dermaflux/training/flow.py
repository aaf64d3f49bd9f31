"""The rectified-flow loop, for a whole transformer or for the LoRA on a frozen one.

x_t = (1 - t) x + t noise; the network learns the velocity noise - x by least squares (Liu et al., arXiv 2209.03003;
DermaFlux, arXiv 2603.16392), with t from a logit-normal distribution (Esser et al., arXiv 2403.03206). In the last
part of a run the guided velocity u + g (c - u), with u from the empty caption, is distilled into the guidance
embedding (Meng et al., arXiv 2210.03142), so that guidance costs no second pass when sampling. The teacher is frozen
where that part begins: a student that teaches itself drifts away within a few hundred steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from dermaflux.training.loop import fit, update
from dermaflux.training.pairs import Pairs


@dataclass(frozen=True)
class FlowOptions:
    """How the flow is trained.

    caption_dropout: share of samples with the empty caption. distil_from: share of the run after which every second
    step distils guidance; 1 is never. guidance: range from which the distilled scale is drawn. time_mean, time_spread:
    t is the sigmoid of a normal variable of this mean and standard deviation. What is the same all over an image, such
    as the tone of the skin, shows through much noise and is settled where t is near 1, so that end must be trained too.
    compiled: 1 to compile the network first (torch.compile, which needs a C++ compiler), 0 not to.
    """

    steps: int = 3000
    batch: int = 48
    learning_rate: float = 5e-4
    warmup: int = 100
    caption_dropout: float = 0.1
    distil_from: float = 0.7
    guidance: tuple[float, float] = (1.0, 5.0)
    time_mean: float = 0.8
    time_spread: float = 1.5
    ema: float = 0.998
    precision: str = "bf16"
    save_every: int = 200
    sample_every: int = 0
    compiled: int = 0
    seed: int = 0


def train(
    transformer: FluxTransformer2DModel,
    pairs: Pairs,
    out: Path,
    options: FlowOptions,
    sample: Callable[[int], None] | None = None,
) -> None:
    """Train what requires a gradient in `transformer`, checkpointing to `out`; leaves the averaged weights in it.

    sample: called with the number of steps done, every `sample_every` steps where that is not 0.
    """
    accelerator = Accelerator(mixed_precision=options.precision)
    parameters = [p for p in transformer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, options.warmup, options.steps)
    if options.compiled:
        transformer.compile()
    transformer, optimizer, schedule = accelerator.prepare(transformer, optimizer, schedule)
    average = EMAModel(parameters, decay=options.ema)
    accelerator.register_for_checkpointing(average)
    teacher = _Teacher(parameters)
    accelerator.register_for_checkpointing(teacher)
    flow = _Flow(transformer, teacher, pairs, options, accelerator.device)

    def step(i: int) -> dict[str, float]:
        distil = i >= options.distil_from * options.steps and i % 2 == 1
        if distil:
            teacher.take(average)
        with accelerator.autocast():
            loss = flow.distillation_loss() if distil else flow.matching_loss()
        update(accelerator, loss, optimizer, schedule, parameters, average)
        return {"distillation" if distil else "matching": float(loss.detach())}

    # On a CPU, at the embedded model's length, fused attention takes four times as long backward as a plain one.
    with sdpa_kernel(SDPBackend.MATH) if accelerator.device.type == "cpu" else nullcontext():
        fit(
            accelerator,
            step,
            steps=options.steps,
            out=out,
            seed=options.seed,
            save_every=options.save_every,
            sample_every=options.sample_every,
            sample=sample,
        )
    average.copy_to(parameters)


class _Teacher:
    """The averaged weights as distillation began, lent to `parameters` for a pass; part of the checkpoint."""

    def __init__(self, parameters: list[torch.nn.Parameter]):
        self.parameters, self.weights = parameters, []

    def take(self, average: EMAModel) -> None:
        """Keep the averaged weights, the first time this is called."""
        if not self.weights:
            self.weights = [weight.detach().clone() for weight in average.shadow_params]

    @contextmanager
    def lent(self) -> Iterator[None]:
        own = [parameter.data for parameter in self.parameters]
        self._put(self.weights)
        try:
            yield
        finally:
            self._put(own)

    def _put(self, weights: list[torch.Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.data = weight

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        return {"weights": self.weights}

    def load_state_dict(self, state: dict[str, list[torch.Tensor]]) -> None:
        self.weights = [weight.to(self.parameters[0].device) for weight in state["weights"]]


class _Flow:
    """Batches of noisy latents and the two losses over them."""

    def __init__(self, transformer, teacher: _Teacher, pairs: Pairs, options: FlowOptions, device: torch.device):
        self.transformer, self.teacher = transformer, teacher
        self.pairs, self.options, self.device = pairs, options, device
        side = int(pairs.latents.shape[2] ** 0.5)
        self.image_ids = FluxPipeline._prepare_latent_image_ids(1, side, side, device, torch.float32)  # (T, 3)
        self.text_ids = torch.zeros(pairs.tokens.shape[2], 3, device=device)

    def matching_loss(self) -> torch.Tensor:
        """Mean squared error of the velocity, at guidance 1."""
        x_t, t, target, tokens, pooled = self._batch(self.options.caption_dropout)
        velocity = self._velocity(x_t, t, tokens, pooled, torch.ones_like(t))
        return F.mse_loss(velocity.float(), target)

    def distillation_loss(self) -> torch.Tensor:
        """Mean squared error between one guided pass and the combination of the teacher's two unguided ones."""
        x_t, t, _, tokens, pooled = self._batch(0.0)
        low, high = self.options.guidance
        scale = low + (high - low) * torch.rand_like(t)
        with torch.no_grad(), self.teacher.lent():
            with_text = self._velocity(x_t, t, tokens, pooled, torch.ones_like(t))
            empty_tokens = self.pairs.empty_tokens.float().expand_as(tokens)
            empty_pooled = self.pairs.empty_pooled.float().expand_as(pooled)
            without = self._velocity(x_t, t, empty_tokens, empty_pooled, torch.ones_like(t))
            target = without + scale[:, None, None] * (with_text - without)
        return F.mse_loss(self._velocity(x_t, t, tokens, pooled, scale).float(), target.float())

    def _batch(self, dropout: float):
        n = self.options.batch
        images, views, words = self.pairs.latents.shape[0], self.pairs.latents.shape[1], self.pairs.tokens.shape[1]
        image, view, word = (torch.randint(high, (n,)) for high in (images, views, words))
        x = self.pairs.latents[image, view].to(self.device, torch.float32)  # (N, T, D)
        tokens = self.pairs.tokens[image, word].float()
        pooled = self.pairs.pooled[image, word].float()
        dropped = torch.rand(n) < dropout
        tokens[dropped], pooled[dropped] = self.pairs.empty_tokens.float(), self.pairs.empty_pooled.float()
        noise = torch.randn_like(x)
        t = torch.sigmoid(self.options.time_mean + self.options.time_spread * torch.randn(n, device=self.device))
        x_t = (1 - t[:, None, None]) * x + t[:, None, None] * noise
        return x_t, t, noise - x, tokens.to(self.device), pooled.to(self.device)

    def _velocity(self, x_t, t, tokens, pooled, guidance) -> torch.Tensor:
        return self.transformer(
            hidden_states=x_t,
            timestep=t,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=tokens,
            txt_ids=self.text_ids,
            img_ids=self.image_ids,
            return_dict=False,
        )[0]
