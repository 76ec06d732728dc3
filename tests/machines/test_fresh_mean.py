"""Laws of mode auto: W, N, P and P_N are exact, whatever happens in whatever order."""

from dataclasses import replace
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation_world import of_mode
from tests.machines.invariants import check_fresh_sums

from plantfed_coordinator.contribution import Contribution
from plantfed_coordinator.fresh_mean import LARGEST, FreshMean
from plantfed_coordinator.records import (
    Applied,
    EpochStarted,
    IncarnationRaised,
    Joined,
    Left,
    Record,
    Released,
    Served,
)
from plantfed_coordinator.snapshot import from_rows, to_rows
from plantfed_coordinator.state import FederationState
from plantfed_lab.simulation.coordinator_host import replay
from plantfed_shared.codec import Coding, decode_model, encode_integers, encode_model
from plantfed_shared.lattice import Lattice, SaturationError, checksum
from plantfed_shared.messages import Epoch, ModelName

DEFINITION = of_mode("auto", schedule={"arrivals": 2})
LATTICE = DEFINITION.lattice()
FOUNDING = EpochStarted(Epoch(1, 5), 0, DEFINITION.to_bytes(), "created")
NAMES = ["a", "b", "c", "d"]
happenings = st.lists(
    st.tuples(
        st.sampled_from(
            ["update", "update", "update", "release", "join", "leave", "raise", "save"]
        ),
        st.sampled_from(NAMES),
        st.integers(-(2**20), 2**20),
        st.integers(1, 2**20),
    ),
    max_size=40,
)


def change_of(value: int) -> np.ndarray:
    return np.random.default_rng(abs(value)).integers(-(2**20), 2**20, LATTICE.size)


def update(state: FederationState, agent: str, value: int, weight: int, base_k: int) -> Applied:
    member = state.members[agent]
    encoded = encode_integers(change_of(value), LATTICE, Coding.PLAIN)
    seq = member.last_seq + 1
    return Applied(agent, member.incarnation, seq, seq, base_k, weight, None, encoded)


def record_of(
    state: FederationState, what: str, agent: str, value: int, weight: int
) -> Record | None:
    """What a coordinator would write of it, if anything."""
    is_member = agent in state.members
    if what == "release" and state.changed:
        return Released(state.k + 1, checksum(state.next_model()))
    if what == "join" and not is_member:
        return Joined(agent, state.retired.get(agent, 0) + 1)
    if what == "leave" and is_member:
        return Left(agent, barred=False)
    if what == "raise" and is_member:
        return IncarnationRaised(agent, state.members[agent].incarnation + 1)
    if what == "update" and is_member:
        kept = sorted(state.versions)
        return update(state, agent, value, weight, kept[weight % len(kept)])
    return None


@settings(max_examples=40, deadline=None)
@given(happenings)
def test_sums_are_exact_and_the_journal_gives_every_model(
    each: list[tuple[str, str, int, int]],
) -> None:
    state = FederationState.begin(FOUNDING)
    journal: list[Record] = [FOUNDING]
    for what, agent, value, weight in [("join", name, 0, 1) for name in NAMES] + each:
        if what == "save":
            state = from_rows(to_rows(state))
        record = record_of(state, what, agent, value, weight)
        if record is not None:
            journal.append(record)
            state.apply(record)
        assert isinstance(state.consensus, FreshMean)
        check_fresh_sums(state, state.consensus)
    assert to_rows(replay(journal)) == to_rows(state)


def state_with(members: int) -> FederationState:
    state = FederationState.begin(FOUNDING)
    for name in NAMES[:members]:
        state.apply(Joined(name, 1))
    return state


def release(state: FederationState) -> None:
    state.apply(Released(state.k + 1, checksum(state.next_model())))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**20), min_size=3, max_size=3), st.integers(1, 2**20))
def test_arrivals_between_two_releases_commute(values: list[int], weight: int) -> None:
    ends = set()
    for order in permutations(range(3)):
        state = state_with(3)
        for number in order:
            state.apply(update(state, NAMES[number], values[number], weight + number, 0))
        release(state)
        assert isinstance(state.consensus, FreshMean)
        ends.add(state.model.tobytes() + state.consensus.average.tobytes())
    assert len(ends) == 1


def test_the_model_is_the_mean_dual_and_the_mean_of_those_who_came() -> None:
    state = state_with(4)
    start = state.model
    first, second = LATTICE.relaxed(change_of(1)), LATTICE.relaxed(change_of(2))
    state.apply(update(state, "a", 1, 1, 0))
    state.apply(update(state, "b", 2, 1, 0))
    release(state)
    for i in range(LATTICE.size):
        # each half is rounded by itself, half to even
        dual = round(Fraction(int(first[i] + second[i]), 4))
        primal = round(Fraction(int(2 * start[i] + first[i] + second[i]), 2))
        assert state.unrounded[i] == dual + primal


@pytest.mark.parametrize(("releases", "is_fresh"), [(8, True), (9, False)])
def test_an_arrival_is_stale_when_fresh_ones_were_twice_as_many_as_members(
    releases: int, is_fresh: bool
) -> None:
    """Then it changes its dual only, and the mean of those who came last stays what it was."""
    state = state_with(4)
    state.apply(Served("d", 0))
    for number in range(releases):
        state.apply(update(state, "a", number, 1, state.k))
        state.apply(Served("a", state.k + 1))
        release(state)
    before = state.consensus
    assert isinstance(before, FreshMean)
    primal, dual = before.primal, before.total
    state.apply(update(state, "d", 9, 1, 0))
    assert before.fresh == ({"d"} if is_fresh else set())
    assert before.counted(state.arrived) == is_fresh
    assert (before.total == dual + LATTICE.relaxed(change_of(9))).all()
    release(state)
    after = state.consensus
    assert isinstance(after, FreshMean)
    assert after is not before
    assert (after.primal == primal).all() == (not is_fresh)


def test_where_rounds_are_long_and_releases_are_not_nobody_is_stale() -> None:
    """A release of four was asked for, and each is made of one: its time was over."""
    definition = of_mode("auto", schedule={"arrivals": 4})
    state = FederationState.begin(EpochStarted(Epoch(1, 5), 0, definition.to_bytes(), "created"))
    for name in NAMES:
        state.apply(Joined(name, 1))
    begun = dict.fromkeys(NAMES, 0)
    for number in range(24):
        agent = NAMES[number % 4]
        state.apply(update(state, agent, number, 1, begun[agent]))
        assert isinstance(state.consensus, FreshMean)
        assert state.consensus.fresh == {agent}
        release(state)
        begun[agent] = state.k
        state.apply(Served(agent, state.k))
    assert state.members["a"].staleness == 3


def test_what_would_be_released_follows_every_arrival_and_leave() -> None:
    """It is kept from one question to the next, and the buffer is part of it."""
    state, seen = state_with(3), []
    for record in (
        update(state, "a", 1, 1, 0),
        update(state, "b", 2, 1, 0),
        Left("a", barred=False),
    ):
        state.apply(record)
        asked, anew = state.next_model(), from_rows(to_rows(state)).next_model()
        assert (asked == anew).all()
        assert state.next_model() is asked
        seen.append(asked.tobytes())
    assert len(set(seen)) == 3


def test_a_snapshot_has_what_counts_of_the_duals() -> None:
    state = state_with(3)
    assert isinstance(state.consensus, FreshMean)
    state.consensus.dual_share -= 3**12
    restored = from_rows(to_rows(state)).consensus
    assert isinstance(restored, FreshMean)
    assert restored.dual_share == state.consensus.dual_share


def test_asking_what_would_be_released_moves_no_average() -> None:
    asked, never = state_with(3), state_with(3)
    for number in range(1, 4):
        for state in (asked, never):
            state.apply(update(state, "a", number, 1, state.k))
        for _ in range(3):
            asked.next_model()
        for state in (asked, never):
            release(state)
    assert isinstance(asked.consensus, FreshMean)
    assert asked.consensus.averaged == 3
    assert asked.consensus.turnovers == 3 * -(-(2**14) // 3)
    assert to_rows(asked) == to_rows(never)


def test_a_release_that_is_rounded_more_coarsely_replays() -> None:
    """How coarsely depends on how many came, which the release itself forgets."""
    definition = of_mode("auto", release_bits=12, coarsest_release_bits=2)
    state = FederationState.begin(EpochStarted(Epoch(1, 5), 0, definition.to_bytes(), "created"))
    for name in NAMES:
        state.apply(Joined(name, 1))
    for number in range(1, 6):
        arrival = update(state, "a", number, 1, state.k)
        short = encode_integers(change_of(number) >> 10, LATTICE, Coding.PLAIN)
        state.apply(replace(arrival, change=short))
        release(state)
    assert state.k == 5


def test_a_leave_takes_dual_and_buffer_entry_out() -> None:
    gone, never = state_with(3), state_with(2)
    for state in (gone, never):
        for number, name in enumerate(NAMES[: len(state.members)]):
            state.apply(update(state, name, number, 1, 0))
    gone.apply(Left("c", barred=False))
    assert (gone.next_model() == never.next_model()).all()


def test_a_restart_of_an_epoch_keeps_the_model_and_the_duals_and_counts_all_of_them() -> None:
    state = state_with(3)
    state.apply(update(state, "a", 1, 1, 0))
    release(state)
    assert isinstance(state.consensus, FreshMean)
    state.consensus.dual_share //= 2
    model, total = state.model, state.consensus.total
    state.apply(EpochStarted(Epoch(2, 6), 5, DEFINITION.to_bytes(), "edited"))
    assert (state.model == model).all()
    assert (state.consensus.total == total).all()
    assert isinstance(state.consensus, FreshMean)
    assert state.consensus.dual_share == 2**28
    assert (state.next_model() == model).all()


def test_a_value_that_two_means_could_carry_out_of_the_lattice_is_refused() -> None:
    consensus = FreshMean(np.zeros(1, dtype=np.int64))
    old = Contribution.neutral(np.zeros(1, dtype=np.int64))
    nothing = np.zeros(1, dtype=np.int64)
    consensus.next_contribution(old, nothing, np.array([LARGEST - 1]), 1)
    with pytest.raises(SaturationError):
        consensus.next_contribution(old, nothing, np.array([LARGEST]), 1)


def test_after_the_last_has_left_the_model_stays_until_another_arrives() -> None:
    state = state_with(2)
    for name in ("a", "b"):
        state.apply(update(state, name, 5, 1, 0))
    release(state)
    left = state.model
    for name in ("a", "b"):
        state.apply(Left(name, barred=False))
    for name in ("c", "d"):
        state.apply(Joined(name, 1))
    state.apply(update(state, "c", 6, 1, state.k))
    state.apply(Left("c", barred=False))
    release(state)
    assert (state.model == left).all()


def test_the_last_release_is_the_average_and_the_others_say_after_how_many_turnovers() -> None:
    bits = {"lattice_bits": 12, "release_bits": 10, "coarsest_release_bits": 6}
    definition = of_mode("auto", schedule={"arrivals": 1, "max_releases": 9}).model_copy(
        update=bits
    )
    state = FederationState.begin(EpochStarted(Epoch(1, 5), 0, definition.to_bytes(), "created"))
    for name in NAMES:
        state.apply(Joined(name, 1))
    for number in range(9):
        assert state.turnovers.get(state.k, 0) == (1 + 64 * number if number else 0)
        state.apply(update(state, NAMES[number % len(NAMES)], number, 1, state.k))
        release(state)
        state = from_rows(to_rows(state))
    assert state.final
    assert state.k not in state.turnovers
    assert isinstance(state.consensus, FreshMean)
    assert (state.model == state.terms.lattice.released(state.consensus.served())).all()
    assert (state.unrounded != state.consensus.served()).any()


@pytest.mark.parametrize("limit", [9, 4])
def test_after_the_end_an_edit_leaves_the_average(limit: int) -> None:
    """Also where it is the edit that ends the federation, or one follows another."""
    schedule = {"arrivals": 1, "max_releases": 9}
    definition = of_mode("auto", schedule=schedule)
    state = FederationState.begin(EpochStarted(Epoch(1, 5), 0, definition.to_bytes(), "created"))
    for name in NAMES:
        state.apply(Joined(name, 1))
    for number in range(limit):
        state.apply(update(state, NAMES[number % len(NAMES)], number, 1, state.k))
        release(state)
    assert isinstance(state.consensus, FreshMean)
    average = definition.lattice().released(state.consensus.served())
    unrounded = state.unrounded
    edited = of_mode("auto", schedule={**schedule, "max_releases": limit})
    for counter in (2, 3):
        state.apply(EpochStarted(Epoch(counter, 6), state.k, edited.to_bytes(), "edited"))
        assert state.final
        assert state.model.tolist() == average.tolist()
        state = from_rows(to_rows(state))
    assert state.unrounded.tolist() == unrounded.tolist()
    longer = of_mode("auto", schedule={**schedule, "max_releases": 20})
    state.apply(EpochStarted(Epoch(4, 6), state.k, longer.to_bytes(), "edited"))
    assert state.unrounded.tolist() == unrounded.tolist()
    assert state.model.tolist() == definition.lattice().released(unrounded).tolist()


def test_turnovers_travel_with_a_model() -> None:
    lattice = Lattice(sizes=(3,), bits=(8,))
    model, base = (np.array(v) for v in ([5, -7, 2], [1, 1, 1]))
    name = ModelName(Epoch(1, 2), 7, checksum(model))
    for coding in Coding:
        for known in (None, (3, base)):
            for turnovers in (0, 1, 2**32 - 1):
                encoded = encode_model(name, model, lattice, coding, known, turnovers)
                step = decode_model(encoded, lattice)
                assert (step.model(None if known is None else base) == model).all()
                assert step.turnovers == turnovers
