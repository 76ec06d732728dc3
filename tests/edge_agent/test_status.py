"""What `plantfed-agent status` says of today."""

from contextlib import closing
from pathlib import Path

import pytest

from plantfed_agent.agent_store import AgentStore
from plantfed_agent.settings import load_agent_settings
from plantfed_agent.state import AgentState
from plantfed_agent.views import AgentStatus, read_status
from plantfed_shared.day_ledger import DayLedger, Spent
from plantfed_shared.local_time import LocalTime

NOON = LocalTime(740_000, 43_200.0)
LINK = """
[link]
daily_budget = { up = "500 KB", down = "2 MB" }
quiet_hours = ["07:00-09:00"]
"""


def status(folder: Path, spent: Spent, local: LocalTime = NOON, link: str = LINK) -> AgentStatus:
    (folder / "agent.toml").write_text(
        '[agent]\nid = "press-07"\nfederation = "presses"\n'
        f'[broker]\nurl = "mqtt://broker.plant"\n[data]\ntrain = ["*.csv"]\n{link}'
    )
    settings = load_agent_settings(folder / "agent.toml")
    with closing(AgentStore(settings.agent.state_dir)) as store:
        store.persist(AgentState(), frozenset(), DayLedger({NOON.day: spent}).counters())
    return read_status(settings, lambda: local)


def test_spent_left_and_forecast(tmp_path: Path) -> None:
    found = status(tmp_path, Spent(100_000, 250_000))
    assert (found.up_today, found.down_today) == (100_000, 250_000)
    assert (found.up_left, found.down_left) == (390_000, 1_710_000)
    assert (found.up_forecast, found.down_forecast) == (200_000, 500_000)
    assert found.held is None


def test_no_more_is_forecast_than_the_budget_allows(tmp_path: Path) -> None:
    found = status(tmp_path, Spent(499_000, 250_000))
    assert found.up_forecast == 500_000
    assert found.up_left == 0
    assert found.held == "upward budget spent until tomorrow: only a head of its own is trained"


@pytest.mark.parametrize(
    ("local", "held"),
    [
        (LocalTime(NOON.day, 8 * 3600.0), "quiet until 09:00"),
        (NOON, "budget spent until tomorrow"),
        (LocalTime(NOON.day + 1, 0.0), None),
        (LocalTime(NOON.day - 365, 0.0), None),
    ],
)
def test_why_there_is_no_bulk_traffic(tmp_path: Path, local: LocalTime, held: str | None) -> None:
    assert status(tmp_path, Spent(500_000, 2_000_000), local).held == held


def test_without_limits_bytes_are_counted_all_the_same(tmp_path: Path) -> None:
    found = status(tmp_path, Spent(10**9, 10**9), link="")
    assert found.up_today == 10**9
    assert found.up_forecast == 2 * 10**9
    assert (found.up_left, found.down_left, found.held) == (None, None, None)


def test_why_the_last_round_came_to_nothing(tmp_path: Path) -> None:
    assert status(tmp_path, Spent(0, 0)).failure is None
    with closing(AgentStore(tmp_path / "state")) as store:
        failed = AgentState(failure="a round failed: the loss is no longer finite")
        store.persist(failed, frozenset({"failure"}), {})
    settings = load_agent_settings(tmp_path / "agent.toml")
    assert read_status(settings).failure == failed.failure
