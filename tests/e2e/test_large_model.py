"""A shared model of five megabytes goes through in pieces, down and up."""

from pathlib import Path

import numpy as np
import pytest
from tests.e2e.plant import Plant, find_mosquitto, until

from plantfed_coordinator.records import Applied, Served
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.lattice import checksum

HIDDEN = [1200, 1000]


@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_a_model_of_five_megabytes(tmp_path: Path, kind: str) -> None:
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with Plant(tmp_path, agents=2, n_rows=100) as plant:
        plant.define(
            model={"hidden": HIDDEN},
            algorithm={"epochs": 1},
            compression={"coding": "plain"},
            schedule={
                "arrivals": 2,
                "min_members": 2,
                "max_releases": 2,
                "release_after_s": 60.0,
            },
        )
        plant.start(kind)
        until(lambda: plant.releases() == 2, "two releases of all members", 60)
        until(lambda: all(a.state().model_name.k == 2 for a in plant.agents), "the last model", 30)  # type: ignore[union-attr]
        for agent in plant.agents:
            assert agent.process.stop() == 0
        assert plant.coordinator is not None
        assert plant.coordinator.stop() == 0

        federation, records = plant.federation(), plant.journal()
        assert federation.model.size == 1_205_800
        applied = [r for r in records if isinstance(r, Applied)]
        assert sorted((r.agent, r.seq) for r in applied) == [
            ("m1", 1),
            ("m1", 2),
            ("m2", 1),
            ("m2", 2),
        ]
        assert all(len(r.change) > 20 * MAX_MESSAGE_BYTES for r in applied)
        assert {(r.agent, r.k) for r in records if isinstance(r, Served)} == {
            (agent.id, k) for agent in plant.agents for k in (1, 2)
        }
        for agent in plant.agents:
            state, member = agent.state(), federation.members[agent.id]
            assert state.model is not None
            np.testing.assert_array_equal(state.model, federation.model)
            assert state.dual_checksum == checksum(member.contribution.dual)
