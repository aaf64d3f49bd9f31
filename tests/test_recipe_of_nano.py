"""What the embedded generator is trained on: images, their changes, and the captions that name them."""

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from dermaflux import appearance, phantom
from dermaflux.caption import parse
from dermaflux.data import manifest
from dermaflux.data.captioners import describe
from dermaflux.lesion import LesionAttributes
from dermaflux.training import autoencoder, nano
from dermaflux.training.autoencoder import AutoencoderOptions

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
    before, after = appearance.measure(image), appearance.measure(nano.darkened(image, np.random.default_rng(seed)))
    assert after.tone >= max(4, before.tone) and after.ita < before.ita
    assert not after.found or abs(after.size_mm - before.size_mm) < 0.3 * before.size_mm


def test_a_magnified_image_shows_a_larger_lesion():
    image = drawn(1, size_mm=6)
    seen = [appearance.measure(nano.magnified(image, np.random.default_rng(seed))) for seed in range(8)]
    assert np.median([one.size_mm for one in seen if one.found]) > appearance.measure(image).size_mm


def test_a_real_image_is_worded_by_what_is_seen_and_known():
    seen = describe(drawn(3, size_mm=9), row(diagnosis="melanoma"))
    assert (seen.label, seen.diagnosis, seen.artefacts) == ("malignant", "melanoma", ())
    assert abs(seen.size_mm - 9) <= 2 and seen.tone is not None
    assert describe(drawn(3), row(diagnosis="something else")).diagnosis is None


def test_hair_and_dark_corners_are_named():
    assert "dark corners" in describe(drawn(4, artefacts=("dark corners",)), row()).artefacts
    assert "hair" in describe(drawn(5, artefacts=("hair",)), row()).artefacts


def test_a_wording_may_leave_out_an_attribute_but_never_an_artefact():
    whole = phantom.random_attributes(9)
    given = nano.wordings(LesionAttributes(**{**vars(whole), "artefacts": ("hair", "ruler")}), 1)
    assert len(set(given)) == nano.WORDINGS
    assert {parse(text).artefacts for text in given} == {("hair", "ruler")}
    assert parse(given[0]).site is None


def test_every_third_real_image_is_also_changed_and_each_has_as_many_captions(tmp_path):
    Image.fromarray(drawn(2)).save(tmp_path / "a.png")
    found = [nano._real(row(tmp_path / "a.png", diagnosis="nevus"), seed) for seed in range(6)]
    assert [len(seen) for seen in found] == [2, 1, 1] * 2
    assert {image.shape for seen in found for image, _ in seen} == {(256, 256, 3)}
    assert {len(captions) for seen in found for _, captions in seen} == {nano.WORDINGS}
    closer, darker = (seen[1][0].astype(int) for seen in (found[0], found[3]))
    original = found[0][0][0].astype(int)
    assert darker.mean() < original.mean() - 5 and not np.array_equal(closer, original)


def test_only_an_autoencoder_made_linear_is_encoded_the_fast_way():
    pixels = torch.stack([torch.from_numpy(drawn(seed)).permute(2, 0, 1) for seed in range(4)])
    assert nano._linear_encoder(autoencoder.start(pixels, AutoencoderOptions(fitted=4))[0]) is not None
    assert nano._linear_encoder(tiny._autoencoder()) is None
