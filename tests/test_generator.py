"""The generator draws what the diffusers pipelines draw, as a stream that can be stopped, repeated and adapted."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from diffusers import AutoencoderTiny, FluxImg2ImgPipeline, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux_img2img import retrieve_latents

from dermaflux.errors import InputError
from dermaflux.generator import Generator, Preview, Sample
from dermaflux.lesion import EXAMPLES
from dermaflux.model_files import native_size
from dermaflux.models import MODELS, NANO, SamplingOptions
from dermaflux.schedule import flux_schedule

TEXT = "This photo depicts a malignant lesion. Its colours are red and black."


@pytest.fixture(scope="module")
def base(tiny_folder):
    """The tiny model without its LoRA."""
    return Generator.from_spec(replace(tiny.spec(tiny_folder), lora=None), "cpu")


def options(generator, **changes):
    return SamplingOptions.defaults(generator.spec, **changes)


def samples(generator, text=TEXT, source=None, **changes):
    items = generator.sample(text, options(generator, **changes), source=source)
    return [item for item in items if isinstance(item, Sample)]


def draw(generator, text=TEXT, source=None, **changes):
    """(N, H, W, 3) int pixels of a run."""
    return np.stack([pixels(item.image) for item in samples(generator, text, source, **changes)])


def pixels(image):
    return np.asarray(image).astype(int)


def packed_noise(seed):
    tokens = (tiny.SIZE // 16) ** 2
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn((1, tokens, 4 * tiny.LATENT_CHANNELS), generator=generator)


def call(pipeline, **changes):
    """The pixels of a plain call of a diffusers pipeline."""
    settings = dict(prompt=TEXT, height=tiny.SIZE, width=tiny.SIZE, num_inference_steps=4)
    nano = MODELS["nano"]
    settings |= dict(guidance_scale=nano.guidance, max_sequence_length=nano.max_sequence_length)
    return pixels(pipeline(**settings | changes).images[0])


def difference(one, other):
    return int(np.abs(one - other).max())


@pytest.mark.parametrize("steps, guidance", [(1, 0.0), (4, 3.0), (7, 10.0)])
def test_sample_equals_a_plain_pipeline_call(base, steps, guidance):
    plain = call(base.pipe, latents=packed_noise(5), num_inference_steps=steps, guidance_scale=guidance)
    assert difference(draw(base, seeds=(5,), steps=steps, guidance=guidance)[0], plain) == 0


def test_the_latents_are_those_of_a_plain_call_to_the_last_bit(base, monkeypatch):
    """In float32, with the same weights, noise, embeddings and steps."""
    drawn, decode = [], base._decode
    monkeypatch.setattr(base, "_decode", lambda packed, options: drawn.append(packed) or decode(packed, options))
    draw(base, seeds=(5,), steps=6, guidance=3.5)
    tokens, pooled, _ = base._encode(TEXT, 1.0)
    plain = base.pipe(
        prompt_embeds=tokens, pooled_prompt_embeds=pooled, latents=packed_noise(5), height=tiny.SIZE, width=tiny.SIZE,
        num_inference_steps=6, guidance_scale=3.5, output_type="latent",
    ).images  # fmt: skip
    assert drawn[0].dtype == plain.dtype == torch.float32
    assert (drawn[0] - plain).abs().max() == 0


def test_a_caption_is_encoded_once(base, monkeypatch):
    asked, encode = [], base.pipe.encode_prompt
    monkeypatch.setattr(base.pipe, "encode_prompt", lambda text, **more: asked.append(text) or encode(text, **more))
    for _ in range(2):
        draw(base, "A lesion that nobody has asked for yet.", steps=1, negative="hair, of its own", true_cfg=2.0)
    assert sorted(asked) == ["A lesion that nobody has asked for yet.", "hair, of its own"]


@pytest.mark.parametrize("negative", ["a benign lesion", ""])
def test_true_cfg_equals_the_pipelines(base, negative):
    plain = call(base.pipe, latents=packed_noise(2), negative_prompt=negative, true_cfg_scale=3.0)
    drawn = draw(base, seeds=(2,), negative=negative, true_cfg=3.0)
    assert difference(drawn[0], plain) == 0
    assert difference(drawn[0], draw(base, seeds=(2,))[0]) > 0


@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
def test_varying_equals_the_img2img_pipeline(base, strength):
    source = samples(base, "a benign lesion", seeds=(1,), steps=2)[0]
    varied = draw(base, source=(source.image, source.provenance), seeds=(9,), strength=strength)
    pipe = FluxImg2ImgPipeline.from_pipe(base.pipe)
    pipe.set_progress_bar_config(disable=True)
    vae = pipe.vae
    with torch.no_grad():
        clean = retrieve_latents(vae.encode(pipe.image_processor.preprocess(source.image)), sample_mode="argmax")
    clean = (clean - vae.config.shift_factor) * vae.config.scaling_factor
    clean = pipe._pack_latents(clean, *clean.shape)
    call(pipe, image=source.image, strength=1.0)
    sigma = pipe.scheduler.sigmas[4 - round(4 * strength + 0.4)]
    start = sigma * packed_noise(9) + (1 - sigma) * clean
    assert difference(varied[0], call(pipe, image=source.image, strength=strength, latents=start)) == 0


def test_a_batch_equals_its_images_one_by_one(tiny_generator):
    together = draw(tiny_generator, seeds=(4, 5, 6))
    alone = np.concatenate([draw(tiny_generator, seeds=(seed,)) for seed in (4, 5, 6)])
    assert difference(together, alone) == 0
    assert difference(together[0], together[1]) > 0


def test_a_run_longer_than_a_batch_is_drawn_in_batches(tiny_folder, base):
    narrow = Generator.from_spec(replace(base.spec, batch=2), "cpu")
    items = list(narrow.sample(TEXT, options(narrow, seeds=(1, 2, 3))))
    previews = [item.indices for item in items if isinstance(item, Preview)]
    assert previews == [(0, 1)] * 4 + [(2,)] * 4
    finished = [item for item in items if isinstance(item, Sample)]
    assert [(item.index, item.provenance.seed) for item in finished] == [(0, 1), (1, 2), (2, 3)]
    assert difference(np.stack([pixels(item.image) for item in finished]), draw(base, seeds=(1, 2, 3))) == 0


def test_every_step_yields_a_preview_of_the_full_size(tiny_generator):
    draw(tiny_generator)
    finishing = tiny_generator._finishing
    items = list(tiny_generator.sample(TEXT, options(tiny_generator, seeds=(1, 2), steps=6)))
    previews = [item for item in items if isinstance(item, Preview)]
    assert [item.step for item in previews] == [1, 2, 3, 4, 5, 6]
    assert {(item.steps, len(item.images)) for item in previews} == {(6, 2)}
    assert {image.size for item in previews for image in item.images} == {(tiny.SIZE, tiny.SIZE)}
    assert previews[-1].seconds_left == pytest.approx(2 * finishing), "what comes after the last step counts"
    assert finishing > 0 and all(item.seconds_left > 2 * finishing for item in previews[:-1])
    assert items.index(previews[-1]) == 5, "images come after their previews"


def test_closing_the_iterator_stops_the_model_and_frees_it(tiny_generator):
    calls = []
    hook = tiny_generator.pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    try:
        run = tiny_generator.sample(TEXT, options(tiny_generator, seeds=(1, 2), steps=9))
        assert [next(run).step, next(run).step] == [1, 2]
        run.close()
        assert len(calls) == 2
    finally:
        hook.remove()
    assert len(samples(tiny_generator)) == 1


def test_lora_strength_zero_is_the_base_exactly(tiny_generator, base):
    assert difference(draw(tiny_generator, lora_strength=0.0), draw(base)) == 0


def test_lora_strength_changes_images_without_reading_the_adapter_again(tiny_generator):
    named = tiny_generator.pipe.transformer.named_parameters
    addresses = lambda: [tensor.data_ptr() for name, tensor in named() if "lora_" in name]
    before, full = addresses(), draw(tiny_generator, lora_strength=1.0)
    half = draw(tiny_generator, lora_strength=0.5)
    assert difference(half, full) > 0
    assert difference(draw(tiny_generator, lora_strength=1.0), full) == 0
    assert before and addresses() == before


def test_a_lora_matches_the_pipelines_own(tiny_generator, base):
    adapted = FluxPipeline.from_pretrained(base.spec.source)
    adapted.vae.to(memory_format=torch.channels_last)  # as ours, which rounds otherwise
    adapted.set_progress_bar_config(disable=True)
    adapted.load_lora_weights(tiny_generator.spec.lora.source, adapter_name="one")
    adapted.set_adapters(["one"], [0.7])
    ours = draw(tiny_generator, lora_strength=0.7)[0]
    assert difference(ours, call(adapted, latents=packed_noise(0))) <= 1, "it differs by rounding"
    adapted.fuse_lora()
    assert difference(ours, call(adapted, latents=packed_noise(0))) == 0


def test_the_same_seed_gives_the_same_noise_whatever_runs_before(tiny_generator):
    first = draw(tiny_generator, seeds=(2**32 - 1,))
    torch.manual_seed(123)
    draw(tiny_generator, seeds=(3,))
    assert difference(draw(tiny_generator, seeds=(2**32 - 1,)), first) == 0


def test_noise_as_the_authors_draw_it_carries_their_seeds_over(base):
    """One draw at 16 bits in the packed shape on the model's device, as in generate_image of their gradio_app.py."""
    tokens = (tiny.SIZE // 16) ** 2
    generator = torch.Generator(base.pipe.device).manual_seed(5)
    packed = torch.randn(1, tokens, 4 * tiny.LATENT_CHANNELS, dtype=torch.bfloat16, generator=generator).float()
    drawn = samples(base, seeds=(5,), noise="authors")[0]
    assert difference(pixels(drawn.image), call(base.pipe, latents=packed)) == 0
    assert difference(pixels(drawn.image), draw(base, seeds=(5,))[0]) > 0
    assert drawn.provenance.noise == "authors"
    *_, again = base.redraw(drawn.provenance)
    assert difference(pixels(again.image), pixels(drawn.image)) == 0


@pytest.mark.parametrize("size", [128, 256, 512])
def test_the_schedule_is_that_of_the_original_flux(base, size):
    """t' = e^mu / (e^mu + 1 / t - 1), with mu linear in the number of tokens: 0.5 at 256 and 1.15 at 4096."""
    tokens = (size // 16) ** 2
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    t = np.linspace(1, 0, 21)
    with np.errstate(divide="ignore"):
        theirs = np.exp(mu) / (np.exp(mu) + 1 / t - 1)
    assert np.abs(flux_schedule(base.pipe.scheduler, 20, tokens).sigmas.numpy() - theirs).max() < 1e-6


def test_a_recipe_draws_the_same_pixels_again(tiny_generator):
    attributes = EXAMPLES["Early melanoma"]
    changed = options(tiny_generator, seeds=(7, 8), negative="hair", true_cfg=1.5, lora_strength=0.4, size=128)
    drawn = [item for item in tiny_generator.sample(TEXT, changed, attributes=attributes) if isinstance(item, Sample)]
    *_, again = tiny_generator.redraw(drawn[1].provenance)
    assert difference(pixels(again.image), pixels(drawn[1].image)) == 0
    assert again.provenance == drawn[1].provenance
    assert again.provenance.attributes == attributes


def test_the_recipe_of_a_variation_of_a_variation_draws_the_same_pixels_again(tiny_generator):
    source = samples(tiny_generator, seeds=(1,))[0]
    for seed in (2, 3):
        source = samples(
            tiny_generator, source=(source.image, source.provenance), seeds=(seed,), strength=0.5 + seed / 10
        )[0]
    assert source.provenance.source.source.seed == 1
    *_, again = tiny_generator.redraw(source.provenance)
    assert difference(pixels(again.image), pixels(source.image)) == 0
    assert again.provenance == source.provenance


def test_a_recipe_whose_source_is_of_another_size_than_the_model_draws_at_is_refused(tiny_generator):
    source = replace(samples(tiny_generator)[0].provenance, size=96)
    with pytest.raises(InputError, match="not at 96 px"):
        next(tiny_generator.redraw(replace(source, size=128, strength=0.5, source=source)))


def test_the_recipe_names_the_weights(tiny_generator, base):
    recipe = samples(tiny_generator)[0].provenance
    assert (recipe.model, recipe.lora) == ("tiny", "tiny-lora")
    assert len(recipe.model_hash) == len(recipe.lora_hash) == 16
    assert samples(base)[0].provenance.model_hash == recipe.model_hash
    assert not samples(base)[0].provenance.lora


def test_a_folder_of_the_embedded_kind_is_drawn_at_the_size_that_it_was_trained_at(tmp_path):
    shutil.copytree(NANO, tmp_path / "own", ignore=shutil.ignore_patterns("classifier", "lora", "*.md", "previews*"))
    own, embedded = (Generator.load(name, "none", "cpu") for name in (str(tmp_path / "own"), "nano"))
    drawn = []
    for generator in (own, embedded):
        options = SamplingOptions.defaults(generator.spec, seeds=(3,), steps=2, candidates=1)
        samples = [one for one in generator.sample("A mole.", options) if isinstance(one, Sample)]
        drawn.append(np.asarray(samples[0].image))
    assert np.array_equal(*drawn) and (own.spec.size, own.spec.guidance) == (256, MODELS["nano"].guidance)
    assert own.spec.title == "own (local folder)" and own.spec.licence != MODELS["nano"].licence


def test_an_autoencoder_that_does_not_say_its_size_is_that_of_flux():
    flux = AutoencoderTiny(latent_channels=16)
    assert native_size(flux.config) == 512 and native_size({"sample_size": 1024}) == 1024
