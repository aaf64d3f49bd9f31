"""The menu of models: what is said before anything is fetched, and what follows the model in use."""

import re

import pytest
from playwright.sync_api import expect

NANO, DEV, LORA = "DermaFlux nano (embedded)", "FLUX.1-dev", "Dermoscopy LoRA (embedded)"


@pytest.fixture
def menu(visitor):
    """A visitor with the menu open; afterwards the model that the page began with is in use again."""
    visitor.unfold("Model ▼")
    yield visitor
    pick(visitor, "Model", NANO)
    pick(visitor, "LoRA", LORA)
    load(visitor)


def field(visitor, name: str):
    return visitor.page.get_by_role("combobox", name=name, exact=True)


def pick(visitor, name: str, option: str) -> None:
    field(visitor, name).click()
    visitor.page.get_by_role("option", name=option, exact=True).click()
    expect(field(visitor, name)).to_have_value(option)


def load(visitor) -> str:
    """Press Load; what is said in the end."""
    before = visitor["load-status"].inner_text()
    visitor["load"].click()
    expect(visitor["load-status"]).not_to_have_text(before)
    expect(visitor["load-status"]).to_contain_text(re.compile("(is|stays) in use"))
    expect(visitor["load"]).to_be_enabled()
    return visitor["load-status"].locator(".df-status").inner_text()


def test_licence_download_and_memory_are_said_before_anything_is_fetched(menu):
    pick(menu, "Model", DEV)
    for said in (
        "non-commercial licence",
        "Gated",
        "about 32.1 GB with the LoRA, once",
        "DermaFlux LoRA (published), MIT",
        "of memory",
    ):
        expect(menu["facts"]).to_contain_text(said)
    expect(menu["facts"].get_by_role("link")).to_have_attribute(
        "href", "https://huggingface.co/black-forest-labs/FLUX.1-dev"
    )
    expect(field(menu, "LoRA")).to_have_value("DermaFlux LoRA (published)")
    expect(menu["load-status"]).to_have_text("In use.")


def test_a_model_that_cannot_be_loaded_leaves_the_one_in_use(menu):
    pick(menu, "Model", DEV)
    refused = {"8 bits, each part on the card while it works": "", "32 bits, without a card": "more than is free"}
    for way, reason in refused.items():
        pick(menu, "How weights are kept", way)
        said = load(menu)
        assert said.startswith(f"{NANO} stays in use.") and reason in said
    menu.set(Steps=2)
    menu.draw()
    assert menu.recipe()["Model"].startswith("nano")


def test_the_page_follows_the_model_in_use_also_when_opened_later(menu, visit):
    pick(menu, "LoRA", "None")
    assert load(menu).startswith(f"{NANO} is in use. 32 bits")
    later = visit()
    for visitor in (menu, later):
        visitor.unfold("Settings ▼")
        expect(visitor.number("LoRA strength")).to_be_disabled()
        visitor.tab("Compare & sweep")
        expect(visitor["compare-draw"]).to_be_disabled()
        visitor.tab("About")
        expect(visitor.page.locator("#df-about")).to_contain_text("LoRA: none")
        visitor.tab("Draw")
    later.unfold("Model ▼")
    expect(field(later, "LoRA")).to_have_value("None")
