"""What is left out of an image because the autoencoder draws it in all images."""

from dataclasses import replace

import pytest
import torch

from dermaflux import postfilter
from dermaflux.errors import InputError
from dermaflux.generator import Generator, Sample
from dermaflux.images import read_provenance, save_synthetic
from dermaflux.models import MODELS, SamplingOptions
from dermaflux.postfilter import filtered
from dermaflux.provenance import Provenance, parameters

CELL = 16


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_spec(MODELS["nano"], "cpu")


def draw(generator, **changes) -> Sample:
    options = SamplingOptions.defaults(generator.spec, seeds=(3,), **dict(steps=2, candidates=1) | changes)
    *_, sample = generator.sample("A benign mole.", options)
    return sample


def shared(x: torch.Tensor) -> torch.Tensor:
    """What all cells of an image share, beyond its mean: (N, C, CELL, CELL)."""
    mean = torch.stack([cell for row in x.split(CELL, 2) for cell in row.split(CELL, 3)]).mean(0)
    return mean - mean.mean((2, 3), keepdim=True)


def luma(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nchw,c->nhw", x, torch.tensor(postfilter.LUMA))


def test_a_pattern_that_repeats_with_every_cell_is_left_out_and_nothing_else():
    torch.manual_seed(0)
    pattern = torch.randn(1, 3, CELL, CELL)
    pattern -= pattern.mean((2, 3), keepdim=True)
    plain = torch.rand(2, 3, 1, 1).expand(2, 3, 128, 256)
    assert torch.allclose(filtered(plain + pattern.repeat(1, 1, 8, 16), CELL, 1.0), plain, atol=1e-5)
    grey = torch.randn(2, 1, 128, 256).expand(2, 3, 128, 256)
    once = filtered(grey, CELL, 1.0)
    assert shared(once).abs().max() < 1e-5 < 0.1 < shared(grey).abs().max()
    assert torch.allclose(once.mean((2, 3)), grey.mean((2, 3)), atol=1e-5)


def test_colour_is_smoothed_and_brightness_is_not():
    torch.manual_seed(0)
    grey, image = torch.randn(1, 1, 64, 96).expand(1, 3, 64, 96), torch.randn(1, 3, 64, 96)
    unrepeated = grey - shared(grey).repeat(1, 1, 4, 6)
    assert torch.allclose(filtered(grey, CELL, 1.0), unrepeated, atol=1e-5), "grey has no colour to be smoothed"
    assert torch.allclose(luma(filtered(image, CELL, 1.0)), luma(image - shared(image).repeat(1, 1, 4, 6)), atol=1e-4)
    colour = lambda x: (x - luma(x)[:, None]).std()
    assert colour(filtered(image, CELL, 1.0)) < 0.4 * colour(image)


def test_a_share_lies_between_the_image_and_the_whole_way():
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    assert filtered(image, CELL, 0.0) is image
    between = (image + filtered(image, CELL, 1.0)) / 2
    assert torch.allclose(filtered(image, CELL, 0.5), between, atol=1e-6)


def test_the_embedded_model_is_filtered_and_flux_is_not():
    usual = {name: SamplingOptions.defaults(spec).postfilter for name, spec in MODELS.items()}
    assert usual == {"nano": 1.0, "flux1-dev": 0.0, "flux1-schnell": 0.0}


def test_what_is_drawn_differs_by_the_filter_alone_and_is_drawn_again_from_its_png(generator, tmp_path):
    plain, sample = draw(generator, postfilter=0.0), draw(generator, postfilter=1.0)
    pixels = lambda one: torch.tensor(list(one.image.tobytes())).reshape(1, 256, 256, 3).permute(0, 3, 1, 2) / 1.0
    assert (filtered(pixels(plain), CELL, 1.0) - pixels(sample)).abs().mean() < 1, "but for rounding and clipping"
    assert 0.1 < (pixels(plain) - pixels(sample)).abs().mean() < 8
    assert shared(pixels(sample)).std() < 0.3 * shared(pixels(plain)).std()
    recipe = read_provenance(save_synthetic(sample.image, sample.provenance, tmp_path / "one.png"))
    assert recipe.postfilter == 1.0 and "Post-filter: 1.0" in parameters(recipe)
    *_, again = generator.redraw(recipe)
    assert again.image.tobytes() == sample.image.tobytes()


def test_a_recipe_of_before_is_drawn_without(generator):
    plain = draw(generator, postfilter=0.0)
    old = plain.provenance.to_json().replace(',"postfilter":0.0', "")
    assert "postfilter" not in old and Provenance.from_json(old) == plain.provenance
    assert "Post-filter" not in parameters(plain.provenance)
    *_, again = generator.redraw(Provenance.from_json(old))
    assert again.image.tobytes() == plain.image.tobytes()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "1", None, True])
def test_a_share_out_of_range_is_refused(share, generator):
    with pytest.raises(InputError, match="post-filter"):
        SamplingOptions(postfilter=share)
    with pytest.raises(InputError):
        replace(draw(generator, steps=1).provenance, postfilter=share)
