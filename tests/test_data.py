"""Public sets as their owners ship them, made small: folders, metadata and oddities of the real ones."""

import pytest
from sample_sets import by_file, made
from typer.testing import CliRunner

from dermaflux.cli import app
from dermaflux.data import manifest
from dermaflux.data.prepare import prepare
from dermaflux.data.registry import SOURCES
from dermaflux.errors import DataError
from dermaflux.lesion import DIAGNOSES


def run(*arguments: object):
    return CliRunner().invoke(app, ["data", *(str(argument) for argument in arguments)])


def test_isic_2017_numbers_of_two_columns_and_no_superpixels(tmp_path):
    folder = made(
        tmp_path,
        "data/ISIC_0000000.jpg data/ISIC_0000001.jpg data/ISIC_0000002.jpg data/ISIC_0000000_superpixels.png",
        **{
            "ISIC-2017_Training_Part3_GroundTruth__csv": """
            image_id,melanoma,seborrheic_keratosis
            ISIC_0000000,0.0,0.0
            ISIC_0000001,1.0,0.0
            ISIC_0000002,0.0,1.0"""
        },
    )
    found = prepare(SOURCES["isic2017"], folder, folder)
    assert by_file(found) == {
        "ISIC_0000000.jpg": ("benign", "nevus"),
        "ISIC_0000001.jpg": ("malignant", "melanoma"),
        "ISIC_0000002.jpg": ("benign", "seborrheic keratosis"),
    }
    assert not found.left_out and {row["licence"] for row in found.rows} == {"CC0-1.0"}


def test_isic_2019_names_that_end_in_downsampled_and_a_second_table(tmp_path):
    folder = made(
        tmp_path,
        "ISIC_2019_Training_Input/ISIC_0000000.jpg ISIC_2019_Training_Input/ISIC_0000020_downsampled.jpg a/ISIC_3.jpg",
        **{
            "ISIC_2019_Training_GroundTruth__csv": """
                image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK
                ISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
                ISIC_0000020_downsampled,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
                ISIC_3,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0
                ISIC_4,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0""",
            "ISIC_2019_Training_Metadata__csv": """
                image,age_approx,anatom_site_general,lesion_id,sex
                ISIC_0000000,55.0,anterior/torso,,female
                ISIC_0000020_downsampled,30.0,upper/extremity,MSK4_11169,female""",
        },
    )
    found = prepare(SOURCES["isic2019"], folder, folder)
    assert by_file(found) == {
        "ISIC_0000000.jpg": ("benign", "nevus"),
        "ISIC_0000020_downsampled.jpg": ("malignant", "melanoma"),
    }
    assert [(row["site"], row["age"]) for row in found.rows] == [("trunk", "55.0"), ("upper extremity", "30.0")]
    assert dict(found.left_out) == {"doubtful diagnosis “AK”": 1, "named, but no such file": 1}
    assert "line 5 (ISIC_4)" in found.first["named, but no such file"]


def test_isic_2020_and_2024(tmp_path):
    folder = made(
        tmp_path / "20",
        "train/ISIC_1.jpg train/ISIC_2.jpg",
        train__csv="""
        image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target
        ISIC_1,IP_7279968,male,45.0,head/neck,unknown,benign,0
        ISIC_2,IP_3075186,female,45.0,palms/soles,melanoma,malignant,1""",
    )
    found = prepare(SOURCES["isic2020"], folder, folder)
    assert [row["label"] for row in found.rows] == ["benign", "malignant"]
    assert [row["patient_id"] for row in found.rows] == ["IP_7279968", "IP_3075186"]
    assert [row["site"] for row in found.rows] == ["head and neck", ""]
    folder = made(
        tmp_path / "24",
        "image/ISIC_1.jpg",
        **{
            "train-metadata__csv": """
        isic_id,target,patient_id,age_approx,sex,anatom_site_general,lesion_id
        ISIC_1,1,IP_1,60.0,male,lower/extremity,IL_1"""
        },
    )
    (row,) = prepare(SOURCES["isic2024"], folder, folder).rows
    assert (row["label"], row["source_id"], row["site"]) == ("malignant", "IL_1", "lower extremity")


@pytest.mark.parametrize("name, separator", [("HAM10000_metadata.csv", ","), ("HAM10000_metadata", "\t")])
def test_ham10000_in_two_folders_its_table_with_commas_or_tabs(name, separator, tmp_path):
    folder = made(tmp_path, "HAM10000_images_part_1/ISIC_1.jpg HAM10000_images_part_2/ISIC_2.jpg part_2/ISIC_3.jpg")
    rows = (
        "lesion_id,image_id,dx,dx_type,age,sex,localization",
        "HAM_1,ISIC_1,bkl,histo,80.0,male,scalp",
        "HAM_2,ISIC_2,akiec,histo,75.0,male,ear",
        "HAM_3,ISIC_3,df,histo,,female,back",
    )
    (folder / name).write_text("\n".join(rows).replace(",", separator))
    found = prepare(SOURCES["ham10000"], folder, folder)
    assert by_file(found) == {"ISIC_1.jpg": ("benign", ""), "ISIC_3.jpg": ("benign", "dermatofibroma")}
    assert found.rows[0]["site"] == "head and neck" and found.left_out == {"doubtful diagnosis “akiec”": 1}


def test_milk10k_diagnoses_of_lesions_with_two_images_each(tmp_path):
    folder = made(
        tmp_path,
        "MILK10k_Training_Input/IL_1/ISIC_1.jpg MILK10k_Training_Input/IL_1/ISIC_2.jpg a/IL_2/ISIC_3.jpg",
        **{
            "MILK10k_Training_GroundTruth__csv": """
                lesion_id,AKIEC,BCC,BEN_OTH,BKL,DF,INF,MAL_OTH,MEL,NV,SCCKA,VASC
                IL_1,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0,0.0,0.0
                IL_2,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0,0.0""",
            "MILK10k_Training_Metadata__csv": """
                lesion_id,image_type,isic_id,age_approx,sex,skin_tone_class,site
                IL_1,clinical:close-up,ISIC_1,65,male,3,trunk
                IL_1,dermoscopic,ISIC_2,65,male,3,trunk
                IL_2,dermoscopic,ISIC_3,40,female,4,foot""",
        },
    )
    found = prepare(SOURCES["milk10k"], folder, folder)
    assert by_file(found) == {
        "ISIC_1.jpg": ("malignant", "melanoma"),
        "ISIC_2.jpg": ("malignant", "melanoma"),
        "ISIC_3.jpg": ("benign", "nevus"),
    }
    assert [row["skin_tone"] for row in found.rows] == ["MILK10k class 3"] * 2 + ["MILK10k class 4"]


@pytest.mark.parametrize("name", ["hiba", "derm12345", "milk10k"])
def test_sets_of_the_isic_archive(name, tmp_path):
    folder = made(
        tmp_path,
        "ISIC_1.jpg ISIC_2.jpg ISIC_3.jpg",
        metadata__csv="""
        isic_id,age_approx,anatom_site_general,diagnosis_1,fitzpatrick_skin_type,lesion_id,patient_id,sex
        ISIC_1,50,posteriortorso,Benign,II,IL_1,IP_1,male
        ISIC_2,50,,Malignant,III,IL_2,IP_2,female
        ISIC_3,50,,Indeterminate,III,IL_3,IP_3,female""",
    )
    found = prepare(SOURCES[name], folder, folder)
    assert [row["label"] for row in found.rows] == ["benign", "malignant"]
    assert found.left_out == {"doubtful diagnosis “indeterminate”": 1}
    assert [row["skin_tone"] for row in found.rows] == ["Fitzpatrick II", "Fitzpatrick III"]


def test_pad_ufes_20_names_with_an_ending_and_the_misspelt_skin_type(tmp_path):
    folder = made(
        tmp_path,
        "imgs_part_1/PAT_1_2_3.png imgs_part_2/PAT_2_3_4.png imgs_part_3/PAT_9_9_9.png",
        metadata__csv="""
        patient_id,lesion_id,age,gender,fitspatrick,region,diagnostic,img_id,biopsed
        PAT_1,2,55,FEMALE,3.0,NECK,BCC,PAT_1_2_3.png,True
        PAT_2,3,40,,,ARM,ACK,PAT_2_3_4.png,False""",
    )
    found = prepare(SOURCES["pad-ufes-20"], folder, folder)
    (row,) = found.rows
    assert (row["diagnosis"], row["site"]) == ("basal cell carcinoma", "head and neck")
    assert (row["sex"], row["skin_tone"]) == ("female", "Fitzpatrick III")
    assert found.left_out == {"doubtful diagnosis “ACK”": 1, "a file that no table names": 1}


def test_ddi_with_an_unnamed_first_column(tmp_path):
    folder = made(
        tmp_path,
        "images/000001.png images/000002.png",
        ddi_metadata__csv="""
        ,DDI_ID,DDI_file,skin_tone,malignant,disease
        0,1,000001.png,56,True,melanoma
        1,2,000002.png,12,False,nevus""",
    )
    found = prepare(SOURCES["ddi"], folder, folder)
    assert [(row["label"], row["skin_tone"]) for row in found.rows] == [
        ("malignant", "Fitzpatrick V-VI"),
        ("benign", "Fitzpatrick I-II"),
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_every_set_says_what_its_diagnoses_mean(name):
    source = SOURCES[name]
    meanings = {**source.meanings, **source.folders}
    assert {"benign", "malignant"} <= {label for label, _ in meanings.values()}
    for label, diagnosis in meanings.values():
        assert diagnosis is None or DIAGNOSES[diagnosis].label == label
    page = run("list", name).stdout
    assert all(said in page for said in (source.licence, source.citation, source.home, "Bowen's disease: malignant"))
    assert all(f"{said} = " in page for said in meanings if said)
    assert source.home.startswith("https://") and source.licence and source.derivatives and source.citation
    assert set(source.columns) <= set(manifest.COLUMNS)


def test_a_missing_table_or_column_and_an_unknown_diagnosis_are_named(tmp_path):
    with pytest.raises(DataError, match="holds no HAM10000_metadata"):
        prepare(SOURCES["ham10000"], tmp_path, tmp_path)
    folder = made(tmp_path / "a", "x.jpg", HAM10000_metadata__csv="lesion,picture\n1,x")
    with pytest.raises(DataError, match="line 1: the column “image_id” is missing"):
        prepare(SOURCES["ham10000"], folder, folder)
    folder = made(tmp_path / "b", "x.jpg", HAM10000_metadata__csv="lesion_id,image_id\n1,x")
    with pytest.raises(DataError, match="line 2: the column “dx” is missing"):
        prepare(SOURCES["ham10000"], folder, folder)
    folder = made(tmp_path / "c", "x.jpg", HAM10000_metadata__csv="lesion_id,image_id,dx\n1,x,wart")
    assert prepare(SOURCES["ham10000"], folder, folder).left_out == {"unknown diagnosis “wart”": 1}


def test_prepare_writes_a_manifest_that_reads_and_says_what_it_left_out(tmp_path):
    made(tmp_path / "set", "melanoma/1.jpg naevus/2.jpg stray.jpg")
    result = run("prepare", "med-node", "--images", tmp_path / "set", "--out", tmp_path / "manifest.csv")
    assert result.exit_code == 0 and "2 images: 1 benign, 1 malignant." in result.stdout
    assert "1 left out" in result.stdout and "stray.jpg" in result.stdout
    assert {row.path.name for row in manifest.read(tmp_path / "manifest.csv")} == {"1.jpg", "2.jpg"}


def test_prepare_again_keeps_captions_and_splits_of_images_that_are_still_there(tmp_path):
    folder = made(tmp_path, "melanoma/1.jpg naevus/2.jpg naevus/3.jpg")
    out = folder / "manifest.csv"
    run("prepare", "med-node", "--images", folder)
    mine = {"caption": "A lesion.", "split": "val", "left_out": "yes"}
    manifest.write(out, [row.values | mine | {"label": "wrong"} for row in manifest.read(out)])
    (folder / "naevus" / "3.jpg").unlink()
    assert run("prepare", "med-node", "--images", folder).exit_code == 0
    rows = manifest.read(out, left_out=True)
    assert [(row.path.name, row.label) for row in rows] == [("1.jpg", "malignant"), ("2.jpg", "benign")]
    assert all(mine.items() <= row.values.items() for row in rows)


def test_prepare_refuses_a_manifest_beside_its_images_and_an_empty_one(tmp_path):
    made(tmp_path / "set", "stray.jpg")
    (tmp_path / "else").mkdir()
    result = run("prepare", "med-node", "--images", tmp_path / "set", "--out", tmp_path / "else" / "manifest.csv")
    assert result.exit_code == 2 and "must lie in" in result.stderr
    result = run("prepare", "med-node", "--images", tmp_path / "set")
    assert result.exit_code == 2 and "Nothing is left to write. 1 left out" in result.stderr


def test_list_names_every_set_and_fetch_says_how_one_is_had(tmp_path, monkeypatch):
    listed = run("list").stdout
    assert all(name in listed and source.licence in listed for name, source in SOURCES.items())
    monkeypatch.setenv("PATH", str(tmp_path))
    said = run("fetch", "ddi", "--out", tmp_path / "out").stdout
    assert "https://ddi-dataset.github.io" in said and "accept the terms" in said and "data prepare ddi" in said
    assert "pip install isic-cli" in run("fetch", "hiba", "--out", tmp_path / "out").stdout
    result = run("list", "mine")
    assert result.exit_code == 2 and "There is no set “mine”" in result.stderr
    result = run("fetch", "mine", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "Known: isic2017" in result.stderr


@pytest.mark.parametrize("status", [0, 1])
def test_fetch_runs_isic_cli_where_it_is_installed(status, tmp_path, monkeypatch):
    program = tmp_path / "isic"
    program.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/asked"\nexit {status}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    result = run("fetch", "hiba", "--out", tmp_path / "out")
    assert (tmp_path / "asked").read_text().split() == [
        *("image", "download", "--collections", "175", "--limit", "0", str(tmp_path / "out")),
    ]
    assert result.exit_code == 2 * status and ("start again" in result.stderr) is bool(status)


def test_images_that_readers_want_left_out_are_passed_over_unless_asked_for(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("file,label,left_out\na.png,benign,\nb.png,malignant,yes\nc.png,malignant,no\n", encoding="utf-8")
    assert [row.path.name for row in manifest.read(path)] == ["a.png", "c.png"]
    assert [row.path.name for row in manifest.read(path, left_out=True)] == ["a.png", "b.png", "c.png"]
