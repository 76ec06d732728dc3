"""``replay --verify``: every number anew, and the first that differs is named."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.coordinator.stories import FIRST, Story, journal_in
from tests.federation_world import of_mode

from plantfed_coordinator import journal as journal_module
from plantfed_coordinator import record_rows, snapshot_store
from plantfed_coordinator.records import Applied, EpochStarted, Joined, Released
from plantfed_coordinator.snapshot import head_of
from plantfed_coordinator.verification import Replayed, replay_journal
from plantfed_shared import store
from plantfed_shared.errors import ConfigError, StorageError
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Epoch

KEPT = 2000


@pytest.fixture(params=["fedapm"])
def story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Story]:
    """Its journal begins at a snapshot, and has two more."""
    monkeypatch.setattr(snapshot_store, "SNAPSHOT_EVERY", 10)
    monkeypatch.setattr(store, "PRAGMAS", ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF"))
    first = replace(FIRST, definition=of_mode(request.param, release_bits=12).to_bytes())
    with journal_in(tmp_path, KEPT) as journal:
        story = Story(journal, first)
        story.tell(Joined("a", 1), Joined("b", 1))
        while len(snapshot_store.snapshot_ids(journal._database)) < 3:
            story.update("a")
            story.update("b")
            story.release()
            journal.work(story.state)
            while journal.has_work:
                journal.work(story.state)
        story.update("a")
        yield story


def verified(tmp_path: Path) -> Replayed:
    return replay_journal(tmp_path, verify=True)


@pytest.mark.parametrize("story", ["fedapm", "fedavg", "auto"], indirect=True)
def test_what_is_stored_is_what_the_journal_gives(tmp_path: Path, story: Story) -> None:
    found = verified(tmp_path)
    begin = snapshot_store.begin_of(story.journal._database)
    behind = story.records[begin:]
    assert begin > 0
    assert found == Replayed(
        federation="toy",
        begin=begin,
        end=len(story.records),
        records=len(behind),
        releases=sum(isinstance(record, Released) for record in behind),
        snapshots=2,
        k=story.state.k,
        checksum=checksum(story.state.model),
    )


def test_a_journal_without_snapshots_is_replayed_from_the_founding(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1))
        story.update("a")
        story.release()
    found = verified(tmp_path)
    assert (found.begin, found.records, found.releases, found.snapshots) == (0, 4, 1, 0)


def rewrite(story: Story, number: int, change: Callable[[Applied | Released], object]) -> None:
    """Put another record in a row, with the checksum of a row that was meant to be so."""
    database = story.journal._database
    other = record_rows.to_row(change(story.records[number - 1]))  # type: ignore[arg-type]
    database.execute(
        "UPDATE journal SET kind = ?, agent = ?, fields = ?, content = ?, crc = ? WHERE id = ?",
        (*other, journal_module._crc_of(other), number),
    )


def row_of(story: Story, kind: type, after: int) -> int:
    rows = enumerate(story.records, 1)
    return next(n for n, record in rows if n > after and isinstance(record, kind))


def test_the_first_release_that_differs_is_named(tmp_path: Path, story: Story) -> None:
    """An update was changed so that nothing but the model it leads to can tell."""
    begin = snapshot_store.begin_of(story.journal._database)
    number = row_of(story, Applied, begin)
    other = story.records[row_of(story, Applied, number + 1) - 1]
    assert isinstance(other, Applied)
    rewrite(story, number, lambda update: replaced(update, change=other.change))
    at = row_of(story, Released, number)
    release = story.records[at - 1]
    assert isinstance(release, Released)
    with pytest.raises(StorageError) as differs:
        verified(tmp_path)
    assert str(differs.value) == (
        f"{tmp_path / 'coordinator.db'}: journal row {at}: release {release.k} replays to another"
        " model than was announced. Restore a backup"
    )


def replaced(record: Applied | Released, **changes: object) -> object:
    fields = {name: getattr(record, name) for name in type(record).__slots__}
    return type(record)(**{**fields, **changes})


def test_an_update_that_is_there_twice_is_named(tmp_path: Path, story: Story) -> None:
    first = row_of(story, Applied, snapshot_store.begin_of(story.journal._database))
    second = row_of(story, Applied, first + 1)  # the one between is of b
    agent, seq = (getattr(story.records[first - 1], name) for name in ("agent", "seq"))
    rewrite(story, second, lambda _: story.records[first - 1])
    with pytest.raises(
        StorageError, match=f"row {second}: update {seq} of {agent} is not its next"
    ):
        verified(tmp_path)


def test_a_row_that_is_missing_is_noticed(tmp_path: Path, story: Story) -> None:
    number = row_of(story, Applied, snapshot_store.begin_of(story.journal._database))
    story.journal._database.execute("DELETE FROM journal WHERE id = ?", (number,))
    with pytest.raises(StorageError, match=r"row \d+: (release|update)"):
        verified(tmp_path)


@pytest.mark.parametrize("name", ["total", "version", "remainder", "member a"])
def test_a_snapshot_that_is_of_another_past_is_named(
    tmp_path: Path, story: Story, name: str
) -> None:
    """As a start would go on from it without a word where the checksums of its bytes fit."""
    database = story.journal._database
    newest = snapshot_store.snapshot_ids(database)[-1]
    of_newest = "SELECT name FROM snapshot_part WHERE journal_id = ? AND name LIKE ?"
    ((name, *_), *_) = database.execute(of_newest, (newest, f"{name}%"))
    size = len(database.execute("SELECT content FROM snapshot_part WHERE name = ?", (name,))[0][0])
    database.execute(
        "UPDATE snapshot_part SET content = ?, crc = ? WHERE name = ? AND journal_id = ?",
        (bytes(size), snapshot_store.crc32(bytes(size)), name, newest),
    )
    with pytest.raises(
        StorageError, match=f"row {newest}: of the snapshot .* '{name}' is not what"
    ):
        verified(tmp_path)


def test_a_number_of_a_snapshot_that_differs_is_named(tmp_path: Path, story: Story) -> None:
    database = story.journal._database
    newest = snapshot_store.snapshot_ids(database)[-1]
    assert "updates" in head_of(story.state)
    database.execute(
        # with a checksum that fits: not the disk, the coordinator was wrong
        "UPDATE snapshot SET head = json_set(head, '$.updates', 7), crc = NULL"
        " WHERE journal_id = ?",
        (newest,),
    )
    with pytest.raises(StorageError, match=f"row {newest}: of the snapshot .* 'updates' is not"):
        verified(tmp_path)
    assert replay_journal(tmp_path, verify=False).k == story.state.k


def test_there_is_nothing_to_replay(tmp_path: Path) -> None:
    with journal_in(tmp_path):
        pass
    with pytest.raises(StorageError, match="the journal is empty"):
        verified(tmp_path)


def test_what_a_member_had_in_use_is_computed_with_the_rest(tmp_path: Path) -> None:
    definition = of_mode("auto", schedule={"arrivals": 1})
    first = EpochStarted(Epoch(1, 5), 0, definition.to_bytes(), "created")
    with journal_in(tmp_path) as journal:
        story = Story(journal, first)
        story.tell(Joined("a", 1), Joined("b", 1))
        for _ in range(3):
            story.update("a")
            story.release()
    used = replay_journal(tmp_path, verify=False, used_by="a").used
    names = ["release 0", "release 1", "average up to release 2"]
    assert [each.name for each in used] == names
    assert [each.seq for each in used] == [1, 2, 3]
    assert verified(tmp_path).used == ()
    with pytest.raises(ConfigError, match="--used-by 'c': no such member"):
        replay_journal(tmp_path, verify=False, used_by="c")


@pytest.mark.parametrize("story", ["auto"], indirect=True)
def test_behind_a_snapshot_an_average_that_goes_back_further_is_not_known(
    tmp_path: Path, story: Story
) -> None:
    found = replay_journal(tmp_path, verify=False, used_by="a")
    behind = story.records[found.begin :]
    updates = sum(isinstance(record, Applied) and record.agent == "a" for record in behind)
    assert found.begin > 0
    assert found.unknown >= updates > 3
    # the first of the epoch is used as it is
    assert [used.name for used in found.used] == ["release 0"]


def test_behind_a_snapshot_a_release_is_known_where_nothing_is_averaged(
    tmp_path: Path, story: Story
) -> None:
    found = replay_journal(tmp_path, verify=False, used_by="a")
    behind = story.records[found.begin :]
    seqs = [record.seq for record in behind if isinstance(record, Applied) and record.agent == "a"]
    assert [used.seq for used in found.used if used.seq is not None] == seqs
    assert {used.name for used in found.used} >= {f"release {story.state.k}"}
    assert found.unknown == 0
