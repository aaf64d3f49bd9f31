"""One lesion drawn in several ways, everything else held fixed."""

import re

from PIL import Image
from playwright.sync_api import expect

from dermaflux.images import read_provenance

TAB = "Compare & sweep"


def test_base_and_lora_are_compared_in_a_slider(visitor, tmp_path):
    visitor.set(Steps=3, Seed=11)
    panel = visitor.tab(TAB)
    expect(panel.get_by_role("region", name="From the Draw tab")).to_contain_text("11")
    visitor["compare-draw"].click()
    images = visitor["compare-slider"].get_by_role("img", name="Synthetic lesion")
    expect(images).to_have_count(2)
    first, second = (image.get_attribute("src") for image in images.all())
    assert first != second
    expect(visitor["compare-status"]).to_contain_text("Seed 11")
    visitor.number("Divider").fill("20")
    visitor.number("Divider").press("Tab")
    with visitor.page.expect_download() as started:
        panel.get_by_role("button", name="Download base PNG").click()
    base = read_provenance(started.value.path())
    assert (base.seed, base.steps, base.lora_strength) == (11, 3, 0)


def test_a_sweep_along_two_axes_fills_a_labelled_grid_that_downloads_as_one_png(visitor, tmp_path):
    visitor.set(Steps=3, Seed=11)
    visitor.tab(TAB)
    vary(visitor, "Vary across", "Border")
    only(visitor, "Vary across: values", "0", "8")
    vary(visitor, "And down", "Asymmetry")
    only(visitor, "And down: values", "0", "2")
    expect(visitor["sweep-status"]).to_contain_text("4 images")
    visitor["sweep-draw"].click()
    cells = visitor["sweep-grid"].get_by_role("img")
    expect(cells).to_have_count(4)
    names = [cell.get_attribute("alt") for cell in cells.all()]
    wanted = [(border, asymmetry) for asymmetry in (0, 2) for border in (0, 8)]
    assert all(f"Border: {b}. Asymmetry: {a}." in name for (b, a), name in zip(wanted, names, strict=True)), names
    heads = [each.strip() for each in visitor["sweep-grid"].locator("th").all_inner_texts() if each.strip()]
    assert heads == ["Border", "Asymmetry", "0", "8", "0", "2"]
    expect(visitor["sweep-png"]).to_be_enabled()
    grid = visitor.download("#df-sweep-png", tmp_path)
    assert grid.suffix == ".png" and min(Image.open(grid).size) > 2 * 128


def vary(visitor, axis: str, title: str) -> None:
    visitor.page.get_by_role("combobox", name=axis).click()
    visitor.page.get_by_role("option", name=re.compile(rf"^\W*{title}")).click()


def only(visitor, group: str, *values: str) -> None:
    """Tick these values of an axis, and no other."""
    expect(visitor.group(group)).to_be_visible()
    for value in set(visitor.chosen(group)) ^ set(values):
        visitor.choose(group, value)
    assert visitor.chosen(group) == list(values)
