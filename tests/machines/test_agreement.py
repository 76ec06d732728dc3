"""What the agent makes of the coordinator's row: pure judgements, each condition by itself."""

from dataclasses import replace

import numpy as np
import pytest
from tests.federation_world import small_definition

from plantfed_agent.agreement import (
    Agreement,
    Standing,
    accepts_welcome,
    agreement,
    dual_after_outstanding,
    standing_of_epoch,
    standing_of_model,
)
from plantfed_agent.local_update import after_round
from plantfed_agent.state import AgentState
from plantfed_agent.training import TrainingOutcome
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Content, Epoch, ModelName, ModelOffer, State, Welcome
from plantfed_shared.terms import terms_of
from plantfed_shared.wire import envelope_digest

DEFINITION = small_definition()
SIZE = DEFINITION.lattice().size
NAME = ModelName(Epoch(3, 7), 5, 1)


def with_outstanding() -> AgentState:
    """Seven updates were applied, the eighth is on its way."""
    state = AgentState(
        epoch=NAME.epoch,
        incarnation=2,
        applied_seq=7,
        newest=NAME,
        definition=DEFINITION.to_bytes(),
        dual=np.arange(SIZE, dtype=np.int64),
        model=np.zeros(SIZE, dtype=np.int64),
        model_name=NAME,
    )
    outcome = TrainingOutcome(
        np.full(SIZE, 0.5, dtype=np.float32), np.zeros(9, dtype=np.float32), 0.1, None, 5, "", 0.1
    )
    return after_round(state, terms_of(DEFINITION.to_bytes()), outcome, report_score=False)


BEFORE = with_outstanding()
AFTER = dual_after_outstanding(BEFORE)


def row(**changes: object) -> State:
    """The coordinator's, which has applied the outstanding update."""
    assert BEFORE.outstanding is not None
    fields: dict[str, object] = {
        "epoch": NAME.epoch,
        "incarnation": 2,
        "last_seq": 8,
        "last_digest": envelope_digest(BEFORE.outstanding),
        "dual_checksum": AFTER.dual_checksum,
        "verdict": None,
        "offer": None,
    }
    return State.model_validate({**fields, **changes})


def test_an_applied_update_moves_dual_and_sequence_and_nothing_else() -> None:
    assert (AFTER.applied_seq, AFTER.outstanding) == (8, None)
    assert AFTER.dual is not None
    assert BEFORE.dual is not None
    assert (AFTER.dual - BEFORE.dual == 2**15).all()
    assert AFTER.head is BEFORE.head


def test_the_row_agrees_before_or_after_the_outstanding_update() -> None:
    assert agreement(BEFORE, row()) is Agreement.APPLIED
    assert agreement(AFTER, row()) is Agreement.AGREES
    behind = row(last_seq=7, last_digest=1, dual_checksum=BEFORE.dual_checksum)
    assert agreement(BEFORE, behind) is Agreement.AGREES


@pytest.mark.parametrize(
    "changes",
    [
        {"incarnation": 1},
        {"incarnation": 3},
        {"last_seq": 9},
        {"last_seq": 6},
        {"last_digest": 1},
        {"last_digest": None},
        {"dual_checksum": 0},
        {"dual_checksum": BEFORE.dual_checksum},
        {"last_seq": 7},
    ],
)
def test_whatever_differs_is_no_agreement(changes: dict[str, object]) -> None:
    assert agreement(BEFORE, row(**changes)) is Agreement.DISAGREES


def test_without_an_incarnation_nothing_agrees() -> None:
    empty = row(incarnation=0, last_seq=0, last_digest=None, dual_checksum=0)
    assert agreement(AgentState(), empty) is Agreement.DISAGREES


def test_a_dual_that_does_not_fit_the_update_is_noticed() -> None:
    assert BEFORE.dual is not None
    with pytest.raises(ValueError, match="dual on disk"):
        dual_after_outstanding(replace(BEFORE, dual=BEFORE.dual + 1))


@pytest.mark.parametrize(
    ("epoch", "standing"),
    [
        (Epoch(3, 7), Standing.SAME),
        (Epoch(3, 8), Standing.TWIN),
        (Epoch(4, 1), Standing.NEWER),
        (Epoch(2, 9), Standing.OLDER),
    ],
)
def test_epochs_are_ordered_by_their_counter(epoch: Epoch, standing: Standing) -> None:
    assert standing_of_epoch(BEFORE, epoch) is standing
    assert standing_of_epoch(AgentState(), epoch) is Standing.NEWER
    assert standing_of_model(BEFORE, ModelName(epoch, 5, 1)) is standing


@pytest.mark.parametrize(
    ("k", "content", "standing"),
    [
        (5, 1, Standing.SAME),
        (5, 2, Standing.TWIN),
        (6, 1, Standing.NEWER),
        (4, 1, Standing.OLDER),
    ],
)
def test_models_of_an_epoch_are_ordered_by_their_number(
    k: int, content: int, standing: Standing
) -> None:
    assert standing_of_model(BEFORE, ModelName(NAME.epoch, k, content)) is standing


@pytest.mark.parametrize(
    ("epoch", "incarnation", "accepted"),
    [
        (NAME.epoch, 3, True),
        (Epoch(4, 1), 3, True),
        (NAME.epoch, 2, False),
        (NAME.epoch, 1, False),
        (Epoch(4, 1), 2, False),
        (Epoch(2, 1), 3, False),
        (Epoch(3, 8), 3, False),
    ],
)
def test_a_welcome_counts_only_once_and_never_from_the_past(
    epoch: Epoch, incarnation: int, accepted: bool
) -> None:
    content = Content(bytes(16), 1)
    welcome = Welcome(
        epoch=epoch,
        incarnation=incarnation,
        dual_checksum=checksum(np.zeros(1, dtype=np.int64)),
        dual=None,
        offer=ModelOffer(ModelName(epoch, 9, 0), content, False),
    )
    assert accepts_welcome(BEFORE, welcome) is accepted
