"""What a release loses by being rounded waits at the coordinator: no sum ever misses it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation_world import of_mode

from plantfed_coordinator.records import Applied, EpochStarted, Joined, Left, Record, Released
from plantfed_coordinator.snapshot import from_rows, to_rows
from plantfed_coordinator.state import FederationState
from plantfed_shared.codec import Coding, encode_integers
from plantfed_shared.definition import FederationDefinition, Mode
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Epoch
from plantfed_shared.terms import terms_of

MODES: list[Mode] = ["fedalt", "fedavg", "fedbuff", "fedasync", "auto"]
NAMES = ["a", "b", "c"]
COARSE = {"release_bits": 10, "coarsest_release_bits": 4}
happenings = st.lists(
    st.tuples(
        st.sampled_from(["update", "update", "release", "join", "leave", "edit", "save"]),
        st.sampled_from(NAMES),
        st.integers(0, 2**20),
    ),
    max_size=30,
)


def never_rounding(definition: FederationDefinition) -> FederationDefinition:
    """Its releases are as fine as its sums."""
    finest = definition.lattice_bits + definition.relaxation.shift
    return definition.model_copy(update={"release_bits": finest})


def founded(definition: FederationDefinition) -> FederationState:
    """Whatever is rounded, they begin with the same model."""
    coarsest = definition.model_copy(update={"release_bits": 4})
    model = terms_of(coarsest.to_bytes()).initial_model
    initial = encode_integers(model, definition.lattice(), Coding.PLAIN)
    founding = EpochStarted(Epoch(1, 5), 0, definition.to_bytes(), "created", initial)
    return FederationState.begin(founding)


def record_of(state: FederationState, what: str, agent: str, value: int) -> Record | None:
    """The same happening in either federation, apart from what a release is called."""
    member = state.members.get(agent)
    if what == "release" and state.changed:
        return Released(state.k + 1, state.next_checksum())
    if what == "edit":
        epoch = Epoch(state.epoch.counter + 1, 5)
        definition = state.terms.definition
        algorithm = definition.algorithm.model_copy(update={"penalty": 0.1 + value % 3})
        changes = {"algorithm": algorithm, "lattice_bits": 14 + value % 3}
        edited = definition.model_copy(update=changes)
        if definition.coarsest_release_bits is None:
            edited = never_rounding(edited)
        return EpochStarted(epoch, state.k, edited.to_bytes(), "edited")
    if what == "join" and member is None:
        return Joined(agent, state.retired.get(agent, 0) + 1)
    if what == "leave" and member is not None:
        return Left(agent, barred=False)
    if what == "update" and member is not None:
        lattice, kept = state.terms.lattice, sorted(state.versions)
        change = np.random.default_rng(value).integers(-(2**9), 2**9, lattice.size)
        encoded = encode_integers(change, lattice, Coding.PLAIN)
        seq = member.last_seq + 1
        base_k = kept[value % len(kept)]
        return Applied(agent, member.incarnation, seq, seq, base_k, 1, None, encoded)
    return None


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25, deadline=None)
@given(each=happenings)
def test_before_rounding_a_coarse_federation_has_the_models_of_a_fine_one(
    mode: Mode, each: list[tuple[str, str, int]]
) -> None:
    fine, coarse = founded(never_rounding(of_mode(mode))), founded(of_mode(mode, **COARSE))
    for what, agent, value in [("join", name, 0) for name in NAMES] + each:
        for state in (fine, coarse):
            record = record_of(state, what, agent, value)
            if record is not None:
                state.apply(record)
        if what == "save":
            coarse = from_rows(to_rows(coarse))
        assert (coarse.unrounded == fine.model).all()
        assert sorted(coarse.versions) == sorted(fine.versions)
        # whatever is kept can be the base of a change
        for k, model in fine.versions.items():
            remainder = coarse.remainders.get(k, 0)
            assert (coarse.versions[k] + remainder == model).all()
        assert coarse.remainders.keys() <= coarse.versions.keys()


def test_moves_of_less_than_half_a_step_add_up() -> None:
    """Rounded alone none of them would ever show."""
    state = founded(of_mode("fedavg", release_bits=4, schedule={"arrivals": 2}))
    for name in ("a", "b"):
        state.apply(Joined(name, 1))
    lattice, start = state.terms.lattice, state.model
    step = 1 << lattice.release_shift
    change = np.full(lattice.size, step // 8 // lattice.relaxed(np.int64([1]))[0], dtype=np.int64)
    encoded = encode_integers(change, lattice, Coding.PLAIN)
    for seq in range(1, 17):
        for name in ("a", "b"):
            state.apply(Applied(name, 1, seq, seq, state.k, 1, None, encoded))
        state.apply(Released(state.k + 1, checksum(state.next_model())))
        assert (state.model % step == 0).all()
    moved = 16 * lattice.relaxed(change)
    assert (state.unrounded == start + moved).all()
    assert np.abs(state.model - start - moved).max() <= step // 2
