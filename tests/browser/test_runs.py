"""Runs that are stopped, and visitors who draw at the same time."""

import re
import time

import pytest
from playwright.sync_api import expect

STEPPING = re.compile(r"Step ([2-9]|\d\d) of 50")
SLOW_CANCEL = """
() => {
    const fetch = window.fetch;
    window.fetch = async (address, ...rest) => {
        if (String(address).includes('/cancel')) await new Promise(done => setTimeout(done, 1500));
        return fetch(address, ...rest);
    };
}
"""
"""A network on which word of a Stop takes its time."""


def seconds_left(visitor) -> int:
    return int(re.search(r"About (\d+) s left", visitor["status"].inner_text())[1])


def stop(visitor) -> None:
    """Stop, and see that it lasts: a run that goes on would soon say so."""
    visitor["stop"].click()
    expect(visitor["status"]).to_contain_text("Stopped")
    visitor.page.wait_for_timeout(500)
    expect(visitor["status"]).to_contain_text("Stopped", timeout=1)


def test_stop_ends_a_run_at_once_and_keeps_earlier_images(visitor):
    visitor.set(Steps=2)
    visitor.draw()
    visitor.set(Images=8, Steps=50)
    visitor["draw"].click()
    expect(visitor["status"]).to_contain_text(STEPPING)
    visitor.set(Images=1, Steps=2)
    left, stopped = seconds_left(visitor), time.monotonic()
    stop(visitor)
    expect(visitor.images()).to_have_count(1)
    visitor.draw()
    assert time.monotonic() - stopped < left / 2
    expect(visitor.images()).to_have_count(2)


def test_stop_keeps_the_nearest_of_the_candidates_drawn_so_far(visitor):
    visitor.choose("Border", "8")
    visitor.choose("Colours", "Blue-grey")  # with asymmetry 0, hardly ever drawn at once
    visitor.wait_for_caption(border=8)
    visitor.set(Steps=10, Candidates=16)
    visitor["draw"].click()
    expect(visitor["status"]).to_contain_text("Candidates 4 to 6 of at most 16")
    stop(visitor)
    expect(visitor["status"]).to_contain_text("1 finished image kept")
    expect(visitor.images()).to_have_count(1)


@pytest.mark.parametrize("network", ["() => {}", SLOW_CANCEL], ids=["fast", "slow"])
def test_a_run_right_after_a_stopped_one_can_be_stopped_too(visitor, network):
    visitor.page.evaluate(network)
    visitor.set(Images=8, Steps=50)
    visitor["draw"].click()
    expect(visitor["status"]).to_contain_text(STEPPING)
    stop(visitor)
    visitor["draw"].click()
    expect(visitor["status"]).to_contain_text(STEPPING)
    expect(visitor["draw"]).to_be_disabled()
    stop(visitor)
    expect(visitor["draw"]).to_be_enabled()
    expect(visitor["stop"]).to_be_disabled()


def test_a_visitor_who_waits_sees_the_place_in_line_and_stops_only_their_own_run(visit):
    first, second = visit(), visit()
    first.set(Images=4, Steps=50, Candidates=1)
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
    expect(first["status"]).to_contain_text(re.compile("Step|Done"))
    first.wait_until_drawn()
    expect(first.images()).to_have_count(4)
    expect(second.images()).to_have_count(0)


def test_a_run_that_is_stopped_in_line_is_not_said_to_have_drawn_what_was_there_before(visit):
    first, second = visit(), visit()
    second.set(Steps=2)
    second.draw()
    first.set(Images=4, Steps=50, Candidates=1)
    first["draw"].click()
    expect(first["status"]).to_contain_text(STEPPING)
    second["draw"].click()
    expect(second.page.get_by_text(re.compile(r"queue: \d/\d"))).to_be_visible()
    second["stop"].click()
    expect(second["status"]).to_contain_text("Stopped before it began")
    expect(second.images()).to_have_count(1)
    stop(first)


def test_the_focus_of_the_keyboard_goes_to_stop_and_comes_back(visitor):
    visitor.set(Images=2, Steps=50)
    visitor["draw"].focus()
    visitor.page.keyboard.press("Enter")
    expect(visitor["stop"]).to_be_focused()
    visitor.page.keyboard.press("Enter")
    expect(visitor["status"]).to_contain_text("Stopped")
    expect(visitor["draw"]).to_be_focused()


def test_a_request_that_cannot_be_drawn_is_answered_in_a_sentence_and_can_be_mended(visitor):
    visitor.set(Steps=2, Seed=-1)
    visitor["draw"].click()
    expect(visitor.page.get_by_test_id("toast-body")).to_contain_text("The seed must be a whole number from 0")
    expect(visitor["status"]).to_contain_text("The seed must be a whole number from 0")
    visitor.set(Seed=5)
    visitor.draw()
    expect(visitor.images()).to_have_count(1)


def test_a_double_click_draws_once(visitor):
    visitor.set(Steps=2)
    visitor["draw"].dblclick()
    visitor.wait_until_drawn()
    visitor.page.wait_for_timeout(1000)
    expect(visitor.images()).to_have_count(1)
