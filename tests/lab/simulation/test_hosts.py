"""What the hosts do with their clocks and disks."""

from itertools import pairwise

from tests.federation_world import World, small_definition

from plantfed_coordinator.records import Applied
from plantfed_lab.simulation.engine import Host, WriteOutcome

YEAR_S = 365 * 86400.0


def test_a_failed_write_leaves_nothing_and_ends_the_process() -> None:
    world = World(small_definition(), 2)
    world.run(20.0)
    before, updates = list(world.coordinator.journal), len(world.applied())
    world.simulation.outcome_of_write = lambda host: (
        WriteOutcome.FAILED if host is world.coordinator else WriteOutcome.DONE
    )
    assert world.run(20.0, until=lambda: world.coordinator.is_down)
    assert world.coordinator.journal == before
    world.simulation.outcome_of_write = lambda _host: WriteOutcome.DONE
    assert world.run(120.0, until=lambda: len(world.applied()) > updates + 3)


def test_an_unsure_write_is_there_although_the_process_ends() -> None:
    world = World(small_definition(), 2)
    world.run(20.0)
    before = len(world.coordinator.journal)
    world.simulation.outcome_of_write = lambda host: (
        WriteOutcome.UNSURE if host is world.coordinator else WriteOutcome.DONE
    )
    assert world.run(20.0, until=lambda: world.coordinator.is_down)
    assert len(world.coordinator.journal) > before


def test_what_arrives_within_the_time_of_a_commit_is_written_once() -> None:
    world = World(small_definition(), 4)
    world.coordinator.commits_within_s = 0.5
    asked: list[float] = []

    def outcome(host: Host) -> WriteOutcome:
        if host is world.coordinator:
            asked.append(world.now)
        return WriteOutcome.DONE

    world.simulation.outcome_of_write = outcome
    world.run(30.0)
    updates = sum(isinstance(r, Applied) for r in world.coordinator.journal)
    assert updates > 20
    commits = sorted(set(asked))
    # one write of the journal and one of the audit log at most
    assert len(asked) <= 2 * len(commits)
    assert len(commits) < updates
    assert all(b - a >= 0.5 for a, b in pairwise(commits))


def test_clocks_that_differ_and_leap_change_nothing_of_the_course() -> None:
    counts = []
    for ahead_s in (0.0, 0.1 + YEAR_S):
        world = World(small_definition(), 2)
        for host in (world.coordinator, *world.agents.values()):
            host.jump_clock(ahead_s)
        world.run(60.0)
        counts.append(len(world.applied()))
    assert counts[0] == counts[1] > 20


def test_a_timer_is_due_when_the_hosts_own_clock_says_so() -> None:
    world = World(small_definition(), 1)
    world.run(20.0)
    agent = world.agents["m00"]
    world.broker.cut(world.coordinator.client_id, world.now)
    world.run(10.0)
    agent.jump_clock(YEAR_S)
    due = agent.next_timer()
    assert due is not None
    assert due <= world.now
