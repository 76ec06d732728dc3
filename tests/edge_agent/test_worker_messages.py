from dataclasses import replace

import numpy as np
import pytest
from tests.edge_agent.federations import agent_settings, classifier, first_task

from plantfed_agent import guard_frames
from plantfed_agent.guard import FreshRows, Guard, ServedModel
from plantfed_agent.training import TrainingOutcome
from plantfed_agent.worker_messages import (
    ERRORS,
    error_frame,
    outcome_frame,
    outcome_in,
    settings_frame,
    settings_in,
    task_frame,
    task_in,
)


def test_a_task_comes_back_equal():
    task = first_task(classifier(), seq=2**40)
    same = task_in(task_frame(task))
    assert (same.agent, same.seq, same.head) == (task.agent, task.seq, None)
    assert same.definition == task.definition
    np.testing.assert_array_equal(same.base, task.base)
    np.testing.assert_array_equal(same.dual, task.dual)
    assert same.prior is None
    assert same.guard is None


def test_a_task_brings_the_prior_and_the_guard():
    kept = ServedModel("release 3", np.float32([1, 2]), np.float32([3]), own_head=np.float32([4]))
    guard = Guard(kept, "abc", np.uint32([7, 9]), tripped_on=np.uint32([4]))
    task = replace(first_task(classifier()), prior=np.float32([0, -1]), guard=guard)
    same = task_in(task_frame(task))
    assert same.prior.tolist() == [0, -1]
    assert same.guard.kept.own_head.tolist() == [4]
    assert guard_frames.to_bytes(same.guard) == guard_frames.to_bytes(guard)


@pytest.mark.parametrize("known", [None, np.uint32([5, 2**32 - 1])])
def test_an_outcome_brings_what_the_guard_has_to_know(known):
    found = FreshRows("abc", known, np.uint32([5]), np.float32([-1]), np.float32([0.5, 1]))
    outcome = TrainingOutcome(np.float32([1]), np.float32([2]), 0.1, None, 3, "abc", 1.5)
    assert outcome_in(outcome_frame(outcome)).fresh is None
    same = outcome_in(outcome_frame(replace(outcome, fresh=found))).fresh
    assert same.fingerprint == "abc"
    assert (same.known is None) == (known is None)
    for one, other in zip(found[1:], same[1:], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("head_only", [False, True])
def test_a_task_says_whether_the_head_is_trained_alone(head_only):
    task = replace(first_task(classifier()), head_only=head_only)
    assert task_in(task_frame(task)).head_only is head_only


@pytest.mark.parametrize("start_loss", [None, 0.0, 1 / 3])
def test_an_outcome_comes_back_equal(start_loss):
    outcome = TrainingOutcome(
        np.float32([1, 2]), np.float32([3]), 0.1 + 0.2, None, 17, "abc", 1.5, start_loss
    )
    same = outcome_in(outcome_frame(outcome))
    np.testing.assert_array_equal(same.shared, outcome.shared)
    np.testing.assert_array_equal(same.head, outcome.head)
    assert (same.loss, same.score, same.n_samples) == (0.1 + 0.2, None, 17)
    assert (same.data_fingerprint, same.seconds, same.start_loss) == ("abc", 1.5, start_loss)


@pytest.mark.parametrize("kind", ERRORS.values())
def test_an_error_comes_back_word_for_word(kind):
    error = kind("is wrong", where="file.csv, line 3", hint="Repair it")
    with pytest.raises(kind) as caught:
        outcome_in(error_frame(error))
    assert str(caught.value) == str(error)
    assert caught.value.hint == "Repair it"


def test_settings_come_back_equal_and_hold_nothing_of_the_broker():
    settings = agent_settings("a.csv", nice=3, data={"labels": {"1": "bad"}})
    frame = settings_frame(settings)
    assert settings_in(frame) == (settings.data, settings.training, settings.agent.state_dir)
    assert set(frame.header) == {"data", "training", "state_dir"}
