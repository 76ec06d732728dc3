"""The guard of a real agent: rows come into its folder while the model of all goes wrong."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.plant import (
    CLASSES,
    Agent,
    Plant,
    csv_lines,
    definition,
    rows,
    write_csv,
    write_toml,
)
from tests.e2e.processes import run, until

from plantfed_agent.guard import Guard

SEEDS = count(100)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with Plant(tmp_path, agents=4, n_rows=300) as made:
        settings = definition(algorithm={"mode": "auto"}, schedule={"arrivals": 2})
        write_toml(made.federation_file, {**settings, "personal": []})
        for agent in made.agents:
            # rounds one after the other would be most of what this test costs
            agent.configure(training={"look_for_new_rows_s": 0.2, "min_interval_s": 0.1})
        made.start()
        yield made


def tell(agents: list[Agent], *, wrongly: bool) -> None:
    """Write their rows anew; wrongly: every class under the name of the next one."""
    names = np.array([*CLASSES[1:], CLASSES[0]] if wrongly else CLASSES)
    for agent in agents:
        x, labels = rows(300, seed=int(agent.id[1:]))
        numbers = [CLASSES.index(label) for label in labels]
        write_csv(agent.rows_file, (x, names[numbers]))


def after_new_rows(agent: Agent) -> Guard:
    """Its guard when sixty more rows were compared."""
    before = agent.state().guard
    assert before is not None
    with agent.rows_file.open("a") as file:
        file.write(csv_lines(rows(60, seed=next(SEEDS))))

    def compared() -> Guard | None:
        guard = agent.state().guard
        return guard if guard and guard.fingerprint != before.fingerprint else None

    return until(compared, "its guard has seen the new rows")


def keeps(agent: Agent, *, tripped: bool) -> Guard:
    """Rows come until its guard stands like this."""
    for _ in range(40):
        guard = after_new_rows(agent)
        if guard.tripped == tripped and guard.check is not None:
            return guard
    raise AssertionError(f"not in {40 * 60} rows:\n{agent.process.log}")


def right_answers(agent: Agent) -> float:
    """Part of new rows that ``predict`` names rightly."""
    x, labels = rows(400, seed=7)
    write_csv(agent.folder / "asked.csv", (x, labels))
    config = ("--config", agent.config, agent.folder / "asked.csv")
    answers = json.loads(run("agent", "predict", "--json", *config).out)["rows"]
    return float(np.mean([a["label"] == b for a, b in zip(answers, labels, strict=True)]))


def tells_what_others_would_call_it(agent: Agent) -> None:
    """What each prior says of the other's answers fits them; it rests, so all are of one model."""
    asked = ("--config", agent.config, agent.folder / "asked.csv")
    own, uniform = (
        json.loads(run("agent", "predict", "--json", "--prior", prior, *asked).out)["rows"]
        for prior in ("own", "uniform")
    )
    for with_own, without in zip(own, uniform, strict=True):
        differs = with_own["label"] != without["label"]
        assert with_own["otherwise"] == (without["label"] if differs else None)
        assert without["otherwise"] == (with_own["label"] if differs else None)
    header, first, *_ = run("agent", "predict", "--csv", *asked).out.splitlines()
    assert header == "row,label,probability,otherwise"
    assert first.startswith(f"1,{own[0]['label']},")
    both = run("agent", "predict", "--csv", "--json", *asked)
    assert both.code == 2
    assert "not both" in both.err


def status(agent: Agent) -> dict[str, str]:
    found: dict[str, str] = json.loads(
        run("agent", "status", "--json", "--config", agent.config).out
    )
    return found


def test_rows_that_come_trip_it_and_it_recovers(plant: Plant) -> None:
    watched, *others = plant.agents
    until(lambda: watched.rounds() >= 15, "it has trained")
    assert "off: 0 of 50 new rows" in status(watched)["guard"]
    keeps(watched, tripped=False)
    assert right_answers(watched) > 0.85

    watched.process.kill()
    tells_what_others_would_call_it(watched)
    watched.start()

    tell(others, wrongly=True)
    guard = keeps(watched, tripped=True)
    watched.process.says("the guard has tripped")
    watched.process.kill()
    said = status(watched)
    assert said["guard"].startswith(f"tripped: {guard.kept.name} is used; ")
    assert "refused" in said["guard_check"]
    watched.start()
    rounds = watched.rounds()
    until(lambda: watched.rounds() > rounds, "it trains again")
    assert right_answers(watched) > 0.85

    tell(others, wrongly=False)
    keeps(watched, tripped=False)
    watched.process.says("the guard has recovered")
    assert right_answers(watched) > 0.85
