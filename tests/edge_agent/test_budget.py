"""What may be begun: quiet hours, budgets per day, smaller updates before none."""

from math import exp, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantfed_agent.budget import SMALLEST_FACTOR, LinkBudget, LinkLimits, QuietHours
from plantfed_agent.events import LinkRead
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES, publish_bytes
from plantfed_shared.day_ledger import Spent
from plantfed_shared.local_time import LocalTime
from plantfed_shared.topics import Kind, Topics
from plantfed_shared.transfer import WINDOW_BYTES

TOPICS = Topics("presses")
H = 3600


def budget(limits: LinkLimits, second: float = 0.0, **spent: int) -> LinkBudget:
    found = LinkBudget(limits, TOPICS, "press-07")
    found.take(LinkRead(LocalTime(1, second), Spent(**spent), 0), 0.0)
    return found


def test_without_limits_everything_may_be_done() -> None:
    free = LinkBudget(LinkLimits(), TOPICS, "press-07")
    assert free.kept_factor() == 1.0
    assert free.may_send(10**9)
    assert free.may_fetch(10**9)
    assert free.pull(10**9, 0.0)[:2] == (WINDOW_BYTES, 0)
    assert free.pull(10**9, 0.0).asks_ahead
    assert free.largest_payload(1000) == 1000
    assert free.standing(10**9, 10**9) is None
    assert not free.refused


@pytest.mark.parametrize(
    ("second", "quiet"),
    [
        (7 * H - 1, None),
        (7 * H, "quiet until 09:30"),
        (8 * H, "quiet until 09:30"),
        (9 * H, "quiet until 09:30"),
        (9.5 * H, None),
        (22 * H, "quiet until 06:00"),
        (1, "quiet until 06:00"),
        (6 * H, None),
    ],
)
def test_quiet_hours(second: float, quiet: str | None) -> None:
    hours = (
        QuietHours(7 * H, 9 * H),
        QuietHours(9 * H, int(9.5 * H)),
        QuietHours(22 * H, 6 * H),
    )
    held = budget(LinkLimits(quiet=hours), second)
    assert held.standing(1, 1) == quiet
    assert held.is_quiet == (quiet is not None)
    assert held.may_send(1) == held.may_fetch(1) == (quiet is None)
    # a round may be trained: its update waits
    assert held.affords_update(10**9)


def test_when_quiet_hours_end_or_the_day_does_is_looked_again() -> None:
    hours = QuietHours(7 * H, 9 * H)
    assert budget(LinkLimits(quiet=(hours,)), 9 * H - 30).next_change_at() == pytest.approx(30.001)
    late = budget(LinkLimits(day_up=20_000), 24 * H - 5, up=20_000)
    assert late.next_change_at() == pytest.approx(5.001)
    # the clock may be put in between
    assert budget(LinkLimits(quiet=(hours,)), 7 * H).next_change_at() == 600.0


def test_a_spent_budget_refuses_and_the_next_day_does_not() -> None:
    spent = budget(LinkLimits(day_up=100_000, day_down=200_000), 12 * H, up=99_000, down=5)
    assert not spent.affords_update(50)
    assert spent.refused
    assert spent.may_fetch(50_000)
    assert (
        spent.standing(50, 50)
        == "upward budget spent until tomorrow: only a head of its own is trained"
    )
    spent.take(LinkRead(LocalTime(2, 0.0), Spent(), 0), 1.0)
    assert spent.affords_update(50)
    assert spent.standing(50, 50) is None


@pytest.mark.parametrize("day", [-300, 0, 2, 400])
def test_a_day_is_over_whatever_way_the_clock_jumps(day: int) -> None:
    spent = budget(LinkLimits(day_up=100_000), 12 * H, up=100_000)
    assert spent.next_change_at() <= 600.0
    spent.take(LinkRead(LocalTime(day, 5.0), Spent(), 0), 1.0)
    assert spent.may_send(1000)


def test_what_is_longer_than_a_day_is_begun_with_most_of_one_and_goes_on() -> None:
    limits = LinkLimits(day_up=100_000)
    assert budget(limits, up=10_000).may_send(10**6)
    assert not budget(limits, up=50_000).may_send(10**6)
    assert budget(limits, up=50_000).may_send(1)
    assert budget(limits, up=50_000).may_go_on(40_000)
    assert not budget(limits, up=90_000).may_go_on(40_000)


def test_updates_get_smaller_as_the_budget_gets_short_relative_to_the_day() -> None:
    limits = LinkLimits(day_up=10**6)
    assert budget(limits, 0.0).kept_factor() == 1.0
    assert budget(limits, 12 * H, up=490_000).kept_factor() == 1.0
    assert budget(limits, 12 * H, up=735_000).kept_factor() == pytest.approx(0.5)
    assert budget(limits, 0.0, up=735_000).kept_factor() == pytest.approx(0.25)
    assert budget(limits, 12 * H, up=10**6).kept_factor() == SMALLEST_FACTOR
    assert budget(limits, 24 * H - 1, up=979_000).kept_factor() == 1.0
    # what would not fit otherwise
    assert budget(limits, 24 * H - 1, up=880_000).kept_factor(200_000) == pytest.approx(0.5, 0.01)


@given(n_rounds=st.integers(1, 200), cost=st.floats(0.001, 0.05))
def test_before_any_round_is_skipped_updates_are_as_small_as_they_get(
    n_rounds: int, cost: float
) -> None:
    day, spent = 10**7, 0
    for number in range(n_rounds):
        now = budget(LinkLimits(day_up=day), 24 * H * number / n_rounds, up=spent)
        factor = now.kept_factor(int(cost * day))
        n_bytes = int(cost * day * factor)
        if not now.affords_update(n_bytes):
            assert factor == SMALLEST_FACTOR
            continue
        spent += now.with_chunks(n_bytes)
    assert spent <= day
    total = n_rounds * cost
    if 1 < total < 5 and n_rounds > 50:
        # all rounds had something, and little was left over
        assert spent > (1 - 1.2 * exp(-total) - 0.1) * day


def test_a_pull_asks_for_what_fits_and_waits_for_the_rest() -> None:
    rated = budget(LinkLimits(bytes_per_s=4000.0))
    pull = rated.pull(10**6, 0.0)
    topic = TOPICS.down("press-07", Kind.CHUNK)
    chunk = publish_bytes(topic, pull.window_bytes + 64, mqtt5=True)
    assert 0.8 * 1600 < chunk <= 1600
    assert rated.pull(10, 0.0).window_bytes == 10
    assert not pull.asks_ahead
    rated.take(LinkRead(LocalTime(1, 0.0), Spent(), chunk), 0.1)
    waiting = rated.pull(10**6, 0.1)
    assert waiting.window_bytes == 0
    assert 0.1 < waiting.not_before < 0.5
    assert rated.pull(10**6, waiting.not_before).window_bytes == pull.window_bytes


def test_no_payload_takes_longer_than_a_burst() -> None:
    rated = budget(LinkLimits(bytes_per_s=4000.0))
    payload = rated.largest_payload(MAX_MESSAGE_BYTES)
    topic = TOPICS.up("press-07", Kind.UPDATE)
    assert 1500 < publish_bytes(topic, payload, mqtt5=True) <= 1600
    assert rated.largest_payload(100) == 100
    fast = budget(LinkLimits(bytes_per_s=10.0**9))
    assert fast.largest_payload(MAX_MESSAGE_BYTES) == MAX_MESSAGE_BYTES


def test_a_pull_takes_no_more_than_the_budget_holds() -> None:
    short = budget(LinkLimits(day_down=100_000), down=90_000)
    assert 7_500 < short.pull(10**6, 0.0).window_bytes < 8_000
    spent = budget(LinkLimits(day_down=100_000), down=99_000)
    pull = spent.pull(10**6, 0.0)
    assert (pull.window_bytes, pull.not_before) == (0, 600.0)


def test_no_message_is_more_than_a_part_of_a_days_budget_nor_than_what_is_left() -> None:
    topic = TOPICS.up("press-07", Kind.UPDATE)
    payload = budget(LinkLimits(day_up=20_000)).largest_payload(MAX_MESSAGE_BYTES)
    assert 4_900 < publish_bytes(topic, payload, mqtt5=True) <= 5_000
    both = budget(LinkLimits(day_up=20_000, bytes_per_s=4000.0)).largest_payload(MAX_MESSAGE_BYTES)
    assert both < 1600
    short = budget(LinkLimits(day_up=20_000), up=18_000)
    assert 1_500 < short.payload_that_fits(payload) < 1_600
    assert budget(LinkLimits(day_up=20_000), up=20_000).payload_that_fits(payload) == 0
    assert budget(LinkLimits()).payload_that_fits(payload) == payload


def test_what_comes_by_itself_is_no_more_than_the_budget_holds() -> None:
    assert budget(LinkLimits()).window_that_fits(131_072) == 131_072
    short = budget(LinkLimits(day_down=100_000), down=90_000)
    assert 7_500 < short.window_that_fits(131_072) < 8_000


def test_before_the_first_reading_nothing_is_known() -> None:
    unread = LinkBudget(LinkLimits(day_up=100_000), TOPICS, "press-07")
    assert unread.kept_factor() == 1.0
    assert unread.next_change_at() == inf
