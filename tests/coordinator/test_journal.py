"""The journal on a real disk: what is read is what was written, with and without snapshots."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.coordinator.stories import FIRST, Story, journal_in
from tests.federation_world import small_definition

from plantfed_coordinator.events import OperatorOrder, Order
from plantfed_coordinator.journal import (
    FILE_NAME,
    give_order,
    load_state,
    order_is_done,
    read_records,
)
from plantfed_coordinator.records import (
    Admitted,
    EpochStarted,
    IncarnationRaised,
    Joined,
    Left,
    Released,
    RoundOpened,
    Served,
)
from plantfed_coordinator.snapshot import to_rows
from plantfed_coordinator.snapshot_store import SNAPSHOT_EVERY
from plantfed_shared.definition import Algorithm
from plantfed_shared.errors import StorageError
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Epoch
from plantfed_shared.store import Database, reading


def test_every_kind_of_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1), Joined("b", 1), RoundOpened(0, 0, ("a", "b")))
        story.update("a")
        story.update("a")
        story.release()
        story.tell(Served("a", 1, 0), Served("b", 1))
        story.tell(IncarnationRaised("b", 2**31), Left("a", True), Admitted("a"))
        story.tell(EpochStarted(Epoch(2, 2**63), 2, FIRST.definition, "edited"))
        assert list(read_records(journal._database)) == story.records


def test_the_state_is_the_same_with_and_without_a_snapshot(tmp_path: Path) -> None:
    """Also a second snapshot, after a start, and what was told after it."""
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1), Joined("b", 1))
        for _ in range(3):
            story.update("a")
            story.release()
        journal.finish(story.state)
        story.update("b")
    for _ in range(3):
        with journal_in(tmp_path) as journal:
            loaded = journal.load()
            assert loaded is not None
            assert to_rows(loaded) == to_rows(story.state)
            story.journal = journal
            story.update("a")
            story.release()
            journal.finish(story.state)
            story.update("a")
            by_snapshot = load_state(journal._database)
            by_replay = load_state(journal._database, from_snapshot=False)
            assert by_snapshot is not None
            assert by_replay is not None
            assert by_snapshot.replayed == 1
            assert by_replay.replayed == len(story.records)
            assert to_rows(by_snapshot.state) == to_rows(by_replay.state) == to_rows(story.state)


def test_a_snapshot_forgets_nothing(tmp_path: Path) -> None:
    """Field by field: what writing forgets, writing again would not show."""
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(*[Joined(agent, 1) for agent in "abcde"])
        story.update("a")
        story.release()
        story.tell(Served("a", 1, 0), Served("b", 1), Left("d", False), Left("e", True))
        story.tell(RoundOpened(1, 3, ("a", "b")))
        members = {agent: (m.pinned, m.held) for agent, m in story.state.members.items()}
        assert members == {"a": (1, 0), "b": (1, None), "c": (0, None)}
        story.update("a")
        journal.finish(story.state)
        loaded, state = journal.load(), story.state
        assert loaded is not None
        assert {a: (m.pinned, m.held) for a, m in loaded.members.items()} == {
            "a": (1, None),  # it has 1, says the update it sent after that
            "b": (1, None),
            "c": (0, None),
        }
        assert loaded.retired == state.retired == {"d": 1, "e": 1}
        assert loaded.barred == state.barred == {"e"}
        assert loaded.arrived == state.arrived == {"a"}
        assert loaded.round == state.round
        assert state.round is not None
        assert state.round.answered == {"a"}
        assert sorted(loaded.versions) == sorted(state.versions) == [0, 1]
        assert all((loaded.versions[k] == state.versions[k]).all() for k in (0, 1))
        for name in ("epoch", "k", "changed", "releases"):
            assert getattr(loaded, name) == getattr(state, name)


def test_a_snapshot_keeps_the_version_a_member_is_on_its_way_from(tmp_path: Path) -> None:
    """It fetches the difference from it: without, a restart would make it begin anew."""
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1), Joined("b", 1))
        story.update("b")
        story.release()
        story.tell(Served("a", 1, 0), Served("b", 1))
        story.update("b")
        story.release()
        story.tell(Served("b", 2))
        journal.finish(story.state)
        loaded = journal.load()
        assert loaded is not None
        assert (loaded.members["a"].pinned, loaded.members["a"].held) == (1, 0)
        assert sorted(loaded.versions) == [0, 1, 2]
        # the counts behind it came back too: neither is let go too early or kept for ever
        for state in (loaded, story.state):
            state.apply(Served("a", 2, 1))
            assert sorted(state.versions) == [1, 2]
            state.apply(Served("a", 2))
            assert sorted(state.versions) == [2]


def test_a_snapshot_keeps_what_was_rounded_away_at_the_release(tmp_path: Path) -> None:
    """FedBuff goes on from where it is, not from what it could release: short steps add up."""
    coarse = small_definition(
        algorithm=Algorithm(mode="fedbuff", server_step=0.25), lattice_bits=16, release_bits=8
    )
    first = replace(FIRST, definition=coarse.to_bytes())
    with journal_in(tmp_path) as journal:
        story = Story(journal, first)
        story.tell(Joined("a", 1))
        story.update("a")
        story.release()
        assert (story.state.unrounded != story.state.model).any()
        assert (story.state.model % 2**8 == 0).all()
        journal.finish(story.state)
        story.update("a")
        story.release()
        by_snapshot = load_state(journal._database)
        by_replay = load_state(journal._database, from_snapshot=False)
        assert by_snapshot is not None
        assert by_replay is not None
        assert by_snapshot.replayed == 2
        for loaded in (by_snapshot.state, by_replay.state):
            assert to_rows(loaded) == to_rows(story.state)
            assert loaded.unrounded.tolist() == story.state.unrounded.tolist()
            assert loaded.next_model().tolist() == story.state.next_model().tolist()


def test_records_since_the_snapshot_count_also_after_a_start(tmp_path: Path) -> None:
    """Else a coordinator that is restarted often never writes one, and each start is longer."""
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(*[Admitted("nobody")] * (SNAPSHOT_EVERY - 2))
        journal.work(story.state)
    with journal_in(tmp_path) as journal:
        journal.load()
        story.journal = journal
        story.tell(Admitted("nobody"))
        journal.work(story.state)
        loaded = load_state(journal._database)
        assert loaded is not None
        assert loaded.replayed == 0


def test_a_damaged_journal_is_noticed(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1))
        story.update("a")
        released = Released(1, checksum(story.state.next_model()) ^ 1)
        journal.append([released], {})
        with pytest.raises(StorageError, match="release 1"):
            journal.load()


def test_a_snapshot_whose_sums_are_not_those_of_its_members_is_refused(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1))
        member = story.state.members["a"]
        twice = replace(member.contribution, weight=2)
        story.state.members["a"] = replace(member, contribution=twice)
        journal.finish(story.state)
        with pytest.raises(StorageError, match="sums"):
            journal.load()


def test_a_failed_commit_leaves_nothing_behind(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        with pytest.raises(StorageError):
            journal.append([Joined("a", 1), Joined(b"not text", 1)], {})  # type: ignore[arg-type]
        loaded = journal.load()
        assert loaded is not None
        assert not loaded.members
        story.tell(Joined("c", 1))
        journal.finish(story.state)
        again = journal.load()
        assert again is not None
        assert to_rows(again) == to_rows(story.state)


def test_an_order_is_pending_until_it_is_done(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        Story(journal)
        first = give_order(tmp_path, OperatorOrder(Order.REMOVE, "a"))
        second = give_order(tmp_path, OperatorOrder(Order.ADMIT, "a"))
        assert journal.pending_orders() == [
            (first, OperatorOrder(Order.REMOVE, "a")),
            (second, OperatorOrder(Order.ADMIT, "a")),
        ]
        assert not order_is_done(tmp_path, first)
        journal.order_done(first)
        assert order_is_done(tmp_path, first)
        assert [number for number, _ in journal.pending_orders()] == [second]


def test_the_file_is_one_database(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        Story(journal)
        with reading(tmp_path / FILE_NAME) as other:
            assert isinstance(other, Database)
            assert list(read_records(other)) == [FIRST]
