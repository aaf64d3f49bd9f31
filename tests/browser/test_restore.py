"""A saved PNG brings everything back."""

from PIL import Image
from playwright.sync_api import expect
from sample_files import PNG

from dermaflux.images import read_provenance

SETTINGS = {"Steps": 5, "Guidance": 2.5, "True CFG": 1.5, "LoRA strength": 0.8, "Seed": 4242}


def test_a_saved_png_restores_every_setting_and_draws_the_same_pixels(visitor, tmp_path):
    visitor.choose("Lesion", "Malignant")
    visitor.choose("Border", "4")
    visitor.unfold("More about the lesion")
    visitor.choose("Apparent skin tone", "6")
    visitor.wait_for_caption(label="malignant", border=4, tone=6)
    visitor["reword"].click()
    visitor.set(Images=2, **SETTINGS)
    visitor.page.get_by_label("Negative caption").fill("hair")
    visitor.draw()
    visitor.images().last.click()
    expect(visitor["recipe"].get_by_role("row", name="Seed")).to_contain_text("4242")
    recipe, groups = visitor.recipe(), ("Lesion", "Asymmetry", "Border", "Colours")
    described = [visitor.chosen(group) for group in groups]
    saved = visitor.download("#df-png", tmp_path)
    assert read_provenance(saved).seed == 4242

    visitor.open()
    visitor.restore(saved)
    expect(visitor["note"]).to_contain_text("Restored")
    assert [visitor.chosen(group) for group in groups] == described
    assert visitor.caption() == recipe["Caption"]
    visitor.unfold("Settings ▼")
    for name, value in SETTINGS.items():
        expect(visitor.number(name)).to_have_value(str(value))
    expect(visitor.page.get_by_label("Negative caption")).to_have_value("hair")
    expect(visitor.page.get_by_label("New seed each time")).not_to_be_checked()
    visitor.unfold("More about the lesion")
    assert visitor.chosen("Apparent skin tone") == ["6"]

    visitor.draw()
    assert visitor.recipe() == recipe
    (tmp_path / "again").mkdir()
    again = visitor.download("#df-png", tmp_path / "again")
    assert Image.open(again).tobytes() == Image.open(saved).tobytes()


def test_a_foreign_png_is_said_to_carry_no_recipe_and_changes_nothing(visitor, tmp_path):
    foreign = tmp_path / "foreign.png"
    foreign.write_bytes(PNG)
    before = visitor.caption()
    visitor.restore(foreign)
    expect(visitor.page.get_by_test_id("toast-body")).to_contain_text("carries no recipe")
    expect(visitor.page.get_by_role("button", name="Click to upload or drop files")).to_be_visible()
    assert visitor.caption() == before
