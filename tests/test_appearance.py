"""Appearance is measured on drawn lesions of known attributes, and refused where there is no lesion."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import spearmanr

from dermaflux import phantom
from dermaflux.appearance import Appearance, annotate, compare, measure, row
from dermaflux.background import to_lab
from dermaflux.errors import InputError
from dermaflux.lesion import MONK_TONES, LesionAttributes

SEEDS = range(500, 540)


@pytest.fixture(scope="module")
def pairs():
    drawn = [phantom.draw(phantom.random_attributes(seed), seed) for seed in SEEDS]
    return [(lesion, measure(lesion.image)) for lesion in drawn]


@pytest.fixture(scope="module")
def plain() -> phantom.Phantom:
    wanted = LesionAttributes(
        asymmetry=0, border=0, colours=("dark brown",), structures=("globules",), size_mm=10, tone=3
    )
    return phantom.draw(wanted, 7)


@pytest.fixture(scope="module")
def plain_measured(plain) -> Appearance:
    return measure(plain.image)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_every_drawn_lesion_is_found_where_it_is(pairs):
    assert all(measured.found for _, measured in pairs)
    assert np.mean([dice(drawn.mask, measured.mask) for drawn, measured in pairs]) > 0.88


VIOLET = (95, 50, 120)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_ink_is_not_taken_for_the_lesion_beside_it(seed):
    drawn = phantom.draw(LesionAttributes(asymmetry=0, colours=("light brown",), size_mm=2, tone=3), seed)
    marked = Image.fromarray(drawn.image)
    top, left = np.argwhere(drawn.mask).min(0)
    ImageDraw.Draw(marked).line([(left - 60, top), (left - 25, top - 40), (left - 20, top - 60)], VIOLET, 24, "curve")
    assert dice(measure(marked).mask, drawn.mask) > 0.8


def test_a_violet_lesion_is_one_where_nothing_else_is(plain):
    violet = plain.image.copy()
    violet[plain.mask] = VIOLET
    assert dice(measure(violet).mask, plain.mask) > 0.8


def test_asymmetry_is_mostly_exact(pairs):
    assert np.mean([drawn.attributes.asymmetry == measured.asymmetry for drawn, measured in pairs]) > 0.75


def test_abruptly_cut_segments_follow_the_truth_octant_by_octant(pairs):
    assert spearmanr(*zip(*((d.attributes.border, m.border) for d, m in pairs), strict=True))[0] > 0.6
    assert np.mean([np.equal(d.cut_segments, m.cut_segments).mean() for d, m in pairs]) > 0.8


def test_colours_present_are_named(pairs):
    hits = sum(len(set(d.attributes.colours) & set(m.colours)) for d, m in pairs)
    total = sum(len(d.attributes.colours) + len(m.colours) for d, m in pairs)
    assert 2 * hits / total > 0.8
    assert all(0 < share <= 1 for _, m in pairs for share in m.colours.values())


def test_size_follows_the_largest_diameter(pairs):
    assert np.mean([abs(d.attributes.size_mm - m.size_mm) <= 0.2 * d.attributes.size_mm for d, m in pairs]) > 0.85


def test_skin_tone_and_typology_angle_are_those_of_the_skin(pairs):
    truth = [to_lab(np.full((1, 1, 3), d.skin, np.float32))[0, 0] for d, _ in pairs]
    angles = [np.degrees(np.arctan2(lab[0] - 50, lab[2])) for lab in truth]
    assert np.mean([abs(angle - m.ita) <= 5 for angle, (_, m) in zip(angles, pairs, strict=True)]) >= 0.9
    assert np.mean([abs(d.attributes.tone - m.tone) <= 1 for d, m in pairs]) >= 0.9


@pytest.mark.parametrize(("tone", "name"), [(1, "very light"), (5, "light"), (7, "brown"), (10, "dark")])
def test_tone_is_named_from_the_typology_angle(tone, name):
    skin = np.full((128, 128, 3), tuple(bytes.fromhex(MONK_TONES[tone - 1][1:])), np.uint8)
    measured = measure(skin)
    assert (measured.tone, measured.tone_name) == (tone, name)


def uniform():
    return np.full((200, 200, 3), (224, 172, 140), np.uint8)


def noise():
    return np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)


def text_page():
    page = Image.new("RGB", (256, 256), "white")
    for y in range(6, 250, 22):
        line = "The quick brown fox jumps over the lazy dog"
        ImageDraw.Draw(page).text((8, y), line, fill="black", font=ImageFont.load_default(16))
    return np.asarray(page)


def checkerboard():
    squares = (np.indices((256, 256)) // 32).sum(0) % 2
    return np.repeat((squares * 255).astype(np.uint8)[..., None], 3, axis=2)


def sky():
    share = np.linspace(0, 1, 256)[:, None, None]
    colour = np.array((90, 150, 230)) * (1 - share) + np.array((220, 235, 255)) * share
    return np.broadcast_to(colour, (256, 256, 3)).astype(np.uint8)


@pytest.mark.parametrize("scene", [uniform, noise, text_page, checkerboard, sky])
def test_nothing_is_found_where_there_is_no_lesion(scene):
    measured = measure(scene())
    assert not measured.found
    assert not measured.mask.any()
    assert measured.colours == {}
    assert measured.attributes().specified().keys() == {"tone"}


@pytest.mark.parametrize("size", [(256, 256), (512, 512), (96, 96), (300, 200), (180, 400)])
def test_any_size_gives_a_mask_of_that_size_over_the_lesion(plain, size):
    height, width = size
    side = min(size)
    scaled = cv2.resize(plain.image, (side, side), interpolation=cv2.INTER_AREA)
    image = cv2.copyMakeBorder(scaled, 0, height - side, 0, width - side, cv2.BORDER_REFLECT)[:height, :width]
    truth = np.zeros(size, bool)
    truth[:side, :side] = cv2.resize(plain.mask.astype(np.uint8), (side, side)) > 0
    if height != width:
        image[side:, :] = np.median(plain.image[:10], axis=(0, 1))
        image[:, side:] = np.median(plain.image[:10], axis=(0, 1))
    measured = measure(image)
    assert measured.mask.shape == size
    assert dice(measured.mask, truth) > 0.88
    assert measured.outline.min() >= -1
    assert (measured.outline.max(axis=0) <= np.array((width, height))).all()
    assert measured.lesion_share == pytest.approx(measured.mask.mean())


def test_a_pil_image_and_its_array_measure_alike(plain, plain_measured):
    other = measure(Image.fromarray(plain.image))
    assert np.array_equal(other.mask, plain_measured.mask)
    assert row(other) == row(plain_measured)


@pytest.mark.parametrize("seed", [501, 512, 523])
def test_quarter_turns_hardly_change_the_measures(seed):
    image = phantom.draw(phantom.random_attributes(seed), seed).image
    upright, turned = measure(image), measure(np.ascontiguousarray(np.rot90(image)))
    assert dice(np.rot90(upright.mask), turned.mask) > 0.85
    assert turned.size_mm == pytest.approx(upright.size_mm, rel=0.05)
    assert turned.ita == pytest.approx(upright.ita, abs=1)
    assert abs(turned.border - upright.border) <= 1
    assert {name for name, share in upright.colours.items() if share > 0.1} <= turned.colours.keys()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((20, 300, 3), np.uint8),
        np.zeros((40, 400, 3), np.uint8),
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        "lesion.png",
    ],
    ids=["one pixel", "too low", "too narrow", "grey", "float", "path"],
)
def test_what_cannot_be_measured_is_refused(image):
    with pytest.raises(InputError):
        measure(image)


def test_annotation_keeps_the_size_and_draws_near_the_outline_only(plain, plain_measured):
    drawn = np.asarray(annotate(plain.image, plain_measured))
    changed = (drawn != plain.image).any(axis=-1)
    x, y = plain_measured.outline.round().astype(int).T
    assert drawn.shape == plain.image.shape
    assert changed[y, x].mean() > 0.95
    assert changed.mean() < 0.2


def test_annotating_an_image_without_lesion_leaves_it_as_it_was():
    assert np.array_equal(np.asarray(annotate(uniform(), measure(uniform()))), uniform())


def measured_as(**changes) -> Appearance:
    values = {
        "found": True, "mask": np.ones((4, 4), bool), "outline": np.zeros((4, 2)), "asymmetry": 1, "border": 4,
        "colours": {"red": 0.4, "black": 0.6}, "size_mm": 8.2, "ita": 30.0, "tone": 5, "tone_name": "intermediate",
        "lesion_share": 0.2, "contrast": 30.0, "axes": (), "cut_segments": (True,) * 4 + (False,) * 4,
    }  # fmt: skip
    return Appearance(**values | changes)


@pytest.mark.parametrize(
    ("requested", "agrees"),
    [
        ({"asymmetry": 1}, True),
        ({"asymmetry": 2}, False),
        ({"border": 5}, True),
        ({"border": 6}, False),
        ({"colours": ("black", "red")}, True),
        ({"colours": ("red",)}, False),
        ({"size_mm": 10}, True),
        ({"size_mm": 12}, False),
        ({"tone": 6}, True),
        ({"tone": 7}, False),
        ({"structures": ("network",)}, None),
        ({"site": "trunk"}, None),
        ({"diagnosis": "nevus"}, None),
    ],
)
def test_requested_is_compared_with_measured(requested, agrees):
    (line,) = compare(LesionAttributes(**requested), measured_as())
    assert line.attribute in requested
    assert line.agrees is agrees
    assert (line.measured == "not measured") == (agrees is None)


def test_only_what_was_requested_is_compared_and_in_order():
    lines = compare(LesionAttributes(tone=5, border=4, label="benign"), measured_as())
    assert [line.attribute for line in lines] == ["label", "border", "tone"]


def test_without_a_lesion_its_attributes_disagree_and_the_skin_is_still_compared():
    lines = compare(LesionAttributes(border=4, tone=5), measured_as(found=False, colours={}))
    assert [(line.measured, line.agrees) for line in lines] == [("no lesion found", False), ("5", True)]


def test_a_row_has_the_columns_of_the_table(plain_measured):
    assert list(row(plain_measured)) == ["asymmetry", "border", "colours", "size", "ita", "lesion_share"]
    assert row(plain_measured)["colours"] == "dark brown"
    assert row(measure(uniform()))["size"] == ""
