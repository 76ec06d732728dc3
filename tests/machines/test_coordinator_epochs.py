"""Epochs: a lost future, an absurd one, and settings that were edited."""

import numpy as np
import pytest
from tests.federation_world import of_mode, small_definition
from tests.machines.coordinator_desk import TOPICS, Desk, code_of
from tests.newcomers import newcomer

from plantfed_coordinator.admission import MAX_EPOCH_LEAD
from plantfed_coordinator.events import MessageArrived, OperatorOrder, Order
from plantfed_coordinator.records import EpochStarted, Joined
from plantfed_coordinator.state import FederationState
from plantfed_shared import wire
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.messages import (
    Code,
    Epoch,
    Manifest,
    ModelName,
    Welcome,
)


def test_an_update_from_a_lost_future_begins_a_new_epoch() -> None:
    desk = Desk()
    desk.hello("a")
    answer = desk.answer("a", desk.update("a", seq=7))
    assert code_of(answer) is Code.GAP
    assert answer.epoch == Epoch(2, 77)


@pytest.mark.parametrize("counter", [2**32 - 1, 2**31, 2**31 - 1, 2**16 + 1, 1 + MAX_EPOCH_LEAD])
@pytest.mark.parametrize(
    "newest", [None, ModelName(Epoch(1, 5), 9, 1), ModelName(Epoch(2, 1), 0, 0)]
)
def test_an_absurd_epoch_is_not_followed(counter: int, newest: ModelName | None) -> None:
    desk = Desk()
    desk.hello("a", epoch=Epoch(counter, 1), incarnation=3, newest=newest)
    assert desk.state.epoch.counter <= 3
    desk.hello("b")


def test_a_member_that_lies_moves_the_epoch_slowly() -> None:
    """Two steps of 1,024 and then one in ten minutes: 2**31 is some forty years away."""
    desk = Desk()
    desk.hello("a")
    reached = [1]
    for times in range(4):
        desk.now = times * 600.0
        for _ in range(9):
            ahead = Epoch(desk.state.epoch.counter + MAX_EPOCH_LEAD - 1, 5)
            desk.hello("a", epoch=ahead, incarnation=1)
        reached.append(desk.state.epoch.counter)
    assert reached == [1 + 1024 * steps for steps in (0, 2, 3, 4, 5)]
    assert 2**31 / MAX_EPOCH_LEAD / (6 * 24 * 365) > 39


@pytest.mark.parametrize("incarnation", [2**31 - 1, 2**31, 2**32 - 1])
def test_an_absurd_incarnation_stops_nothing(incarnation: int) -> None:
    desk = Desk()
    for _ in range(2):
        desk.say("a", newcomer(epoch=Epoch(1, 5), incarnation=min(incarnation, 2**31 - 1)))
    model = newcomer(epoch=Epoch(1, 5)).model_copy(update={"incarnation": incarnation})
    desk.say("c", model)
    assert isinstance(desk.hello("b"), Welcome)


def test_a_hello_from_a_lost_future_begins_a_new_epoch() -> None:
    for claims in (
        {"incarnation": 1, "applied_seq": 4},
        {"incarnation": 2},
        {"incarnation": 1, "newest": ModelName(Epoch(1, 5), 3, 1)},
        {"incarnation": 1, "newest": ModelName(Epoch(1, 5), 0, 1)},
        {"incarnation": 1, "epoch": Epoch(1, 6)},
        {"incarnation": 1, "epoch": Epoch(4, 6)},
    ):
        desk = Desk()
        desk.hello("a")
        desk.hello("a", **{"epoch": Epoch(1, 5), **claims})
        seen = claims.get("epoch", Epoch(1, 5))
        assert isinstance(seen, Epoch)
        assert desk.state.epoch == Epoch(seen.counter + 1, 77), claims


def test_edited_settings_start_an_epoch_and_duals_follow_rho() -> None:
    desk = Desk()
    desk.hello("a")
    desk.answer(
        "a",
        desk.update("a", np.full(desk.size, 8, dtype=np.int64)),
        desk.encode(np.full(desk.size, 8, dtype=np.int64)),
    )
    z_before = desk.state.members["a"].contribution.z.copy()
    algorithm = {**desk.definition.algorithm.model_dump(), "penalty": 0.4}
    edited = small_definition(algorithm=algorithm).to_bytes()
    desk.machine.start_epoch(edited, "settings were edited")
    contribution = desk.state.members["a"].contribution
    assert (contribution.dual == 4).all()  # rho doubled, so w = pi / rho is halved
    assert (contribution.z == z_before - 4).all()
    assert isinstance(desk.hello("a", epoch=Epoch(1, 5), incarnation=1, applied_seq=1), Welcome)


def test_a_finer_lattice_keeps_every_number() -> None:
    desk = Desk()
    desk.hello("a")
    desk.answer("a", desk.update("a"))
    before = desk.state.terms.lattice.to_floats(desk.state.model)
    z_before = desk.state.terms.lattice.to_floats(desk.state.members["a"].contribution.z)
    desk.machine.start_epoch(small_definition(lattice_bits=20).to_bytes(), "finer")
    lattice = desk.state.terms.lattice
    assert (lattice.to_floats(desk.state.model) == before).all()
    assert (lattice.to_floats(desk.state.members["a"].contribution.z) == z_before).all()


def test_settings_of_a_federation_that_shares_nothing_may_be_edited() -> None:
    def local(bits: int) -> FederationDefinition:
        personal = {"personal": ("*",), "algorithm": {"mode": "local"}, "lattice_bits": bits}
        document = small_definition().model_dump()
        return FederationDefinition.model_validate(document | personal)

    state = FederationState.begin(EpochStarted(Epoch(1, 5), 0, local(16).to_bytes(), "created"))
    state.apply(Joined("a", 1))
    state.apply(EpochStarted(Epoch(2, 5), 1, local(20).to_bytes(), "settings were edited"))
    assert (state.epoch.counter, list(state.members), state.model.size) == (2, ["a"], 0)


def test_only_a_retained_manifest_is_proof_of_a_newer_past() -> None:
    """One that comes later is from a second coordinator that runs now."""
    for retained in (True, False):
        desk = Desk()
        offer = desk.machine._desk.contents.offer(desk.state)
        for k, counter in ((0, 1), (5, 1)):
            seen = offer._replace(name=ModelName(Epoch(counter, 5), k, offer.name.checksum))
            payload = wire.encode(Manifest(offer=seen))
            desk.handle(MessageArrived(TOPICS.manifest, payload, retained))
        assert desk.state.epoch == (Epoch(2, 77) if retained else Epoch(1, 5))
        assert desk.state.k == (1 if retained else 0)


def test_an_agent_that_was_removed_proves_nothing() -> None:
    desk = Desk()
    desk.hello("a")
    desk.handle(OperatorOrder(Order.REMOVE, "a"))
    desk.hello("a", epoch=Epoch(9, 9), incarnation=7)
    assert desk.state.epoch == Epoch(1, 5)


@pytest.mark.parametrize("mode", ["fedapm", "fedalt", "fedbuff", "fedasync", "auto"])
def test_what_was_applied_and_not_released_is_in_the_new_epoch(mode: str) -> None:
    desk = Desk(**of_mode(mode).model_dump(include={"algorithm", "personal"}))
    for agent in "abc":
        desk.hello(agent)
    before = desk.state.model
    has_duals = desk.definition.algorithm.has_duals
    update = desk.update("a", **({} if has_duals else {"dual_check": 0}))
    assert code_of(desk.answer("a", update)) is Code.APPLIED
    assert desk.state.k == 0
    wanted = desk.state.next_model()
    assert (wanted != before).any()
    edited = of_mode(mode, lattice_bits=16, schedule={"arrivals": 3})
    desk.machine.start_epoch(edited.to_bytes(), "settings were edited")
    assert (desk.state.model == wanted).all()
    assert desk.state.epoch.counter == 2
