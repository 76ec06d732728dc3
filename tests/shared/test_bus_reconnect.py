"""When to connect again, and in which version of MQTT."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantfed_shared.bus.port import Disconnected
from plantfed_shared.bus.reconnect import Backoff, Dialect, End

GONE = Disconnected("gone")
HUNG_UP = End(GONE, reached=True)
WRONG_VERSION = End(GONE, reached=True, answered=True, version_refused=True)
REFUSED_OTHERWISE = End(GONE, reached=True, answered=True)


class Longest(random.Random):
    """Always draws the ceiling."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(Longest())
    assert [backoff.wait_after(0.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(("stood_s", "expected"), [(59.9, 4.0), (60.0, 0.5)])
def test_only_a_connection_that_lasted_counts(stood_s: float, expected: float) -> None:
    backoff = Backoff(Longest())
    for _ in range(3):
        backoff.wait_after(0.0)
    assert backoff.wait_after(stood_s) == expected


@given(st.integers(0, 2**32), st.lists(st.floats(0.0, 100.0), max_size=20))
def test_waits_are_random_within_bounds_and_repeatable(seed: int, stood: list[float]) -> None:
    one, two = Backoff(random.Random(seed)), Backoff(random.Random(seed))
    waits = [one.wait_after(stood_s) for stood_s in stood]
    assert waits == [two.wait_after(stood_s) for stood_s in stood]
    assert all(0.0 <= wait <= 30.0 for wait in waits)


@pytest.mark.parametrize(("protocol", "mqtt5"), [("5", True), ("3.1.1", False)])
@pytest.mark.parametrize("end", [HUNG_UP, WRONG_VERSION])
def test_a_fixed_version_stays(protocol: str, mqtt5: bool, end: End) -> None:
    dialect = Dialect("5" if protocol == "5" else "3.1.1")
    assert not dialect.change_after(end)
    assert dialect.mqtt5 is mqtt5


def test_a_refused_version_is_changed_at_once_but_back_only_after_a_wait() -> None:
    dialect = Dialect("auto")
    assert dialect.mqtt5
    assert dialect.change_after(WRONG_VERSION)
    assert not dialect.mqtt5
    dialect.worked()
    assert not dialect.change_after(HUNG_UP)
    assert not dialect.mqtt5
    assert not dialect.change_after(WRONG_VERSION)
    assert dialect.mqtt5


def test_a_broker_that_hangs_up_is_tried_in_both_versions() -> None:
    dialect = Dialect("auto")
    tried = []
    for _ in range(4):
        tried.append(dialect.mqtt5)
        assert not dialect.change_after(HUNG_UP)
    assert tried == [True, False, True, False]


@pytest.mark.parametrize("end", [End(GONE), REFUSED_OTHERWISE])
def test_other_ends_say_nothing_about_the_version(end: End) -> None:
    dialect = Dialect("auto")
    assert not dialect.change_after(end)
    assert dialect.mqtt5
