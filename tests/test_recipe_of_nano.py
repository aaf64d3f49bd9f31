"""What the embedded generator is trained on: images, their changes, and the captions that name them."""

from functools import partial

import numpy as np
import pytest
import tiny_classifier
import torch
from diffusers import FluxPipeline
from PIL import Image
from safetensors.torch import save_file

from dermaflux import appearance, phantom
from dermaflux.caption import parse
from dermaflux.data import manifest
from dermaflux.data.captioners import describe
from dermaflux.errors import InputError
from dermaflux.generator import Generator, Sample
from dermaflux.lesion import LesionAttributes
from dermaflux.models import NANO, SamplingOptions
from dermaflux.training import changes, nano
from dermaflux.training.encoding import encode
from dermaflux.training.fitting import FITS, fitted, shapes
from dermaflux.training.flow import FlowOptions
from dermaflux.training.taef2 import LATENTS, Taef2

LIGHT = LesionAttributes("benign", asymmetry=0, colours=("dark brown",), size_mm=9, tone=3)


def row(path="x.png", **values) -> manifest.Row:
    return manifest.Row(path, "malignant", "train", values)


def drawn(seed: int, **changes) -> np.ndarray:
    return phantom.draw(
        LesionAttributes(**{"asymmetry": 0, "colours": ("dark brown",), "tone": 3} | changes), seed
    ).image


@pytest.mark.parametrize("seed", range(6))
def test_a_darkened_image_shows_darker_skin_and_the_same_lesion(seed):
    image = drawn(seed, size_mm=9)
    before, after = appearance.measure(image), appearance.measure(changes.darkened(image, np.random.default_rng(seed)))
    assert after.tone >= max(4, before.tone) and after.ita < before.ita
    assert not after.found or abs(after.size_mm - before.size_mm) < 0.3 * before.size_mm


def test_a_magnified_image_shows_a_larger_lesion():
    image = drawn(1, size_mm=6)
    seen = [appearance.measure(changes.magnified(image, np.random.default_rng(seed))) for seed in range(8)]
    assert np.median([one.size_mm for one in seen if one.found]) > appearance.measure(image).size_mm


def test_a_real_image_is_worded_by_what_is_seen_and_known():
    seen = describe(drawn(3, size_mm=9), row(diagnosis="melanoma"))
    assert (seen.label, seen.diagnosis, seen.artefacts) == ("malignant", "melanoma", ())
    assert abs(seen.size_mm - 9) <= 2 and seen.tone is not None
    assert describe(drawn(3), row(diagnosis="something else")).diagnosis is None


def test_hair_and_dark_corners_are_named():
    assert "dark corners" in describe(drawn(4, artefacts=("dark corners",)), row()).artefacts
    assert "hair" in describe(drawn(5, artefacts=("hair",)), row()).artefacts


def test_of_a_faint_lesion_neither_asymmetry_nor_border_is_named():
    clear = drawn(3, size_mm=9)
    skin = np.median(clear[:16], axis=(0, 1))
    faint = np.uint8(skin + 0.25 * (clear - skin))
    seen, pale = describe(clear, row()), describe(faint, row())
    assert seen.asymmetry is not None and seen.border is not None
    assert pale.size_mm and pale.asymmetry is None and pale.border is None


def test_a_wording_may_leave_out_an_attribute_but_never_an_artefact():
    whole = phantom.random_attributes(9)
    given = nano.wordings(LesionAttributes(**{**vars(whole), "artefacts": ("hair", "ruler")}), 1)
    assert len(set(given)) == nano.WORDINGS
    assert {parse(text).artefacts for text in given} == {("hair", "ruler")}
    assert parse(given[0]).site is None


def test_mirrored_images_show_lesions_that_are_more_symmetric():
    images = [drawn(seed, asymmetry=2, size_mm=9) for seed in range(6)]
    folded = [changes.mirrored(image, np.random.default_rng(seed)) for seed, image in enumerate(images)]
    before, after = ([appearance.measure(image).asymmetry for image in some] for some in (images, folded))
    assert all(b <= a for a, b in zip(before, after, strict=True)) and sum(after) <= sum(before) - 4


def test_a_lesion_mirrored_about_two_axes_folds_onto_itself():
    folds = [changes.mirrored(drawn(3, asymmetry=2, size_mm=9), np.random.default_rng(seed)) for seed in range(6)]
    assert 0 in [appearance.measure(one).asymmetry for one in folds]


def test_edged_images_show_anything_from_no_cut_segment_to_nearly_all():
    image = drawn(2, border=0, size_mm=10)
    seen = [appearance.measure(changes.edged(image, np.random.default_rng(seed))) for seed in range(12)]
    assert all(one.found for one in seen)
    assert min(one.border for one in seen) <= 1 and max(one.border for one in seen) >= 6


@pytest.mark.parametrize("change", (changes.mirrored, changes.edged))
def test_bare_skin_is_left_as_it_is(change):
    skin = np.full((256, 256, 3), (225, 190, 165), np.uint8)
    assert np.array_equal(change(skin, np.random.default_rng(0)), skin)


def test_as_many_real_images_are_also_changed_as_asked_and_each_has_as_many_captions(tmp_path):
    Image.fromarray(drawn(2)).save(tmp_path / "a.png")
    shown = row(tmp_path / "a.png", diagnosis="nevus")
    found = [nano._real(shown, seed, partial(fitted, size=256), 3) for seed in range(6)]
    assert [len(seen) for seen in found] == [2, 1, 1] * 2
    assert {image.shape for seen in found for image, _ in seen} == {(256, 256, 3)}
    assert {len(captions) for seen in found for _, captions in seen} == {nano.WORDINGS}
    darker, closer = (seen[1][0].astype(int) for seen in (found[0], found[3]))
    original = found[0][0][0].astype(int)
    assert darker.mean() < original.mean() - 5 and not np.array_equal(closer, original)


def test_the_teacher_gives_the_latents_that_the_flow_learns(tiny_folder, tmp_path):
    pipe = FluxPipeline.from_pretrained(tiny_folder / "pipeline", dtype=torch.float32)
    pipe.vae.register_to_config(sample_size=256)
    image, file = drawn(3), tmp_path / "taef2.safetensors"
    save_file(Taef2().state_dict(), file)
    encoder = nano.latents_of(file)
    [part] = encode(pipe, [(image, ["A lesion."])], max_sequence_length=8, views=2, encoder=encoder)
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = (Taef2.load(file).encode(x) - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    assert part["latents.8x8"].shape == (1, 2, 64, 4 * LATENTS)
    assert torch.allclose(part["latents.8x8"][0, :1].float(), pipe._pack_latents(latents, *latents.shape), atol=2e-2)


def test_the_middle_of_a_wide_image_is_taken_or_all_of_it_squeezed_or_kept_in_its_shape():
    wide = np.zeros((64, 104, 3), np.uint8)
    wide[:, :16], wide[24:40, 44:60] = 255, 128  # a bar at the left, a square in the middle
    crop, squeeze, bucket = (fitted(Image.fromarray(wide), 64, fit, 16) for fit in FITS)
    assert crop.shape == squeeze.shape == (64, 64, 3) and bucket.shape == (48, 80, 3)
    assert crop.max() < 160 and squeeze.max() == bucket.max() == 255
    of_square = lambda image: [int((image[..., 0] > 64)[:, 16:].any(axis).sum()) for axis in (0, 1)]
    assert of_square(crop) == [16, 16] and np.ptp(of_square(squeeze)) > 4 and np.ptp(of_square(bucket)) <= 1
    native = Image.fromarray(drawn(2))
    assert np.array_equal(fitted(native, 256), np.asarray(native))
    assert all(np.array_equal(fitted(native, 128), fitted(native, 128, fit, 32)) for fit in FITS)


@pytest.mark.parametrize(("size", "multiple"), [(512, 16), (256, 32), (64, 16), (64, 32)])
def test_shapes_have_about_the_pixels_of_the_square_and_come_both_ways_round(size, multiple):
    found = shapes(size, multiple)
    assert (size, size) in found and len(set(found)) == len(found)
    assert all((height, width) in found and max(width, height) <= 2 * min(width, height) for width, height in found)
    assert all(side % multiple == 0 for shape in found for side in shape)
    assert all(0.8 * size**2 <= width * height <= size**2 for width, height in found)


def test_changes_keep_the_shape_of_an_image_that_is_not_square():
    wide = np.ascontiguousarray(drawn(2, size_mm=9)[32:-32])
    for change in set(changes.CHANGES):
        assert change(wide, np.random.default_rng(1)).shape == wide.shape


@pytest.mark.usefixtures("fresh_accelerate")
def test_the_base_learns_from_phantoms_and_photographs_and_goes_on_with_no_others(tmp_path):
    path = tiny_classifier.write_manifest(tmp_path, [{"label": "benign", "split": "train"}])
    few = FlowOptions(steps=2, batch=2, warmup=1, distil_from=1)
    train = lambda count: nano.train_base(NANO / "vae", NANO, tmp_path / "base", count, few, [path])
    train(4)
    generator = Generator.load(str(tmp_path / "base" / "pipeline"), "none", "cpu")
    drawn = generator.sample("A mole.", SamplingOptions.defaults(generator.spec, steps=1, candidates=1))
    assert [one.image.size for one in drawn if isinstance(one, Sample)] == [(256, 256)]
    with pytest.raises(InputError, match="made of"):
        train(5)


def test_pairs_of_the_base_are_known_by_the_weights_of_their_teacher_not_by_its_place(tmp_path, monkeypatch):
    sources, file, moved = [], tmp_path / "taef2.safetensors", tmp_path / "moved.safetensors"

    def asked(path, make, source):
        sources.append(source)
        raise InterruptedError

    monkeypatch.setattr(nano.Pairs, "cached", asked)
    save_file(Taef2().state_dict(), file)
    moved.write_bytes(file.read_bytes())
    for teacher in (file, moved, file):
        with pytest.raises(InterruptedError):
            nano.train_base(NANO / "vae", NANO, tmp_path / "base", 2, FlowOptions(), teacher=teacher)
        if teacher == moved:
            save_file(Taef2().state_dict(), file)  # other random weights
    assert sources[0] == sources[1] != sources[2]
