"""Power cuts at any write: what was acknowledged is there afterwards, once, and nothing is torn.

Killing a process can't show this: what it has written stays with the kernel.  The controls say that
these cuts can: with ``synchronous = NORMAL`` they must lose something.
"""

import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.an_update import UPDATE
from tests.coordinator.stories import Story
from tests.power_cuts.disk import ForgetfulDisk, forgetful

from plantfed_agent.agent_store import AgentStore
from plantfed_agent.state import FIELD_NAMES, AgentState, with_changes
from plantfed_coordinator import journal as journal_module
from plantfed_coordinator import snapshot_store
from plantfed_coordinator.journal import Journal, load_state, read_numbered
from plantfed_coordinator.records import EpochStarted, Joined, Record, Served
from plantfed_coordinator.snapshot import to_rows
from plantfed_coordinator.snapshot_reader import begin_of
from plantfed_coordinator.state import FederationState
from plantfed_shared import store, wire

CUTS = 60
SOAK_CUTS = 2000
KEPT = 3000


@dataclass
class Outcome:
    """What a cut left.

    Attributes:
        acknowledged: commits that had ended.
        lost: of them.
    """

    acknowledged: int
    lost: int


def cut_coordinator(folder: Path, seed: int, synchronous: str) -> Outcome:
    """The journal with its snapshots and what it drops, cut at a random moment."""
    rng = random.Random(seed)
    acknowledged = at_cut = 0

    def note() -> None:
        nonlocal at_cut
        at_cut = acknowledged

    disk = ForgetfulDisk(rng, rng.randrange(1, 600), note)
    with forgetful(disk, synchronous):
        journal = Journal(folder / "running", lambda: 0.0, KEPT)
        story = Story(journal)
        while disk.image is None:
            acknowledged = len(story.records)
            something_happens(story, rng)
            acknowledged = len(story.records)
            journal.work(story.state)
        journal.close()
    left = put_back(disk, folder / "after")
    with closing(Journal(left, lambda: 0.0, KEPT)) as journal:
        assert journal._database.execute("PRAGMA integrity_check") == [("ok",)]
        begin = begin_of(journal._database)
        found = list(read_numbered(journal._database))
        n = begin + len(found)
        assert found == list(enumerate(story.records[begin:n], begin + 1))
        expected = to_rows(folded(story.records[:n])) if n else None
        for from_snapshot in (True, False):
            loaded = load_state(journal._database, from_snapshot=from_snapshot)
            assert (loaded and to_rows(loaded.state)) == expected
    return Outcome(at_cut, max(0, at_cut - n))


def folded(records: list[Record]) -> FederationState:
    assert isinstance(records[0], EpochStarted)
    state = FederationState.begin(records[0])
    for record in records[1:]:
        state.apply(record)
    return state


def something_happens(story: Story, rng: random.Random) -> None:
    agent, state = rng.choice("abcd"), story.state
    if agent not in state.members:
        story.tell(Joined(agent, 1))
    elif rng.random() < 0.7:
        story.update(agent)
    elif rng.random() < 0.7:
        story.release()
    else:
        story.tell(Served(agent, state.k, state.members[agent].held))


def cut_agent(folder: Path, seed: int, synchronous: str) -> Outcome:
    """The agent's state with its message in flight, cut at a random moment."""
    rng = random.Random(seed)
    states = [AgentState()]
    acknowledged = at_cut = 0

    def note() -> None:
        nonlocal at_cut
        at_cut = acknowledged

    disk = ForgetfulDisk(rng, rng.randrange(1, 600), note)
    with forgetful(disk, synchronous):
        agent = AgentStore(folder / "running", lambda: 0.0)
        while disk.image is None:
            changes = after_a_round(states[-1], rng)
            states.append(with_changes(states[-1], **changes))
            agent.persist(states[-1], frozenset(changes), {"bytes": len(states)})
            acknowledged = len(states) - 1
        agent.close()
    left = put_back(disk, folder / "after")
    with closing(AgentStore(left, lambda: 0.0)) as agent:
        assert agent._database.execute("PRAGMA integrity_check") == [("ok",)]
        found = agent.load()
        expected = states[found.rounds]
        for name in FIELD_NAMES:
            ours, theirs = getattr(expected, name), getattr(found, name)
            assert np.array_equal(ours, theirs) if ours is not None else theirs is None, name
        counted = agent.load_counters().get("bytes", 1)
        assert counted == found.rounds + 1
    return Outcome(at_cut, max(0, at_cut - found.rounds))


def after_a_round(state: AgentState, rng: random.Random) -> dict[str, object]:
    changes: dict[str, object] = {"rounds": state.rounds + 1, "applied_seq": rng.randrange(1000)}
    draw = np.random.default_rng(rng.randrange(2**32))
    if rng.random() < 0.8:
        changes["outstanding"] = wire.encode(UPDATE, draw.bytes(rng.randrange(6000)))
    if rng.random() < 0.6:
        changes["head"] = draw.standard_normal(500, dtype=np.float32)
        changes["dual"] = draw.integers(-1000, 1000, 900)
    return changes


def put_back(disk: ForgetfulDisk, folder: Path) -> Path:
    """The files as they are when the power comes back."""
    folder.mkdir()
    assert disk.image is not None
    for name, content in disk.image.items():
        (folder / name).write_bytes(content)
    return folder


Cut = Callable[[Path, int, str], Outcome]


def cuts(cut: Cut, folder: Path, seeds: range, synchronous: str) -> Outcome:
    total = Outcome(0, 0)
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        outcome = cut(place, seed, synchronous)
        if synchronous == "FULL":
            assert outcome.lost == 0, f"seed {seed}"
        total.acknowledged += outcome.acknowledged
        total.lost += outcome.lost
    return total


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots and what they drop are cut too."""
    monkeypatch.setattr(snapshot_store, "SNAPSHOT_EVERY", 10)
    monkeypatch.setattr(snapshot_store, "SLICE_BYTES", 600)
    monkeypatch.setattr(journal_module, "CHECKPOINT_PAGES", 20)
    # looking at what is left needs no real disk
    monkeypatch.setattr(store, "PRAGMAS", ("PRAGMA synchronous = OFF",))


both = pytest.mark.parametrize("cut", [cut_coordinator, cut_agent])


@both
def test_a_power_cut_loses_nothing(tmp_path: Path, cut: Cut) -> None:
    outcome = cuts(cut, tmp_path, range(CUTS), "FULL")
    assert outcome.acknowledged > 10 * CUTS


@both
def test_the_same_cuts_lose_something_where_commits_are_not_synced(
    tmp_path: Path, cut: Cut
) -> None:
    outcome = cuts(cut, tmp_path, range(CUTS), "NORMAL")
    assert outcome.lost > CUTS / 4


@pytest.mark.soak
@both
def test_two_thousand_power_cuts_lose_nothing(tmp_path: Path, cut: Cut) -> None:
    outcome = cuts(cut, tmp_path, range(CUTS, CUTS + SOAK_CUTS), "FULL")
    assert outcome.acknowledged > 10 * SOAK_CUTS
