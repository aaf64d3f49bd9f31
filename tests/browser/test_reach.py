"""The page for everyone: every tab, narrow screens, the keyboard, screen readers, the dark."""

import re

import pytest
from playwright.sync_api import expect

from dermaflux.ui.context import NOTICE

NARROW = dict(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
CONTROLS = ("button", "checkbox", "combobox", "link", "radio", "slider", "spinbutton", "tab", "textbox")

COLOURS = """(header) => {
    const ink = getComputedStyle(header.querySelector('[role=note]')).color;
    const rgb = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
    return [rgb(ink), rgb(getComputedStyle(header).backgroundColor)];
}"""
"""Red, green and blue of the notice and of what it stands on."""


def tabs(visitor) -> list[str]:
    return visitor.page.get_by_role("tab").all_inner_texts()


def unfold_all(panel) -> None:
    for fold in panel.get_by_role("button", name=re.compile("▼$")).all():
        fold.click()


def controls_without_a_name(page) -> list[str]:
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    shown = (node for node in nodes if not node["ignored"] and node["role"]["value"] in CONTROLS)
    return [node["role"]["value"] for node in shown if not node.get("name", {}).get("value", "").strip()]


def test_the_notice_stands_on_every_tab(visitor):
    assert {"Draw", "Classify", "About"} <= set(tabs(visitor))
    for name in tabs(visitor):
        visitor.tab(name)
        expect(visitor["header"].get_by_text(NOTICE)).to_be_in_viewport()


def test_no_tab_changes_the_width_of_the_page(visitor):
    boxes = {}
    for name in tabs(visitor):
        visitor.tab(name)
        box = visitor["header"].bounding_box()
        boxes[name] = box["x"], box["width"]
    assert len(set(boxes.values())) == 1, boxes


def test_every_control_has_a_name_and_every_image_a_description(visitor):
    visitor.set(Steps=2)
    visitor.draw()
    visitor["classify"].click()
    expect(visitor.page.locator("#classify-maps img.heat")).to_be_attached()
    for name in tabs(visitor):
        unfold_all(visitor.tab(name))
        assert controls_without_a_name(visitor.page) == [], name
        assert visitor.page.locator("img:not([alt])").evaluate_all("all => all.map(each => each.outerHTML)") == [], name


def test_a_narrow_screen_shows_every_tab_whole_and_draws(visit):
    visitor = visit(**NARROW)
    visitor.set(Steps=2)
    visitor.draw()
    visitor["classify"].click()
    expect(visitor.page.locator("#classify-maps img.heat")).to_be_attached()
    for name in tabs(visitor):
        unfold_all(visitor.tab(name))
        width = visitor.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{name} is {width} px wide"
        visitor.shoot(f"narrow-{name}")


def test_the_keyboard_alone_describes_draws_and_classifies(visitor):
    visitor.set(Steps=2)
    visitor.page.keyboard.press("Control+Home")
    walk_to(visitor, visitor.group("Asymmetry").get_by_role("radio", name="2"))
    visitor.page.keyboard.press("Space")
    visitor.wait_for_caption(asymmetry=2)
    walk_to(visitor, visitor["draw"])
    visitor.page.keyboard.press("Enter")
    visitor.wait_until_drawn()
    expect(visitor.images()).to_have_count(1)
    walk_to(visitor, visitor["gallery"].get_by_role("button"))
    walk_to(visitor, visitor["classify"])
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#classify-maps img.heat")).to_be_attached()


def walk_to(visitor, goal) -> None:
    """Press Tab until the focus is on `goal`, or on one of them."""
    for _ in range(200):
        if any(goal.evaluate_all("all => all.map(each => each === document.activeElement)")):
            return
        visitor.page.keyboard.press("Tab")
    pytest.fail(f"Tab does not reach {goal}")


def test_the_dark_page_has_light_text_on_a_dark_ground(visitor):
    visitor.open("?__theme=dark")
    for name in tabs(visitor):
        visitor.tab(name)
        visitor.shoot(f"dark-{name}")
        ink, ground = visitor["header"].evaluate(COLOURS)
        assert min(ink) > 180 and max(ground) < 80, (ink, ground)
