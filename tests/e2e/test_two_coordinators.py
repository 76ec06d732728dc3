"""Two coordinators on one federation: the one that knows less refuses, and nothing is lost."""

from pathlib import Path

import pytest
from tests.e2e.judging import (
    assert_agents_agree,
    assert_journal_counts_everything_once,
    lost_updates,
)
from tests.e2e.outcomes import SETTINGS, assert_ends_with_one_line
from tests.e2e.plant import Plant
from tests.e2e.processes import Running, command_of, find_mosquitto


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_with_states_of_their_own(tmp_path: Path) -> None:
    """Somebody has set it up anew elsewhere; the one that serves is hardly disturbed."""
    with Plant(tmp_path, agents=2) as plant:
        for agent in plant.agents:
            agent.configure(training={"nice": 0})
        plant.start_mosquitto()
        plant.start_coordinator().says("connected to the broker")
        for agent in plant.agents:
            agent.start()
        plant.goes_on(2)

        other = tmp_path / "other.toml"
        text = plant.config.read_text().replace('"state"', '"other"')
        assert '"other"' in text
        other.write_text(text)
        command = command_of("coordinator", "run", "--config", other)
        second = Running(command, tmp_path / "other.log", str(tmp_path))
        try:
            assert_ends_with_one_line(
                second, SETTINGS, "another coordinator serves this federation", "Stop that one"
            )
        finally:
            second.dispose()

        plant.goes_on(2, within_s=15)
        assert lost_updates(plant) == {}
        for agent in plant.agents:
            assert agent.process.stop() == 0
        assert plant.coordinator is not None
        assert plant.coordinator.stop() == 0
        assert_journal_counts_everything_once(plant, ["m1", "m2"])
        assert_agents_agree(plant)
