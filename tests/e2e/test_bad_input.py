"""Whatever is wrong with broker or rows: one clear line, the documented exit code, no traceback."""

import socket
from collections.abc import Callable

import pytest
from tests.e2e.outcomes import (
    BROKER,
    DATA,
    REFUSED,
    assert_ends_with_one_line,
    assert_one_line,
    run_agent,
    run_coordinator,
)
from tests.e2e.plant import Agent, Plant
from tests.e2e.processes import find_mosquitto, run

# ---------------------------------------------------------------------- the broker


def test_nobody_listens(plant: Plant, agent: Agent) -> None:
    assert_one_line(run_agent(agent, "check"), BROKER, f"nothing listens at 127.0.0.1:{plant.port}")
    assert_one_line(run_coordinator(plant, "check"), BROKER, "nothing listens")


def test_a_port_that_is_taken(plant: Plant) -> None:
    with socket.create_server(("127.0.0.1", plant.port)):
        outcome = run("broker", "serve", "--dir", plant.broker_dir)
    assert_one_line(outcome, BROKER, f"port {plant.port} is taken")


@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_a_broker_that_refuses_the_password(plant: Plant, agent: Agent, kind: str) -> None:
    needs(kind)
    plant.start_broker(kind)
    (agent.folder / "password").write_text("wrong\n")
    (plant.broker_dir / "coordinator.password").write_text("wrong\n")
    words = "does not authorise this user", "Check [broker]"
    assert_one_line(run_agent(agent, "check"), REFUSED, *words)
    assert_one_line(run_coordinator(plant, "check"), REFUSED, *words)
    assert_ends_with_one_line(agent.start(), REFUSED, *words)
    assert_ends_with_one_line(plant.start_coordinator(), REFUSED, *words)


def needs(kind: str) -> None:
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")


# ---------------------------------------------------------------------- rows


BAD_ROWS: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "text among numbers": (lambda t: replace_cell(t, 5, 1, "broken"), ("line 6", "'b'", "broken")),
    "not a number": (lambda t: replace_cell(t, 7, 0, "nan"), ("line 8", "'a'", "finite")),
    "an empty cell": (lambda t: replace_cell(t, 3, 2, ""), ("line 4", "'c'", "empty")),
    "an unknown label": (lambda t: replace_cell(t, 9, 3, "pink"), ("row 9", "'pink'", "red")),
    "a missing column": (lambda t: t.replace("a,b,c", "a,bb,c", 1), ("'b'",)),
    "a missing cell": (lambda t: t + "1,2\n", ("2 cells", "4")),
    "no rows": (lambda t: t.splitlines()[0] + "\n", ("has no rows",)),
    "an empty file": (lambda t: "", ("is empty", "header")),
}


def replace_cell(text: str, line: int, column: int, cell: str) -> str:
    lines = [line.split(",") for line in text.splitlines()]
    lines[line][column] = cell
    return "\n".join(",".join(cells) for cells in lines) + "\n"


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_cannot_be_used(plant: Plant, agent: Agent, case: str) -> None:
    spoil, words = BAD_ROWS[case]
    agent.rows_file.write_text(spoil(agent.rows_file.read_text()))
    plant.start()
    assert_ends_with_one_line(agent.process, DATA, "rows.csv", *words)
    # from now on it knows what the federation wants, and can be checked without training
    assert_one_line(run_agent(agent, "check"), DATA, "rows.csv", *words)


def test_rows_that_are_not_there(plant: Plant, agent: Agent) -> None:
    agent.configure(data={"train": ["nowhere-*.csv"]})
    assert_one_line(run_agent(agent, "check"), DATA, "nowhere-*.csv")


def test_rows_that_break_while_it_runs_stop_nothing(plant: Plant, agent: Agent) -> None:
    agent.configure(training={"look_for_new_rows_s": 0.2})
    plant.start()
    plant.goes_on(1)
    good = agent.rows_file.read_text()
    agent.rows_file.write_text(replace_cell(good, 2, 0, "broken"))
    agent.process.says("resting until the files change")
    agent.rows_file.write_text(good)
    plant.goes_on(2)
