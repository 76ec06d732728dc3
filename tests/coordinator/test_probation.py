"""When a coordinator that has connected may serve, and when there is another one that does."""

from typing import Any

import pytest
from tests.federation_world import small_definition

from plantfed_coordinator.contents import Contents
from plantfed_coordinator.probation import LOOK_S, RIVAL_BACK_S, Probation
from plantfed_coordinator.records import EpochStarted
from plantfed_coordinator.state import FederationState
from plantfed_shared.bus.port import Connected, Disconnected, Received
from plantfed_shared.bus.reconnect import RIVAL_SHORTEST_S
from plantfed_shared.errors import ConfigError
from plantfed_shared.messages import Epoch, Manifest
from plantfed_shared.topics import Topics
from plantfed_shared.wire import encode

TOPICS = Topics("toy")
CUT = Disconnected("the connection broke")


def federation(counter: int = 1, bits: int = 5, k: int = 0) -> FederationState:
    definition = small_definition().to_bytes()
    return FederationState.begin(EpochStarted(Epoch(counter, bits), k, definition, "created"))


def manifest_of(state: FederationState, *, retained: bool = True) -> Received:
    payload = encode(Manifest(offer=Contents().offer(state)))
    return Received(TOPICS.manifest, payload, 1, retained)


class Case:
    """A coordinator on probation, at some time."""

    def __init__(self) -> None:
        self.state, self.now = federation(), 100.0
        self.probation = Probation(TOPICS)

    def take(self, event: Any, *, taken_over: bool = False) -> None:
        self.probation.take(event, self.state, self.now, taken_over=taken_over)

    def serves_after(self, seconds: float) -> bool:
        return self.probation.over(self.now + seconds)


@pytest.fixture
def case() -> Case:
    made = Case()
    made.take(Connected())
    return made


def test_it_waits_for_the_retained_manifest(case: Case) -> None:
    assert not case.serves_after(0.5 * LOOK_S)
    assert case.serves_after(LOOK_S)


def test_its_own_model_or_an_older_one_ends_it_at_once(case: Case) -> None:
    case.take(manifest_of(case.state))
    assert case.serves_after(0.0)
    case.state = federation(counter=2)
    case.take(Connected())
    case.take(manifest_of(federation()))
    assert case.serves_after(0.0)


def test_one_of_another_federation_that_has_not_come_as_far_ends_it_too(case: Case) -> None:
    case.state = federation(k=7)
    case.take(manifest_of(federation(bits=6, k=6)))
    assert case.serves_after(0.0)
    case.take(Connected())
    case.take(manifest_of(federation(bits=6, k=7)))
    assert not case.serves_after(1.0)
    case.take(Connected())
    case.take(manifest_of(federation(counter=2, bits=6, k=6)))
    assert not case.serves_after(1.0)


def test_a_model_it_does_not_know_makes_it_wait_for_the_one_who_made_it(case: Case) -> None:
    case.take(manifest_of(federation(bits=6)))
    assert RIVAL_BACK_S > RIVAL_SHORTEST_S
    assert not case.serves_after(RIVAL_BACK_S - 1)
    assert case.serves_after(RIVAL_BACK_S), "nobody came: it is left over, or of our own past"


@pytest.mark.parametrize("newer", [{"bits": 6}, {"counter": 2}])
def test_who_is_thrown_out_meanwhile_refuses_to_serve(case: Case, newer: dict[str, int]) -> None:
    case.take(manifest_of(federation(**newer)))
    with pytest.raises(ConfigError, match="another coordinator serves this federation"):
        case.take(CUT, taken_over=True)


def test_where_the_broker_gives_no_reason_twice_is_proof(case: Case) -> None:
    case.take(manifest_of(federation(bits=6)))
    case.take(CUT)
    for _ in range(5):
        case.take(CUT)  # attempts in vain prove nothing
    case.take(Connected())
    case.take(manifest_of(federation(bits=6)))
    with pytest.raises(ConfigError, match="another coordinator"):
        case.take(CUT)


def test_two_cuts_far_apart_are_no_proof(case: Case) -> None:
    for _ in range(3):
        case.take(manifest_of(federation(bits=6)))
        case.take(CUT)
        case.take(Connected())
        case.take(manifest_of(federation(bits=6)))
        assert case.serves_after(RIVAL_BACK_S)
        case.take(CUT)
        case.take(Connected())


def test_the_one_that_served_goes_on_however_often_it_is_thrown_out(case: Case) -> None:
    for _ in range(10):
        case.take(manifest_of(case.state))
        case.take(CUT, taken_over=True)
        case.take(Connected())


def test_what_is_no_manifest_is_passed_over(case: Case) -> None:
    case.take(Received(TOPICS.manifest, b"junk", 1, retained=True))
    case.take(manifest_of(federation(bits=6), retained=False))
    assert case.serves_after(LOOK_S)
