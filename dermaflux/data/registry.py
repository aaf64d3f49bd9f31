"""Public sets of skin lesions, as data: what each is, what its owner allows, and how its metadata are read.

Shapes follow the owners' descriptions and files. Labels are benign or malignant; what is neither for sure is left out,
see DOUBTFUL.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BENIGN, MALIGNANT = "benign", "malignant"
FITZPATRICK = "Fitzpatrick"
Meaning = tuple[str | None, str | None]
"""Label, None where it is doubtful, and diagnosis in the vocabulary of `lesion.DIAGNOSES`, None where it has none."""


@dataclass(frozen=True)
class Source:
    """A public set.

    images: how many. derivatives: whether its licence lets weights be made from it and passed on, in words. tables:
    file patterns of its metadata, joined on the column `image`, whose values name files with or without an ending.
    renamed: names that columns have in other editions of them, and those by which they are known here. diagnosis: the
    column of diagnoses, or several that hold 1 for the one that is meant. meanings: what its values mean. finer:
    columns in which a diagnosis is named more closely, the closest first. columns: the manifest's columns and its own.
    folders: for a set without tables, what names of folders mean. left_out: columns with the values whose rows are in
    doubt. tones: the scale of its skin tones. isic: the numbers of its collections in the ISIC Archive, from where its
    metadata come in the shape ARCHIVE. steps: how it is had where that is not possible from here.
    """

    name: str
    title: str
    modality: str
    images: int
    licence: str
    derivatives: str
    citation: str
    home: str
    tables: tuple[str, ...] = ()
    image: str = ""
    diagnosis: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    meanings: Mapping[str, Meaning] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    finer: tuple[str, ...] = ()
    folders: Mapping[str, Meaning] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    tones: str = FITZPATRICK
    isic: tuple[int, ...] = ()
    steps: str = "Download it at its owner's page, accept the terms there, and unpack it whole into one folder."


NO_COMMERCE, ASK = "not for commerce (NC)", "not stated: ask its owner"
_MELANOMA, _NEVUS, _SEBORRHEIC = (MALIGNANT, "melanoma"), (BENIGN, "nevus"), (BENIGN, "seborrheic keratosis")
_BASAL = (MALIGNANT, "basal cell carcinoma")
_SQUAMOUS, _FIBROMA = (MALIGNANT, "squamous cell carcinoma"), (BENIGN, "dermatofibroma")
_VASCULAR, _OTHER, _DOUBTFUL = (BENIGN, "vascular lesion"), (BENIGN, None), (None, None)
_ARCHIVE = {"benign": _OTHER, "malignant": (MALIGNANT, None), "indeterminate": _DOUBTFUL}
_ISIC_COLUMNS = {"patient_id": "patient_id", "source_id": "lesion_id", "age": "age_approx", "sex": "sex"}
_SITE = {"site": "anatom_site_general"}
ARCHIVE: Mapping[str, Any] = dict(
    tables=("metadata*.csv",),
    image="isic_id",
    diagnosis=("diagnosis_1",),
    meanings=_ARCHIVE,
    finer=("diagnosis_5", "diagnosis_4", "diagnosis_3", "diagnosis_2"),
    columns={**_ISIC_COLUMNS, **_SITE, "skin_tone": "fitzpatrick_skin_type"},
    tones=FITZPATRICK,
)
"""Metadata as the ISIC Archive and isic-cli give them, whatever the set."""
DOUBTFUL: Mapping[str, str] = {
    "actinic keratosis": "left out, and what is filed with it (AK, AKIEC, akiec, ACK): it may become a carcinoma",
    "Bowen's disease": "malignant, a carcinoma in situ; left out where it is filed with actinic keratosis",
    "dysplastic nevus": "benign, a nevus, unless its owner calls it indeterminate",
    "indeterminate": "left out, as unknown lesions are",
}
"""What is done with diagnoses that are neither benign nor malignant for sure."""

SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        Source(
            "isic2017",
            "ISIC 2017 challenge, part 3",
            "dermoscopic",
            2750,
            "CC0-1.0",
            "yes",
            "Codella et al., arXiv 1710.05006",
            "https://challenge.isic-archive.com/data/#2017",
            tables=("ISIC-2017_*_Part3_GroundTruth.csv", "ISIC-2017_*_metadata.csv"),
            image="image_id",
            diagnosis=("melanoma", "seborrheic_keratosis", ""),
            meanings={"melanoma": _MELANOMA, "seborrheic_keratosis": _SEBORRHEIC, "": _NEVUS},
            columns={"age": "age_approximate", "sex": "sex"},
            isic=(60, 69, 71),
        ),
        Source(
            "isic2019",
            "ISIC 2019 challenge",
            "dermoscopic",
            25331,
            "CC-BY-NC-4.0",
            NO_COMMERCE,
            "Tschandl et al. 2018; Codella et al. 2017; Combalia et al., arXiv 1908.02288",
            "https://challenge.isic-archive.com/data/#2019",
            tables=("ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv"),
            image="image",
            diagnosis=("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"),
            meanings={
                **{"MEL": _MELANOMA, "NV": _NEVUS, "BCC": _BASAL, "AK": _DOUBTFUL, "BKL": _OTHER},
                **{"DF": _FIBROMA, "VASC": _VASCULAR, "SCC": _SQUAMOUS, "UNK": _DOUBTFUL},
            },
            columns={"source_id": "lesion_id", "age": "age_approx", "sex": "sex", **_SITE},
            isic=(65,),
        ),
        Source(
            "isic2020",
            "SIIM-ISIC 2020 challenge",
            "dermoscopic",
            33126,
            "CC-BY-NC-4.0",
            NO_COMMERCE,
            "Rotemberg et al., Scientific Data 8, 34 (2021)",
            "https://challenge2020.isic-archive.com",
            tables=("*train*.csv", "*Training_GroundTruth*.csv"),
            image="image_name",
            diagnosis=("benign_malignant",),
            meanings=_ARCHIVE,
            finer=("diagnosis",),
            columns={**_ISIC_COLUMNS, "site": "anatom_site_general_challenge"},
            isic=(70,),
        ),
        Source(
            "isic2024",
            "ISIC 2024 challenge (SLICE-3D)",
            "crops of total body photographs",
            401059,
            "CC-BY-NC-4.0",
            NO_COMMERCE,
            "Kurtansky et al., Scientific Data 11, 884 (2024)",
            "https://challenge2024.isic-archive.com",
            tables=("train-metadata.csv", "metadata.csv", "*Training_GroundTruth.csv", "*Training_Supplement.csv"),
            image="isic_id",
            diagnosis=("target",),
            renamed={"malignant": "target"},
            meanings={"0": _OTHER, "1": (MALIGNANT, None)},
            finer=("iddx_5", "iddx_4", "iddx_3", "iddx_2"),
            columns={**_ISIC_COLUMNS, **_SITE},
            left_out={"iddx_1": "Indeterminate"},
        ),
        Source(
            "ham10000",
            "HAM10000",
            "dermoscopic",
            10015,
            "CC-BY-NC-4.0",
            NO_COMMERCE,
            "Tschandl, Rosendahl and Kittler, Scientific Data 5, 180161 (2018)",
            "https://doi.org/10.7910/DVN/DBW86T",
            tables=("HAM10000_metadata*",),
            image="image_id",
            diagnosis=("dx",),
            meanings={
                **{"mel": _MELANOMA, "nv": _NEVUS, "bcc": _BASAL, "akiec": _DOUBTFUL, "bkl": _OTHER},
                **{"df": _FIBROMA, "vasc": _VASCULAR},
            },
            columns={"source_id": "lesion_id", "age": "age", "sex": "sex", "site": "localization"},
            isic=(212,),
        ),
        Source(
            "milk10k",
            "MILK10k",
            "clinical and dermoscopic pairs",
            10480,
            "CC-BY-NC-4.0",
            NO_COMMERCE,
            "MILK study team, ISIC Archive (2025)",
            "https://challenge.isic-archive.com/landing/milk10k",
            tables=("MILK10k_Training_Metadata.csv", "MILK10k_Training_GroundTruth.csv"),
            image="isic_id",
            diagnosis=("AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC"),
            meanings={
                **{"AKIEC": _DOUBTFUL, "BCC": _BASAL, "BEN_OTH": _OTHER, "BKL": _OTHER, "DF": _FIBROMA, "INF": _OTHER},
                **{"MAL_OTH": (MALIGNANT, None), "MEL": _MELANOMA, "NV": _NEVUS, "SCCKA": _SQUAMOUS, "VASC": _VASCULAR},
            },
            columns={
                **{"source_id": "lesion_id", "age": "age_approx", "sex": "sex", "site": "site"},
                **{"skin_tone": "skin_tone_class"},
            },
            tones="MILK10k class",
        ),
        Source(
            "hiba",
            "Hospital Italiano de Buenos Aires",
            "clinical and dermoscopic",
            1616,
            "CC-BY-4.0",
            "yes, with attribution",
            "Ricci Lara et al., Scientific Data 10, 712 (2023)",
            "https://api.isic-archive.com/collections/175/",
            **ARCHIVE,
            isic=(175,),
        ),
        Source(
            "derm12345",
            "DERM12345",
            "dermoscopic",
            12345,
            "CC-BY-4.0",
            "yes, with attribution",
            "Yilmaz et al., Scientific Data 11, 1302 (2024)",
            "https://api.isic-archive.com/doi/derm12345",
            **ARCHIVE,
        ),
        Source(
            "pad-ufes-20",
            "PAD-UFES-20",
            "photographs by smartphone",
            2298,
            "CC-BY-4.0",
            "yes, with attribution",
            "Pacheco et al., Data in Brief 32, 106221 (2020)",
            "https://data.mendeley.com/datasets/zr7vgbcyr2",
            tables=("metadata.csv",),
            image="img_id",
            diagnosis=("diagnostic",),
            meanings={
                **{"BCC": _BASAL, "SCC": _SQUAMOUS, "MEL": _MELANOMA, "ACK": _DOUBTFUL, "NEV": _NEVUS},
                **{"SEK": _SEBORRHEIC},
            },
            columns={
                **{"patient_id": "patient_id", "source_id": "lesion_id", "age": "age", "sex": "gender"},
                **{"site": "region", "skin_tone": "fitspatrick"},
            },
        ),
        Source(
            "ddi",
            "Diverse Dermatology Images",
            "clinical",
            656,
            "Stanford research use agreement",
            "no, research within the agreement only",
            "Daneshjou et al., Science Advances 8, eabq6147 (2022)",
            "https://ddi-dataset.github.io",
            tables=("ddi_metadata.csv",),
            image="DDI_file",
            diagnosis=("malignant",),
            meanings={"True": (MALIGNANT, None), "False": _OTHER},
            finer=("disease",),
            columns={"source_id": "DDI_ID", "skin_tone": "skin_tone"},
        ),
        Source(
            "med-node",
            "MED-NODE",
            "clinical",
            170,
            "none stated",
            ASK,
            "Giotis et al., Expert Systems with Applications 42 (2015)",
            "https://www.cs.rug.nl/~imaging/databases/melanoma_naevi/",
            folders={"melanoma": _MELANOMA, "naevus": _NEVUS},
        ),
        Source(
            "kaggle-benign-malignant",
            "Kaggle: Skin Cancer, Malignant vs. Benign",
            "dermoscopic, from the ISIC Archive",
            3297,
            "none stated",
            ASK,
            "C. Fanconi, Kaggle (2019)",
            "https://www.kaggle.com/datasets/fanconic/skin-cancer-malignant-vs-benign",
            folders={"benign": _OTHER, "malignant": (MALIGNANT, None)},
        ),
    )
}
