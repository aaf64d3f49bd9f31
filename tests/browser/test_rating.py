"""A visitor rates an image by keyboard, and takes the own ratings home."""

import csv
import re

from playwright.sync_api import expect


def test_an_image_is_rated_by_keyboard_and_the_ratings_are_downloaded(visitor, tmp_path):
    visitor.set(Seed=11, Steps=2)
    visitor.draw()
    visitor.unfold(re.compile("Rate this image"))
    scores = visitor.page.get_by_role("group", name="Looks like a lesion as asked, 1 to 5")
    expect(scores.get_by_role("radio")).to_have_count(5)
    scores.get_by_role("radio").nth(1).focus()
    visitor.page.keyboard.press("Space")
    remark = visitor.page.get_by_label("Remark, if you like")
    remark.fill("Border too sharp")
    visitor["rate-save"].focus()
    visitor.page.keyboard.press("Enter")
    expect(visitor["rate-status"]).to_contain_text("You rated this image 2 of 5.")
    path = visitor.download("#df-rate-csv", tmp_path)
    (row,) = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    assert (row["score"], row["remark"], row["seed"]) == ("2", "Border too sharp", "11")
    visitor.set(Seed=12)
    visitor.draw()
    expect(visitor["rate-status"]).to_contain_text("Not rated by you.")
    expect(remark).to_have_value("")
