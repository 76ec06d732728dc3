"""When a machine in mode auto keeps a last layer of its own, and what it says of the common one."""

import numpy as np
import pytest
from tests.federation_world import of_mode, small_definition

from plantfed_agent.class_prior import class_prior
from plantfed_agent.comparing import Judge
from plantfed_agent.guard import ServedModel
from plantfed_agent.inprocess import carry_out
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.kernels import kernel_for
from plantfed_agent.local_update import after_round, task_of
from plantfed_agent.own_head import (
    FIRST_ROUNDS,
    IN_SUCCESSION,
    Common,
    initial_own_head,
    used_parameters,
    wants_own_head,
    with_own_head,
)
from plantfed_agent.samples import Samples, SampleSets
from plantfed_agent.serving_model import newest_model
from plantfed_agent.state import AgentState
from plantfed_agent.training import TrainingOutcome
from plantfed_agent.worker_messages import outcome_frame, outcome_in, task_frame, task_in
from plantfed_shared import wire
from plantfed_shared.codec import decode_integers
from plantfed_shared.initial import initial_parameters
from plantfed_shared.messages import Epoch, ModelName
from plantfed_shared.parameters import Floats, flatten
from plantfed_shared.terms import terms_of
from plantfed_shared.topics import Kind

AUTO = of_mode("auto")
TERMS = terms_of(AUTO.to_bytes())
N_OWN = 2 * 3 + 3
Y = np.arange(60) % 3
FEATURES = (np.eye(3)[Y] + np.random.default_rng(0).normal(0, 0.2, (60, 3))).astype(np.float32)
RIGHT = (9 * np.eye(3)[Y]).astype(np.float32)
WRONG = np.roll(RIGHT, 1, axis=1)
NOTHING = np.zeros(0, dtype=np.float32)


def test_who_calls_things_differently_wants_one_and_nobody_else() -> None:
    for has_one in (False, True):
        assert wants_own_head(Common(FEATURES, WRONG), Y, 3, has_one=has_one)
        assert not wants_own_head(Common(FEATURES, RIGHT), Y, 3, has_one=has_one)
    # rows that nothing can be learnt from
    assert not wants_own_head(Common(np.ones_like(FEATURES), WRONG), Y, 3, has_one=False)


def test_a_row_of_each_class_is_not_enough_to_tell() -> None:
    assert not wants_own_head(Common(FEATURES[:3], WRONG[:3]), Y[:3], 3, has_one=False)


@pytest.mark.parametrize(
    ("errors", "begins", "with_few_rows", "stays"),
    [(14, False, False, False), (18, False, True, True), (26, True, True, True)],
)
def test_it_begins_well_below_the_errors_of_the_common_layer_and_ends_above_two_thirds(
    errors: int, begins: bool, with_few_rows: bool, stays: bool
) -> None:
    """The own fit has 10 errors of 60: rows with the features of another class."""
    features, outputs = FEATURES.copy(), RIGHT.copy()
    features[:10] = np.eye(3)[(Y[:10] + 1) % 3]
    outputs[:errors] = WRONG[:errors]
    few, many = (
        Common(features, outputs),
        Common(np.tile(features, (9, 1)), np.tile(outputs, (9, 1))),
    )
    assert wants_own_head(few, Y, 3, has_one=False) is with_few_rows
    assert wants_own_head(many, np.tile(Y, 9), 3, has_one=False) is begins
    for common, y in ((few, Y), (many, np.tile(Y, 9))):
        assert wants_own_head(common, y, 3, has_one=True) is stays


def test_rows_like_those_beside_them_do_not_flatter_the_fit() -> None:
    """Each class comes in three runs of equal rows; a run says nothing of another."""
    rng = np.random.default_rng(4)
    y = np.repeat([0, 1, 0, 1, 0, 1], 10)
    features = np.repeat(rng.normal(size=(6, 6)), 10, axis=0).astype(np.float32)
    outputs = np.zeros((60, 2), dtype=np.float32)
    outputs[np.arange(60), np.where(np.arange(60) % 10 < 6, y, 1 - y)] = 1
    assert not wants_own_head(Common(features, outputs), y, 2, has_one=False)
    scattered = np.argsort(np.arange(60) % 10, kind="stable")
    assert wants_own_head(
        Common(features[scattered], outputs[scattered]), y[scattered], 2, has_one=False
    )


@pytest.mark.parametrize(
    ("scale", "offset", "wanted"), [(1, 0, False), (-1, 0, True), (1, 3, True)]
)
def test_targets_on_another_scale_want_one(scale: float, offset: float, wanted: bool) -> None:
    outputs = FEATURES[:, :1] + np.float32(0.1)
    y = (scale * FEATURES[:, :1] + offset).astype(np.float32)
    assert wants_own_head(Common(FEATURES, outputs), y, 0, has_one=False) is wanted


# ---------------------------------------------------------------------- a round

X = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)


def model_and_rows() -> tuple[np.ndarray, SampleSets]:
    """A common model in lattice units, and a machine that calls 0 all that it calls 1."""
    body = initial_parameters(AUTO)[:-2]
    features, _ = kernel_for(AUTO).features_and_outputs(initial_parameters(AUTO), X)
    alive = int(features.std(0).argmax())
    middle = float(features[:, alive].mean())
    weight, bias = np.zeros((2, 3), np.float32), np.array([0, 0, -20], np.float32)
    weight[alive, :2], bias[:2] = (-20, 20), (20 * middle, -20 * middle)
    shared = flatten([*body, weight, bias])
    rows = Samples(X, (features[:, alive] < middle).astype(np.int64))
    return TERMS.lattice.from_floats(shared), SampleSets(rows, rows, "rows")


MODEL, SETS = model_and_rows()
DUAL = np.arange(TERMS.lattice.size) * 50
OWN = np.linspace(-1, 1, N_OWN, dtype=np.float32)


def state_with(**changes: object) -> AgentState:
    asked = {"rounds": FIRST_ROUNDS, "asked_for_own_head": IN_SUCCESSION - 1}
    given = {"model": MODEL, "dual": DUAL, **asked, **changes}
    return AgentState(definition=AUTO.to_bytes(), **given)  # type: ignore[arg-type]


def outcome_of(state: AgentState) -> TrainingOutcome:
    task = task_in(task_frame(task_of("a", state, TERMS)))
    return outcome_in(outcome_frame(carry_out(task, lambda _: SETS, report_score=True)))


def agreed_sets() -> SampleSets:
    """Rows that are called what the common layer calls them."""
    parameters = used_parameters(AUTO, TERMS.lattice.to_floats(MODEL), NOTHING, None)
    called = kernel_for(AUTO).outputs(parameters, X).argmax(1)
    return SampleSets(Samples(X, called), None, "r")


def test_the_first_rounds_go_to_the_common_layer() -> None:
    assert outcome_of(state_with(rounds=FIRST_ROUNDS - 1)).own_head is None
    assert outcome_of(state_with()).own_head is not None


def test_one_round_is_not_enough() -> None:
    for asked in range(IN_SUCCESSION - 1):
        outcome = outcome_of(state_with(asked_for_own_head=asked))
        assert (outcome.own_head, outcome.asked_for_own_head) == (None, asked + 1)
    assert outcome_of(state_with()).asked_for_own_head == 0


def test_a_round_that_does_not_ask_makes_it_begin_to_count_anew() -> None:
    outcome = carry_out(
        task_of("a", state_with(), TERMS), lambda _: agreed_sets(), report_score=False
    )
    assert (outcome.own_head, outcome.asked_for_own_head) == (None, 0)


def test_where_the_common_layer_is_right_an_own_one_ends() -> None:
    task = task_of("a", state_with(own_head=OWN), TERMS)
    outcome = carry_out(task, lambda _: agreed_sets(), report_score=False)
    assert outcome.own_head is None


def test_a_step_moves_body_and_own_layer_by_their_gradients() -> None:
    """By hand: the body is pulled by dual and penalty, the own layer by nothing."""
    document = AUTO.model_dump()
    document["algorithm"] |= {"epochs": 1, "batch": 100}
    terms = terms_of(type(AUTO).model_validate(document).to_bytes())
    task = task_of("a", state_with(own_head=OWN), terms)
    outcome = carry_out(task, lambda _: SETS, report_score=False)
    kernel = kernel_for(AUTO, class_prior(AUTO, SETS.train.y))
    parameters = used_parameters(AUTO, task.base, NOTHING, OWN)
    names = [p.name for p in AUTO.parameter_specification().parameters]
    _, gradients = kernel.loss_and_gradient(parameters, X, SETS.train.y, names)
    gradient, algorithm = flatten(gradients), AUTO.algorithm
    body = slice(0, task.base.size - N_OWN)
    pull = algorithm.weight_decay * task.base + algorithm.penalty * task.dual
    moved = task.base - algorithm.learning_rate * (gradient + pull)
    assert np.allclose(outcome.shared[body], moved[body], atol=1e-6)
    decayed = gradient[-N_OWN:] + algorithm.weight_decay * OWN
    assert outcome.own_head is not None
    assert np.allclose(outcome.own_head, OWN - algorithm.learning_rate * decayed, atol=1e-6)


def test_where_nothing_can_be_sent_the_own_layer_is_trained_on_the_body_that_stays() -> None:
    task = task_of("a", state_with(own_head=OWN), TERMS, head_only=True)
    outcome = carry_out(task, lambda _: SETS, report_score=False)
    body = slice(0, task.base.size - N_OWN)
    assert np.array_equal(outcome.shared[body], task.base[body])
    assert outcome.own_head is not None

    def loss(own_head: Floats) -> float:
        kernel = kernel_for(AUTO, class_prior(AUTO, SETS.train.y))
        used = used_parameters(AUTO, task.base, NOTHING, own_head)
        return kernel.mean_loss(used, X, SETS.train.y)

    assert loss(outcome.own_head) < loss(OWN)


def test_of_the_common_layer_it_takes_back_its_dual_and_then_says_nothing() -> None:
    """Exactly zero on the lattice, whatever its own rows and layer are."""
    state = state_with(model_name=ModelName(Epoch(1, 1), 4, 0))
    # relaxed by 5/4 a change counts 5 units in the dual
    for expected in (-DUAL[-N_OWN:] // 5, np.zeros(N_OWN)):
        state = after_round(state, TERMS, outcome_of(state), report_score=False)
        assert state.own_head is not None
        assert state.outstanding is not None
        encoded = wire.decode_own(state.outstanding, Kind.UPDATE).tail
        change = decode_integers(encoded, TERMS.lattice)
        assert np.array_equal(change[-N_OWN:], expected)
        assert change[:-N_OWN].any()
        dual = state.dual_after(TERMS.lattice, change)
        assert not dual[-N_OWN:].any()
        state = state_with(model_name=state.model_name, own_head=state.own_head, dual=dual)


def test_it_is_what_the_machine_uses_and_is_scored_by() -> None:
    common = TERMS.lattice.to_floats(MODEL)[-N_OWN:]
    weight, bias = np.split(common, [N_OWN - 3])
    right = np.concatenate([-weight, bias * np.array([-1, -1, 1])]).astype(np.float32)
    assert outcome_of(state_with(own_head=right)).score == 1
    assert outcome_of(state_with()).score == 0
    parameters = initial_parameters(AUTO)
    used = with_own_head(parameters, initial_own_head(AUTO) + 1)
    assert all(a is b for a, b in zip(used[:-2], parameters[:-2], strict=True))
    assert np.array_equal(used[-1], parameters[-1] + 1)
    assert used[-2].shape == parameters[-2].shape
    assert with_own_head(parameters, None) is parameters


def test_other_modes_have_none() -> None:
    terms = terms_of(small_definition().to_bytes())
    name = ModelName(Epoch(1, 1), 4, 0)
    state = AgentState(model=terms.initial_model, model_name=name, rounds=99, own_head=OWN)
    task = task_of("a", state, terms)
    assert carry_out(task, lambda _: SETS, report_score=False).own_head is None
    assert task.own_head is None
    assert newest_model(state, terms.definition).own_head is None


def test_a_kept_model_has_its_own_layer_also_after_the_mode_was_edited() -> None:
    document = AUTO.model_dump()
    document["algorithm"]["mode"] = "fedapm"
    definition = type(AUTO).model_validate(document)
    kept = ServedModel("kept", TERMS.lattice.to_floats(MODEL), own_head=OWN)
    used = Judge(definition, Kernels()).parameters(kept)
    assert np.array_equal(flatten(used[-2:]), OWN)
