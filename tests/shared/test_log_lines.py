"""The lines of a service's log: for people and for programs, and how many at most."""

import json
import logging
from collections.abc import Iterator

import pytest
from tests.federation_world import World, small_definition

from plantfed_agent.desk import Desk as AgentDesk
from plantfed_coordinator.desk import Desk as CoordinatorDesk
from plantfed_shared.log_budget import OF_ALL_TEXTS, OF_ONE_TEXT, LogBudget
from plantfed_shared.log_lines import HumanLines, JsonLines, Seldom

DAY_S = 86400.0


@pytest.fixture
def lines() -> Iterator[tuple[logging.Logger, list[str], list[str]]]:
    """A logger, and what it writes in both forms."""
    human: list[str] = []
    machine: list[str] = []

    class Both(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            human.append(HumanLines().format(record))
            machine.append(JsonLines().format(record))

    logger = logging.getLogger("plantfed.test_log_lines")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    handler = Both()
    handler.addFilter(Seldom())
    logger.addHandler(handler)
    yield logger, human, machine
    logger.removeHandler(handler)


def test_both_forms(lines: tuple[logging.Logger, list[str], list[str]]) -> None:
    logger, human, machine = lines
    logger.info("%s", "joined", extra={"agent": "press-01"})
    logger.warning('a "line"\nof two')
    assert human[0].endswith(" INFO press-01: joined")
    first, second = (json.loads(line) for line in machine)
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "INFO",
        "logger": "plantfed.test_log_lines",
        "message": "joined",
        "agent": "press-01",
    }
    assert second["message"] == 'a "line"\nof two'
    assert all("\n" not in line for line in machine)


def test_an_exception_is_one_line_for_programs(
    lines: tuple[logging.Logger, list[str], list[str]],
) -> None:
    logger, _, machine = lines
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("it failed")
    assert "ValueError: no" in json.loads(machine[0])["exception"]
    assert "\n" not in machine[0]


def test_what_was_hushed_is_counted(
    lines: tuple[logging.Logger, list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, human, _ = lines
    now = 0.0
    monkeypatch.setattr("plantfed_shared.log_lines.monotonic", lambda: now)
    for _ in range(OF_ONE_TEXT + 7):
        logger.info("the files have changed")
    assert len(human) == OF_ONE_TEXT
    logger.info("the files have changed", extra={"agent": "another"})
    assert len(human) == OF_ONE_TEXT + 1
    now = 2 * DAY_S
    logger.info("the files have changed")
    assert human[-1].endswith("the files have changed (7 more like this were not logged)")


def test_an_error_is_never_hushed(lines: tuple[logging.Logger, list[str], list[str]]) -> None:
    logger, human, _ = lines
    for _ in range(50):
        logger.error("the disk is full")
    assert len(human) == 50


@pytest.mark.parametrize("cuts_a_day", [1, 24, 1000])
def test_a_link_that_comes_and_goes_is_a_line_a_day(cuts_a_day: int) -> None:
    budget, n_days, lines = LogBudget(), 60, 0
    for cut in range(n_days * cuts_a_day):
        now = 1e6 + cut * DAY_S / cuts_a_day
        for text in ("no connection to the broker, trying again", "connected to the broker"):
            lines += budget.admit(text, now) is not None
    assert lines <= 2 * OF_ONE_TEXT + n_days
    assert lines >= n_days - 2


def test_ever_different_lines_do_not_fill_the_disk() -> None:
    budget = LogBudget()
    written = [budget.admit(f"ignored a message: {n}", 1e6 + n * 0.01) for n in range(100_000)]
    assert sum(w is not None for w in written) <= OF_ALL_TEXTS + 2
    assert budget.admit("the disk is full", 1e6 + 7200) == 0


def test_machines_at_rest_say_nothing_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[float, str]] = []
    world = World(small_definition(schedule={"arrivals": 2, "max_releases": 3}), 4)

    def note(_: object, text: str, *more: object, **others: object) -> None:
        said.append((world.now, text))

    monkeypatch.setattr(AgentDesk, "note", note)
    monkeypatch.setattr(CoordinatorDesk, "note", note)
    assert world.run(600.0, until=lambda: world.state().final)
    world.run(600.0)
    assert any("welcomed" in text for _, text in said), "nothing was counted"
    at_rest = world.now
    world.run(3 * DAY_S)
    assert [text for at, text in said if at > at_rest] == []
