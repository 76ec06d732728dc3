"""An agent that has nothing to do takes next to nothing from its machine."""

import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from tests.e2e.plant import Agent, Plant, csv_lines, rows
from tests.e2e.processes import until

MOST_MEMORY = 64 * 2**20
MOST_CPU = 0.005
WATCHED_S = 8.0


def test_an_agent_at_rest(tmp_path: Path) -> None:
    with Plant(tmp_path, n_rows=500) as plant:
        (agent,) = plant.agents
        pace = {"rest_after_s": 0.5, "max_rounds_without_new_rows": 5}
        agent.configure(training={**pace, "look_for_new_rows_s": 2.0})
        plant.start()
        worker = until(agent.worker, "it trains")
        until(lambda: agent.rounds() == 5, "it has learnt what there is")
        until(lambda: not worker.is_running(), "the training process ends", 5)
        until(lambda: agent.state().outstanding is None, "its last update is applied")

        processes = [psutil.Process(agent.process.pid), *agent.process.children()]
        before = seconds_used(processes)
        time.sleep(WATCHED_S)  # not to wait for anything: this is what is measured
        spent = seconds_used(processes) - before
        assert [p.pid for p in processes] == [agent.process.pid, *pids_of_children(agent)]
        assert sum(p.memory_info().rss for p in processes) <= MOST_MEMORY
        assert spent / WATCHED_S < MOST_CPU
        assert agent.rounds() == 5

        with agent.rows_file.open("a") as file:
            file.write(csv_lines(rows(500, seed=2)))
        until(agent.worker, "it trains again")
        until(lambda: agent.rounds() == 10, "it has learnt the new rows")
        until(lambda: agent.worker() is None, "it rests again", 5)
        assert agent.state().n_samples == 800


def seconds_used(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(p.cpu_times()[:2]) for p in processes)


def pids_of_children(agent: Agent) -> list[int]:
    return [p.pid for p in agent.process.children()]
