"""The Classify tab over HTTP, its cards as HTML, and many images at once; with the embedded classifier."""

import csv
import functools
import io
import os
import zipfile
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from dermaflux import appearance, phantom, saliency
from dermaflux.caption import caption
from dermaflux.classifier import Classifier
from dermaflux.errors import InputError
from dermaflux.images import Provenance, save_synthetic
from dermaflux.lesion import EXAMPLES
from dermaflux.models import MODELS
from dermaflux.settings import Settings
from dermaflux.slot import Choice, GeneratorSlot
from dermaflux.ui import batch, classify, verdict
from dermaflux.ui.context import UNEXPECTED, Context

LESION = EXAMPLES["Early melanoma"]
SECRET = b"Jane Doe 1961"


def unused() -> GeneratorSlot:
    return GeneratorSlot(Choice(MODELS["nano"]), lambda choice: pytest.fail("no generator here"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("classify")


@pytest.fixture(scope="module")
def classifier():
    return Classifier.load("nano")


@pytest.fixture(scope="module")
def drawn():
    return Image.fromarray(phantom.draw(LESION, 3).image)


@pytest.fixture(scope="module")
def page(folder, classifier):
    """(client, tab, folder of gradio's cache) of a page with this tab alone."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "cache")
    context = Context(Settings(), unused(), lambda: classifier)
    with gr.Blocks(analytics_enabled=False) as app:
        tab = classify.build(context)
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", ssr_mode=False)
    yield Client(url, verbose=False, download_files=str(folder / "downloads")), tab, folder / "cache"
    app.close()
    if before is None:
        del os.environ["GRADIO_TEMP_DIR"]
    else:
        os.environ["GRADIO_TEMP_DIR"] = before


@pytest.fixture
def photo(tmp_path, drawn):
    """A JPEG that is wider than high, turned by EXIF, with a name in its metadata."""
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = SECRET.decode(), 6
    path = tmp_path / "photo.jpg"
    drawn.resize((300, 200)).save(path, exif=exif)
    return path


@pytest.fixture
def synthetic(tmp_path, drawn):
    recipe = dict(steps=20, guidance=3.0, negative="", true_cfg=1.0, lora_strength=1.0, size=256, model_hash="0" * 64)
    recipe |= dict(seed=3, model="nano", lora=None, lora_hash=None, version="0.1.0")
    provenance = Provenance(caption=caption(LESION), attributes=LESION, **recipe)
    return save_synthetic(drawn, provenance, tmp_path / "synthetic.png"), provenance


def test_classify_endpoint_answers_with_the_documented_fields(page, photo, classifier):
    answer = page[0].predict(handle_file(photo), api_name="/classify")
    assert set(answer) == {"p_malignant", "decision", "threshold", "lesion_like", "trained_on"}
    assert 0 <= answer["p_malignant"] <= 1
    assert answer["threshold"] == classifier.card.operating_point.threshold
    assert answer["decision"] == ("malignant" if answer["p_malignant"] >= answer["threshold"] else "benign")
    assert answer["trained_on"] == classifier.card.trained_on


def test_classify_endpoint_says_that_noise_and_bare_skin_are_not_lesions(page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    for name, pixels in (("noise", noise), ("skin", np.full((256, 256, 3), (224, 186, 160), np.uint8))):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        assert page[0].predict(handle_file(tmp_path / f"{name}.png"), api_name="/classify")["lesion_like"] is False


def test_measure_endpoint_measures_the_lesion(page, synthetic):
    answer = page[0].predict(handle_file(synthetic[0]), api_name="/measure")
    assert list(answer) == ["asymmetry", "border", "colours", "size", "ita", "lesion_share"]
    assert answer["size"] == pytest.approx(LESION.size_mm, rel=0.25)
    assert "dark brown" in answer["colours"]
    assert 0 < answer["lesion_share"] < 1


def test_measure_endpoint_gives_null_where_there_is_no_lesion(page, tmp_path):
    Image.new("RGB", (256, 256), (224, 186, 160)).save(tmp_path / "skin.png")
    answer = page[0].predict(handle_file(tmp_path / "skin.png"), api_name="/measure")
    assert answer["asymmetry"] is answer["border"] is answer["size"] is None
    assert (answer["colours"], answer["lesion_share"]) == ([], 0)


def _bomb() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


BAD_FILES = {
    "empty.jpg": lambda sound: b"",
    "page.jpg": lambda sound: b"<!doctype html><script>alert(1)</script>",
    "drawing.svg": lambda sound: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "letter.jpg": lambda sound: b"%PDF-1.7 letter",
    "cut.jpg": lambda sound: sound[: len(sound) // 2],
    "pixel.png": lambda sound: b"\x89PNG\r\n\x1a\n" + sound,
    "bomb.png": lambda sound: _bomb(),
}


def _refusal(page, path, endpoint: str) -> str:
    with pytest.raises(Exception) as raised:
        page[0].predict(handle_file(path), api_name=endpoint)
    return str(raised.value)


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_one_clear_sentence_without_its_name(page, photo, tmp_path, name):
    bad = tmp_path / name
    bad.write_bytes(BAD_FILES[name](photo.read_bytes()))
    message = _refusal(page, bad, "/classify")
    assert message.endswith(".") and len(message) < 300
    assert "Traceback" not in message and name not in message and UNEXPECTED not in message


def test_the_server_answers_after_a_bad_file(page, photo, tmp_path):
    bad = tmp_path / "empty.jpg"
    bad.touch()
    assert "0 bytes" in _refusal(page, bad, "/measure")
    assert page[0].predict(handle_file(photo), api_name="/measure")


def test_only_classify_and_measure_are_public(page):
    assert set(page[0].view_api(return_format="dict")["named_endpoints"]) == {"/classify", "/measure"}


def test_nothing_of_an_upload_but_its_pixels_stays_on_disk(page, photo):
    client, _, cache = page
    assert SECRET in photo.read_bytes()
    client.predict(handle_file(photo), api_name="/classify")
    kept = [path for path in cache.rglob("*") if path.is_file()]
    assert kept
    assert not any(SECRET in path.read_bytes() for path in kept)


def test_a_photograph_gets_prediction_maps_and_measures(page, photo, classifier):
    first, maps, measured = page[1].run.fn(str(photo), None, "gradcam", "malignant")
    assert "Probability of malignancy" in first and f"n = {classifier.card.operating_point.n}" in first
    assert "Synthetic image" not in first and "Requested" not in measured
    assert maps.count("<figure>") == 3 and saliency.RELATIVE in maps
    assert "Apparent skin tone" in measured


def test_a_synthetic_image_says_so_and_is_compared_with_its_request(page, synthetic):
    path, provenance = synthetic
    for requested in (None, provenance):
        first, _, measured = page[1].run.fn(str(path), requested, "gradcam", "benign")
        assert "Synthetic image" in first and "Requested as malignant" in first
        assert "Requested" in measured and "✓ agrees" in measured
        assert "structures network" in measured


def test_measuring_alone_uses_no_classifier(page, synthetic):
    first, maps, measured = page[1].measure.fn(str(synthetic[0]), None)
    assert "Synthetic image" in first and "Probability" not in first
    assert "<img" not in maps.replace("Colour bar", "").split("<figure>")[1]
    assert "Asymmetry" in measured


def test_without_an_image_the_visitor_is_told_to_choose_one(page):
    with pytest.raises(gr.Error, match="Choose an image first"):
        page[1].run.fn(None, None, "gradcam", "malignant")


def test_what_is_no_lesion_says_so_before_any_probability(classifier, drawn):
    prediction = classifier.predict([drawn])[0]
    found = appearance.measure(drawn)
    cards = (
        verdict.verdict(replace(prediction, lesion_like=False), classifier.card, found),
        verdict.verdict(prediction, classifier.card, replace(found, found=False)),
    )
    for html in cards:
        assert html.index(verdict.NOT_A_LESION) < html.index("<details>") < html.index("Probability of malignancy")
    sound = verdict.verdict(replace(prediction, lesion_like=True), classifier.card, found)
    assert verdict.NOT_A_LESION not in sound and "<details>" not in sound
    for views, said in ((1, False), (4, True)):
        card = replace(classifier.card, views=views)
        assert (f"the mean over {views} mirrored" in verdict.verdict(prediction, card, found)) == said


def test_a_map_of_zeros_gets_a_sentence(drawn):
    zeros = saliency.SaliencyMap(np.zeros(drawn.size[::-1], np.float32), "gradcam", "malignant", True)
    assert saliency.NOTHING in verdict.maps(drawn, zeros)


def test_text_from_a_file_is_escaped(synthetic):
    html = verdict.synthetic(replace(synthetic[1], caption="<img src=x onerror=alert(1)>"), "benign")
    assert "<img" not in html and "&lt;img" in html


@pytest.mark.parametrize(("share", "words"), [(0.0001, "< 0.1"), (0.99999, "> 99.9"), (0.1234, "12.3"), (0.0, "0.0")])
def test_a_probability_is_never_rounded_to_certainty(share, words):
    assert verdict.percent(share) == f"{words}\u00a0%"


@pytest.fixture
def mixed(tmp_path, photo, synthetic):
    """A photograph, a web page that claims to be one, and a ZIP of a sound and a broken image."""
    bad, archive = tmp_path / "page.jpg", tmp_path / "more.zip"
    bad.write_bytes(b"<html></html>")
    with zipfile.ZipFile(archive, "w") as file:
        file.write(synthetic[0], "../../=cmd.png")
        file.writestr("broken.png", b"\x89PNG\r\n")
    return [photo, bad, archive]


def test_many_files_give_a_row_each_whatever_is_wrong_with_some(mixed, classifier):
    *_, rows = batch.classify_files(mixed, classifier)
    assert [row.file for row in rows] == ["photo.jpg", "page.jpg", "=cmd.png", "broken.png"]
    assert [row.prediction is None for row in rows] == [False, True, False, True]
    assert all(row.remark.endswith(".") for row in rows if row.prediction is None)


def test_images_of_one_name_are_told_apart_and_a_name_on_two_lines_is_no_formula(classifier, drawn, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        drawn.save(tmp_path / place / "img.png")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.write(tmp_path / "a" / "img.png", "patient1/img.png")
    *_, rows = batch.classify_files(
        [tmp_path / "a" / "img.png", tmp_path / "b" / "img.png", tmp_path / "z.zip"], classifier
    )
    assert [row.file for row in rows] == ["img.png", "img.png (2)", "img.png (3)"]
    assert batch.Row("\n=1.png").cells()[0] == "'\n=1.png"


def test_the_table_escapes_names_and_marks_what_is_no_lesion(classifier, drawn):
    prediction = replace(classifier.predict([drawn])[0], lesion_like=False)
    html = batch.to_html([batch.Row("<img src=x>.png", prediction)])
    assert "<img" not in html and verdict.NOT_A_LESION in html


def test_the_csv_has_the_documented_columns_and_no_formulas(mixed, classifier):
    *_, rows = batch.classify_files(mixed, classifier)
    table = list(csv.DictReader(io.StringIO(batch.to_csv(rows))))
    assert tuple(table[0]) == batch.COLUMNS == ("file", "p_malignant", "decision", "lesion_like")
    assert table[2]["file"] == "'=cmd.png"
    assert float(table[0]["p_malignant"]) == pytest.approx(rows[0].prediction.p_malignant, abs=1e-6)
    assert table[1] == {"file": "page.jpg", "p_malignant": "", "decision": "", "lesion_like": ""}


def test_many_images_are_classified_as_each_alone(drawn, tmp_path, classifier):
    paths = []
    for size in range(64, 65 + batch.CHUNK):
        paths.append(tmp_path / f"{size}.png")
        drawn.resize((size, size)).save(paths[-1])
    *_, before, rows = batch.classify_files(paths, classifier)
    assert (len(before), len(rows)) == (batch.CHUNK, len(paths))
    for row, path in zip(rows, paths, strict=True):
        alone = classifier.predict([Image.open(path).convert("RGB")])[0]
        assert row.prediction.p_malignant == pytest.approx(alone.p_malignant, abs=1e-4)


def test_too_many_files_are_refused_with_the_limit(classifier, photo):
    with pytest.raises(InputError, match=str(batch.MAX_FILES)):
        list(batch.classify_files([photo] * (batch.MAX_FILES + 1), classifier))


def test_laying_out_the_tab_loads_no_model():
    loads = functools.partial(pytest.fail, "a model was loaded")
    with gr.Blocks(analytics_enabled=False):
        tab = classify.build(Context(Settings(), unused(), loads))
    assert isinstance(tab.image, gr.Image)
