"""Results are written whole or not at all, and nobody's file is lost."""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from plantfed_lab.result_files import folders, refuse_unwritable, write_text
from plantfed_shared.errors import StorageError

MORE_THAN_FITS = "x" * 100_000


@contextmanager
def full_disk(at_most_bytes: int = 4096) -> Iterator[None]:
    """Files can't grow beyond this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_is_written_and_replaced_with_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_text(path, "first")
    path.chmod(0o640)
    write_text(path, "second")
    assert path.read_text() == "second"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("older")
    with full_disk(), pytest.raises(StorageError, match=r"r\.json: cannot be written: File too"):
        write_text(path, MORE_THAN_FITS)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one_and_a_device_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "text"
    write_text(Path(os.devnull), "text")
    assert Path(os.devnull).is_char_device()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing/result"):
        write_text(tmp_path / "missing" / "result.json", "{}")


def test_looking_whether_a_file_can_be_written_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    refuse_unwritable(path)
    assert not list(tmp_path.iterdir())
    path.write_text("older")
    refuse_unwritable(path)
    assert path.read_text() == "older"
    with pytest.raises(StorageError, match="it is a folder"):
        refuse_unwritable(tmp_path)
    with pytest.raises(StorageError, match=r"missing/r\.json"):
        refuse_unwritable(tmp_path / "missing" / "r.json")


def test_folders_that_stay_empty_are_removed_if_they_were_made(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    with suppress(KeyboardInterrupt), folders([old, tmp_path / "a" / "b", tmp_path / "c"]):
        (tmp_path / "c" / "r.json").write_text("kept")
        assert (tmp_path / "a" / "b").is_dir()
        raise KeyboardInterrupt
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "old"]
    assert (tmp_path / "c" / "r.json").read_text() == "kept"
