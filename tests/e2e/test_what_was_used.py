"""``replay --used-by`` and ``status`` name the same numbers, on real processes in mode auto."""

import json
from pathlib import Path

from tests.e2e.outcomes import assert_one_line, run_coordinator
from tests.e2e.plant import Agent, Plant, definition, write_toml
from tests.e2e.processes import run, until

CONFIG = 78


def uses(agent: Agent) -> str:
    said = run("agent", "status", "--json", "--config", agent.config)
    return str(json.loads(said.out)["uses"])


def test_the_journal_names_what_each_machine_uses(tmp_path: Path) -> None:
    with Plant(tmp_path, agents=3) as plant:
        settings = definition(algorithm={"mode": "auto"}, schedule={"arrivals": 2})
        del settings["personal"]
        write_toml(plant.federation_file, settings)
        for agent in plant.agents:
            agent.configure(training={"min_interval_s": 0.05, "max_rounds_without_new_rows": 10**6})
        plant.start()
        plant.goes_on(10)
        killed = plant.agents[0]
        killed.process.kill()
        plant.goes_on(3)
        killed.start()
        rounds = killed.rounds()
        until(lambda: killed.rounds() > rounds + 5, "it trains again")
        for agent in plant.agents:
            assert agent.process.stop() == 0
        assert plant.coordinator is not None
        assert plant.coordinator.stop() == 0
        whole = run_coordinator(plant, "replay", "--verify")
        assert whole.code == 0, whole.err
        averages = 0
        for agent in plant.agents:
            found = run_coordinator(plant, "replay", "--used-by", agent.id, "--json")
            assert found.code == 0, found.err
            # one more may have been served that it did not fetch any more
            model = agent.state().model_name
            assert model is not None
            has = [each for each in json.loads(found.out)["used"] if each["k"] == model.k]
            newest = has[-1]
            assert uses(agent) == f"{newest['name']}, checksum {newest['checksum']}"
            averages += newest["is_average"]
        assert averages == 3
        lines = run_coordinator(plant, "replay", "--used-by", killed.id, "--last", 10**6).out
        assert f"used: epoch {newest['epoch']}, incarnation 1, update 1: release " in lines
        few = run_coordinator(plant, "replay", "--used-by", killed.id, "--last", 3).out
        nobody = run_coordinator(plant, "replay", "--last", 3)
        assert (nobody.code, "give both" in nobody.err) == (2, True)
        assert few.count("used: ") == 3
        stranger = run_coordinator(plant, "replay", "--used-by", "nobody")
        assert_one_line(stranger, CONFIG, "--used-by 'nobody': no such member")
