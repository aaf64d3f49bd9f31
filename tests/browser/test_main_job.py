"""From a description to a drawn lesion, its verdict, and the reasons for it."""

import csv
import io
import re
import zipfile

from playwright.sync_api import expect

from dermaflux.caption import caption
from dermaflux.images import read_provenance
from dermaflux.lesion import LesionAttributes


def describe_a_melanoma(visitor):
    visitor.choose("Lesion", "Malignant")
    visitor.choose("Asymmetry", "2")
    visitor.choose("Border", "6")
    visitor.choose("Colours", "Light brown")
    visitor.choose("Colours", "Black")
    visitor.wait_for_caption(label="malignant", asymmetry=2, border=6, colours=("dark brown", "black"))


def test_the_caption_follows_the_form(visitor):
    describe_a_melanoma(visitor)
    expect(visitor["score"]).to_contain_text("1.3 × 2 + 0.1 × 6 + 0.5 × 2 + 0.5 × 2 = 5.2")


def test_the_form_follows_an_edited_caption_and_says_what_it_could_not_read(visitor):
    asked = LesionAttributes("malignant", None, 1, 3, ("red", "blue-grey"))
    visitor["caption"].get_by_role("textbox").fill(caption(asked) + " It glitters like tinsel.")
    expect(visitor["note"]).to_contain_text("glitters like tinsel")
    groups = ("Lesion", "Asymmetry", "Border", "Colours")
    assert [visitor.chosen(group) for group in groups] == [["Malignant"], ["1"], ["3"], ["Red", "Blue-grey"]]


def test_a_surprise_is_a_whole_description(visitor):
    before = visitor.caption()
    visitor["surprise"].click()
    expect(visitor["note"]).to_contain_text("drawn at random")
    visitor.wait_for_caption()
    assert visitor.caption() != before
    assert all(visitor.chosen(group) for group in ("Lesion", "Asymmetry", "Border", "Colours"))


def test_a_lesion_is_described_drawn_classified_explained_and_measured(visitor):
    describe_a_melanoma(visitor)
    below = visitor["gallery"].bounding_box()
    visitor.draw()
    assert visitor["gallery"].bounding_box() == below, "results must not move the page"

    said = re.compile(r"Candidates (\d) to \d of at most 6\. Step (\d+) of 20\.")
    found = filter(None, map(said.match, visitor.page.evaluate("window.seen.statuses")))
    steps = [tuple(map(int, one.groups())) for one in found]
    assert len(steps) >= 3 and steps == sorted(set(steps))
    seed = visitor.recipe()["Seed"]
    expect(visitor.images()).to_have_attribute("alt", f"Seed {seed}")
    expect(visitor["stage"].get_by_role("img")).to_have_attribute("alt", re.compile("Synthetic lesion.*malignant"))
    assert visitor.recipe()["Caption"] == visitor.caption()
    visitor.shoot("drawn")

    visitor["classify"].click()
    expect(visitor.page.get_by_role("tab", name="Classify")).to_have_attribute("aria-selected", "true")
    verdict = visitor.page.locator("#classify-verdict")
    expect(verdict).to_contain_text("Requested as malignant")
    expect(verdict.locator(".dfx-figure")).to_have_text(re.compile(r"\d\s%$"))
    expect(verdict).to_contain_text(re.compile("Decision: (benign|malignant)"))
    maps = visitor.page.locator("#classify-maps figure")
    expect(maps).to_have_count(3)
    for figure in maps.all():
        expect(figure.locator(".dfx-frame img").last).to_have_attribute("alt", re.compile("image|Heat map"))
        assert figure.locator(".dfx-frame img").last.evaluate("image => image.naturalWidth") > 16
    measured = visitor.page.locator("#classify-measured")
    heads = measured.get_by_role("columnheader").all_inner_texts()
    assert heads == ["Attribute", "Measured", "Requested", "Match"]
    row = measured.get_by_role("row").filter(has_text="Asymmetry")
    expect(row.locator("td[data-label=Requested]")).to_have_text("2")


def test_measuring_shows_the_appearance_without_a_verdict(visitor):
    visitor.set(Steps=4)
    visitor.draw()
    visitor["measure"].click()
    expect(visitor.page.locator("#classify-measured table")).to_contain_text("Requested")
    expect(visitor.page.locator("#classify-verdict")).to_contain_text("not classified")


def test_another_method_changes_the_map_and_the_opacity_does_not_compute_it_anew(visitor):
    visitor.set(Steps=4)
    visitor.draw()
    visitor["classify"].click()
    heat = visitor.page.locator("#classify-maps img.heat")
    first = heat.get_attribute("src")
    visitor.number("Opacity").fill("80")
    visitor.number("Opacity").press("Tab")
    expect(heat).to_have_css("opacity", "0.8")
    assert heat.get_attribute("src") == first
    visitor.page.get_by_role("combobox", name="Saliency method").click()
    visitor.page.get_by_role("option").nth(1).click()
    expect(heat).not_to_have_attribute("src", first)


def test_a_run_of_several_images_downloads_as_a_zip_with_a_manifest(visitor, tmp_path):
    visitor.set(Images=3, Steps=2, Seed=7)
    visitor.draw()
    expect(visitor.images()).to_have_count(3)
    with zipfile.ZipFile(visitor.download("#df-zip", tmp_path)) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("manifest.csv").decode())))
        assert sorted(archive.namelist()) == sorted(["manifest.csv", *(row["file"] for row in rows)])
        seeds = [read_provenance(archive.read(row["file"])).seed for row in rows]
    assert sorted(seeds) == [7, 8, 9]


def test_an_image_is_varied_and_keeps_the_recipe_of_its_source(visitor):
    visitor.set(Steps=4, Seed=3)
    visitor.draw()
    visitor["vary"].click()
    expect(visitor.images()).to_have_count(2)
    expect(visitor["recipe"]).to_contain_text("Recipe of the image it varies")
