"""What compares the modes, in a tiny setting: it runs, and reads its tracks as it says."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.learning import accuracy, contest, exactness, pool, race
from benchmarks.learning.federation import Measurement
from benchmarks.learning.tasks import Task, is_here, tennessee_eastman
from benchmarks.report import Report
from plantfed_shared.definition import Schedule


def measurement(seconds: float, *scores: float) -> Measurement:
    return Measurement(seconds, 0, 0, int(10 * seconds), int(20 * seconds), np.array(scores))


def track(*means: float) -> contest.Track:
    return [measurement(30.0 * (i + 1), mean, mean) for i, mean in enumerate(means)]


@pytest.fixture(scope="module")
def tep() -> Task:
    return tennessee_eastman(0)


def test_the_same_run_gives_the_same_outcome_and_a_synchronous_one_all_its_rounds() -> None:
    job = accuracy.Job("tep", None, 0, "fedalt", participation=0.1, rounds=2)
    first = accuracy.carry_out(job)
    assert accuracy.carry_out(job) == first
    assert 0 <= first.worst < first.mean < 1
    one_update = 4 * 5472
    assert 4 * one_update < first.bytes_up < 4.5 * one_update


def test_an_asynchronous_run_has_as_many_updates() -> None:
    synchronous, asynchronous = (
        accuracy.carry_out(accuracy.Job("tep", None, 0, "fedapm", a, participation=0.1, rounds=2))
        for a in (False, True)
    )
    # twenty machines begin at once, and four updates are wanted
    assert asynchronous.bytes_up >= synchronous.bytes_up
    assert asynchronous.mean != synchronous.mean


def test_each_mode_shares_what_it_shares(tep: Task) -> None:
    size = {
        mode: tep.defined(mode, Schedule()).lattice().size for mode in ("fedapm", "fedavg", "local")
    }
    assert size == {"fedapm": 5472, "fedavg": 6198, "local": 0}


def test_data_that_is_not_there_is_skipped_loudly(tmp_path: Path) -> None:
    assert not is_here("cwru", None)
    assert not is_here("cwru", tmp_path)
    assert is_here("tep", None)
    report = race.run("race-tails", quick=True, data=tmp_path)
    assert report.skipped == ["mnist5k.npz is not in a folder given by --data"]
    assert report.grids == []


def test_a_federation_comes_closer_to_the_optimum_and_a_wild_server_step_does_not() -> None:
    ours, again, early = (
        exactness.distance(exactness.Job(exactness.OURS, 0, arrivals))
        for arrivals in (300, 300, 60)
    )
    assert ours == again < early
    wild = contest.Contender("x", "fedbuff", 4, (("server_step", 100.0),))
    assert exactness.distance(exactness.Job(wild, 0, 3000)) == float("inf")


def test_the_optimum_is_where_the_gradients_cancel() -> None:
    problem = exactness.Quadratics.drawn(3)
    gradient = (problem.curvature * (problem.optimum() - problem.centre)).sum(0)
    assert np.abs(gradient).max() < 1e-9


def test_a_target_is_reached_where_the_smoothed_accuracy_first_is() -> None:
    run = track(0.1, 0.2, 0.6, 0.4, 0.8, 0.9, 0.1)
    assert contest.smoothed(run)[1:3] == pytest.approx([0.3, 0.4])
    found = contest.reached(run, 0.4)
    assert found is not None
    assert found.seconds == 90.0
    assert contest.reached(run, 0.95) is None
    assert contest.best(run) == pytest.approx(0.7)


def test_the_baseline_is_who_is_soonest_at_the_best_of_all() -> None:
    low = contest.Contender("never good", "fedapm", None)
    slow = contest.Contender("slow", "fedapm", None, (("penalty", 1.0),))
    fast = contest.Contender("fast", "fedapm", None, (("penalty", 2.0),))
    tracks = {
        low: [track(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)],
        slow: [track(0.1, 0.2, 0.5, 0.9, 0.9, 0.9)],
        fast: [track(0.1, 0.9, 0.9, 0.9, 0.9, 0.9)],
    }
    assert race.tuned(tracks, [0.89]) == fast
    # nobody arrives: who came nearest
    assert race.tuned({low: tracks[low], slow: tracks[slow]}, [0.95]) == slow


def test_ratios_are_medians_over_all_seeds_and_one_that_never_arrives_is_0() -> None:
    pairs = [(measurement(t, 1.0), measurement(100, 1.0)) for t in (100, 300, 500)]
    cells = race._ratio_cells([*pairs, (measurement(9, 1.0), None)])
    assert cells == ["2.00 (1, 3, 5, 0)", "3/4", 2.0, 2.0]
    goals = race._goals(race.RACES["race-tails"], pairs)
    assert [(round(g.value, 3), g.limit, g.met) for g in goals] == [
        (0.333, 0.5, True),
        (1.0, 1.0, True),
    ]
    assert not race._goals(race.RACES["race-tails"], [(None, None)])[0].met


def test_computers_are_the_same_for_all_contenders_of_a_seed(tep: Task) -> None:
    one, two = (contest.computers(tep, contest.STRONG_SKEW, 5) for _ in range(2))
    assert [c.link for c in one.values()] == [c.link for c in two.values()]
    assert [c.compute_s() for c in one.values()] == [c.compute_s() for c in two.values()]
    assert all(64e3 <= c.link.uplink_bits_per_s <= 256e3 for c in one.values())
    other = contest.computers(tep, contest.STRONG_SKEW, 6)
    assert [c.link for c in one.values()] != [c.link for c in other.values()]


def test_jobs_keep_their_order() -> None:
    assert pool.run_all("squares", abs, [-3, 2, -1], workers=0) == [3, 2, 1]
    assert pool.run_all("squares", abs, [-3, 2, -1], workers=2) == [3, 2, 1]


def test_the_accuracy_table_names_what_is_missing() -> None:
    found = [
        (accuracy.Job("tep", None, s, "fedapm"), accuracy.Outcome(m, 0.5, 10, 20))
        for s, m in ((0, 0.75), (1, 0.79))
    ]
    report = Report("accuracy")
    accuracy._add(report, "tep", found)
    (row,) = report.grids[0].rows
    assert row[:2] == ("fedapm", pytest.approx(0.77))
    assert [goal.met for goal in report.goals] == [False]
