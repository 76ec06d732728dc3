"""The agent's state on a real disk: every field comes back as it was."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from sqlite3 import connect

import numpy as np
import pytest
from tests.an_update import UPDATE

from plantfed_agent import agent_store, guard_frames
from plantfed_agent.agent_store import FILE_NAME, HALF_KEPT_S, AgentStore, read_state
from plantfed_agent.events import HalfFetched
from plantfed_agent.guard import Check, Guard, ServedModel
from plantfed_agent.need import Need
from plantfed_agent.state import FIELD_NAMES, AgentState, changed_fields
from plantfed_shared import wire
from plantfed_shared.errors import ConfigError, StorageError
from plantfed_shared.messages import Content, Epoch, ModelName, ModelStep
from plantfed_shared.own_average import OwnAverage

EPOCH = Epoch(3, 2**64 - 1)
GUARD = Guard(
    kept=ServedModel(
        "release 7",
        np.float32([0.1, -0.2]),
        prior=np.float32([0.0, -1.5]),
        own_head=np.float32([0.5]),
    ),
    fingerprint="ab",
    known=np.array([1, 2**32 - 1], dtype=np.uint32),
    keys=np.array([7], dtype=np.uint32),
    differences=np.float32([-1.0]),
    tripped_on=np.array([3, 5], dtype=np.uint32),
    check=Check("release 8", "release 7", 60, 1 / 3, 0.1 + 0.2, tripped=True),
)
WHOLE = AgentState(
    epoch=EPOCH,
    incarnation=2,
    applied_seq=17,
    newest=ModelName(EPOCH, 9, 2**64 - 2),
    definition=b"{}",
    head=np.array([1.5, -2.25], dtype=np.float32),
    dual=np.array([2**30 - 1, -(2**30) + 1, 0], dtype=np.int64),
    memory=np.array([0.1, -0.2, 0.0], dtype=np.float32),
    need=Need(0.1 + 0.2, 1 / 3, 0.3, 7),
    model_name=ModelName(EPOCH, 8, 2**63),
    model=np.array([1, 2, -3], dtype=np.int64),
    turnovers=556,
    earlier=OwnAverage(
        np.array([1, 1, -(2**45)], dtype=np.int64), 300, np.array([3, -(2**45), 0], dtype=np.int64)
    ),
    prior=np.array([0.0, -1.5], dtype=np.float32),
    guard=GUARD,
    own_head=np.array([0.25, 3.0], dtype=np.float32),
    asked_for_own_head=1,
    trained_on=ModelName(Epoch(2, 1), 7, 0),
    outstanding=wire.encode(UPDATE, b"\x00\xff"),
    rounds=20,
    rounds_on_these_rows=3,
    data_fingerprint="ab",
    loss=0.125,
    score=-0.5,
    n_samples=31,
    failure="a round failed: the loss is no longer finite",
)


def assert_same(one: AgentState, other: AgentState) -> None:
    for name in FIELD_NAMES:
        mine, theirs = getattr(one, name), getattr(other, name)
        assert type(mine) is type(theirs), name
        if isinstance(mine, OwnAverage):
            assert (mine.value.dtype, theirs.value.dtype) == (np.int64, np.int64)
            assert mine.value.tolist() == theirs.value.tolist()
            assert mine.at == theirs.at
            assert (mine.successor is None) == (theirs.successor is None)
            if mine.successor is not None:
                assert mine.successor.tolist() == theirs.successor.tolist()
        elif isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype, name
            assert mine.tolist() == theirs.tolist(), name
        elif isinstance(mine, Guard):
            # all of it is in its bytes, as the next test shows
            assert guard_frames.to_bytes(mine) == guard_frames.to_bytes(theirs)
        else:
            assert mine == theirs, name


HALF = HalfFetched(
    EPOCH, Content(bytes(range(16)), 300), ModelStep(9, None), ((0, b"a" * 100), (150, b"b" * 10))
)


@pytest.mark.parametrize(
    "half",
    [
        HALF,
        replace(HALF, step=ModelStep(9, 7)),
        replace(HALF, step=None, epoch=None),
    ],
)
def test_half_a_content_comes_back_with_what_was_added_to_it(
    tmp_path: Path, half: HalfFetched
) -> None:
    with closing(AgentStore(tmp_path)) as store:
        assert store.load_half() is None
        store.keep_pieces(half)
        store.keep_pieces(replace(half, pieces=((100, b"c" * 50),)))
    with closing(AgentStore(tmp_path)) as store:
        whole = (half.pieces[0], (100, b"c" * 50), half.pieces[1])
        assert store.load_half() == replace(half, pieces=whole)
        store.drop_pieces()
        assert store.load_half() is None


def test_there_is_half_of_one_content_at_most(tmp_path: Path) -> None:
    other = replace(HALF, content=Content(bytes(16), 200), pieces=((50, b"x"),))
    with closing(AgentStore(tmp_path)) as store:
        store.keep_pieces(HALF)
        store.keep_pieces(other)
        assert store.load_half() == other


def test_half_a_content_is_kept_for_two_days_after_the_last_piece(tmp_path: Path) -> None:
    now = 1e9
    with closing(AgentStore(tmp_path, lambda: now)) as store:
        store.keep_pieces(HALF)
        now += HALF_KEPT_S - 1
        assert store.load_half() is not None
        store.keep_pieces(HALF)
        now += HALF_KEPT_S - 1
        assert store.load_half() is not None
        now += 1
        assert store.load_half() is None
        now = 0.0
        assert store.load_half() is None  # it is gone, not hidden


@pytest.mark.parametrize("pieces", [((299, b"xx"),), ((-1, b"x"),), ((0, b""),)])
def test_pieces_that_do_not_fit_are_not_used(
    tmp_path: Path, pieces: tuple[tuple[int, bytes], ...]
) -> None:
    with closing(AgentStore(tmp_path)) as store:
        store.keep_pieces(replace(HALF, pieces=pieces))
        assert store.load_half() is None


def test_every_field_comes_back_and_can_be_cleared(tmp_path: Path) -> None:
    assert changed_fields(AgentState(), WHOLE) == set(FIELD_NAMES)
    for state in (WHOLE, AgentState(), replace(WHOLE, dual=None, outstanding=None, need=Need(0.5))):
        with closing(AgentStore(tmp_path)) as store:
            store.persist(state, frozenset(FIELD_NAMES), {"bytes_up": 5})
        with closing(AgentStore(tmp_path)) as store:
            assert_same(store.load(), state)
            assert store.load_counters() == {"bytes_up": 5}
        assert_same(read_state(tmp_path)[0], state)


def test_a_guard_comes_back_as_it_was() -> None:
    same = guard_frames.from_bytes(guard_frames.to_bytes(GUARD))
    assert same is not None
    assert (same.kept.name, same.kept.head) == ("release 7", None)
    assert (same.fingerprint, same.check) == (GUARD.fingerprint, GUARD.check)
    assert same.kept.prior is not None
    assert same.tripped_on is not None
    for mine, its in (
        (GUARD.kept.shared, same.kept.shared),
        (GUARD.kept.prior, same.kept.prior),
        (GUARD.known, same.known),
        (GUARD.keys, same.keys),
        (GUARD.differences, same.differences),
        (GUARD.tripped_on, same.tripped_on),
    ):
        assert mine is not None
        assert mine.dtype == its.dtype
        assert mine.tolist() == its.tolist()


def test_an_update_of_another_version_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It could not be sent; whether it was applied, the coordinator says."""
    assert WHOLE.outstanding is not None
    older = WHOLE.outstanding[:2] + bytes([wire.VERSION - 1]) + WHOLE.outstanding[3:]
    with closing(AgentStore(tmp_path)) as store:
        store.persist(replace(WHOLE, outstanding=older), frozenset(FIELD_NAMES), {})
        loaded = store.load()
    assert (loaded.outstanding, loaded.applied_seq) == (None, WHOLE.applied_seq)
    assert "of another version of PlantFed" in caplog.text


def test_a_damaged_guard_begins_anew_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(AgentStore(tmp_path)) as store:
        store.persist(WHOLE, frozenset(FIELD_NAMES), {})
        assert store.load().guard is not None
    assert not caplog.records
    with closing(connect(tmp_path / FILE_NAME)) as database:
        (stored,) = database.execute("SELECT value FROM field WHERE name = 'guard'").fetchone()
        damaged = bytes([*stored[:-1], stored[-1] ^ 1])
        database.execute("UPDATE field SET value = ? WHERE name = 'guard'", (damaged,))
        database.commit()
    with closing(AgentStore(tmp_path)) as store:
        assert store.load().guard is None
    assert "what the guard has kept is damaged: it begins anew" in caplog.text


def test_only_what_has_changed_is_written(tmp_path: Path) -> None:
    later = replace(WHOLE, applied_seq=18, outstanding=None, dual=WHOLE.dual, loss=1.0)
    assert changed_fields(WHOLE, later) == {"applied_seq", "outstanding", "loss"}
    with closing(AgentStore(tmp_path)) as store:
        store.persist(WHOLE, frozenset(FIELD_NAMES), {})
        store.persist(later, frozenset({"applied_seq", "outstanding"}), {})
        assert_same(store.load(), replace(later, loss=WHOLE.loss))


def test_a_new_state_is_empty(tmp_path: Path) -> None:
    with closing(AgentStore(tmp_path)) as store:
        assert_same(store.load(), AgentState())


def test_the_state_of_another_machine_is_refused(tmp_path: Path) -> None:
    with closing(AgentStore(tmp_path)) as store:
        store.claim("presses", "press-07")
        store.claim("presses", "press-07")
        for federation, agent in (("presses", "press-08"), ("ovens", "press-07")):
            with pytest.raises(ConfigError, match="presses/press-07"):
                store.claim(federation, agent)


@pytest.mark.parametrize("name", sorted(set(agent_store._CONVERSIONS) - {"guard"}))
def test_a_damaged_field_is_named(tmp_path: Path, name: str) -> None:
    with closing(AgentStore(tmp_path)) as store:
        store.persist(WHOLE, frozenset(FIELD_NAMES), {})
    damaged = b"\xff" if isinstance(agent_store._stored(name, getattr(WHOLE, name)), bytes) else "?"
    with closing(connect(tmp_path / FILE_NAME)) as database, database:
        database.execute("UPDATE field SET value = ? WHERE name = ?", (damaged, name))
    with closing(AgentStore(tmp_path)) as store:
        for read in (lambda: read_state(tmp_path), store.load):
            with pytest.raises(StorageError, match=f"agent.db: field '{name}' is damaged"):
                read()


@pytest.mark.parametrize("lost", [8, 16, 48])
def test_an_average_that_was_cut_short_is_damaged(tmp_path: Path, lost: int) -> None:
    whole = agent_store._stored("earlier", WHOLE.earlier)
    assert isinstance(whole, bytes)
    with closing(AgentStore(tmp_path)) as store:
        store.persist(WHOLE, frozenset(FIELD_NAMES), {})
        with closing(connect(tmp_path / FILE_NAME)) as database, database:
            database.execute("UPDATE field SET value = ? WHERE name = 'earlier'", (whole[:-lost],))
        with pytest.raises(StorageError, match="field 'earlier' is damaged"):
            store.load()
