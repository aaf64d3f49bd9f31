"""What a visitor may ask for in an hour: the sum, the wait, the threads, and who is who behind a proxy."""

import threading

import pytest

from dermaflux.errors import InputError
from dermaflux.limits import HOUR, HourlyLimit, Pseudonyms, address


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_visitor_may_have_what_the_limit_allows_and_is_then_told_how_long_to_wait(clock):
    limit = HourlyLimit(5, "Drawn images", clock)
    limit.spend("a", 2)
    clock.now = 600
    limit.spend("a", 2)
    with pytest.raises(InputError, match=r"limited to 5 an hour for each visitor; you have 1 left.*in 50 minutes"):
        limit.spend("a", 2)
    limit.spend("a", 1)
    clock.now = HOUR - 30
    with pytest.raises(InputError, match=r"0 left. Try again in 1 minute[.]"):
        limit.spend("a")
    clock.now = HOUR
    limit.spend("a", 2)


def test_visitors_do_not_spend_each_others(clock):
    limit = HourlyLimit(1, "Drawn images", clock)
    limit.spend("a")
    limit.spend("b")
    with pytest.raises(InputError):
        limit.spend("a")


def test_more_at_once_than_an_hour_allows_is_refused_without_a_wait(clock):
    with pytest.raises(InputError, match="ask for fewer"):
        HourlyLimit(5, "Drawn images", clock).spend("a", 6)


def test_nothing_is_counted_without_a_limit(clock):
    limit = HourlyLimit(0, "Drawn images", clock)
    for _ in range(1000):
        limit.spend("a", 1000)
    assert not limit._spent


def test_what_fails_is_given_back_and_what_is_stopped_is_not(clock):
    limit = HourlyLimit(3, "Drawn images", clock)
    limit.spend("a")
    with pytest.raises(RuntimeError), limit.spending("a", 2):
        raise RuntimeError
    with pytest.raises(GeneratorExit), limit.spending("a", 1):
        raise GeneratorExit
    limit.spend("a")
    with pytest.raises(InputError):
        limit.spend("a")


def test_memory_is_bounded_and_keeps_who_asked_last(clock):
    limit = HourlyLimit(2, "Drawn images", clock, max_visitors=10)
    for number in range(1000):
        limit.spend("steady", 0)
        limit.spend(str(number), 2)
    assert len(limit._spent) == 10
    with pytest.raises(InputError):
        limit.spend("999")


def test_many_threads_spend_no_more_than_the_limit(clock):
    limit, had = HourlyLimit(50, "Drawn images", clock), []

    def ask():
        for _ in range(50):
            try:
                limit.spend("a")
                had.append(1)
            except InputError:
                pass

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(had) == 50


@pytest.mark.parametrize(
    ("forwarded", "proxied", "found"),
    [
        ("8.8.8.8", False, "10.0.0.9"),
        ("8.8.8.8", True, "8.8.8.8"),
        ("1.1.1.1, 8.8.8.8", True, "8.8.8.8"),
        ("1.1.1.1, 8.8.8.8, 10.1.2.3", True, "8.8.8.8"),
        ("192.168.0.7", True, "192.168.0.7"),
        ("", True, "10.0.0.9"),
        ("<script>, unknown", True, "10.0.0.9"),
        ("2606:4700::1111", True, "2606:4700::1111"),
        ("1.1.1.1, 8.8.8.8:443", True, "8.8.8.8"),
        ("1.1.1.1:80, [2606:4700::1111]:443, 10.1.2.3:5000", True, "2606:4700::1111"),
        ("[2606:4700::1111]", True, "2606:4700::1111"),
        ("8.8.8.8:port, :443, []:1", True, "10.0.0.9"),
    ],
)
def test_the_address_is_the_last_public_one_that_a_known_proxy_names(forwarded, proxied, found):
    assert address("10.0.0.9", forwarded, proxied) == found


def test_pseudonyms_tell_visitors_apart_and_hold_no_address():
    names = Pseudonyms()
    assert names.of("8.8.8.8") == names.of("8.8.8.8") == names.of("::ffff:8.8.8.8") != names.of("8.8.8.9")
    assert names.of("2606:4700:1:2:3::1") == names.of("2606:4700:1:2:ffff::9") != names.of("2606:4700:1:3::1")
    assert names.of("user 8") != names.of("8.8.8.8") and "8.8.8.8" not in names.of("8.8.8.8")
    assert Pseudonyms().of("8.8.8.8") != names.of("8.8.8.8")
