"""Drawn lesions: what was asked for is what is there, measured on the image, the mask and the colour map."""

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from dermaflux.errors import InputError
from dermaflux.lesion import ARTEFACTS, COLOURS, DIAGNOSES, FIELD_MM, MONK_TONES, STRUCTURES, LesionAttributes
from dermaflux.phantom import draw, palette, random_attributes

PLAIN = LesionAttributes(
    asymmetry=2, border=4, colours=("light brown", "dark brown"), structures=("dots",), size_mm=10, tone=3
)


def lab(rgb):
    flat = np.float32(rgb).reshape(-1, 1, 3) / 255
    return cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).reshape(np.shape(rgb))


def swatches(codes):
    return lab([tuple(bytes.fromhex(code[1:])) for code in codes])


def surroundings(phantom, distance):
    """The pixels at least `distance` px from the lesion."""
    side = 2 * distance + 1
    return cv2.dilate(phantom.mask.astype(np.uint8), np.ones((side, side))) == 0


def largest_diameter(mask):
    points = cv2.convexHull(np.argwhere(mask).astype(np.int32))[:, 0].astype(float)
    return np.linalg.norm(points[:, None] - points, axis=-1).max() + 1


def mirror_iou(phantom, angle):
    """Overlap of the mask with its mirror image across the axis at `angle` through the centroid."""
    rows, columns = np.indices(phantom.mask.shape, np.float32)
    (x, y), c, s = phantom.centre, np.cos(2 * angle), np.sin(2 * angle)
    across = np.float32(x + c * (columns - x) + s * (rows - y)), np.float32(y + s * (columns - x) - c * (rows - y))
    mirrored = cv2.remap(phantom.mask.astype(np.float32), *across, cv2.INTER_LINEAR) > 0.5
    return (mirrored & phantom.mask).sum() / (mirrored | phantom.mask).sum()


def octant_sharpness(phantom):
    """The steepest change of colour met on rays across the outline, median of each octant."""
    soft = lab(cv2.GaussianBlur(phantom.image, (0, 0), 0.7))
    values = []
    for octant in range(8):
        steepest = []
        for angle in np.radians(45 * octant + np.arange(8, 38)):
            reach = np.arange(2, 120, 0.5)
            x = np.clip(phantom.centre[0] + reach * np.cos(angle), 0, 255).astype(np.float32)[None]
            y = np.clip(phantom.centre[1] + reach * np.sin(angle), 0, 255).astype(np.float32)[None]
            inside = cv2.remap(phantom.mask.astype(np.float32), x, y, cv2.INTER_LINEAR)[0] > 0.5
            edge = int(np.argmin(inside))
            along = cv2.remap(soft, x, y, cv2.INTER_LINEAR)[0][edge - 8 : edge + 9]
            steepest.append(np.linalg.norm(along[4:] - along[:-4], axis=-1).max())
        values.append(np.median(steepest))
    return np.array(values)


def test_same_seed_draws_the_same_lesion_and_another_seed_another():
    attributes = random_attributes(7)
    first, again, other = draw(attributes, 5), draw(attributes, 5), draw(attributes, 6)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.colour_map, again.colour_map)
    assert not np.array_equal(first.mask, other.mask)


def test_changing_one_attribute_leaves_the_rest_of_the_lesion():
    first = draw(PLAIN, 5)
    for change in ({"tone": 6}, {"border": 7}, {"structures": ("network", "dots")}):
        other = draw(replace(PLAIN, **change), 5)
        assert np.array_equal(first.colour_map, other.colour_map)
    away = surroundings(first, 25)
    assert np.abs(first.image.astype(int) - draw(replace(PLAIN, border=7), 5).image)[away].max() <= 3


def test_arrays_have_the_promised_shapes_and_types():
    phantom = draw(PLAIN, 0)
    assert phantom.image.shape == (256, 256, 3) and phantom.image.dtype == np.uint8
    assert phantom.mask.shape == phantom.colour_map.shape == (256, 256)
    assert phantom.mask.dtype == bool and phantom.colour_map.dtype == np.int8


@pytest.mark.parametrize("size_mm", [2, 4, 7, 12, 16, 20])
def test_largest_diameter_is_the_requested_size_and_the_lesion_is_one_piece_within_the_frame(size_mm):
    for seed in range(4):
        phantom = draw(replace(PLAIN, size_mm=size_mm, asymmetry=seed % 3), seed)
        assert largest_diameter(phantom.mask) * FIELD_MM / 256 == pytest.approx(size_mm, rel=0.05)
        assert cv2.connectedComponents(phantom.mask.astype(np.uint8), connectivity=4)[0] == 2


@pytest.mark.parametrize("size", [64, 128, 320])
def test_other_image_sizes_keep_the_lesions_share_of_the_frame(size):
    phantom = draw(PLAIN, 3, size)
    assert phantom.image.shape == (size, size, 3)
    assert largest_diameter(phantom.mask) / size == pytest.approx(PLAIN.size_mm / FIELD_MM, rel=0.05)


@pytest.mark.parametrize("size", [0, -256, 63, 1025, 256.0, "256", None, True])
def test_unusable_image_sizes_are_refused_with_the_range(size):
    with pytest.raises(InputError, match="64 to 1024"):
        draw(PLAIN, 0, size)


def test_colour_map_holds_exactly_the_requested_colours_each_of_a_measurable_area():
    for seed in range(40):
        phantom = draw(random_attributes(seed), seed)
        inside = phantom.colour_map[phantom.mask]
        shares = {name: (inside == index).mean() for index, name in enumerate(COLOURS)}
        assert {name for name, share in shares.items() if share} == set(phantom.attributes.colours)
        assert min(shares[name] for name in phantom.attributes.colours) >= 0.08
        assert (phantom.colour_map[~phantom.mask] == -1).all()


def test_pixels_look_most_like_the_colour_the_map_names():
    right = []
    for seed in range(30):
        phantom = draw(replace(random_attributes(seed), artefacts=()), seed)
        core = cv2.erode(phantom.mask.astype(np.uint8), np.ones((7, 7))) > 0
        pixels = lab(cv2.GaussianBlur(phantom.image, (0, 0), 1.5))[core]
        nearest = np.linalg.norm(pixels[:, None] - lab(palette(phantom.attributes.tone)), axis=-1).argmin(1)
        right.append((nearest == phantom.colour_map[core]).mean())
    assert np.mean(right) > 0.8


@pytest.mark.parametrize("tone", range(1, 11))
def test_lesion_colours_are_nearest_to_their_own_swatch_and_stand_out_from_the_skin(tone):
    colours = lab(palette(tone))
    distances = np.linalg.norm(colours[:, None] - swatches(colour.swatch for colour in COLOURS.values()), axis=-1)
    assert distances.argmin(1).tolist() == list(range(6))
    skin = swatches(MONK_TONES)[tone - 1]
    assert np.linalg.norm(colours - skin, axis=-1)[1:].min() > 14
    assert colours[0, 0] > skin[0]


@pytest.mark.parametrize("seed", range(6))
def test_asymmetry_0_has_two_perpendicular_mirror_axes(seed):
    phantom = draw(replace(PLAIN, asymmetry=0), seed)
    assert mirror_iou(phantom, phantom.axis) > 0.97
    assert mirror_iou(phantom, phantom.axis + np.pi / 2) > 0.97


@pytest.mark.parametrize("seed", range(6))
def test_asymmetry_1_has_a_single_mirror_axis(seed):
    phantom = draw(replace(PLAIN, asymmetry=1), seed)
    assert mirror_iou(phantom, phantom.axis) > 0.97
    assert all(mirror_iou(phantom, phantom.axis + angle) < 0.93 for angle in np.radians(np.arange(20, 161, 10)))


@pytest.mark.parametrize("seed", range(6))
def test_asymmetry_2_has_no_mirror_axis(seed):
    phantom = draw(replace(PLAIN, asymmetry=2), seed)
    assert all(mirror_iou(phantom, angle) < 0.93 for angle in np.radians(np.arange(0, 180, 5)))


def test_colours_follow_the_symmetry_of_the_outline():
    def agreement(asymmetry, seed):
        phantom = draw(replace(PLAIN, asymmetry=asymmetry, colours=("light brown", "dark brown", "red")), seed)
        turn = cv2.getRotationMatrix2D(phantom.centre, np.degrees(phantom.axis), 1)
        turn[:, 2] += 127.5 - np.array(phantom.centre)
        upright = cv2.warpAffine(phantom.colour_map + 1, turn, (256, 256), flags=cv2.INTER_NEAREST)
        both = (upright > 0) & (upright[::-1] > 0)
        return (upright == upright[::-1])[both].mean()

    for asymmetry in (0, 1):
        assert min(agreement(asymmetry, seed) for seed in range(4)) > 0.9
    assert np.mean([agreement(2, seed) for seed in range(4)]) < 0.8


@pytest.mark.parametrize("border", range(9))
def test_as_many_segments_are_cut_as_requested(border):
    assert sum(draw(replace(PLAIN, border=border), border).cut_segments) == border


def test_cut_segments_are_sharper_than_the_others():
    sharp, soft = [], []
    for seed in range(8):
        phantom = draw(replace(PLAIN, colours=("dark brown",), asymmetry=0, border=4), seed)
        sharpness, cut = octant_sharpness(phantom), np.array(phantom.cut_segments)
        sharp.extend(sharpness[cut])
        soft.extend(sharpness[~cut])
    assert np.median(sharp) > 1.5 * np.median(soft)
    assert np.mean(np.array(sharp) > np.median(soft)) > 0.95


def test_measured_skin_tone_follows_the_requested_tone():
    nearest = []
    for tone in range(1, 11):
        phantom = draw(replace(PLAIN, tone=tone), tone)
        skin = np.median(lab(phantom.image)[surroundings(phantom, 12)], axis=0)
        nearest.append(1 + np.linalg.norm(swatches(MONK_TONES) - skin, axis=-1).argmin())
    assert nearest == sorted(nearest)
    assert np.abs(np.array(nearest) - np.arange(1, 11)).max() <= 1


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_an_artefact_changes_the_picture_outside_the_lesion_and_leaves_the_lesion_known(artefact):
    clean, marked = draw(PLAIN, 11), draw(replace(PLAIN, artefacts=(artefact,)), 11)
    changed = np.abs(clean.image.astype(int) - marked.image).max(-1) > 40
    assert changed[surroundings(clean, 12)].sum() > 60
    assert np.array_equal(clean.mask, marked.mask)
    assert np.array_equal(clean.colour_map, marked.colour_map)


@pytest.mark.parametrize("structure", [name for name in STRUCTURES if name != "structureless areas"])
def test_a_structure_adds_detail_to_the_lesion(structure):
    def detail(structures):
        phantom = draw(replace(PLAIN, colours=("light brown",), structures=structures), 2)
        grey = phantom.image.mean(-1).astype(np.float32)
        fine = grey - cv2.GaussianBlur(grey, (0, 0), 3)
        return fine[cv2.erode(phantom.mask.astype(np.uint8), np.ones((15, 15))) > 0].std()

    assert detail((structure,)) > 1.3 * detail(("structureless areas",))


def test_a_structureless_area_is_a_smooth_patch_of_over_a_tenth_of_the_lesion():
    def smooth_share(structures):
        phantom = draw(replace(PLAIN, size_mm=14, colours=("light brown",), structures=structures), 4)
        grey = phantom.image.mean(-1).astype(np.float32)
        fine = (grey - cv2.GaussianBlur(grey, (0, 0), 3)) ** 2
        core = cv2.erode(phantom.mask.astype(np.uint8), np.ones((15, 15))) > 0
        return (cv2.GaussianBlur(fine, (0, 0), 3)[core] < 12).mean()

    assert smooth_share(("network", "structureless areas")) > smooth_share(("network",)) + 0.1


def test_what_is_not_specified_is_drawn_and_returned():
    attributes = draw(LesionAttributes(label="benign"), 9).attributes
    drawn = ("asymmetry", "border", "colours", "structures", "size_mm", "tone")
    assert set(attributes.specified()) == {"label", "capture", *drawn}
    assert attributes.artefacts == ()
    asked = replace(PLAIN, site="trunk", capture="dermoscopic")
    assert draw(asked, 9).attributes == asked


def test_random_attributes_specify_everything_and_span_the_vocabulary():
    drawn = [random_attributes(seed) for seed in range(600)]
    assert drawn[:20] == [random_attributes(seed) for seed in range(20)]
    assert all(set(replace(one, artefacts=("hair",)).specified()) == set(one.__dataclass_fields__) for one in drawn)
    assert {one.tone for one in drawn} == set(range(1, 11))
    assert {one.border for one in drawn} == set(range(9))
    assert {one.size_mm for one in drawn} == set(range(4, 17))
    assert {one.diagnosis for one in drawn} == set(DIAGNOSES)
    assert all(DIAGNOSES[one.diagnosis].label == one.label for one in drawn)
    asymmetry, border = np.array([(one.asymmetry, one.border) for one in drawn]).T
    assert abs(np.corrcoef(asymmetry, border)[0, 1]) < 0.15
    assert 0.1 < np.mean([len(one.artefacts) for one in drawn]) / len(ARTEFACTS) < 0.2


def test_a_lesion_is_drawn_in_under_a_tenth_of_a_second_of_one_core():
    draw(PLAIN, 0)
    start = time.process_time()
    for seed in range(20):
        draw(random_attributes(seed), seed)
    assert (time.process_time() - start) / 20 < 0.1
