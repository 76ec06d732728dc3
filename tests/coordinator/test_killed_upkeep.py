"""``backup`` and ``restore`` are killed: nothing is lost, nothing is in the way, nothing stays."""

import errno
import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.coordinator.stories import journal_in
from tests.coordinator.test_backup import KEY, begun, gone_on
from tests.coordinator.test_damaged_state import damage

from plantfed_coordinator import backup
from plantfed_coordinator.audit_chain import Line
from plantfed_coordinator.audit_log import AuditLog
from plantfed_coordinator.backup import back_up, restore
from plantfed_coordinator.founding import refuse_lost_journal
from plantfed_coordinator.journal import FILE_NAME
from plantfed_coordinator.records import Joined
from plantfed_coordinator.sealed_file import MAGIC
from plantfed_coordinator.verification import replay_journal
from plantfed_coordinator.views import read_federation
from plantfed_coordinator.working_folder import sweep_state, working_folder
from plantfed_shared import store
from plantfed_shared.errors import StorageError


def killed(work: Callable[[], object]) -> None:
    """Do it in a process of its own, which must end by SIGKILL."""
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def kill_at(owner: Any, name: str, *, after: bool) -> None:
    """This process dies before or after it calls this for the first time."""
    real = getattr(owner, name)

    def dies(*args: Any, **named: Any) -> None:
        if after:
            real(*args, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, dies)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process has written is there without; or these would be tests of the disk."""
    monkeypatch.setattr(store, "PRAGMAS", ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF"))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Three updates; of the first two there is a backup."""
    folder = tmp_path / "state"
    begun(folder)
    back_up(folder, tmp_path / "backup", KEY, 5.0)
    gone_on(folder, lambda story: story.update("a"))
    with closing(AuditLog(folder, lambda: 0.0)) as log:
        log.append([Line("started", None, "epoch 1")])
    return folder


def restored(state_dir: Path) -> None:
    restore(state_dir, state_dir.parent / "backup", KEY, lambda: 77, replace=True)


def names(folder: Path) -> list[str]:
    """Of what is in a folder, without what a reader leaves beside a database."""
    found = (path.name for path in folder.iterdir())
    return sorted(name for name in found if not name.endswith(("-wal", "-shm")))


# ---------------------------------------------------------------- restore


@pytest.mark.parametrize(
    ("name", "after", "updates"),
    [
        ("hardlink_to", False, 3),
        ("hardlink_to", True, 3),
        ("replace", False, 3),
        ("replace", True, 2),
    ],
)
def test_the_old_state_or_the_new_one_is_there_whenever_a_restore_is_killed(
    state_dir: Path, name: str, after: bool, updates: int
) -> None:
    def work() -> None:
        kill_at(Path, name, after=after)
        restored(state_dir)

    killed(work)
    refuse_lost_journal(state_dir)
    replay_journal(state_dir, verify=True)
    state = read_federation(state_dir)
    assert (state.updates, state.epoch.counter) == (updates, 2 if updates == 2 else 1)
    sweep_state(state_dir)
    moved = ["before-restore-1.db"] if updates == 2 else []
    assert names(state_dir) == [
        "audit.db",
        "audit.lock",
        *moved,
        "coordinator.db",
        "coordinator.lock",
    ]
    restored(state_dir)
    assert read_federation(state_dir).updates == 2


def test_a_restore_over_a_damaged_state_that_is_killed_is_refused(state_dir: Path) -> None:
    (state_dir / FILE_NAME).write_bytes(b"no database" * 1000)

    def work() -> None:
        kill_at(Path, "rename", after=True)
        restored(state_dir)

    (state_dir / "audit.db").unlink()
    killed(work)
    with pytest.raises(StorageError, match=r"journal is gone .* before-restore-1\.db"):
        refuse_lost_journal(state_dir)
    restored(state_dir)
    assert read_federation(state_dir).updates == 2


def test_a_log_that_a_lost_journal_has_left_is_not_taken_for_one_of_the_new(
    state_dir: Path,
) -> None:
    def work() -> None:
        with journal_in(state_dir) as journal:
            journal.append([Joined("c", 1)], {})
            os.kill(os.getpid(), signal.SIGKILL)

    killed(work)
    (state_dir / FILE_NAME).unlink()
    done = restore(state_dir, state_dir.parent / "backup", KEY, lambda: 77, replace=False)
    assert done.moved_to is None
    assert not (state_dir / f"{FILE_NAME}-wal").exists()
    assert (state_dir / "before-restore-1.db-wal").exists()
    replay_journal(state_dir, verify=True)
    assert sorted(read_federation(state_dir).members) == ["a", "b"]


def test_what_a_killed_coordinator_has_in_its_log_only_is_kept_aside(state_dir: Path) -> None:
    def work() -> None:
        with journal_in(state_dir) as journal:
            journal.append([Joined("c", 1)], {})
            os.kill(os.getpid(), signal.SIGKILL)

    killed(work)
    assert (state_dir / f"{FILE_NAME}-wal").stat().st_size > 0
    restored(state_dir)
    assert not (state_dir / f"{FILE_NAME}-wal").exists()
    assert "c" not in read_federation(state_dir).members
    (state_dir / "before-restore-1.db").replace(state_dir / FILE_NAME)
    assert "c" in read_federation(state_dir).members


def test_a_restore_without_hard_links_keeps_a_copy(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", without_hard_links)
    restored(state_dir)
    assert read_federation(state_dir).updates == 2
    (state_dir / "before-restore-1.db").replace(state_dir / FILE_NAME)
    assert read_federation(state_dir).updates == 3


# ---------------------------------------------------------------- backup


def without_hard_links(path: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "Operation not permitted", str(target), None, str(path))


def test_a_backup_that_was_killed_leaves_nothing_in_the_way(state_dir: Path) -> None:
    file = state_dir.parent / "again"

    def work() -> None:
        kill_at(backup, "seal", after=True)
        back_up(state_dir, file, KEY, 5.0)

    before = names(state_dir)
    killed(work)
    left = [name for name in names(state_dir) if name not in before]
    assert len(left) == 1
    assert (state_dir / left[0] / FILE_NAME).exists()
    assert names(state_dir.parent) == ["again.part", "backup", "state"]
    sweep_state(state_dir)
    assert names(state_dir) == before
    assert back_up(state_dir, file, KEY, 5.0).updates == 3
    assert names(state_dir.parent) == ["again", "backup", "state"]


@pytest.mark.parametrize("sweeper", ["backup", "restore"])
def test_each_command_sweeps_what_another_has_left(state_dir: Path, sweeper: str) -> None:
    def work() -> None:
        with working_folder(state_dir):
            os.kill(os.getpid(), signal.SIGKILL)

    killed(work)
    assert [name for name in names(state_dir) if "working" in name]
    if sweeper == "backup":
        back_up(state_dir, state_dir.parent / "again", KEY, 5.0)
    else:
        restored(state_dir)
    assert not [name for name in names(state_dir) if "working" in name]


def test_what_somebody_works_in_is_not_swept(state_dir: Path) -> None:
    with working_folder(state_dir) as folder:
        sweep_state(state_dir)
        assert folder.exists()
    assert not folder.exists()


def test_a_backup_whose_second_name_was_left_is_not_touched_by_the_next(state_dir: Path) -> None:
    """Killed between its two names, and moved by the operator since."""
    file = state_dir.parent / "again"

    def work() -> None:
        kill_at(Path, "hardlink_to", after=True)
        back_up(state_dir, file, KEY, 5.0)

    killed(work)
    moved = file.rename(state_dir.parent / "moved")
    content = moved.read_bytes()
    back_up(state_dir, file, KEY, 5.0)
    assert moved.read_bytes() == content
    assert not moved.samefile(file)
    assert restore(state_dir.parent / "other", moved, KEY, lambda: 7, replace=False).epoch == 2


def test_one_name_is_written_by_one_backup(state_dir: Path) -> None:
    file = state_dir.parent / "again"
    part = file.with_name("again.part")
    with backup.new_file(part, MAGIC) as target:
        target.write(MAGIC)
        target.flush()
        with pytest.raises(StorageError, match="another process is writing it"):
            back_up(state_dir, file, KEY, 5.0)
        assert part.read_bytes() == MAGIC
    assert not part.exists()


def test_a_file_of_somebody_else_is_not_taken_for_a_leftover(state_dir: Path) -> None:
    part = state_dir.parent / "again.part"
    part.write_text("precious")
    with pytest.raises(StorageError, match="is in the way"):
        back_up(state_dir, state_dir.parent / "again", KEY, 5.0)
    assert part.read_text() == "precious"


def test_a_backup_to_a_file_system_without_hard_links(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", without_hard_links)
    file = state_dir.parent / "again"
    back_up(state_dir, file, KEY, 5.0)
    assert names(state_dir.parent) == ["again", "backup", "state"]
    assert restore(state_dir.parent / "other", file, KEY, lambda: 7, replace=False).epoch == 2

    def meanwhile(path: Path, target: Path) -> None:
        path.write_text("precious")
        without_hard_links(path, target)

    monkeypatch.setattr(Path, "hardlink_to", meanwhile)
    other = state_dir.parent / "third"
    with pytest.raises(StorageError, match="is there already"):
        back_up(state_dir, other, KEY, 5.0)
    assert other.read_text() == "precious"


# ---------------------------------------------------------------- what is not worth a backup


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE journal SET fields = '{}' WHERE id = 2", "journal row 2: this join of a is dam"),
        ("UPDATE snapshot_part SET crc = crc + 1 WHERE name = 'total'", "row 7 has damaged bytes"),
        ("UPDATE snapshot SET head = '{}'", "row 7 has a damaged head"),
    ],
)
def test_a_damaged_journal_is_not_backed_up(state_dir: Path, change: str, said: str) -> None:
    with journal_in(state_dir) as journal:
        state = journal.load()
        assert state is not None
        journal.finish(state)
    damage(state_dir, change)
    with pytest.raises(StorageError) as refused:
        back_up(state_dir, state_dir.parent / "again", KEY, 5.0)
    assert said in str(refused.value)
    assert str(refused.value).startswith(str(state_dir / FILE_NAME))
    assert names(state_dir.parent) == ["backup", "state"]
