"""Orders of lesions as they are distributed in a real set."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from dermaflux import ordering
from dermaflux.caption import caption
from dermaflux.data import manifest
from dermaflux.errors import DataError
from dermaflux.lesion import LABELS, LesionAttributes
from dermaflux.models import MODELS, SamplingOptions


@pytest.fixture
def options() -> SamplingOptions:
    return SamplingOptions(seeds=(5,), steps=2)


def write(path: Path, columns: str, *rows: str) -> Path:
    path.write_text("\n".join((columns, *rows)) + "\n", encoding="utf-8")
    return path


def test_lesions_are_drawn_from_the_distribution_of_a_real_set(options, tmp_path):
    wording = caption(LesionAttributes("benign", border=2), 1)
    path = write(
        tmp_path / "real.csv",
        "file,split,label,diagnosis,caption,site",
        *[f'{i}.jpg,train,benign,nevus,"{wording}",trunk' for i in range(6)],
        *[f"{i}.jpg,train,malignant,melanoma,," for i in range(6, 8)],
        *[f"{i}.jpg,test,benign,seborrheic keratosis,," for i in range(8, 90)],
    )
    orders = ordering.like_manifest(path, (), LesionAttributes(tone=3), 400, options)
    shares = Counter(order.attributes for order in orders)
    nevus = LesionAttributes("benign", "nevus", border=2, site="trunk", tone=3)
    assert set(shares) == {nevus, LesionAttributes("malignant", "melanoma", tone=3)}
    assert 0.68 < shares[nevus] / 400 < 0.82
    assert orders == ordering.like_manifest(path, (), LesionAttributes(tone=3), 400, options)
    turns = ordering.like_manifest(path, LABELS, LesionAttributes(), 4, options)
    assert [order.attributes.label for order in turns] == ["benign", "malignant"] * 2


def test_lesions_are_drawn_balanced_over_a_column_of_a_real_set_within_each_label(options, tmp_path):
    path = write(
        tmp_path / "real.csv",
        "file,split,label,diagnosis,skin_tone",
        *[f"{i}.jpg,train,benign,nevus,{'VI' if i == 0 else 'I'}" for i in range(20)],
        *[f"{i}.jpg,train,benign,seborrheic keratosis," for i in range(20, 40)],
        "40.jpg,train,malignant,melanoma,I",
        "41.jpg,test,malignant,melanoma,VI",
    )
    drawn = lambda labels, column: Counter(
        (order.attributes.label, order.attributes.diagnosis)
        for order in ordering.like_manifest(path, labels, LesionAttributes(), 12, options, column)
    )
    assert drawn(LABELS, "diagnosis") == {
        ("benign", "nevus"): 3,
        ("benign", "seborrheic keratosis"): 3,
        ("malignant", "melanoma"): 6,
    }
    assert drawn((), "diagnosis") == dict.fromkeys(drawn(LABELS, "diagnosis"), 4)
    assert drawn(("benign",), "skin_tone") == {("benign", "nevus"): 12}  # none of those whose tone is not known
    for column in ("site", "nonsense"):
        with pytest.raises(DataError, match=f"no rows outside the test split of each label with “{column}”"):
            drawn(LABELS, column)


def test_mixed_lesions_have_traits_of_several_rows_of_their_label_alone(options, tmp_path):
    wordings = [
        LesionAttributes("benign", asymmetry=0, border=1, colours=("red",), size_mm=3, tone=1, structures=("dots",)),
        LesionAttributes("benign", asymmetry=1, border=4, colours=("black",), size_mm=7, tone=4, artefacts=("hair",)),
        LesionAttributes("malignant", asymmetry=2, border=8, colours=("white",), size_mm=20, tone=10),
    ]
    sites = "trunk", "anogenital", "anogenital"
    rows = [
        f'{i}.jpg,train,{one.label},{site},"{caption(one, 1)}"'
        for i, (one, site) in enumerate(zip(wordings, sites, strict=True))
    ]
    path = write(tmp_path / "real.csv", "file,split,label,site,caption", *rows)
    wordings = [replace(one, site=site) for one, site in zip(wordings, sites, strict=True)]
    drawn = lambda labels, **how: [
        order.attributes for order in ordering.like_manifest(path, labels, LesionAttributes(), 400, options, **how)
    ]
    for labels in ((), LABELS):
        found = drawn(labels, mixed=True)
        assert {one for one in found if one.label == "malignant"} == {wordings[2]}
        benign = [one for one in found if one.label == "benign"]
        for names in (("colours",), ("size_mm",), ("tone",), ("artefacts",), ("structures",), ("asymmetry", "border")):
            values = Counter(tuple(getattr(one, name) for name in names) for one in benign)
            assert set(values) == {tuple(getattr(one, name) for name in names) for one in wordings[:2]}
            assert all(0.35 < share / len(benign) < 0.65 for share in values.values())
        own = [one.colours == ("red",) for one in benign if one.structures]
        assert 0.65 < sum(own) / len(own) < 0.85  # half of the traits are the row's, the other half either's
        assert len(set(benign)) > 30
    assert drawn(LABELS, mixed=True) == drawn(LABELS, mixed=True)
    within = drawn(LABELS, mixed=True, balance="site")
    assert {one.tone for one in within if one.site == "trunk"} == {1} and len(set(within)) == 3
    assert set(drawn(LABELS)) == set(wordings)


def test_a_real_set_without_the_label_asked_for_is_refused(options, tmp_path):
    path = write(tmp_path / "real.csv", "file,split,label", "1.jpg,train,benign", "2.jpg,test,malignant")
    with pytest.raises(DataError, match="no rows outside the test split"):
        ordering.like_manifest(path, LABELS, LesionAttributes(), 2, options)


def test_a_row_whose_caption_cannot_be_read_is_named_and_one_with_a_fault_says_nothing(tmp_path):
    path, options = tmp_path / "manifest.csv", SamplingOptions()
    row = {"file": "a.png", "label": "benign", "split": "train"}
    manifest.write(path, [row | {"caption": "A mole with a blue veil. It measures 9 mm. " * 200}])
    with pytest.raises(DataError, match=r"manifest\.csv, line 2: a\.png: The description has"):
        ordering.like_manifest(path, (), LesionAttributes(), 1, options)
    manifest.write(path, [row | {"file": f"{i}.png"} for i in range(9)] + [row | {"caption": "A mole. " * 400}])
    with pytest.raises(DataError, match=r"line 11: a\.png: The description has"):
        ordering.like_manifest(path, (), LesionAttributes(), 99, options, mixed=True)
    told = {"caption": "The colours are red and black.", "captioner": "llama"}
    for faults, colours in (("", ("red", "black")), ("too short", ())):
        manifest.write(path, [row | told | {"caption_faults": faults}])
        [order] = ordering.like_manifest(path, (), LesionAttributes(), 1, options)
        assert order.attributes.colours == colours and order.attributes.label == "benign"
    assert ordering.of_plan(path, None, options, MODELS["nano"])[0].attributes.colours == ("red", "black")
