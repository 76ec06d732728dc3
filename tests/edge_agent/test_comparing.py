"""Which rows are new, and what two models say about them."""

from dataclasses import replace

import numpy as np
import pytest
from tests.edge_agent.federations import (
    agent_settings,
    classifier,
    first_task,
    random_samples,
    regressor,
    write_csv,
)

from plantfed_agent import known_rows
from plantfed_agent.comparing import Judge, compared
from plantfed_agent.guard import MOST_ROWS, Guard, ServedModel, after_comparison
from plantfed_agent.inprocess import carry_out
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.kernels import kernel_for
from plantfed_agent.known_rows import first_seen, keys_of, known_after
from plantfed_agent.loading import SampleLoader
from plantfed_agent.samples import Samples, SampleSets
from plantfed_agent.scores import row_errors, score
from plantfed_shared.initial import initial_parameters

DEFINITION = classifier(personal=[], algorithm={"mode": "auto"})
ROWS = random_samples(DEFINITION, 200)


def part(first: int, last: int) -> Samples:
    return Samples(ROWS.x[first:last], ROWS.y[first:last])


def judge() -> Judge:
    return Judge(DEFINITION, Kernels())


def served(name: str, always: int | None = None) -> ServedModel:
    """A model that gives every row one class, or its initial answers."""
    shared = first_task(DEFINITION).base.copy()
    if always is not None:
        shared[-2:] = [20, -20] if always == 0 else [-20, 20]
    return ServedModel(name, shared)


def guard_on(sets: SampleSets, kept: ServedModel) -> Guard:
    found = compared(None, kept, sets, judge())
    assert found is not None
    assert len(found.keys) == len(found.differences) == 0
    return after_comparison(None, kept, found)


def test_a_last_layer_of_its_own_counts_with_the_model_that_has_it() -> None:
    """Alike but for that layer, which always answers 1: errors are those of its answer."""
    weight, bias = initial_parameters(DEFINITION)[-2:]
    always = np.concatenate([np.zeros(weight.size), 100 * np.eye(len(bias))[1]]).astype(np.float32)
    rows, common = part(0, 60), served("release 1", always=0)
    own = replace(common, own_head=always)
    expected = (rows.y != 1).astype(float) - (rows.y != 0)
    assert judge().excess(own, common, rows).tolist() == expected.tolist()
    assert judge().excess(common, own, rows).tolist() == (-expected).tolist()


# ------------------------------------------------------------------ which rows are new


@pytest.mark.parametrize("definition", [classifier(), regressor()])
def test_a_row_is_known_by_its_values_and_its_answer(definition):
    rows = random_samples(definition, 1000)
    keys = keys_of(rows)
    assert len(np.unique(keys)) == 1000
    order = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(keys_of(Samples(rows.x[order], rows.y[order])), keys[order])
    relabelled = Samples(rows.x, rows.y[::-1].copy())
    assert (keys_of(relabelled) != keys).mean() > 0.4
    x = rows.x.copy()
    x[5, 1] = np.nextafter(x[5, 1], np.float32(9))
    assert np.flatnonzero(keys_of(Samples(x, rows.y)) != keys).tolist() == [5]


def test_keys_of_rows_that_differ_in_few_bits_are_all_over():
    """As counters and switches do; half of the keys of any rows are below the middle."""
    x = np.zeros((4096, 6), np.float32)
    x[:, 2], x[:, 5] = np.arange(4096) % 64, np.arange(4096) // 64
    keys = keys_of(Samples(x, np.zeros(4096, np.int64)))
    assert len(np.unique(keys)) > 4090
    assert 0.45 < (keys < 2**31).mean() < 0.55


def test_new_is_what_was_not_here_before_each_row_once():
    keys = np.uint32([4, 9, 4, 7, 2, 9])
    assert first_seen(keys, np.uint32([2, 7])).tolist() == [1, 1, 0, 0, 0, 0]
    assert first_seen(keys, known_after(keys)).any() == np.False_


def test_of_very_many_rows_some_are_watched(monkeypatch):
    monkeypatch.setattr(known_rows, "MOST_KEYS", 100)
    old, new = np.arange(0, 4000, 2, dtype=np.uint32), np.arange(1, 4001, 2, dtype=np.uint32)
    known = known_after(old)
    assert len(known) == 100
    assert not first_seen(old, known).any()
    watched = new[first_seen(new, known)]
    assert watched.tolist() == list(range(1, 198, 2))


# ------------------------------------------------------------------ what is said about them


def test_the_same_files_need_no_look():
    sets = SampleSets(part(0, 100), fingerprint="one")
    guard = guard_on(sets, served("release 1"))
    assert compared(guard, served("release 2"), sets, judge()) is None


def test_new_rows_are_answered_by_both_models():
    guard = guard_on(SampleSets(part(0, 100), None, "one"), served("release 1", always=0))
    now = SampleSets(part(20, 140), part(140, 160), "two")
    found = compared(guard, served("release 2", always=1), now, judge())
    assert found is not None
    assert np.array_equal(found.keys, keys_of(part(100, 160)))
    assert found.differences.tolist() == np.where(ROWS.y[100:160] == 0, 1.0, -1.0).tolist()
    assert found.known is not None
    assert not first_seen(keys_of(part(20, 160)), found.known).any()


def test_the_prior_of_each_model_is_its_own():
    guard = guard_on(SampleSets(part(0, 100), None, "one"), served("release 1"))
    newest = replace(served("release 2"), prior=np.float32([-50, 0]))
    found = compared(guard, newest, SampleSets(part(0, 160), None, "two"), judge())
    assert found is not None
    kernel, parameters = kernel_for(DEFINITION), initial_parameters(DEFINITION)
    before = kernel.outputs(parameters, ROWS.x[100:160]).argmax(1) != ROWS.y[100:160]
    wanted = (ROWS.y[100:160] == 0).astype(float) - before
    assert found.differences.tolist() == wanted.tolist()


def test_a_tripped_guard_looks_again_at_what_it_has_tripped_on():
    guard = guard_on(SampleSets(part(0, 100), None, "one"), served("release 1", always=0))
    tripped = replace(guard, tripped_on=keys_of(part(100, 160)), fingerprint="two")
    now = SampleSets(part(0, 160), None, "two")
    found = compared(tripped, served("release 3", always=1), now, judge())
    assert found is not None
    assert len(found.keys) == 0
    assert found.known is None
    assert found.again.tolist() == np.where(ROWS.y[100:160] == 0, 1.0, -1.0).tolist()


def test_of_many_new_rows_some_from_everywhere_are_answered():
    many = random_samples(DEFINITION, 3 * MOST_ROWS, seed=1)
    guard = guard_on(SampleSets(part(0, 10), None, "one"), served("release 1", always=0))
    found = compared(guard, served("2", always=1), SampleSets(many, None, "two"), judge())
    assert found is not None
    assert len(found.keys) == MOST_ROWS
    places = np.flatnonzero(np.isin(keys_of(many), found.keys))
    assert (places[0], places[-1]) == (0, 3 * MOST_ROWS - 1)


@pytest.mark.parametrize("definition", [classifier(), regressor()])
def test_errors_of_rows_are_what_the_score_is_a_mean_of(definition):
    kernel, parameters = kernel_for(definition), initial_parameters(definition)
    rows = random_samples(definition, 40)
    errors = row_errors(kernel, definition, parameters, rows)
    assert errors.shape == (40,)
    if definition.classes:
        assert 1 - errors.mean() == pytest.approx(score(kernel, definition, parameters, rows))
    else:
        assert errors.mean() == pytest.approx(kernel.mean_loss(parameters, rows.x, rows.y))


# ------------------------------------------------------------------ within a round


def test_a_round_compares_before_it_trains_and_scores_what_is_used(tmp_path):
    """A file grows: its new rows are compared, whether they are trained on or kept for testing."""
    file = write_csv(tmp_path / "rows.csv", 100)
    loader = SampleLoader(agent_settings(file).data)
    first = carry_out(first_task(DEFINITION), loader.load, report_score=True)
    assert first.fresh is not None
    kept = replace(served("release 1", always=0), prior=None)
    guard = after_comparison(None, kept, first.fresh)
    with file.open("a") as grown:
        grown.writelines(
            write_csv(tmp_path / "more.csv", 60, seed=1).read_text().partition("\n")[2]
        )
    newest = replace(first_task(DEFINITION), served=served("2", always=1).shared, guard=guard)
    second = carry_out(newest, loader.load, report_score=True)
    sets = loader.load(DEFINITION)
    assert second.fresh is not None
    assert second.fresh.differences.shape == (60,)
    assert set(np.unique(second.fresh.differences)) == {-1.0, 1.0}
    assert second.score == pytest.approx((sets.test.y == 1).mean())
    tripped = replace(guard, tripped_on=np.uint32([]))
    third = carry_out(replace(newest, guard=tripped), loader.load, report_score=True)
    assert third.score == pytest.approx((sets.test.y == 0).mean())
