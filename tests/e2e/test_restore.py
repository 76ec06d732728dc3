"""The restore drill of docs/backup.md, on real processes: agents are ahead of the backup."""

from pathlib import Path

from tests.e2e.outcomes import STORAGE, assert_one_line, run_coordinator
from tests.e2e.plant import Plant
from tests.e2e.processes import until
from tests.e2e.test_survival import assert_agents_agree
from tests.machines.invariants import check_sequences

N_AGENTS = 3


def test_a_backup_is_restored_while_the_agents_are_ahead_of_it(tmp_path: Path) -> None:
    with Plant(tmp_path, agents=N_AGENTS) as plant:
        plant.define(schedule={"arrivals": N_AGENTS, "release_after_s": 1.0})
        for agent in plant.agents:
            agent.configure(training={"min_interval_s": 0.05, "max_rounds_without_new_rows": 10**6})
        plant.start()
        plant.goes_on(3)
        file, key = tmp_path / "backup", tmp_path / "backup.key"
        key.write_text("5a" * 32)
        words = ("--key-file", key, file)
        assert run_coordinator(plant, "backup", *words).code == 0
        assert_one_line(run_coordinator(plant, "backup", *words), STORAGE, "is there already")
        plant.goes_on(3)
        running = run_coordinator(plant, "restore", "--replace", *words)
        assert_one_line(running, STORAGE, "another plantfed-coordinator is running")
        assert plant.coordinator is not None
        assert plant.coordinator.stop() == 0
        lost_epoch = plant.federation().epoch

        done = run_coordinator(plant, "restore", "--replace", *words)
        assert done.code == 0, done.err
        (lost,) = [line for line in done.out.splitlines() if line.startswith("lost: ")]
        assert all(agent.id in lost for agent in plant.agents)
        assert run_coordinator(plant, "replay", "--verify").code == 0

        coordinator = plant.start_coordinator()
        for agent in plant.agents:
            coordinator.says(f"{agent.id}: could not be reconciled")
        coordinator.says("lost")
        plant.goes_on(3)
        epoch = plant.federation().epoch
        assert epoch.counter > lost_epoch.counter
        until(
            lambda: all(agent.state().epoch == epoch for agent in plant.agents),
            "all agents are in the new epoch",
        )
        for agent in plant.agents:
            assert agent.process.stop() == 0
        assert coordinator.stop() == 0
        check_sequences(plant.journal())
        assert_agents_agree(plant)
        assert run_coordinator(plant, "replay", "--verify").code == 0
