"""Draw lesions: a FluxPipeline and its LoRA as a stream of previews and finished samples.

The denoising loop is that of `FluxPipeline.__call__` (`FluxImg2ImgPipeline` where an image is varied), opened up so
that each step yields. An image has the same pixels alone or beside others, unless the model is compiled.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from PIL import Image
from safetensors import SafetensorError

from dermaflux import __version__, candidates, latents, lora, postfilter, previews
from dermaflux.conditioning import Prompt, joined, row_by_row, velocity_of
from dermaflux.contrast import Lead, leading, leads, led_share
from dermaflux.errors import ModelUnavailable, first_line
from dermaflux.first_block_cache import FirstBlockCache
from dermaflux.lesion import LesionAttributes
from dermaflux.likeness import Likeness
from dermaflux.loading import COMPILING, Loaded, let_go, load, not_compiled, out_of_memory
from dermaflux.memory import AUTO, best_device
from dermaflux.models import LoraSpec, ModelSpec, SamplingOptions, find_model
from dermaflux.provenance import SHARED, Provenance
from dermaflux.samples import Preview, Sample, Source
from dermaflux.schedule import flux_schedule, guidance_at, renewed

CACHED_PROMPTS = 64


class Generator:
    """A loaded model. Runs may be interleaved, one step at a time; one that is left unfinished holds nothing up."""

    def __init__(self, loaded: Loaded, spec: ModelSpec):
        self.pipe, self.spec, self.model_hash, self.arithmetic = loaded.pipe, spec, loaded.hash, loaded.arithmetic
        self.adapter, self.plan, self._fused, self.compiled = loaded.adapter, loaded.plan, loaded.fused, loaded.compiled
        if not self.compiled:
            row_by_row(self.pipe.transformer)
        self._device = self.pipe._execution_device
        self._look = previews.choose(spec, self.pipe, self._device)
        self._likeness = Likeness.beside(spec.source, self.pipe)
        self._cache: FirstBlockCache | None = None
        self._prompts: dict[tuple[str, float], Prompt] = {}
        self._busy, self._runs, self._finishing = threading.RLock(), 0, 0.0
        self._strength: float | None = None

    @classmethod
    def load(
        cls,
        name: str = "nano",
        lora: str = "default",
        device: str | None = None,
        memory: str = AUTO,
        compiled: bool = False,
    ) -> "Generator":
        """Load the registered model `name` with its own LoRA, with none, or with the one at `lora` (file or Hub id).

        device: cpu, cuda or another torch device; the best one present if not given. memory: see `memory.WAYS`.
        compiled: see `loading.load`.
        Raises ModelUnavailable with the reason and the way out.
        """
        return cls.from_spec(find_model(name, lora), device, memory, compiled)

    @classmethod
    def from_spec(
        cls, spec: ModelSpec, device: str | None = None, memory: str = AUTO, compiled: bool = False
    ) -> "Generator":
        """Load the model that `spec` describes. Raises ModelUnavailable."""
        loaded = load(spec, device or best_device(), memory, compiled)
        try:
            return cls(loaded, spec)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelUnavailable(f"The previews of {spec.title} cannot be loaded: {first_line(error)}") from error

    @property
    def remark(self) -> str:
        """What to tell whoever draws with it first; empty if there is nothing."""
        return COMPILING if self.compiled else ""

    def use_lora(self, spec: LoraSpec | None) -> None:
        """Put the LoRA of `spec`, or none, in the place of the one in use; the base stays loaded.

        Raises ModelUnavailable, and then changes nothing.
        """
        if self._fused is not None:
            raise ModelUnavailable("At 8 or 4 bits the LoRA is part of the weights. Start again with the other LoRA.")
        with self._busy:
            if spec:
                self.adapter = lora.attach(self.pipe, spec)
            else:
                lora.detach(self.pipe)
                self.adapter = lora.Attached()
            self.spec, self._strength = replace(self.spec, lora=spec), None
            self._prompts.clear()

    def close(self) -> None:
        """Let go of the model, once the step under way is done; a run that was left unfinished cannot go on."""
        with self._busy:
            self.pipe = None
            self._prompts.clear()

    def sample(
        self,
        text: str,
        options: SamplingOptions,
        *,
        attributes: LesionAttributes | None = None,
        source: Source | None = None,
    ) -> Iterator[Preview | Sample]:
        """Draw one image for each seed of `options` from the caption `text`, yielding a Preview after every step.

        attributes: what was asked for, kept in the recipe, and what candidates are chosen by, of which the best so
        far is yielded too, not settled. source: an image and its recipe to vary by `options.strength`. Closing the
        iterator ends the run within one step; samples already yielded stay good. Raises ModelUnavailable if memory runs
        out or the image is not a number.
        """
        count = len(options.seeds)
        yield from self._guarded((text,) * count, options, (attributes or LesionAttributes(),) * count, source)

    def sample_each(
        self, texts: Sequence[str], options: SamplingOptions, attributes: Sequence[LesionAttributes]
    ) -> Iterator[Sample]:
        """Draw one image of each caption of `texts`, from the seed of `options` in its place, without previews, in the
        order in which they are finished.

        attributes: what was asked for in each place. Raises ModelUnavailable as `sample` does.
        """
        return (item for item in self._guarded(texts, options, attributes, previewed=False) if item.settled)

    def _guarded(self, texts, options, attributes, source=None, *, previewed=True) -> Iterator[Preview | Sample]:
        batch = 1 if options.first_block_cache else self.spec.batch  # what is left out must not depend on others
        together = 1 if self.compiled else batch  # each number of images is compiled anew
        run = lambda rows, numbers: self._run(texts, options, attributes, source, rows, numbers, batch, previewed)
        with self._busy:
            self._runs += 1
        try:
            yield from candidates.chosen(run, attributes, options.candidates, self._alike, together)
        except torch.OutOfMemoryError as error:
            let_go(error)
            raise ModelUnavailable(out_of_memory(self.plan, self.spec)) from error
        except RuntimeError as error:
            if self.compiled and (said := not_compiled(error)):
                raise said from error
            raise
        finally:
            with self._busy:
                self._runs -= 1
                if self.pipe and not self._runs:
                    self._use(None)
                if self.pipe and not self._runs:
                    self.pipe.maybe_free_model_hooks()  # where parts come to the card only while they work

    def redraw(self, provenance: Provenance) -> Iterator[Preview | Sample]:
        """Draw the image of a recipe again; where it was varied from another, that one first. Raises InputError for a
        size that the model does not draw at."""
        source = None
        if provenance.source is not None:
            for item in self.redraw(provenance.source):
                if isinstance(item, Sample):
                    source = (item.image, provenance.source)
        options = SamplingOptions.defaults(self.spec, **vars(provenance.options()))
        for item in self.sample(provenance.caption, options, attributes=provenance.attributes, source=source):
            if isinstance(item, Sample):  # by its own seed, and not chosen anew
                item = replace(item, provenance=replace(item.provenance, candidates=provenance.candidates))
            yield item

    def _run(self, texts, options, attributes, source, rows, numbers, batch, previewed) -> Iterator[Preview | Sample]:
        """Draw the candidates `numbers` of the images in `rows`, `batch` at once."""
        encode = lambda text: self._encode(text, options.lora_strength)
        negative = encode(options.negative) if options.true_cfg > 1 else None
        shared = {name: getattr(options, name) for name in SHARED} | dict(
            model=self.spec.name,
            model_hash=self.model_hash,
            lora=self.spec.lora.name if self.spec.lora else "",
            lora_hash=self.adapter.hash,
            version=__version__,
            arithmetic=self.arithmetic,
            candidates=options.candidates,
            strength=options.strength if source else None,
            source=source[1] if source else None,
        )
        draws = [(row, number) for number in numbers for row in rows]
        numbered = numbers[0] + 1, len(numbers), options.candidates
        for first in range(0, len(draws), batch):
            here = draws[first : first + batch]
            shown = tuple(dict.fromkeys(row for row, _ in here))  # the first candidate of each
            seeds = [candidates.seed_of(options.seeds[row], number) for row, number in here]
            captions = [texts[row] for row, _ in here]
            prompt = joined([encode(text) for text in captions])
            led = leads(captions, seeds, options.contrast, encode)
            cache = FirstBlockCache(options.first_block_cache) if options.first_block_cache else None
            noise = latents.Noise(self.pipe, seeds, options, self._device)
            x = noise.draw()  # (B, T, D)
            scheduler = flux_schedule(self.pipe.scheduler, options.steps, x.shape[1], self._device)
            if source:
                with self._busy:
                    x = latents.blend(self.pipe, scheduler, x, source[0], options)
            sigmas = scheduler.sigmas[scheduler.begin_index :].tolist()
            passes = [1 + (negative is not None) + led_share(level, led, len(here)) for level in sigmas[:-1]]
            started = time.perf_counter()
            for i, t in enumerate(scheduler.timesteps[scheduler.begin_index :]):
                velocity = self._velocity(x, t, sigmas[i], prompt, negative, led, options, cache)
                clean = x - sigmas[i] * velocity
                if options.eta:
                    x = renewed(x, velocity, *sigmas[i : i + 2], options.eta, options.eta_below, noise.draw)
                else:
                    x = scheduler.step(velocity, t, x, return_dict=False)[0]
                if not previewed:
                    continue
                each = (time.perf_counter() - started) / sum(passes[: i + 1]) / len(here)
                later = len(draws) - first - len(here) + len(rows) * (options.candidates - numbers[-1] - 1)
                seconds = each * (sum(passes[i + 1 :]) * len(here) + later * sum(passes))
                seconds += self._finishing * (len(here) + later)  # decoded, judged, and whatever is done with it
                images = self._previews(clean[: len(shown)], options.size)
                yield Preview(i + 1, len(passes), seconds, shown, images, *numbered)
            for i, (row, _) in enumerate(here):
                drawn = time.perf_counter()
                recipe = Provenance(texts[row], attributes[row], seeds[i], **shared)
                yield Sample(row, self._decode(x[i : i + 1], options), recipe)
                self._finishing = time.perf_counter() - drawn

    @torch.inference_mode()
    def _encode(self, text: str, strength: float):
        """Token embeddings (1, L, D), pooled embedding (1, P) and token positions (L, 3) of a caption, cached."""
        with self._busy:
            key = (text, strength if self.adapter.reads_text else 0.0)
            if key not in self._prompts:
                if len(self._prompts) >= CACHED_PROMPTS:
                    self._prompts.pop(next(iter(self._prompts)))
                self._set_strength(strength)
                length = self.spec.max_sequence_length
                self._prompts[key] = self.pipe.encode_prompt(text, max_sequence_length=length)
            return self._prompts[key]

    @torch.inference_mode()
    def _velocity(
        self, x, t, level: float, prompt, negative, led: Sequence[Lead], options: SamplingOptions, cache
    ) -> torch.Tensor:
        guidance = guidance_at(level, options.guidance, options.early_guidance, options.guidance_below)

        def under(name: str, x: torch.Tensor, prompt: Prompt) -> torch.Tensor:
            with self.pipe.transformer.cache_context(name):
                return velocity_of(self.pipe, x, t, prompt, guidance)

        with self._busy:
            self._set_strength(options.lora_strength)
            self._use(cache)
            own = velocity = under("caption", x, prompt)
            if negative is not None:
                away = under("negative", x, negative)
                velocity = away + options.true_cfg * (own - away)
            for lead in leading(level, led):
                away = under(lead.name, x[lead.rows], lead.prompt)
                velocity = velocity.index_add(0, lead.rows, lead.added(own[lead.rows] - away))
            return velocity

    def _use(self, cache: FirstBlockCache | None) -> None:
        """Let the next pass through the transformer be shortened by `cache`, or by none."""
        if self._cache is cache:
            return
        if self._cache:
            self._cache.take_off(self.pipe.transformer)
        if cache:
            cache.put_on(self.pipe.transformer)
        self._cache = cache

    def _set_strength(self, strength: float) -> None:
        if self._fused is not None and strength != self._fused:
            raise ModelUnavailable(
                f"At 8 or 4 bits the LoRA is part of the weights, at strength {self._fused:g}. Draw at that strength, "
                "or load the model at 16 bits."
            )
        if self.spec.lora and strength != self._strength:
            self._strength = None  # should the memory for it be missing
            lora.set_strength(self.pipe, strength)
            lora.fold(self.pipe)
            self._strength = strength

    @torch.inference_mode()
    def _previews(self, packed: torch.Tensor, size: int) -> tuple[Image.Image, ...]:
        return self._look(latents.unpack(self.pipe, packed, size), size)

    def _alike(self, image: Image.Image) -> float:
        """How like a photograph `image` is; enough where the model cannot tell."""
        with self._busy:
            return self._likeness.of_image(self.pipe, image) if self._likeness else candidates.ENOUGH

    @torch.inference_mode()
    def _decode(self, packed: torch.Tensor, options: SamplingOptions) -> Image.Image:
        vae = self.pipe.vae
        z = latents.unpack(self.pipe, packed, options.size) / vae.config.scaling_factor + vae.config.shift_factor
        with self._busy:
            pixels = vae.decode(z.to(vae.dtype), return_dict=False)[0]
        if not torch.isfinite(pixels).all():
            raise ModelUnavailable("The model's numbers overflowed. Lower the guidance or the LoRA strength.")
        pixels = postfilter.filtered(pixels, pixels.shape[-1] // z.shape[-1], options.postfilter)
        return self.pipe.image_processor.postprocess(pixels, output_type="pil")[0]
