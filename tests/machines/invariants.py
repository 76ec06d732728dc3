"""What must hold of a federation at any time, checked on the journal and on the disks."""

from collections import defaultdict

import numpy as np
from tests.federation_world import Agent, World

from plantfed_agent.agreement import dual_after_outstanding
from plantfed_coordinator.consensus import AllMembersMean
from plantfed_coordinator.fresh_mean import FreshMean
from plantfed_coordinator.records import Applied, IncarnationRaised, Joined, Left, Record, Released
from plantfed_coordinator.snapshot import to_rows
from plantfed_coordinator.state import FederationState
from plantfed_lab.simulation.coordinator_host import replay
from plantfed_shared import wire
from plantfed_shared.lattice import checksum


def check_sums(state: FederationState) -> None:
    """I1: S == sum n_i z_i and N == sum n_i, exactly; in auto W, N, P and P_N."""
    if isinstance(state.consensus, FreshMean):
        check_fresh_sums(state, state.consensus)
    if not isinstance(state.consensus, AllMembersMean):
        return  # fedalt sums arrivals, not members
    total = sum(
        (m.contribution.weight * m.contribution.z for m in state.members.values()),
        start=np.zeros_like(state.model),
    )
    assert (state.consensus.total == total).all()
    assert state.consensus.weight == sum(m.contribution.weight for m in state.members.values())


def check_fresh_sums(state: FederationState, consensus: FreshMean) -> None:
    """W == sum n_i w_i and N over all members, P == sum n_i p_i and P_N over the buffer."""
    each = {name: member.contribution for name, member in state.members.items()}
    nothing = np.zeros_like(state.model)
    assert (consensus.total == sum((c.weight * c.dual for c in each.values()), nothing)).all()
    assert consensus.weight == sum(c.weight for c in each.values())
    assert consensus.fresh <= state.arrived
    fresh = [each[name] for name in consensus.fresh]
    assert (consensus.buffer == sum((c.weight * c.z for c in fresh), nothing)).all()
    assert consensus.buffer_weight == sum(c.weight for c in fresh)
    assert set(state.turnovers) <= set(state.versions)


def check_versions(state: FederationState) -> None:
    """Exactly the newest release and those that somebody has or fetches are kept."""
    kept = {k for m in state.members.values() for k in (m.pinned, m.held) if k is not None}
    assert set(state.versions) == kept | {state.k}


def check_sequences(journal: list[Record]) -> None:
    """I3: every incarnation's updates are there once each, 1, 2, 3, ... without a gap."""
    sequences: dict[tuple[str, int], list[int]] = defaultdict(list)
    incarnations: dict[str, list[int]] = defaultdict(list)
    for record in journal:
        match record:
            case Applied(agent=agent, incarnation=incarnation, seq=seq):
                sequences[agent, incarnation].append(seq)
                assert incarnation == incarnations[agent][-1]
            case Joined(agent, incarnation) | IncarnationRaised(agent, incarnation):
                assert incarnation > max(incarnations[agent], default=0)
                incarnations[agent].append(incarnation)
            case _:
                pass
    for seqs in sequences.values():
        assert seqs == list(range(1, len(seqs) + 1))


def check_replay(world: World) -> None:
    """I5 and I10: the journal alone gives the same state, every release bit for bit."""
    assert to_rows(replay(world.coordinator.journal)) == to_rows(world.state())


def check_duals(world: World) -> None:
    """I4: where agent and coordinator are at the same update, they hold the same dual."""
    state = world.state()
    for agent in world.agents.values():
        member, disk = state.members.get(agent.name), agent.disk
        if member is None or member.incarnation != disk.incarnation:
            continue
        own = checksum(member.contribution.dual)
        if member.last_seq == disk.applied_seq:
            assert disk.dual_checksum == own
        elif disk.outstanding is not None and member.last_seq == disk.applied_seq + 1:
            assert member.last_digest == wire.envelope_digest(disk.outstanding)
            assert dual_after_outstanding(disk).dual_checksum == own


def check_acknowledged(world: World) -> None:
    """Nothing an agent holds as applied is missing from the journal."""
    applied = {(r.agent, r.incarnation, r.seq) for r in world.applied()}
    for agent in world.agents.values():
        for seq in range(1, agent.disk.applied_seq + 1):
            assert (agent.name, agent.disk.incarnation, seq) in applied


def check_all(world: World) -> None:
    check_sums(world.state())
    check_versions(world.state())
    check_sequences(world.coordinator.journal)
    check_replay(world)
    check_duals(world)
    check_acknowledged(world)


def everybody_agrees(world: World) -> bool:
    """All agents are joined with the coordinator's incarnation."""
    if world.coordinator.machine is None:
        return False
    return all(_agrees(world.state(), agent) for agent in world.agents.values())


def _agrees(state: FederationState, agent: Agent) -> bool:
    member = state.members.get(agent.name)
    if member is None or agent.machine is None or agent.machine.link != "joined":
        return False
    return (
        member.incarnation == agent.disk.incarnation
        and member.last_seq == agent.disk.applied_seq
        and agent.disk.epoch == state.epoch
    )


def releases(journal: list[Record]) -> int:
    return sum(isinstance(r, Released) for r in journal)


def departures(journal: list[Record]) -> int:
    return sum(isinstance(r, Left) for r in journal)
