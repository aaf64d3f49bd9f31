"""Diagnoses of public sets: named as closely as their owners do, also in the shape of the ISIC Archive."""

import pytest
from test_data import by_file, made

from dermaflux.data.prepare import find_diagnosis, prepare
from dermaflux.data.registry import SOURCES


def test_diagnoses_are_named_as_closely_as_an_owner_does_and_indeterminate_lesions_are_left_out(tmp_path):
    folder = made(
        tmp_path,
        "image/ISIC_1.jpg image/ISIC_2.jpg image/ISIC_3.jpg",
        **{
            "train-metadata__csv": """
        isic_id,target,iddx_1,iddx_2,iddx_3
        ISIC_1,1,Malignant,Malignant-epidermal-proliferations,Squamous-cell-carcinoma-in-situ
        ISIC_2,0,Indeterminate,Indeterminate-melanocytic-proliferations,
        ISIC_3,0,Benign,Benign-melanocytic-proliferations,Nevus"""
        },
    )
    found = prepare(SOURCES["isic2024"], folder, folder)
    assert by_file(found) == {"ISIC_1.jpg": ("malignant", "squamous cell carcinoma"), "ISIC_3.jpg": ("benign", "nevus")}
    assert found.left_out == {"doubtful diagnosis “Indeterminate”": 1}


@pytest.mark.parametrize(
    ("texts", "label", "diagnosis"),
    [
        (("Melanoma Invasive", "Malignant melanocytic proliferations (Melanoma)"), "malignant", "melanoma"),
        (("", "Nevus, Atypical, Dysplastic, or Clark"), "benign", "nevus"),
        (("melanocytic-nevi",), "benign", "nevus"),
        (("nevus, may be a melanoma",), "benign", "nevus"),
        (("Benign soft tissue proliferations - Vascular",), "benign", "vascular lesion"),
        (("Squamous cell carcinoma in situ, Bowen's disease",), "malignant", "squamous cell carcinoma"),
        (("unknown", ""), "benign", None),
    ],
)
def test_an_owners_words_name_a_diagnosis_of_the_known_label_or_none(texts, label, diagnosis):
    assert find_diagnosis(texts, label) == diagnosis


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.isic])
def test_a_set_of_the_isic_archive_is_also_read_as_isic_cli_fetches_it(name, tmp_path):
    folder = made(
        tmp_path,
        "ISIC_1.jpg ISIC_2.jpg",
        metadata__csv="""
        isic_id,attribution,age_approx,anatom_site_general,diagnosis_1,diagnosis_2,diagnosis_3,lesion_id,sex
        ISIC_1,Anonymous,50,head/neck,Malignant,,Melanoma-Invasive,IL_1,male
        ISIC_2,Anonymous,50,,Indeterminate,,Solar-or-actinic-keratosis,IL_2,female""",
    )
    found = prepare(SOURCES[name], folder, folder)
    assert by_file(found) == {"ISIC_1.jpg": ("malignant", "melanoma")} and found.rows[0]["source"] == name
    assert (found.rows[0]["site"], found.rows[0]["source_id"]) == ("head and neck", "IL_1")
    assert found.left_out == {"doubtful diagnosis “indeterminate”": 1}
