"""Words of the owners of sets, brought to those of manifests; editions and folders that differ from the first ones."""

import pytest
from sample_sets import by_file, made

from dermaflux.data.prepare import find_sex, find_site, find_tone, prepare
from dermaflux.data.registry import SOURCES
from dermaflux.lesion import SITES


@pytest.mark.parametrize("text", ["anterior torso", "head/neck", "UPPER EXTREMITY", "Foot", "oral/genital", "", "nail"])
def test_places_on_the_body_are_sites_or_nothing(text):
    assert find_site(text) in ("", *SITES)
    assert (find_site(text) == "") == (text in ("", "nail"))


@pytest.mark.parametrize(
    ("text", "scale", "meant"),
    [
        ("III", "Fitzpatrick", "Fitzpatrick III"),
        ("iv ", "Fitzpatrick", "Fitzpatrick IV"),
        ("3.0", "Fitzpatrick", "Fitzpatrick III"),
        ("34", "Fitzpatrick", "Fitzpatrick III-IV"),
        ("7", "Fitzpatrick", ""),
        ("0", "Fitzpatrick", ""),
        ("17", "Fitzpatrick", ""),
        ("", "Fitzpatrick", ""),
        ("nan", "Fitzpatrick", ""),
        ("0", "MILK10k class", "MILK10k class 0"),
        ("2.0", "MILK10k class", "MILK10k class 2"),
        ("", "MILK10k class", ""),
    ],
)
def test_a_skin_tone_names_its_scale(text, scale, meant):
    assert find_tone(text, scale) == meant


@pytest.mark.parametrize(
    ("text", "meant"), [("FEMALE", "female"), ("m", "male"), ("UNK", ""), ("", ""), ("Intersex", "intersex")]
)
def test_sex_is_written_in_one_way_over_all_sets(text, meant):
    assert find_sex(text) == meant


@pytest.mark.parametrize(
    ("text", "meant"), [("head_neck_face", "head and neck"), ("lower-extremity", "lower extremity")]
)
def test_places_are_read_however_their_words_are_joined(text, meant):
    assert find_site(text) == meant


@pytest.mark.parametrize(
    ("site", "places"),
    {
        "head and neck": "upper eyelid, lower lip, lower jaw, forehead, left cheek, ears, back of the neck",
        "trunk": "upper back, Lower abdomen, upper chest, buttocks",
        "upper extremity": "Upper Extremities, left upper limb, lower arm, shoulder, back of the hand, thumb",
        "lower extremity": "upper leg, lower limb, ankle, heels",
        "anogenital": "genitalia",
        "": "upper, lower, palms/soles, hand and foot, nail",
    }.items(),
)
def test_above_and_below_alone_are_no_limbs_and_two_sites_are_none(site, places):
    assert {text: find_site(text) for text in places.split(", ")} == dict.fromkeys(places.split(", "), site)


def test_hidden_files_and_folders_are_no_part_of_a_set(tmp_path):
    tables = {"metadata__csv": "img_id,diagnostic\nPAT_1.png,NEV", "._metadata__csv": "\0\5\26\7"}
    folder = made(tmp_path, "PAT_1.png ._PAT_1.png .cache/PAT_1.png", **tables)
    (folder / ".cache" / "metadata.csv").write_text("img_id,diagnostic\nPAT_1.png,MEL")
    found = prepare(SOURCES["pad-ufes-20"], folder, folder)
    assert by_file(found) == {"PAT_1.png": ("benign", "nevus")} and not found.left_out
    assert found.rows[0]["file"] == "PAT_1.png"


@pytest.mark.parametrize("column", ["target", "malignant"])
def test_isic_2024_in_the_editions_of_kaggle_and_of_its_owner(column, tmp_path):
    folder = made(
        tmp_path,
        "image/ISIC_1.jpg image/ISIC_2.jpg image/ISIC_3.jpg",
        **{
            "ISIC_2024_Training_GroundTruth__csv": f"isic_id,{column}\nISIC_1,0.0\nISIC_2,1.0\nISIC_3,0.0",
            "ISIC_2024_Training_Supplement__csv": "isic_id,iddx_1\nISIC_1,Benign\nISIC_2,\nISIC_3,Indeterminate",
            "metadata__csv": "isic_id,age_approx,sex\nISIC_1,50,male\nISIC_2,60,female\nISIC_3,70,male",
        },
    )
    found = prepare(SOURCES["isic2024"], folder, folder)
    assert by_file(found) == {"ISIC_1.jpg": ("benign", ""), "ISIC_2.jpg": ("malignant", "")}
    assert [(row["age"], row["sex"]) for row in found.rows] == [("50", "male"), ("60", "female")]
    assert found.left_out == {"doubtful diagnosis “Indeterminate”": 1}


def test_isic_2017_with_age_and_sex_and_a_row_of_metadata_without_diagnosis(tmp_path):
    folder = made(
        tmp_path,
        "ISIC_1.jpg ISIC_2.jpg",
        **{
            "ISIC-2017_Training_Part3_GroundTruth__csv": "image_id,melanoma,seborrheic_keratosis\nISIC_1,1.0,0.0",
            "ISIC-2017_Training_Data_metadata__csv": "image_id,age_approximate,sex\nISIC_1,55,female\nISIC_2,40,male",
        },
    )
    found = prepare(SOURCES["isic2017"], folder, folder)
    (row,) = found.rows
    assert (row["diagnosis"], row["age"], row["sex"]) == ("melanoma", "55", "female")
    assert found.left_out == {"no diagnosis": 1}


def test_folders_that_are_links_are_entered_once(tmp_path):
    made(tmp_path / "disk", "part/1.jpg part/2.jpg")
    (tmp_path / "set").mkdir()
    folder = made(tmp_path / "set", "", HAM10000_metadata__csv="lesion_id,image_id,dx\nL1,1,nv\nL2,2,mel")
    (folder / "part_1").symlink_to(tmp_path / "disk" / "part")
    (folder / "around").symlink_to(folder)
    found = prepare(SOURCES["ham10000"], folder, folder)
    assert by_file(found) == {"1.jpg": ("benign", "nevus"), "2.jpg": ("malignant", "melanoma")}
    assert not found.left_out and {row["file"] for row in found.rows} == {"part_1/1.jpg", "part_1/2.jpg"}
