"""How much of its change a machine sends: it rises where its loss stalls, within its bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantfed_agent.need import GROWTH, PATIENCE_ROUNDS, Need, need_after, others_wanted
from plantfed_shared.definition import Compression

TOP_K = Compression(kind="top-k", keep=0.02, keep_at_most=0.1)
losses = st.floats(0, 1e6)
bounds = st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)).map(sorted)


def between(keep: float, keep_at_most: float) -> Compression:
    return Compression(kind="top-k", keep=keep, keep_at_most=keep_at_most)


def after(losses: list[float | None], compression: Compression = TOP_K) -> list[Need]:
    needs: list[Need] = []
    for loss in losses:
        needs.append(need_after(needs[-1] if needs else None, compression, loss))
    return needs


@given(st.lists(st.tuples(bounds, st.none() | losses), min_size=1, max_size=40))
def test_it_never_leaves_its_bounds_whatever_they_become(rounds):
    need = None
    for (keep, keep_at_most), loss in rounds:
        need = need_after(need, between(keep, keep_at_most), loss)
        assert keep <= need.keep <= keep_at_most


@given(bounds, st.lists(st.none() | losses, min_size=1, max_size=60))
def test_it_rises_only_after_so_many_known_rounds_and_never_falls(found, rounds):
    needs = after(rounds, between(*found))
    assert needs[0].keep == found[0]
    rises = [i for i in range(1, len(needs)) if needs[i].keep > needs[i - 1].keep]
    assert all(needs[i].keep >= needs[i - 1].keep for i in range(1, len(needs)))
    assert all(needs[i].keep <= GROWTH * needs[i - 1].keep for i in rises)
    for earlier, later in zip([0, *rises], rises, strict=False):
        known = [loss for loss in rounds[earlier + 1 : later + 1] if loss is not None]
        assert len(known) >= PATIENCE_ROUNDS


def test_where_nothing_gets_better_more_is_sent_every_few_rounds():
    needs = after([1.0] * (5 * PATIENCE_ROUNDS + 1))
    assert [need.keep for need in needs[:PATIENCE_ROUNDS]] == [0.02] * PATIENCE_ROUNDS
    at_the_rise = [needs[i].keep for i in range(PATIENCE_ROUNDS, len(needs), PATIENCE_ROUNDS)]
    assert at_the_rise == pytest.approx([0.03, 0.045, 0.0675, 0.1, 0.1])
    assert needs[PATIENCE_ROUNDS].stalled == 0


def test_where_it_gets_better_no_more_is_sent():
    assert {need.keep for need in after([0.9**i for i in range(100)])} == {0.02}


def test_a_single_good_round_is_smoothed_and_a_lasting_one_is_progress():
    stalled = after([1.0] * PATIENCE_ROUNDS)[-1]
    assert stalled.stalled == PATIENCE_ROUNDS - 1
    once = need_after(stalled, TOP_K, 0.95)  # 1.5 % in the level: no progress
    assert (once.keep, once.stalled) == (pytest.approx(0.03), 0)
    better = need_after(stalled, TOP_K, 0.8)  # 6 % in the level
    assert (better.keep, better.stalled) == (0.02, 0)
    assert better.level == better.lowest == pytest.approx(0.94)


def test_a_round_whose_loss_is_not_known_says_nothing():
    stalled = after([1.0] * PATIENCE_ROUNDS)[-1]
    assert need_after(stalled, TOP_K, None) == stalled
    assert need_after(None, TOP_K, None) == Need(0.02)


def test_other_bounds_are_obeyed_at_once():
    needs = after([1.0] * 50)
    assert needs[-1].keep == 0.1
    assert need_after(needs[-1], between(0.01, 0.05), None).keep == 0.05
    assert need_after(needs[-1], between(0.2, 0.5), None).keep == 0.2
    assert need_after(needs[-1], between(0.2, 0.5), 1.0).keep == 0.2


@given(st.lists(st.none() | losses, min_size=1, max_size=40), st.floats(0, 0.9))
def test_what_others_are_let_go_first_is_a_part_of_the_pace(rounds, pace):
    for need in after(rounds):
        others = others_wanted(need, pace)
        assert 0 <= others <= 256 * pace + 0.5
        assert others < 256


def test_a_machine_lets_others_go_first_the_more_it_has_learnt_and_not_after_its_rows_got_hard():
    falling = after([2.0, *[1.5] * 20, *[0.75] * 20, *[0.0] * 60])
    waits = [others_wanted(need, 0.5) for need in falling]
    assert waits[0] == waits[1] == 0
    assert waits[20] == 0  # three quarters of the highest: it waits for nobody
    assert 50 < waits[40] < 80
    assert waits[-1] == 128
    harder = after([2.0, *[0.0] * 60, *[8.0] * 20])
    assert others_wanted(harder[60], 0.5) == 128
    assert others_wanted(harder[-1], 0.5) == 0
