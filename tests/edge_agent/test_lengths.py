"""What the next update and model are expected to take, against what they take."""

import numpy as np
import pytest
from tests.federation_world import small_definition

from plantfed_agent.lengths import (
    model_bytes,
    next_update_bytes,
    part_of_keep,
    usual_update_bytes,
)
from plantfed_agent.local_update import after_round
from plantfed_agent.need import Need
from plantfed_agent.state import AgentState, with_changes
from plantfed_agent.training import TrainingOutcome
from plantfed_shared import wire
from plantfed_shared.codec import decode_integers
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.messages import Epoch, ModelName
from plantfed_shared.terms import terms_of
from plantfed_shared.topics import Kind

NAME = ModelName(Epoch(1, 7), 3, 0)


def federation(**compression: object) -> FederationDefinition:
    return small_definition(
        model={"kind": "dense", "hidden": (2000, 2)}, compression=compression, schedule={}
    )


def begun(definition: FederationDefinition) -> AgentState:
    terms = terms_of(definition.to_bytes())
    return AgentState(
        epoch=NAME.epoch,
        incarnation=1,
        definition=definition.to_bytes(),
        model_name=NAME,
        model=terms.initial_model,
    )


def trained(state: AgentState) -> TrainingOutcome:
    terms = terms_of(state.definition)
    assert state.model is not None
    base = terms.lattice.to_floats(state.model)
    shared = base + np.random.default_rng(1).normal(size=base.size, scale=0.01).astype(np.float32)
    head = np.zeros(9, dtype=np.float32)
    return TrainingOutcome(shared, head, 0.1, None, 5, "rows", 0.1)


def update_of(state: AgentState, factor: float = 1.0) -> bytes:
    terms = terms_of(state.definition)
    after = after_round(
        state, terms, trained(state), report_score=False, kept_factor=lambda _: factor
    )
    assert after.outstanding is not None
    return after.outstanding


@pytest.mark.parametrize(
    "compression",
    [
        {"coding": "plain"},
        {"kind": "top-k"},
        {"kind": "top-k", "keep": 0.1, "bits": 8},
        {"kind": "top-k", "keep": 0.002},
        {"kind": "top-k", "coding": "plain"},
    ],
)
def test_an_update_is_about_as_long_as_expected(compression: dict[str, object]) -> None:
    state = begun(federation(**compression))
    assert usual_update_bytes(state) == pytest.approx(len(update_of(state)), rel=0.3, abs=100)


def test_a_dense_update_is_expected_to_take_some_bits_of_each_number() -> None:
    state = begun(federation())
    assert state.model is not None
    assert state.model.size < usual_update_bytes(state) < 2 * state.model.size
    assert model_bytes(state) == usual_update_bytes(state)


def test_before_the_first_model_nothing_is_expected() -> None:
    assert usual_update_bytes(AgentState()) == model_bytes(AgentState()) == 0


def test_a_machine_that_needs_more_is_expected_to_send_more() -> None:
    state = begun(federation(kind="top-k"))
    needy = with_changes(state, need=Need(0.1))
    assert usual_update_bytes(needy) > 2 * usual_update_bytes(state)


def test_the_difference_to_a_model_is_expected_to_hold_what_several_have_sent() -> None:
    definition = small_definition(
        model={"kind": "dense", "hidden": (2000, 2)},
        compression={"kind": "top-k"},
        schedule={"arrivals": 4},
    )
    assert model_bytes(begun(definition)) > 2 * usual_update_bytes(begun(definition))


def test_what_is_outstanding_is_what_comes_next() -> None:
    state = with_changes(begun(federation()), outstanding=b"x" * 17)
    assert next_update_bytes(state, lambda _: 0.5) == 17


def test_only_a_part_of_a_change_that_was_selected_can_be_sent() -> None:
    assert next_update_bytes(begun(federation(kind="top-k")), lambda _: 0.5, 1000) == 500
    assert next_update_bytes(begun(federation()), lambda _: 0.5, 1000) == 1000
    plain = begun(federation(kind="top-k", coding="plain"))
    assert next_update_bytes(plain, lambda _: 0.5, 1000) == 1000


@pytest.mark.parametrize("keep", [0.005, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("factor", [0.9, 0.5, 0.25, 1 / 16])
def test_an_update_takes_no_more_than_the_part_of_its_bytes_that_was_asked_for(
    keep: float, factor: float
) -> None:
    state = begun(federation(kind="top-k", keep=keep, keep_at_most=0.3))
    whole, part = len(update_of(state)), len(update_of(state, factor))
    assert part - 128 <= factor * (whole - 128) * 1.02 + 8
    # nor much less
    assert part > 0.6 * factor * whole or factor < 0.2


def test_at_least_one_value_is_sent() -> None:
    state = begun(federation(kind="top-k", keep=1e-4))
    terms = terms_of(state.definition)
    after = after_round(
        state, terms, trained(state), report_score=False, kept_factor=lambda _: 1 / 16
    )
    assert after.outstanding is not None
    change = decode_integers(wire.decode_own(after.outstanding, Kind.UPDATE).tail, terms.lattice)
    assert np.count_nonzero(change) == 1
    # what the machine needs is not what its link affords
    assert after.need is not None
    assert after.need.keep == 1e-4


def test_a_dense_change_is_sent_whole() -> None:
    state = begun(federation())
    assert update_of(state, 0.1) == update_of(state)


def test_everything_is_everything() -> None:
    assert part_of_keep(1.0) == 1.0
