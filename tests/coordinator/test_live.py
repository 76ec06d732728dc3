"""Bytes of each agent by day: through midnight, a restart and the journal."""

from contextlib import closing
from pathlib import Path
from typing import Any

from tests.federation_world import small_definition

from plantfed_coordinator.desk import Presence
from plantfed_coordinator.journal import Journal
from plantfed_coordinator.live import LiveCounters
from plantfed_coordinator.records import EpochStarted, Joined
from plantfed_coordinator.views import read_overview
from plantfed_shared.bus.port import PUBACK_BYTES, publish_bytes
from plantfed_shared.local_time import LocalTime
from plantfed_shared.messages import Epoch
from plantfed_shared.topics import Kind, Topics

TOPICS = Topics("toy")
UP, DOWN = TOPICS.up("a", Kind.HELLO), TOPICS.down("a", Kind.STATE)
UP_BYTES = publish_bytes(UP, 5, mqtt5=True)
DOWN_BYTES = publish_bytes(DOWN, 9, mqtt5=True)


class Days:
    """Counters on a day that can be changed."""

    def __init__(self, before: dict[str, dict[str, Any]] | None = None) -> None:
        self.day = 100
        self.counters = LiveCounters(
            TOPICS, lambda: {"a"}, lambda: LocalTime(self.day, 0.0), before
        )

    def talk(self) -> None:
        self.counters.received(UP, b"hello")
        self.counters.sent(DOWN, b"the state")

    def changes(self) -> dict[str, dict[str, Any]]:
        return self.counters.take_changes({"a": Presence(0.0, 0.0)}, 0.0)


def overview_of(tmp_path: Path, changes: dict[str, dict[str, Any]], today: int) -> tuple[int, ...]:
    with closing(Journal(tmp_path, lambda: 0.0)) as journal:
        journal.append([], changes)
        assert journal.seen_live() == changes
    (member,) = read_overview(tmp_path, lambda: LocalTime(today, 0.0)).members
    return member.up_today, member.down_today, member.up_yesterday, member.down_yesterday


def test_the_view_shows_today_and_yesterday(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, lambda: 0.0)) as journal:
        encoded = small_definition().to_bytes()
        journal.append([EpochStarted(Epoch(1, 5), 0, encoded, "created"), Joined("a", 1)], {})
    days = Days()
    days.talk()
    days.day += 1
    days.talk()
    days.talk()
    up, down = UP_BYTES + PUBACK_BYTES, DOWN_BYTES + PUBACK_BYTES
    changes = days.changes()
    assert overview_of(tmp_path, changes, 101) == (2 * up, 2 * down, up, down)
    assert overview_of(tmp_path, changes, 102) == (0, 0, 2 * up, 2 * down)
    assert overview_of(tmp_path, changes, 500) == (0, 0, 0, 0)


def test_a_restart_goes_on_from_what_was_written() -> None:
    before = Days()
    before.talk()
    written = before.changes()
    after = Days(written)
    assert after.changes()["a"]["days"] == written["a"]["days"]
    after.talk()
    found = after.changes()["a"]
    assert found["days"]["day_0_up"] == 2 * (UP_BYTES + PUBACK_BYTES)
    assert found["bytes_up"] == UP_BYTES + PUBACK_BYTES


def test_two_days_are_kept() -> None:
    days = Days()
    for _ in range(5):
        days.talk()
        days.day += 1
    kept = days.changes()["a"]["days"]
    assert sorted(value for name, value in kept.items() if name in ("day_0", "day_1")) == [103, 104]
    assert "day_2" not in kept


def test_what_several_hear_counts_for_each_of_them_that_is_a_member() -> None:
    days = Days()
    lane = TOPICS.lane(7, 0)
    days.counters.sent(lane, b"a part", heard_by=("a", "stranger"))
    changes = days.counters.take_changes(
        {"a": Presence(0.0, 0.0), "stranger": Presence(0.0, 0.0)}, 0.0
    )
    assert changes["a"]["bytes_down"] == publish_bytes(lane, 6, mqtt5=True)
    assert changes["stranger"]["bytes_down"] == 0
