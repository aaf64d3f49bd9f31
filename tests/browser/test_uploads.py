"""Files that visitors bring: good ones are judged, bad ones are answered in a sentence."""

import re

import pytest
from PIL import Image
from playwright.sync_api import expect
from sample_files import JPEG, encode

from dermaflux import phantom

BAD = {
    "empty.jpg": b"",
    "page.jpg": b"<!doctype html><title>page</title><script>alert(1)</script>",
    "truncated.jpg": JPEG[: len(JPEG) // 2],
    "dot.png": encode(Image.new("RGB", (1, 1)), "PNG"),
}


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("photographs") / "photograph.jpg"
    Image.fromarray(phantom.draw(phantom.random_attributes(5), 5).image).save(path, quality=92)
    return path


def classify(visitor, path):
    visitor.upload("#classify-image", path)
    expect(visitor.page.get_by_alt_text("The image to classify")).to_be_visible()
    visitor.page.locator("#classify-run").click()
    expect(visitor.page.locator("#classify-maps img.heat")).to_be_attached()


def test_an_uploaded_photograph_is_classified_explained_and_measured(visitor, photograph):
    visitor.tab("Classify")
    classify(visitor, photograph)
    expect(visitor.page.locator("#classify-verdict")).to_contain_text("Probability of malignancy")
    expect(visitor.page.locator("#classify-verdict")).to_contain_text("The classifier was trained on")
    expect(visitor.page.locator("#classify-measured")).to_contain_text("ITA")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_answered_in_a_sentence_and_the_page_goes_on(visitor, photograph, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BAD[name])
    visitor.tab("Classify")
    visitor.upload("#classify-image", path)
    expect(visitor.page.locator("#classify-verdict [role=alert]")).to_contain_text(
        re.compile(r"cannot be used.+\.$", re.S)
    )
    classify(visitor, photograph)


def test_many_images_become_a_table_that_names_the_bad_one(visitor, photograph, tmp_path):
    bad = tmp_path / "page.jpg"
    bad.write_bytes(BAD["page.jpg"])
    visitor.tab("Classify")
    visitor.unfold("Many images")
    visitor.page.locator("#batch-files input[type=file]").set_input_files([photograph, bad])
    expect(visitor.page.locator("#batch-files")).to_contain_text("page")
    visitor.page.locator("#batch-run").click()
    table = visitor.page.locator("#batch-table tbody tr")
    expect(table).to_have_count(2)
    expect(visitor.page.locator("#batch-csv")).to_be_enabled()
    lines = visitor.download("#batch-csv", tmp_path).read_text().splitlines()
    assert lines[0] == "file,p_malignant,decision,lesion_like"
    assert re.fullmatch(r"photograph.jpg,0\.\d+,(benign|malignant),(true|false)", lines[1])
    assert lines[2] == "page.jpg,,,"
