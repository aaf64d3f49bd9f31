"""Saliency maps over a ViT: where they point, how they are drawn, and that they leave the model as it was."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from dermaflux import saliency
from dermaflux.classifier import Classifier, create_model, gate_width, turned, turned_back
from dermaflux.classifier_card import GateSpec
from dermaflux.errors import InputError
from dermaflux.saliency import METHODS, TARGETS, SaliencyMap, explain

CLASS_BASED = [name for name, method in METHODS.items() if method.discriminative]


def lesion(seed: int = 0, size: tuple[int, int] = (150, 90), at: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.normal((215, 170, 150), 5, (size[1], size[0], 3)).clip(0, 255).astype(np.uint8))
    x, y, r = at[0] * size[0], at[1] * size[1], min(size) * 0.2
    ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), fill=(70, 40, 35))
    return image


@pytest.fixture(scope="module")
def nano() -> Classifier:
    return Classifier.load("nano")


@pytest.fixture
def tiny(nano) -> Classifier:
    """An untrained ViT with four register tokens, so with five prefix tokens, on a 6 x 6 grid."""
    size = dict(patch_size=8, embed_dim=48, depth=2, num_heads=2, reg_tokens=4)
    gate = GateSpec((0,), 1.0, 0.0, 1)
    card = replace(nano.card, arch="vit_tiny_patch16_224", model=size, image_size=48, gate=gate, views=1)
    torch.manual_seed(0)
    model = create_model(card).requires_grad_(False).eval()
    model.head.weight.normal_()
    width = gate_width(model, gate)
    return Classifier(model, card, torch.zeros(width), torch.eye(width))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_map_of_the_images_size_within_0_and_1(nano, tiny, method, target):
    for classifier in (nano, tiny):
        found = explain(classifier, lesion(), method, target)
        assert found.values.shape == (90, 150) and found.values.dtype == np.float32
        assert np.isfinite(found.values).all() and found.values.min() >= 0 and found.values.max() <= 1
        assert found.empty == (not found.values.any())
        assert (found.method, found.target) == (method, target)


def test_grad_cam_comes_first_and_every_method_says_what_it_does():
    assert next(iter(METHODS)) == "gradcam"
    for name, method in METHODS.items():
        assert method.name == name and method.title and method.note.endswith(".")


@pytest.mark.parametrize("method", CLASS_BASED)
def test_a_map_responds_to_the_target(tiny, method):
    images = [lesion(i, at=(0.3 + 0.05 * i, 0.5)) for i in range(4)]
    maps = {target: [explain(tiny, image, method, target) for image in images] for target in TARGETS}
    assert all(
        not np.allclose(a.values, b.values, atol=0.02) for a, b in zip(maps["malignant"], maps["benign"], strict=True)
    )


def test_eigencam_does_not_depend_on_the_target_and_says_so(tiny):
    a, b = (explain(tiny, lesion(), "eigencam", target) for target in TARGETS)
    assert np.array_equal(a.values, b.values) and not METHODS["eigencam"].discriminative


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_views_differ_and_turn_back_to_the_image(views):
    images = torch.rand(2, 3, 5, 5)
    seen = list(turned(images, views))
    assert len({tuple(one.flatten().tolist()) for one in seen}) == views
    assert all(torch.equal(one, images) for one in turned_back(seen))


@pytest.mark.parametrize("method", METHODS)
def test_a_mirrored_image_is_explained_by_the_mirrored_map_where_views_are_averaged(tiny, method):
    averaged = replace(tiny, card=replace(tiny.card, views=8))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (tiny.card.image_size,) * 2 + (3,), np.uint8))
    straight, turned_image = (
        explain(averaged, one, method) for one in (image, image.transpose(Image.Transpose.ROTATE_90))
    )
    np.testing.assert_allclose(np.rot90(straight.values), turned_image.values, atol=1e-4)
    assert not np.allclose(straight.values, explain(tiny, image, method).values, atol=1e-2)


def test_maps_repeat_exactly(nano):
    a, b = (explain(nano, lesion(), "hirescam") for _ in range(2))
    assert np.array_equal(a.values, b.values)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (900, 20), (3000, 2000)])
def test_images_of_any_size_are_explained_at_their_size(nano, size):
    assert explain(nano, Image.new("RGB", size, "brown")).values.shape == size[::-1]


@pytest.mark.parametrize("at", [(0.2, 0.25), (0.8, 0.25), (0.2, 0.75), (0.8, 0.75)])
def test_patch_tokens_return_to_their_place_in_the_picture(tiny, at):
    plain, marked = (tiny.preprocess([image]) for image in (Image.new("RGB", (96, 48)), lesion(size=(96, 48), at=at)))
    tokens = tiny.model._pos_embed(tiny.model.patch_embed(marked)) - tiny.model._pos_embed(
        tiny.model.patch_embed(plain)
    )
    grid = saliency.patch_grid(tiny.model)(tokens)
    assert grid.shape == (1, 48, 6, 6)
    change = (grid - grid.median(2, True).values.median(3, True).values).norm(dim=1)[0]
    row, column = divmod(int(change.argmax()), 6)
    assert abs((column + 0.5) / 6 - at[0]) < 0.2 and abs((row + 0.5) / 6 - at[1]) < 0.25


def test_tokens_of_the_embedded_architecture_are_centred_on_their_patches(nano):
    size, (rows, columns) = nano.card.image_size, nano.model.patch_embed.grid_size
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    tokens = create_model(nano.card).eval().patch_embed(pixels)
    for row, column in ((1, 1), (rows // 2, columns - 2)):
        (gradient,) = torch.autograd.grad(tokens[0, row * columns + column].sum(), pixels, retain_graph=True)
        reach = [gradient[0].abs().sum((0, axis)).nonzero() for axis in (2, 1)]
        centre = [float(where.min() + where.max() + 1) / 2 for where in reach]
        assert centre == pytest.approx(
            [(row + 0.5) * size / rows, (column + 0.5) * size / columns], abs=size / rows / 8
        )


def test_a_map_of_zeros_is_called_empty_and_can_still_be_drawn(tiny):
    tiny.model.head.weight.zero_()
    image = lesion()
    for method in CLASS_BASED:
        found = explain(tiny, image, method)
        assert found.empty and not found.values.any()
        assert saliency.overlay(image, found, 1.0).tobytes() == image.tobytes()
        assert saliency.heat_map(found).size == image.size
        assert saliency.confidence_drop(tiny, image, found) == 0


@pytest.mark.parametrize(("method", "target"), [("gradcan", "malignant"), ("", "benign"), ("gradcam", "melanoma")])
def test_unknown_methods_and_targets_are_refused_in_a_sentence(nano, method, target):
    with pytest.raises(InputError) as caught:
        explain(nano, lesion(), method, target)
    assert str(caught.value).endswith(".")


def test_explaining_leaves_the_model_as_it_was(nano):
    before = nano.predict([lesion()])
    for method in METHODS:
        explain(nano, lesion(), method)
    assert nano.predict([lesion()]) == before
    assert not nano.model.blocks[-1].norm1._forward_hooks
    assert all(parameter.grad is None for parameter in nano.model.parameters())


def test_an_error_inside_the_model_is_not_swallowed_and_frees_hooks_and_lock(tiny):
    def fail(*_):
        raise IndexError("out of range")

    handle = tiny.model.head.register_forward_hook(fail)
    with pytest.raises(IndexError):
        explain(tiny, lesion())
    handle.remove()
    assert not tiny.model.blocks[-1].norm1._forward_hooks
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(explain, tiny, lesion(), "hirescam").result(20).values.shape == (90, 150)


def test_threads_that_share_the_model_do_not_disturb_each_other(tiny):
    images = [lesion(i, at=(0.2 + 0.07 * i, 0.5)) for i in range(8)]
    maps, predictions = [explain(tiny, image).values for image in images], tiny.predict(images)
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            explained = [pool.submit(explain, tiny, image) for image in images]
            predicted = [pool.submit(tiny.predict, images) for _ in images]
            assert all(np.array_equal(a.result().values, b) for a, b in zip(explained, maps, strict=True))
            assert all(result.result() == predictions for result in predicted)


def ramp(width: int = 40, height: int = 30) -> SaliencyMap:
    values = np.repeat(np.linspace(0, 1, width, dtype=np.float32)[None], height, 0)
    return SaliencyMap(values, "gradcam", "malignant", False)


def test_overlay_leaves_low_places_and_covers_high_ones_by_opacity():
    image, found = Image.new("RGB", (40, 30), (0, 90, 200)), ramp()
    heat = np.asarray(saliency.heat_map(found))
    shares = []
    for opacity in (0.0, 0.5, 1.0):
        pixels = np.asarray(saliency.overlay(image, found, opacity)).astype(float)
        assert np.allclose(pixels[:, 0], (0, 90, 200), atol=1)
        shares.append((pixels[0, -1, 0] - 0) / heat[0, -1, 0])
    assert shares == pytest.approx([0, 0.5, 1], abs=0.01)


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_opacity_out_of_range_is_refused(opacity):
    with pytest.raises(InputError):
        saliency.overlay(Image.new("RGB", (40, 30)), ramp(), opacity)


def test_a_map_is_not_laid_over_an_image_of_another_size():
    with pytest.raises(InputError, match="another size"):
        saliency.overlay(Image.new("RGB", (30, 40)), ramp())


def test_colours_grow_lighter_from_low_to_high():
    across = np.asarray(saliency.heat_map(ramp()))[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(across) >= -1).all()


def test_blurring_what_the_model_used_lowers_its_confidence_more_than_blurring_elsewhere(nano):
    """A perfect map is found by measuring the drop of every place, so the figure must prefer it to its reverse."""
    image = lesion(size=(128, 128))
    inside = np.zeros((128, 128), np.float32)
    inside[38:90, 38:90] = 1
    (p,) = nano.predict([image])
    target = "malignant" if p.p_malignant > 0.5 else "benign"
    maps = [SaliencyMap(values, "gradcam", target, False) for values in (inside, 1 - inside)]
    drops = [saliency.confidence_drop(nano, image, found, 0.15) for found in maps]
    assert drops[0] != drops[1] and all(-1 <= drop <= 1 for drop in drops)
