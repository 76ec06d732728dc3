"""Snapshots a slice at a time, and a journal that stays bounded."""

import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.coordinator.stories import FIRST, Story, journal_in
from tests.federation_world import small_definition

from plantfed_coordinator import record_rows, snapshot_reader, snapshot_store
from plantfed_coordinator.journal import FILE_NAME, MIGRATIONS, Journal, load_state
from plantfed_coordinator.records import Admitted, EpochStarted, Joined, Left, Served
from plantfed_coordinator.snapshot import to_rows
from plantfed_coordinator.snapshot_store import (
    SNAPSHOT_EVERY,
    begin_of,
    bytes_between,
    snapshot_ids,
)
from plantfed_coordinator.views import read_history
from plantfed_shared import store
from plantfed_shared.definition import DenseModel
from plantfed_shared.errors import StorageError
from plantfed_shared.messages import Epoch
from plantfed_shared.store import Database

LITTLE = 20_000


def parts(journal: Journal) -> list[tuple[str, int]]:
    rows = journal._database.execute("SELECT name, journal_id FROM snapshot_part ORDER BY 2, 1")
    return [(name, journal_id) for name, journal_id in rows]


def settle(story: Story) -> None:
    story.journal.work(story.state)
    while story.journal.has_work:
        story.journal.work(story.state)


def assert_is_on_disk(story: Story) -> None:
    """By the newest snapshot and by all that can be replayed."""
    for from_snapshot in (True, False):
        loaded = load_state(story.journal._database, from_snapshot=from_snapshot)
        assert loaded is not None
        assert to_rows(loaded.state) == to_rows(story.state)


def go_on(story: Story, releases: int) -> None:
    for _ in range(releases):
        for agent in list(story.state.members):
            story.update(agent)
        story.release()
        settle(story)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots often; what is written is not synced, or these would be tests of the disk."""
    monkeypatch.setattr(snapshot_store, "SNAPSHOT_EVERY", 10)
    monkeypatch.setattr(store, "PRAGMAS", ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF"))


def test_a_snapshot_is_written_after_enough_records_and_replaces_the_one_before(
    tmp_path: Path,
) -> None:
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1))
        seen: list[int] = []
        for _ in range(30):
            story.tell(*[Admitted("nobody")] * (SNAPSHOT_EVERY // 10))
            settle(story)
            found = snapshot_ids(journal._database)
            if found and found != seen[-1:]:
                assert found == [len(story.records)]
                seen += found
        assert seen == [SNAPSHOT_EVERY * n + 2 for n in (1, 2, 3)]
        assert begin_of(journal._database) == 0


def test_the_file_stays_as_small_however_long_it_runs(tmp_path: Path, often: None) -> None:
    sizes: list[int] = []
    kept: list[int] = []
    with journal_in(tmp_path, LITTLE) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1), Joined("b", 1), Joined("c", 1))
        for _ in range(10):
            go_on(story, 30)
            database = journal._database
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            sizes.append((tmp_path / FILE_NAME).stat().st_size)
            kept.append(bytes_between(database, begin_of(database), 2**62))
            assert_is_on_disk(story)
        assert len(story.records) > 1200
        written = sum(
            len(record_rows.to_row(record)[2]) + len(record_rows.to_row(record)[3] or b"")
            for record in story.records
        )
        assert written > 4 * LITTLE
        # of the two halves one is always whole, and what is between two snapshots comes on top
        assert all(LITTLE <= size <= 2.5 * LITTLE for size in kept[1:])
        # the rest is what a reader of the history may still see, 100 bytes for every release
        assert sizes[-1] - sizes[5] <= 4 * 30 * 120
        assert len([e for e in read_history(tmp_path) if e.kind == "release"]) == 10 * 30


def test_the_history_is_bounded_too(
    tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_store, "HISTORY_KEPT", 20)
    with journal_in(tmp_path, LITTLE) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1))
        go_on(story, 300)
        begin = begin_of(journal._database)
        old = journal._database.execute("SELECT id FROM journal WHERE id <= ?", (begin,))
        assert len(old) == 20
        assert_is_on_disk(story)


def test_only_what_has_changed_is_written_again(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(*[Joined(agent, 1) for agent in "abc"], Served("b", 0))
        journal.finish(story.state)
        first = len(story.records)
        story.update("a")
        story.tell(Served("c", 0), Left("b", False))
        journal.finish(story.state)
        second = len(story.records)
        settle(story)
        assert parts(journal) == [
            ("definition", first),
            ("member c", first),
            ("version 0", first),
            ("member a", second),
            ("total", second),
        ]
        assert_is_on_disk(story)


def test_a_new_epoch_writes_everything_again(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1))
        story.update("a")
        journal.finish(story.state)
        story.tell(EpochStarted(Epoch(2, 5), 7, FIRST.definition, "edited"))
        journal.finish(story.state)
        settle(story)
        assert {journal_id for _, journal_id in parts(journal)} == {len(story.records)}
        assert_is_on_disk(story)


def test_the_more_a_snapshot_writes_the_more_it_has_to_save(
    tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand large members are not written anew for every ten short records."""
    monkeypatch.setattr(snapshot_store, "SMALL_BYTES", 0)
    with journal_in(tmp_path) as journal:
        large = small_definition(model=DenseModel(hidden=(50, 50)))
        story = Story(journal, replace(FIRST, definition=large.to_bytes()))
        story.tell(*[Joined(f"m{n}", 1) for n in range(200)])
        story.tell(*[Served(f"m{n}", 0) for n in range(20)])
        settle(story)
        assert snapshot_ids(journal._database) == []
        monkeypatch.setattr(snapshot_store, "REPLAYED_AT_MOST", 231 * story.state.model.size)
        for n in range(10):
            settle(story)
            assert snapshot_ids(journal._database) == []
            story.tell(Served(f"m{n}", 0))
        settle(story)
        assert snapshot_ids(journal._database) == [len(story.records)]


def test_a_long_snapshot_is_written_in_slices_while_the_federation_goes_on(
    tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_store, "SLICE_BYTES", 1)
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(*[Joined(f"m{n}", 1) for n in range(9)])
        of_then, at = to_rows(story.state), len(story.records)
        slices = 0
        while not snapshot_ids(journal._database):
            journal.work(story.state)
            story.update("m3")
            slices += 1
        assert slices == 12  # nine members, one version, definition and the sum
        (head,) = snapshot_ids(journal._database)
        assert head == at
        assert to_rows(snapshot_reader.read_snapshot(journal._database, head)) == of_then
        assert_is_on_disk(story)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_in_between_the_state_is_on_disk(
    tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Crashes between any two slices, too: the journal is opened again as it is."""
    monkeypatch.setattr(snapshot_store, "SLICE_BYTES", 200)
    rng = random.Random(seed)
    with journal_in(tmp_path, 3000) as journal:
        story = Story(journal)
        story.tell(*[Joined(agent, 1) for agent in "abcde"])
    begins = set()
    for _ in range(30):
        with journal_in(tmp_path, 3000) as journal:
            story.journal = journal
            assert_is_on_disk(story)
            begins.add(begin_of(journal._database))
            for _ in range(rng.randrange(40)):
                something_happens(story, rng)
                if rng.random() < 0.7:
                    journal.work(story.state)
            if rng.random() < 0.2:
                journal.finish(story.state)
    assert len(begins) > 3


def something_happens(story: Story, rng: random.Random) -> None:
    agent, state = rng.choice("abcdef"), story.state
    what = rng.random()
    if agent not in state.members:
        story.tell(Joined(agent, state.retired.get(agent, 0) + 1))
    elif what < 0.6:
        story.update(agent)
    elif what < 0.8:
        story.release()
    elif what < 0.9:
        story.tell(Served(agent, state.k, state.members[agent].held))
    elif what < 0.95:
        story.tell(Left(agent, False))
    else:
        epoch = Epoch(state.epoch.counter + 1, 5)
        story.tell(EpochStarted(epoch, state.k + 1, FIRST.definition, "edited"))


def test_a_coordinator_that_ends_does_not_stop_for_a_long_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_store, "AT_ONCE_BYTES", 1000)
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(*[Joined(f"m{n}", 1) for n in range(50)])
        journal.finish(story.state)
        assert snapshot_ids(journal._database) == []
    with journal_in(tmp_path) as story.journal:
        assert_is_on_disk(story)


# ---------------------------------------------------------------- damage


def test_a_changed_bit_in_a_record_is_told_by_its_row(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1))
        story.update("a")
        journal._database.execute(
            "UPDATE journal SET content = zeroblob(length(content)) WHERE id = 3"
        )
        with pytest.raises(StorageError, match=r"journal row 3: this update of a is damaged"):
            journal.load()


def test_a_changed_bit_in_a_snapshot_is_told_by_its_part(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1))
        journal.finish(story.state)
        for change in ("content = zeroblob(length(content) - 1)", "name = 'member b'"):
            journal._database.execute(f"UPDATE snapshot_part SET {change} WHERE name = 'member a'")
            with pytest.raises(
                StorageError, match=r"the snapshot at journal row 2 has .*'member a'"
            ):
                journal.load()


def test_a_journal_of_the_version_before_is_read(tmp_path: Path) -> None:
    """It is whole, so that its snapshots are not needed; its rows have no checksums."""
    with closing(Database(tmp_path / FILE_NAME, MIGRATIONS[:2], "before")) as database:
        first = (0.0, *record_rows.to_row(FIRST))
        joined = (0.0, *record_rows.to_row(Joined("a", 1)))
        database.execute_many(
            "INSERT INTO journal (unix_time, kind, agent, fields, content) VALUES (?, ?, ?, ?, ?)",
            [first, joined],
        )
        database.execute("INSERT INTO snapshot VALUES (2, 'state', '{}', NULL)")
    with journal_in(tmp_path) as journal:
        loaded = journal.load()
        assert loaded is not None
        assert list(loaded.members) == ["a"]
