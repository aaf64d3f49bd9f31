"""Runs that are stopped, and visitors who draw at the same time."""

import re
import time

from playwright.sync_api import expect

PROMPTLY_S = 20
"""Far below what the rest of a stopped run takes, well above one step on a busy machine."""
LONG = dict(images=8, steps=50)
STEPPING = re.compile(r"Step \d+ of 50")


def test_stop_ends_a_run_at_once_and_keeps_earlier_images(visitor):
    visitor.set(steps=2)
    visitor.draw()
    visitor.set(**LONG)
    visitor["draw"].click()
    expect(visitor["status"]).to_contain_text(STEPPING)
    stopped = time.monotonic()
    visitor["stop"].click()
    expect(visitor["status"]).to_contain_text("Stopped")
    expect(visitor["stop"]).to_be_disabled()
    expect(visitor.images()).to_have_count(1)
    visitor.set(images=1, steps=2)
    visitor.draw()
    assert time.monotonic() - stopped < PROMPTLY_S
    expect(visitor.images()).to_have_count(2)


def test_a_visitor_who_waits_sees_the_place_in_line_and_stops_only_their_own_run(visit):
    first, second = visit(), visit()
    first.set(images=3, steps=50)
    first["draw"].click()
    expect(first["status"]).to_contain_text(STEPPING)
    expect(second["stop"]).to_be_disabled()
    second["draw"].click()
    expect(second.page.get_by_text(re.compile(r"queue: \d/\d"))).to_be_visible()
    second["stop"].click()
    expect(second["status"]).to_contain_text("Stopped")
    expect(second["draw"]).to_be_enabled()
    going = first["status"].inner_text()
    expect(first["status"]).not_to_have_text(going)
    expect(first["status"]).to_contain_text(re.compile(r"Step \d+ of 50|Done"))
    first.wait_until_drawn()
    expect(first.images()).to_have_count(3)
    expect(second.images()).to_have_count(0)
