"""The personal part of a machine in mode auto, in training and in use."""

import numpy as np
from tests.federation_world import of_mode, small_definition

from plantfed_agent.class_prior import class_prior, with_prior
from plantfed_agent.inprocess import carry_out
from plantfed_agent.kernels import kernel_for
from plantfed_agent.local_update import task_of
from plantfed_agent.samples import Samples, SampleSets
from plantfed_agent.serving_model import newest_integers
from plantfed_agent.state import AgentState
from plantfed_agent.worker_messages import outcome_frame, outcome_in, task_frame, task_in
from plantfed_shared.initial import initial_parameters
from plantfed_shared.own_average import FRACTION_BITS, OwnAverage
from plantfed_shared.terms import terms_of

AUTO = of_mode("auto")
TERMS = terms_of(AUTO.to_bytes())
X = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
Y = np.array([0] * 38 + [1] * 2)
SETS = SampleSets(Samples(X, Y), Samples(X, Y), "rows")


def test_what_is_rare_here_is_argued_down_and_nothing_up() -> None:
    prior = class_prior(AUTO, Y)
    assert prior is not None
    shares = (np.array([38, 2, 0]) + 0.1) / 40.3
    assert np.allclose(prior, np.log(np.minimum(4 * 3 * shares, 1)))
    assert prior[0] == 0
    assert prior[2] < prior[1] < 0


def test_the_last_bias_can_hold_it() -> None:
    prior, parameters = class_prior(AUTO, Y), initial_parameters(AUTO)
    inside = kernel_for(AUTO).outputs(with_prior(parameters, prior), X)
    assert np.allclose(inside, kernel_for(AUTO, prior).outputs(parameters, X))
    assert with_prior(parameters, None) is parameters


def state_with(**changes: object) -> AgentState:
    return AgentState(model=TERMS.initial_model, definition=AUTO.to_bytes(), **changes)  # type: ignore[arg-type]


def test_a_round_trains_with_the_prior_and_pulls_by_dual_and_penalty() -> None:
    """One step by hand: x - lr (gradient with the prior + mu x + rho w)."""
    document = AUTO.model_dump()
    document["algorithm"] |= {"epochs": 1, "batch": 100}
    terms = terms_of(type(AUTO).model_validate(document).to_bytes())
    dual = np.arange(TERMS.lattice.size) * 100
    task = task_of("a", state_with(dual=dual), terms)
    outcome = carry_out(task, lambda _: SETS, report_score=False)
    prior, parameters = class_prior(AUTO, Y), initial_parameters(AUTO)
    names = [p.name for p in AUTO.parameter_specification().parameters]
    _, gradients = kernel_for(AUTO, prior).loss_and_gradient(parameters, X, Y, names)
    gradient = np.concatenate([g.ravel() for g in gradients])
    algorithm = AUTO.algorithm
    pull = algorithm.weight_decay * task.base + algorithm.penalty * task.dual
    wanted = task.base - algorithm.learning_rate * (gradient + pull)
    assert np.allclose(outcome.shared, wanted, atol=1e-6)
    assert outcome.prior is not None
    assert np.array_equal(outcome.prior, prior)


def test_other_modes_have_none() -> None:
    terms = terms_of(small_definition().to_bytes())
    task = task_of("a", AgentState(model=terms.initial_model), terms)
    assert carry_out(task, lambda _: SETS, report_score=False).prior is None


def test_the_average_is_used_and_scored_and_the_newest_trained_on() -> None:
    average = TERMS.initial_model + 1000
    earlier = (TERMS.initial_model + 2000) << FRACTION_BITS
    state = state_with(earlier=OwnAverage(earlier, 256), turnovers=512)
    assert np.array_equal(newest_integers(state, AUTO.algorithm), average)
    assert newest_integers(state, small_definition().algorithm) is state.model
    assert newest_integers(state_with(), AUTO.algorithm) is TERMS.initial_model
    task = task_of("a", state, TERMS)
    assert task.served is not None
    assert np.array_equal(task.base, TERMS.lattice.to_floats(TERMS.initial_model))
    assert np.array_equal(task.served, TERMS.lattice.to_floats(average))
    assert task_of("a", state_with(), TERMS).served is None
    again = task_in(task_frame(task))
    assert again.served is not None
    assert np.array_equal(again.served, task.served)
    outcome = carry_out(task, lambda _: SETS, report_score=True)
    received = outcome_in(outcome_frame(outcome)).prior
    assert received is not None
    assert outcome.prior is not None
    assert np.array_equal(received, outcome.prior)
