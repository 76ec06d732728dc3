"""The server steps of the asynchronous modes, against their formulas in exact fractions."""

from fractions import Fraction

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantfed_coordinator.consensus import Consensus, consensus_of
from plantfed_coordinator.contribution import Contribution, Staleness
from plantfed_coordinator.discounted import ONE, BufferedChanges, StalenessMixing, discount
from plantfed_shared.definition import Algorithm
from plantfed_shared.lattice import SaturationError

U = np.array([1000, -2000, 3, 0], dtype=np.int64)
vectors = st.lists(st.integers(-(2**20), 2**20), min_size=4, max_size=4).map(
    lambda values: np.array(values, dtype=np.int64)
)
arrivals = st.lists(st.tuples(vectors, st.integers(0, 9)), min_size=1, max_size=6)


def of_mode(mode: str, **settings: float) -> Consensus:
    algorithm = Algorithm.model_validate({"mode": mode, **settings})
    return consensus_of(algorithm, U)


def arrive(consensus: Consensus, relaxed: np.ndarray, staleness: int) -> None:
    old = Contribution.neutral(U)
    new = consensus.next_contribution(old, U, relaxed, 1)
    consensus.arrive("a", old, new, Staleness(staleness))


@given(each=arrivals, step=st.sampled_from([0.5, 1.0, 4.0, 10.0]))
def test_fedbuff_moves_by_the_discounted_mean(
    each: list[tuple[np.ndarray, int]], step: float
) -> None:
    consensus = of_mode("fedbuff", server_step=step)
    for relaxed, staleness in each:
        arrive(consensus, relaxed, staleness)
    found = consensus.release(U)
    for i in range(U.size):
        discounted = sum(Fraction(discount(tau, 0.5), ONE) * int(o[i]) for o, tau in each)
        exact = int(U[i]) + Fraction(step) * discounted / len(each)
        assert abs(int(found[i]) - exact) <= Fraction(step) / 2 + Fraction(1, 2)


def test_fedbuff_begins_anew_after_a_release() -> None:
    consensus = of_mode("fedbuff")
    arrive(consensus, np.full(4, 100), 0)
    once = consensus.release(U)
    assert (once == U + 100).all()
    assert (consensus.release(once) == once).all()
    arrive(consensus, np.full(4, 7), 0)
    assert (consensus.release(once) == once + 7).all()


def test_fedbuff_refuses_a_step_that_would_leave_the_lattice() -> None:
    consensus = of_mode("fedbuff", server_step=10.0)
    old = Contribution.neutral(U)
    consensus.next_contribution(old, U, np.full(4, 2**26), 1)
    with pytest.raises(SaturationError):
        consensus.next_contribution(old, U, np.full(4, 2**27), 1)


def test_fedbuff_has_room_for_65535_arrivals() -> None:
    consensus = of_mode("fedbuff")
    assert isinstance(consensus, BufferedChanges)
    consensus.weight = (2**16 - 2) * ONE
    assert consensus.has_room(Contribution.neutral(U), 1)
    consensus.weight += ONE
    assert not consensus.has_room(Contribution.neutral(U), 1)


@given(each=arrivals, share=st.sampled_from([0.25, 0.6, 1.0]), exponent=st.sampled_from([0.0, 0.5]))
def test_fedasync_mixes_arrival_by_arrival(
    each: list[tuple[np.ndarray, int]], share: float, exponent: float
) -> None:
    consensus = of_mode("fedasync", server_step=share, staleness_exponent=exponent)
    assert isinstance(consensus, StalenessMixing)
    exact = [Fraction(int(u)) for u in U]
    for relaxed, staleness in each:
        arrive(consensus, relaxed, staleness)
        alpha = Fraction(share) * Fraction(discount(staleness, exponent), ONE)
        exact = [
            x + alpha * (int(u) + int(o) - x) for x, u, o in zip(exact, U, relaxed, strict=True)
        ]
    # alpha and each arrival are rounded once
    slack = len(each) * (Fraction(2**22, ONE) + 1)
    assert all(abs(int(f) - x) <= slack for f, x in zip(consensus.release(U), exact, strict=True))


def test_fedasync_with_the_whole_of_a_fresh_arrival_is_that_arrival() -> None:
    consensus = of_mode("fedasync")
    change = np.array([1, -5, 2**20, 9])
    arrive(consensus, change, 0)
    assert (consensus.release(U) == U + change).all()


@pytest.mark.parametrize(
    ("staleness", "exponent", "wanted"),
    [(0, 0.5, 65536), (3, 0.5, 32768), (1, 1.0, 32768), (8, 0.5, 21845), (7, 0.0, 65536)],
)
def test_discount(staleness: int, exponent: float, wanted: int) -> None:
    assert discount(staleness, exponent) == wanted


def test_members_that_have_sent_nothing_take_no_memory_of_their_own() -> None:
    model = np.ones(2_000_000, dtype=np.int64)
    neutral = Contribution.neutral(model)
    assert neutral.dual_checksum == 0
    process = psutil.Process()
    before = process.memory_info().rss
    members = [Contribution.neutral(model) for _ in range(10)]
    assert {member.dual_checksum for member in members} == {0}
    assert process.memory_info().rss - before < 3 * model.nbytes
