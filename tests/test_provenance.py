"""A synthetic image says how it was made, and its file can be read back into the same recipe."""

import json
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_recipes import RECIPE, image, varied

from dermaflux import lesion
from dermaflux.errors import InputError
from dermaflux.images import Provenance, open_untrusted, read_provenance, save_synthetic
from dermaflux.lesion import LesionAttributes

TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@pytest.fixture
def saved(tmp_path):
    return save_synthetic(image(), RECIPE, tmp_path / "new folder" / "a.png")


def test_what_is_saved_is_read_back(saved):
    assert read_provenance(saved) == read_provenance(saved.read_bytes()) == read_provenance(str(saved)) == RECIPE


def test_every_pixel_is_kept(saved):
    assert open_untrusted(saved).tobytes() == image().tobytes()


def test_the_same_image_and_recipe_give_the_same_bytes(saved, tmp_path):
    decorated = image()
    decorated.info |= {"dpi": (300, 300), "icc_profile": b"x" * 200, "transparency": (1, 2, 3)}
    again = save_synthetic(decorated, replace(RECIPE, true_cfg=1.5), tmp_path / "other.png")
    assert again.read_bytes() == saved.read_bytes()


def test_whole_numbers_and_their_floats_are_one_recipe():
    assert replace(RECIPE, guidance=3).to_json() == replace(RECIPE, guidance=3.0).to_json()


def test_a_variation_carries_the_recipe_of_its_source(tmp_path):
    recipe = varied(8)
    assert read_provenance(save_synthetic(image(), recipe, tmp_path / "a.png")) == recipe
    with pytest.raises(InputError, match="more than 8"):
        varied(9)


def test_the_file_says_that_it_is_synthetic(saved):
    with Image.open(saved) as opened:
        info = opened.info
    assert info["Software"] == "DermaFlux 0.1.0"
    assert info["Description"].startswith("Synthetic image") and RECIPE.caption in info["Description"]
    assert json.loads(info["dermaflux"])["seed"] == RECIPE.seed
    for said in (RECIPE.caption, "Negative prompt: hair", "Seed: 4294967295", "Steps: 20", "Model: nano", "LoRA"):
        assert said in info["parameters"]


def xmp_of(path) -> ElementTree.Element:
    with Image.open(path) as opened:
        packet = opened.info["XML:com.adobe.xmp"]
    return ElementTree.fromstring(packet.split("?>", 1)[1].rsplit("<?", 1)[0])


def test_the_xmp_is_well_formed_and_names_the_digital_source_type(saved):
    described = xmp_of(saved).find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    source_type = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    assert described.get(source_type) == TRAINED_ALGORITHMIC_MEDIA
    assert RECIPE.caption in "".join(described.itertext())


def test_characters_that_xml_forbids_are_left_out_of_the_xmp_alone(tmp_path):
    recipe = replace(RECIPE, caption="a\ufffeb\uffff]]>", version='"1"')
    path = save_synthetic(image(), recipe, tmp_path / "a.png")
    assert "ab]]>" in "".join(xmp_of(path).itertext())
    assert read_provenance(path) == recipe


def test_a_save_that_fails_leaves_nothing_half_written(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError):
        save_synthetic(image(), RECIPE, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_saving_again_replaces_the_file(saved):
    recipe = replace(RECIPE, seed=1)
    assert read_provenance(save_synthetic(image(32), recipe, saved)) == recipe


def test_only_png_is_written(tmp_path):
    with pytest.raises(InputError, match=r"\.png"):
        save_synthetic(image(), RECIPE, tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


def subsets(values):
    return st.lists(st.sampled_from(list(values)), unique=True).map(tuple)


TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("\n\t<&"), max_size=60)


ATTRIBUTES = st.builds(
    LesionAttributes,
    label=st.none() | st.sampled_from(lesion.LABELS),
    diagnosis=st.none() | st.sampled_from(list(lesion.DIAGNOSES)),
    asymmetry=st.none() | st.integers(0, 2),
    border=st.none() | st.integers(0, 8),
    colours=subsets(lesion.COLOURS),
    structures=subsets(lesion.STRUCTURES),
    size_mm=st.none() | st.integers(2, 20),
    site=st.none() | st.sampled_from(lesion.SITES),
    tone=st.none() | st.integers(1, 10),
    capture=st.none() | st.sampled_from(lesion.CAPTURES),
    artefacts=subsets(lesion.ARTEFACTS),
)


def recipes(**more):
    return st.builds(
        Provenance,
        caption=TEXT,
        attributes=ATTRIBUTES,
        seed=st.integers(0, 2**32 - 1),
        steps=st.integers(1, 50),
        guidance=st.floats(0, 10),
        negative=TEXT,
        true_cfg=st.floats(1, 5),
        lora_strength=st.floats(0, 1.5),
        size=st.integers(16, 4096),
        model=TEXT,
        model_hash=TEXT,
        lora=st.none() | TEXT,
        lora_hash=st.none() | TEXT,
        version=st.just("0.1.0"),
        **more,
    )


VARIED = recipes(strength=st.floats(0.05, 1), source=recipes())


@settings(max_examples=150, deadline=None)
@given(recipes() | VARIED)
def test_json_round_trip(recipe):
    text = recipe.to_json()
    assert Provenance.from_json(text) == recipe
    assert Provenance.from_json(text).to_json() == text


@settings(max_examples=60, deadline=None)
@given(recipes() | VARIED)
def test_png_round_trip(tmp_path_factory, recipe):
    path = save_synthetic(image(16), recipe, tmp_path_factory.getbasetemp() / "round trip.png")
    assert read_provenance(path) == recipe
    assert xmp_of(path) is not None


def test_the_longest_recipe_can_be_saved_and_read(tmp_path):
    recipe = long = replace(RECIPE, caption="痣" * 2000, negative="\U0001f9d0" * 2000)
    for _ in range(8):
        recipe = replace(long, strength=0.5, source=recipe)
    assert read_provenance(save_synthetic(image(), recipe, tmp_path / "a.png")) == recipe


def test_the_options_are_those_of_the_recipe():
    options = varied(1).options()
    assert options.seeds == (0,) and options.strength == 0.4 and options.negative == "hair"
    assert (options.steps, options.guidance, options.true_cfg, options.lora_strength) == (20, 3.5, 1.5, 0.8)


def test_images_can_be_imported_without_torch():
    code = "import sys, dermaflux.images; sys.exit(any(m in sys.modules for m in ('torch', 'gradio', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
