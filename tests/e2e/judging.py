"""Whether a federation of real processes has lost an update or counted one twice."""

from collections import defaultdict
from collections.abc import Collection

import numpy as np
from tests.e2e.plant import Plant

from plantfed_agent.agreement import dual_after_outstanding
from plantfed_coordinator.journal import FILE_NAME
from plantfed_coordinator.records import Applied, EpochStarted, IncarnationRaised, Joined, Released
from plantfed_coordinator.state import FederationState
from plantfed_shared.errors import StorageError
from plantfed_shared.lattice import checksum
from plantfed_shared.store import reading
from plantfed_shared.wire import envelope_digest


def lost_updates(plant: Plant) -> dict[str, int]:
    """Updates that agents know to be applied and that are not in the journal, by agent."""
    # an agent hears of an update after it is in the journal, so it must be asked first
    applied = {agent.id: acknowledged(plant, agent.id) for agent in plant.agents}
    kept = last_sequences(plant)
    return {a: seq - kept.get(a, 0) for a, seq in applied.items() if seq > kept.get(a, 0)}


def acknowledged(plant: Plant, name: str) -> int:
    """The last update that this agent was told is applied."""
    (agent,) = (a for a in plant.agents if a.id == name)
    try:
        return agent.state().applied_seq
    except StorageError:
        return 0


def last_sequences(plant: Plant) -> dict[str, int]:
    """The last update of each agent that is in the journal."""
    try:
        with reading(plant.state_dir / FILE_NAME) as database:
            rows = database.execute(
                "SELECT agent, max(json_extract(fields, '$.seq')) FROM journal"
                " WHERE kind = 'update' GROUP BY agent"
            )
    except StorageError:
        return {}
    return dict(rows)


def assert_journal_counts_everything_once(plant: Plant, names: Collection[str]) -> None:
    records = plant.journal()
    assert sum(isinstance(r, EpochStarted) for r in records) == 1
    assert sorted(r.agent for r in records if isinstance(r, Joined)) == sorted(names)
    assert not any(isinstance(r, IncarnationRaised) for r in records)
    sequences: dict[str, list[int]] = defaultdict(list)
    for record in records:
        if isinstance(record, Applied):
            assert record.incarnation == 1
            sequences[record.agent].append(record.seq)
    for agent in plant.agents:
        found = sequences[agent.id]
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= agent.state().applied_seq > 2


def assert_agents_agree(plant: Plant) -> None:
    """Dual and sequence are the coordinator's, but for an update whose verdict was missed."""
    federation = plant.federation()
    for agent in plant.agents:
        state, member = agent.state(), federation.members[agent.id]
        assert state.epoch == federation.epoch
        assert state.incarnation == member.incarnation
        applied, dual = state.applied_seq, state.dual_checksum
        if member.last_seq == applied + 1:
            assert state.outstanding is not None
            assert envelope_digest(state.outstanding) == member.last_digest
            after = dual_after_outstanding(state)
            applied, dual = after.applied_seq, after.dual_checksum
        assert (applied, dual) == (member.last_seq, checksum(member.contribution.dual))


def assert_replay_is_exact(plant: Plant) -> None:
    records = plant.journal()
    first = records[0]
    assert isinstance(first, EpochStarted)
    state = FederationState.begin(first)
    replayed = []
    for record in records[1:]:
        state.apply(record)
        if isinstance(record, Released):
            replayed.append((state.k, checksum(state.model)))
    assert replayed == [(r.k, r.checksum) for r in records if isinstance(r, Released)]
    continued = plant.federation()
    whole = plant.federation(from_snapshot=False)
    for other in (continued, whole):
        np.testing.assert_array_equal(other.model, state.model)
        np.testing.assert_array_equal(other.consensus.total, state.consensus.total)
        assert other.consensus.weight == state.consensus.weight
    sums = sum(m.contribution.weight * m.contribution.z for m in state.members.values())
    np.testing.assert_array_equal(state.consensus.total, sums)
