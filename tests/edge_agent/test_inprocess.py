import asyncio

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

from plantfed_agent.inprocess import InProcessTrainer, initial_head
from plantfed_agent.kernels import kernel_for
from plantfed_agent.row_order import row_order
from plantfed_agent.samples import SampleSets
from plantfed_shared.errors import DataError
from plantfed_shared.initial import initial_parameters


def run(trainer, task):
    return asyncio.run(trainer.run(task))


def test_the_same_task_gives_the_same_bits():
    definition = classifier()
    trainer = InProcessTrainer(SampleSets(random_samples(definition, 60)))
    one, two = run(trainer, first_task(definition)), run(trainer, first_task(definition))
    assert one.shared.tobytes() == two.shared.tobytes()
    assert one.head.tobytes() == two.head.tobytes()
    other = run(trainer, first_task(definition, seq=2))
    assert other.shared.tobytes() != one.shared.tobytes()


def test_scores_the_model_served_before_the_round():
    definition = classifier()
    train, test = random_samples(definition, 60), random_samples(definition, 40, seed=1)
    outcome = run(InProcessTrainer(SampleSets(train, test)), first_task(definition))
    outputs = kernel_for(definition).outputs(initial_parameters(definition), test.x)
    assert outcome.score == (outputs.argmax(1) == test.y).mean()
    assert outcome.n_samples == 60


def test_the_score_of_a_regression_is_minus_the_error_in_target_units():
    definition = regressor()
    test = random_samples(definition, 40, seed=1)
    sets = SampleSets(random_samples(definition, 60), test)
    outcome = run(InProcessTrainer(sets), first_task(definition))
    outputs = kernel_for(definition).outputs(initial_parameters(definition), test.x)
    squares = ((outputs - test.y).astype(float) * [20, 0.5]) ** 2
    assert outcome.score == pytest.approx(-np.sqrt(squares.mean()))


def test_no_score_without_test_samples_or_where_it_is_not_wanted(tmp_path):
    definition = classifier()
    sets = SampleSets(random_samples(definition, 60))
    assert run(InProcessTrainer(sets), first_task(definition)).score is None
    file = write_csv(tmp_path / "rows.csv", 50)
    quiet = InProcessTrainer(agent_settings(file, report_score=False))
    assert run(quiet, first_task(definition)).score is None
    loud = InProcessTrainer(agent_settings(file))
    assert run(loud, first_task(definition)).score is not None


def test_the_order_of_rows_can_be_replaced():
    definition = classifier(algorithm={"epochs": 2, "batch": 7})
    asked = []

    def watched(*arguments):
        asked.append(arguments)
        return row_order(*arguments)

    trainer = InProcessTrainer(SampleSets(random_samples(definition, 20)), row_order=watched)
    run(trainer, first_task(definition, seq=9))
    assert asked == [(7, "press-07", 9, phase, 20, 2, 7) for phase in (0, 1)]


def test_training_lowers_the_loss(tmp_path):
    definition = classifier(algorithm={"mode": "fedalt", "learning_rate": 0.5})
    trainer = InProcessTrainer(agent_settings(write_csv(tmp_path / "rows.csv", 400)))
    first = run(trainer, first_task(definition))
    task = first_task(definition, seq=2)
    for seq in range(2, 30):
        task = type(task)("press-07", seq, first.shared, task.dual, first.head, definition)
        first, last = run(trainer, task), first
    assert first.loss < 0.35
    assert first.score > 0.9
    assert last.n_samples == 320


def test_errors_in_the_rows_come_out(tmp_path):
    trainer = InProcessTrainer(agent_settings(tmp_path / "missing.csv"))
    with pytest.raises(DataError, match=r"missing\.csv: no such file"):
        run(trainer, first_task(classifier()))


def test_the_initial_head_is_the_personal_part():
    weight, bias = initial_parameters(classifier())[-2:]
    np.testing.assert_array_equal(initial_head(classifier()), [*weight.ravel(), *bias])
    assert initial_head(classifier(personal=[])).shape == (0,)


# ---------------------------------------------------------------- the loss a round starts from


def test_the_loss_before_the_round_is_that_of_the_model_it_started_from():
    definition = classifier(compression={"kind": "top-k"})
    train = random_samples(definition, 60)
    outcome = run(InProcessTrainer(SampleSets(train)), first_task(definition))
    expected, _ = kernel_for(definition).loss_and_gradient(
        initial_parameters(definition), train.x, train.y, ()
    )
    assert outcome.start_loss == expected
    assert outcome.start_loss != outcome.loss


def test_no_look_at_all_rows_where_the_loss_decides_nothing():
    definition = classifier()
    sets = SampleSets(random_samples(definition, 60))
    assert run(InProcessTrainer(sets), first_task(definition)).start_loss is None
