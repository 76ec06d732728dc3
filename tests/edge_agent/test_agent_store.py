"""The agent's state on a real disk: every field comes back as it was."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plantfed_agent.agent_store import AgentStore, read_state
from plantfed_agent.need import Need
from plantfed_agent.state import FIELD_NAMES, AgentState, changed_fields
from plantfed_shared.errors import ConfigError
from plantfed_shared.messages import Epoch, ModelName

EPOCH = Epoch(3, 2**64 - 1)
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
    trained_on=ModelName(Epoch(2, 1), 7, 0),
    outstanding=b"\x00\xff",
    rounds=20,
    rounds_on_these_rows=3,
    data_fingerprint="ab",
    loss=0.125,
    score=-0.5,
    n_samples=31,
)


def assert_same(one: AgentState, other: AgentState) -> None:
    for name in FIELD_NAMES:
        mine, theirs = getattr(one, name), getattr(other, name)
        assert type(mine) is type(theirs), name
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype, name
            assert mine.tolist() == theirs.tolist(), name
        else:
            assert mine == theirs, name


def test_every_field_comes_back_and_can_be_cleared(tmp_path: Path) -> None:
    assert changed_fields(AgentState(), WHOLE) == set(FIELD_NAMES)
    for state in (WHOLE, AgentState(), replace(WHOLE, dual=None, outstanding=None, need=Need(0.5))):
        with closing(AgentStore(tmp_path)) as store:
            store.persist(state, frozenset(FIELD_NAMES), {"bytes_up": 5})
        with closing(AgentStore(tmp_path)) as store:
            assert_same(store.load(), state)
            assert store.load_counters() == {"bytes_up": 5}
        assert_same(read_state(tmp_path)[0], state)


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
