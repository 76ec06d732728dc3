"""When to connect again, and in which version of MQTT."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantfed_shared.bus.connection_state import TroubleKind
from plantfed_shared.bus.port import Disconnected, Refused
from plantfed_shared.bus.reconnect import RIVAL_LONGEST_S, Backoff, Dialect, End, Flapping, Pauses

GONE = Disconnected("gone")
HUNG_UP = End(GONE, reached=True)
WRONG_VERSION = End(GONE, reached=True, answered=True, version_refused=True)
REFUSED_OTHERWISE = End(GONE, reached=True, answered=True)
LET_IN_AND_HUNG_UP = End(GONE, reached=True, answered=True, hung_up=True)
TAKEN_OVER = End(GONE, reached=True, answered=True, taken_over=True)


class Longest(random.Random):
    """Always draws the ceiling."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Shortest(random.Random):
    """Always draws the floor."""

    def uniform(self, a: float, b: float) -> float:
        return a


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(Longest())
    assert [backoff.wait_after(0.0) for _ in range(6)] == [0.5, 1, 2, 4, 4, 4]


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
    assert all(0.0 <= wait <= 4.0 for wait in waits)


def test_two_processes_with_one_id_soon_leave_each_other_alone() -> None:
    """Each stands for as long as the other waits; an hour has few such turns."""
    one, other = Pauses(Shortest()), Pauses(Shortest())
    waits = [one.after(TAKEN_OVER, 3600.0)]
    for number in range(9):
        waiting, standing = (other, one)[number % 2], waits[-1]
        waits.append(waiting.after(TAKEN_OVER, standing))
    assert waits == [5, 5, 10, 10, 20, 20, 40, 40, 80, 80]
    longest = Pauses(Longest())
    assert max(longest.after(TAKEN_OVER, RIVAL_LONGEST_S) for _ in range(20)) == RIVAL_LONGEST_S
    assert longest.after(TAKEN_OVER, RIVAL_LONGEST_S) == RIVAL_LONGEST_S


def test_a_client_id_that_was_taken_once_costs_other_ends_nothing() -> None:
    pauses = Pauses(Longest())
    assert [pauses.after(TAKEN_OVER, 0.0) for _ in range(2)] == [10, 20]
    assert [pauses.after(REFUSED_OTHERWISE, 0.0) for _ in range(2)] == [0.5, 1]


def flaps(*stood: float, end: End = LET_IN_AND_HUNG_UP) -> list[bool]:
    flapping = Flapping("press-01")
    return [flapping.judge(end, stood_s).flapping for stood_s in stood]


def test_a_broker_that_hangs_up_again_and_again_may_know_another_of_our_name() -> None:
    assert flaps(1.0, 1.0, 1.0, 600.0, 1.0) == [False, False, True, True, True]
    flapping = Flapping("press-01")
    reasons = [flapping.judge(LET_IN_AND_HUNG_UP, 1.0).event.reason for _ in range(3)]
    assert reasons[:2] == ["gone", "gone"]
    assert reasons[2].startswith("gone soon after")
    assert reasons[2].endswith("another process connected to the broker as 'press-01'?")


def test_a_connection_that_lasted_begins_the_count_anew() -> None:
    assert flaps(1.0, 1.0, 60.0, 1.0, 1.0) == [False] * 5
    assert flaps(1.0, 1.0, 1.0, 1200.0, 1.0, 1.0, 1.0) == [False, False, True, *[False] * 3, True]


def test_an_attempt_that_was_not_answered_says_nothing_about_it() -> None:
    flapping = Flapping("press-01")
    ends = [LET_IN_AND_HUNG_UP, HUNG_UP, HUNG_UP, LET_IN_AND_HUNG_UP, LET_IN_AND_HUNG_UP]
    assert [flapping.judge(end, 1.0).flapping for end in ends] == [False] * 4 + [True]
    later = flapping.judge(HUNG_UP, 0.0)
    assert later.flapping
    assert later.event.reason.startswith("gone, again and again: is another process")


@pytest.mark.parametrize("other", [End(GONE), REFUSED_OTHERWISE, TAKEN_OVER])
def test_only_hanging_up_in_silence_looks_like_another_process(other: End) -> None:
    assert flaps(1.0, 1.0, 1.0, 1.0, end=other) == [False] * 4
    flapping = Flapping("press-01")
    ends = [LET_IN_AND_HUNG_UP, LET_IN_AND_HUNG_UP, other, LET_IN_AND_HUNG_UP]
    assert [flapping.judge(end, 1.0) for end in ends] == ends


def test_who_looks_like_flapping_waits_longer() -> None:
    pauses, suspect = Pauses(Shortest()), End(GONE, reached=True, hung_up=True, flapping=True)
    assert [pauses.after(suspect, 1.0) for _ in range(3)] == [5, 10, 20]


def test_where_nobody_was_reached_no_process_is_suspected_for_long() -> None:
    pauses, suspect = Pauses(Shortest()), End(GONE, reached=True, hung_up=True, flapping=True)
    assert [pauses.after(suspect, 1.0) for _ in range(3)] == [5, 10, 20]
    pauses.after(End(GONE), 0.0)
    assert pauses.after(suspect, 1.0) == 5


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (End(GONE), TroubleKind.UNAVAILABLE),
        (End(Refused("no")), TroubleKind.REFUSED),
        (TAKEN_OVER, TroubleKind.REFUSED),
    ],
)
def test_what_a_person_must_mend_counts_as_a_refusal(end: End, kind: TroubleKind) -> None:
    assert end.kind is kind


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
