"""What the simulation takes for granted: a torn transaction is there whole or not at all.

On the real stores: the write-ahead log is cut off at many places within the last transaction, with
nothing or with zeros behind the cut, as a process or a machine that dies leaves it.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.federation_world import small_definition

from plantfed_agent.agent_store import FILE_NAME as AGENT_FILE
from plantfed_agent.agent_store import AgentStore, read_state
from plantfed_agent.state import FIELD_NAMES, AgentState
from plantfed_coordinator.journal import FILE_NAME as JOURNAL_FILE
from plantfed_coordinator.journal import Journal
from plantfed_coordinator.records import EpochStarted, Joined
from plantfed_shared.messages import Epoch

STEP_BYTES = 1021


def torn(folder: Path, name: str, before: int, spare: Path) -> Iterator[tuple[Path, bool]]:
    """Copies of a store whose last transaction is cut off, and whether it is whole.

    Args:
        folder: of the store, which is open.
        name: of its file.
        before: length of its log before that transaction.
        spare: an empty folder.
    """
    store = (folder / name).read_bytes()
    log = (folder / f"{name}-wal").read_bytes()
    assert len(log) > before, "the transaction is not in the log"
    cuts = [*range(before, len(log), STEP_BYTES), len(log) - 1, len(log)]
    left = {log[:cut] + rest for cut in cuts for rest in (b"", bytes(len(log) - cut))}
    for number, torn_log in enumerate(sorted(left)):
        copy = spare / str(number)
        copy.mkdir()
        (copy / name).write_bytes(store)
        (copy / f"{name}-wal").write_bytes(torn_log)
        yield copy, torn_log == log


def test_a_torn_commit_of_the_journal_is_whole_or_not_there(tmp_path: Path) -> None:
    founding = EpochStarted(Epoch(1, 5), 0, small_definition().to_bytes(), "created")
    folder, spare = tmp_path / "journal", tmp_path / "torn"
    spare.mkdir()
    journal = Journal(folder, lambda: 0.0)
    journal.append([founding, Joined("m0", 1)], {})
    before = (folder / f"{JOURNAL_FILE}-wal").stat().st_size
    journal.append([Joined(f"m{i}", 1) for i in range(1, 200)], {})
    seen = set()
    for copy, whole in torn(folder, JOURNAL_FILE, before, spare):
        again = Journal(copy, lambda: 0.0)
        state = again.load()
        again.close()
        assert state is not None
        assert len(state.members) == (200 if whole else 1)
        seen.add(whole)
    journal.close()
    assert seen == {True, False}


def test_a_torn_commit_of_an_agent_is_whole_or_not_there(tmp_path: Path) -> None:
    old = AgentState(
        incarnation=1,
        applied_seq=3,
        dual=np.arange(2000, dtype=np.int64),
        outstanding=b"an update" * 500,
    )
    new = replace(old, applied_seq=4, dual=old.dual + 1, outstanding=None)
    folder, spare = tmp_path / "agent", tmp_path / "torn"
    spare.mkdir()
    store = AgentStore(folder)
    store.persist(old, frozenset(FIELD_NAMES), {})
    before = (folder / f"{AGENT_FILE}-wal").stat().st_size
    store.persist(new, frozenset({"applied_seq", "dual", "outstanding"}), {})
    for copy, whole in torn(folder, AGENT_FILE, before, spare):
        state, _ = read_state(copy)
        wanted = new if whole else old
        assert (state.applied_seq, state.outstanding) == (wanted.applied_seq, wanted.outstanding)
        assert (state.dual == wanted.dual).all()
    store.close()


@pytest.mark.parametrize("kept", [0, 1])
def test_a_log_that_is_gone_is_found_out_by_this_test(tmp_path: Path, kept: int) -> None:
    """The control: with the log cut off before the first transaction nothing is left."""
    folder, copy = tmp_path / "agent", tmp_path / "copy"
    store = AgentStore(folder)
    store.persist(AgentState(applied_seq=3), frozenset({"applied_seq"}), {})
    copy.mkdir()
    (copy / AGENT_FILE).write_bytes((folder / AGENT_FILE).read_bytes())
    if kept:
        log = (folder / f"{AGENT_FILE}-wal").read_bytes()
        (copy / f"{AGENT_FILE}-wal").write_bytes(log)
    store.close()
    again = AgentStore(copy)
    assert again.load().applied_seq == 3 * kept
    again.close()
