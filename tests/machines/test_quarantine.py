"""Offences, quarantine, rates, and what somebody who sends old messages again can do."""

from typing import Any

import numpy as np
import pytest
from tests.federation_world import World, small_definition
from tests.machines.coordinator_desk import TOPICS, Desk, code_of
from tests.newcomers import newcomer

from plantfed_coordinator.events import (
    Action,
    Audit,
    Deed,
    MessageArrived,
    OperatorOrder,
    Order,
    Quarantine,
    TimerDue,
)
from plantfed_coordinator.guard import (
    AUDIT_BURST,
    AUDIT_ENTRY_EVERY_S,
    FREE_FROM_BYTES,
    STRANGERS_KNOWN,
)
from plantfed_coordinator.limits import Limits
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import Applied, EpochStarted, IncarnationRaised, Joined
from plantfed_coordinator.state import FederationState
from plantfed_shared import wire
from plantfed_shared.bus.faults import Faults
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.digest import content_digest
from plantfed_shared.messages import (
    Bye,
    Chunk,
    Code,
    Content,
    Epoch,
    Message,
    Offer,
    State,
    Status,
    Welcome,
)
from plantfed_shared.topics import Kind
from plantfed_shared.wire import KIND_CODES, VERSION

LIMITS = Limits()


def sealed(kind: Kind, header: bytes, tail: bytes = b"") -> bytes:
    """Bytes with a right checksum around whatever header."""
    prefix = b"PF" + bytes([VERSION, KIND_CODES[kind]]) + len(header).to_bytes(2, "little")
    body = prefix + b"\0" + header + tail
    return body + wire._digest(body)


OFFENCE = sealed(Kind.BYE, b"\x91\xc0")


class Gate(Desk):
    """A desk that keeps what the machine asks for besides messages."""

    def __init__(self, *members: str, **changes: Any) -> None:
        super().__init__(**changes)
        self.now = 1000.0
        self.asked: list[Action] = []
        for member in members:
            self.hello(member)

    def handle(self, event: Any) -> list[tuple[str, Message, bytes]]:
        machine, collect = self.machine, self.asked

        class Recorder:
            state = machine.state
            handle = staticmethod(
                lambda e, now: [collect.append(a) or a for a in machine.handle(e, now)]  # type: ignore[func-returns-value]
            )

        self.machine = Recorder()  # type: ignore[assignment]
        try:
            return super().handle(event)
        finally:
            self.machine = machine

    def raw(self, agent: str, kind: Kind, payload: bytes) -> list[Message]:
        sent = self.handle(MessageArrived(TOPICS.up(agent, kind), payload))
        return [message for to, message, _ in sent if to == agent]

    def offend(self, agent: str, times: int = 1) -> Message:
        for _ in range(times):
            *_, last = self.raw(agent, Kind.BYE, OFFENCE)
        return last

    def entries(self, *deeds: Deed) -> list[Audit]:
        found = [a for a in self.asked if isinstance(a, Audit)]
        return [a for a in found if not deeds or a.deed in deeds]


def test_more_offences_than_are_put_up_with_end_in_quarantine() -> None:
    gate = Gate("a", "b")
    model = gate.state.model
    last = gate.offend("a", LIMITS.offences)
    assert code_of(last) is Code.REJECTED  # type: ignore[arg-type]
    assert gate.entries(Deed.QUARANTINED) == []
    gate.offend("a")
    (entry,) = gate.entries(Deed.QUARANTINED)
    assert entry.agent == "a"
    assert "after 11 offences" in entry.text
    assert Quarantine("a", entry.text) in gate.asked
    # its sound update is answered with the reason, and changes nothing
    answer = gate.answer("a", gate.update("a"))
    assert code_of(answer) is Code.QUARANTINED
    assert answer.verdict is not None
    assert "after 11 offences" in answer.verdict.reason
    assert not [r for r in gate.records if isinstance(r, Applied)]
    assert gate.state.model is model
    # the others go on
    assert code_of(gate.answer("b", gate.update("b"))) is Code.APPLIED


def test_offences_are_forgiven_with_time() -> None:
    gate = Gate("a")
    for _ in range(3):
        gate.offend("a", LIMITS.offences)
        gate.now += LIMITS.offences * LIMITS.forgive_one_after_s
    assert gate.entries(Deed.QUARANTINED) == []
    gate.offend("a", LIMITS.offences + 1)
    assert len(gate.entries(Deed.QUARANTINED)) == 1


def test_leaving_and_joining_again_wipes_nothing_out() -> None:
    gate = Gate("a")
    gate.offend("a", LIMITS.offences)
    gate.say("a", Bye(incarnation=gate.state.members["a"].incarnation))
    assert "a" not in gate.state.members
    gate.hello("a")
    gate.offend("a")
    assert len(gate.entries(Deed.QUARANTINED)) == 1


def test_a_release_ends_it_and_a_restart_does_not() -> None:
    gate = Gate("a")
    gate.offend("a", LIMITS.offences + 1)
    (why,) = [a.reason for a in gate.asked if isinstance(a, Quarantine)]
    assert why is not None
    gate.machine = FederationMachine(
        gate.state, TOPICS, lambda: 77, gate.now, quarantined={"a": why}
    )
    assert code_of(gate.answer("a", gate.update("a"))) is Code.QUARANTINED
    sent = gate.handle(OperatorOrder(Order.RELEASE, "a"))
    assert [(to, code_of(m)) for to, m, _ in sent] == [("a", Code.UNKNOWN_MEMBER)]  # type: ignore[arg-type]
    assert Quarantine("a", None) in gate.asked
    assert code_of(gate.answer("a", gate.update("a"))) is Code.APPLIED


def test_nobody_in_quarantine_is_drawn_for_a_round() -> None:
    schedule = {**small_definition().schedule.model_dump(), "kind": "sync", "participation": 1.0}
    gate = Gate("a", "b", schedule=schedule)
    opened = gate.state.round
    assert opened is not None
    gate.offend("a", LIMITS.offences + 1)
    gate.now += schedule["deadline_s"]
    gate.handle(TimerDue())
    opened = gate.state.round
    assert opened is not None
    assert opened.drawn == ("b",)
    gate.offend("b", LIMITS.offences + 1)
    gate.now += schedule["deadline_s"]
    gate.handle(TimerDue())  # nobody is left to draw


# ---------------------------------------------------------------------- what is no offence


def damaged() -> bytes:
    return OFFENCE[:-1] + bytes([OFFENCE[-1] ^ 1])


def test_damage_and_other_versions_are_no_offence_and_get_no_verdict() -> None:
    gate = Gate("a")
    for payload in (b"", b"\0", damaged(), b"PF" + bytes([VERSION + 1]) + OFFENCE[3:], b"{}"):
        for _ in range(LIMITS.offences + 1):
            assert gate.raw("a", Kind.BYE, payload) == []
    assert gate.entries(Deed.QUARANTINED, Deed.OFFENCE) == []
    assert gate.machine.presence["a"].rejected == 5 * (LIMITS.offences + 1)


def test_duplicates_stale_updates_and_diverging_numbers_are_no_offence() -> None:
    algorithm = {**small_definition().algorithm.model_dump(), "max_norm": 1e-9}
    gate = Gate("a", algorithm=algorithm)
    gate.machine.state.terms.definition  # noqa: B018 - it has one
    stale = gate.update("a", base=gate.update("a").base._replace(k=gate.state.k + 0, checksum=1))
    for _ in range(2 * LIMITS.offences):
        assert code_of(gate.answer("a", gate.update("a"))) is Code.REJECTED  # max_norm
        gate.say("a", gate.update("a", seq=7), gate.encode(np.ones(gate.size, dtype=np.int64)))
        gate.say("a", gate.update("a", incarnation=0), b"")
    assert stale.base.checksum == 1
    assert gate.entries(Deed.QUARANTINED, Deed.OFFENCE) == []


@pytest.mark.parametrize("seed", range(4))
def test_no_network_makes_an_honest_agent_an_offender(seed: int) -> None:
    faults = Faults(
        drop=0.05, duplicate=0.2, reorder=0.2, corrupt=0.1, replay=0.1, delay_s=(0.01, 0.5)
    )
    world = World(small_definition(), seed=seed, faults=faults, crash_probability=0.01)
    world.run(600)
    assert len(world.applied()) > 50
    assert {line.kind for line in world.coordinator.audit} & set(Deed) == {
        Deed.REFUSED,
        Deed.SET_ASIDE,
    }


def test_a_quarantine_survives_the_end_of_the_coordinator() -> None:
    world = World(small_definition())
    world.run(30)
    name = sorted(world.agents)[0]
    offence = MessageArrived(world.topics.up(name, Kind.BYE), OFFENCE)
    for _ in range(LIMITS.offences + 1):
        world.coordinator.handle(offence)
    assert sorted(world.coordinator.quarantined) == [name]
    assert [line.kind for line in world.coordinator.audit].count(Deed.QUARANTINED) == 1
    world.simulation.kill(world.coordinator, 1.0)
    applied = len(world.applied())
    world.run(120)
    assert {record.agent for record in world.applied()[applied:]} == set(world.agents) - {name}
    world.coordinator.handle(OperatorOrder(Order.RELEASE, name))
    assert world.coordinator.quarantined == {}
    applied = len(world.applied())
    world.run(120)
    assert name in {record.agent for record in world.applied()[applied:]}


# ---------------------------------------------------------------------- rates and memory


def test_more_messages_than_are_looked_at_are_dropped_and_become_offences() -> None:
    gate = Gate("a", "b")
    status = wire.encode(Status(online=True, software="x"))
    looked_at = 0
    for i in range(30_000):  # 1,000 a second
        gate.now = 1000.0 + i / 1000
        before = gate.machine.presence["a"].rejected
        gate.handle(MessageArrived(TOPICS.status("a"), status))
        looked_at += gate.machine.presence["a"].rejected == before
    wanted = LIMITS.burst_messages + 30 * LIMITS.messages_per_s
    assert wanted * 0.98 <= looked_at <= wanted
    assert gate.machine.presence["a"].rejected == 30_000 - looked_at
    assert 2 <= len(gate.entries(Deed.OFFENCE)) <= 4
    assert len(gate.entries()) == len(gate.entries(Deed.OFFENCE))
    assert code_of(gate.answer("b", gate.update("b"))) is Code.APPLIED
    for _ in range(30_000):
        gate.now += 0.005
        gate.handle(MessageArrived(TOPICS.status("a"), status))
    assert len(gate.entries(Deed.QUARANTINED)) == 1


def test_a_flood_leaves_few_entries_that_count_all_of_it() -> None:
    gate = Gate("a")
    for _ in range(500):
        gate.raw("a", Kind.BYE, damaged())
    assert len(gate.entries()) == AUDIT_BURST
    gate.now = gate.machine.next_timer()
    while not any(e.count > 1 for e in gate.entries()):
        gate.handle(TimerDue())
        gate.now = gate.machine.next_timer()
    assert gate.now <= 1000.0 + 2 * AUDIT_ENTRY_EVERY_S
    assert sum(e.count for e in gate.entries()) == 500


def test_made_up_names_share_their_entries_and_little_is_remembered() -> None:
    gate = Gate("a")
    for i in range(3 * STRANGERS_KNOWN):
        gate.raw(f"x{i}", Kind.BYE, OFFENCE)
    assert len(gate.entries()) == AUDIT_BURST
    assert len(gate.machine._guard._strangers) <= STRANGERS_KNOWN
    assert gate.entries(Deed.QUARANTINED) == []


def test_a_message_longer_than_any_is_refused_unread() -> None:
    gate = Gate("a")
    (answer,) = gate.raw("a", Kind.UPDATE, bytes(MAX_MESSAGE_BYTES + 1))
    assert code_of(answer) is Code.REJECTED  # type: ignore[arg-type]
    assert "too many for a message" in gate.entries()[-1].text


@pytest.mark.parametrize(
    "topic",
    [
        TOPICS.down("a", Kind.NEED),
        TOPICS.lane(1, 2),
        "plantfed/v1/other/a/up/hello",
        "plantfed/v1/toy/../up/hello",
        "plantfed/v1/toy/a'; DROP TABLE journal;--/up/hello",
        "plantfed/v1/toy/a/up/hello\0",
        "plantfed/v1/toy/A/up/hello",
    ],
)
def test_what_is_not_for_the_coordinator_is_refused(topic: str) -> None:
    gate = Gate("a")
    assert gate.handle(MessageArrived(topic, wire.encode(newcomer()))) == []
    assert len(gate.entries(Deed.REFUSED)) == 1


# ---------------------------------------------------------------------- old messages, sent again


def test_an_old_hello_sent_again_takes_nothing_from_a_healthy_agent() -> None:
    gate = Gate()
    old = wire.encode(newcomer())
    gate.raw("a", Kind.HELLO, old)
    assert code_of(gate.answer("a", gate.update("a"))) is Code.APPLIED
    for _ in range(5):
        (answer,) = gate.raw("a", Kind.HELLO, old)
        assert code_of(answer) is Code.UNPROVEN  # type: ignore[arg-type]
    assert not [r for r in gate.records if isinstance(r, IncarnationRaised)]
    assert code_of(gate.answer("a", gate.update("a"))) is Code.APPLIED


def test_a_proof_is_good_for_one_incarnation() -> None:
    gate = Gate("a")
    (asked,) = gate.raw("a", Kind.HELLO, wire.encode(newcomer()))
    assert isinstance(asked, State)
    assert asked.verdict is not None
    proven = wire.encode(newcomer(proof=asked.verdict.digest))
    (welcome,) = gate.raw("a", Kind.HELLO, proven)
    assert isinstance(welcome, Welcome)
    (again,) = gate.raw("a", Kind.HELLO, proven)
    assert code_of(again) is Code.UNPROVEN  # type: ignore[arg-type]
    assert len([r for r in gate.records if isinstance(r, IncarnationRaised)]) == 1


def test_an_old_hello_does_not_bring_back_who_has_left() -> None:
    gate = Gate()
    old = wire.encode(newcomer())
    gate.raw("a", Kind.HELLO, old)
    gate.say("a", Bye(incarnation=1))
    gate.raw("a", Kind.HELLO, old)
    assert "a" not in gate.state.members
    assert isinstance(gate.hello("a"), Welcome)


def test_one_agent_begins_no_epoch_with_every_message() -> None:
    gate = Gate("a", "b")
    for i in range(50):
        ahead = Epoch(gate.state.epoch.counter + 1, i)
        gate.hello("a", epoch=ahead, incarnation=1)
    begun = [r for r in gate.records if isinstance(r, EpochStarted)]
    assert len(begun) == 2
    # another one's proof is believed all the same
    gate.hello("b", epoch=Epoch(gate.state.epoch.counter + 5, 1), incarnation=1)
    assert len([r for r in gate.records if isinstance(r, EpochStarted)]) == 3


def test_made_up_names_begin_no_epoch_with_every_message() -> None:
    gate = Gate("a")
    for i in range(50):
        gate.hello(f"x{i}", epoch=Epoch(gate.state.epoch.counter + 1, i), incarnation=1)
    assert len([r for r in gate.records if isinstance(r, EpochStarted)]) == 2


def test_joins_of_one_agent_are_bounded() -> None:
    gate = Gate("a")
    for _ in range(100):
        gate.hello("a")
    rows = [r for r in gate.records if isinstance(r, IncarnationRaised | Joined)]
    assert len(rows) == 20


def gate_with(**limits: Any) -> Gate:
    first = EpochStarted(Epoch(1, 5), 0, small_definition().to_bytes(), "created")
    state = FederationState.begin(first)
    gate = Gate()
    gate.machine = FederationMachine(state, TOPICS, lambda: 77, gate.now, limits=Limits(**limits))
    gate.hello("a")
    return gate


def test_chunks_that_were_asked_for_are_free() -> None:
    gate = gate_with(messages_per_s=1, burst_messages=4)
    encoded = wire.encode(gate.update("a"), b"\0" + bytes(5 * FREE_FROM_BYTES))
    content = Content(content_digest(encoded), len(encoded))
    limit = "plantfed_coordinator.machine.UPDATE_ENVELOPE_BYTES"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limit, len(encoded))
        gate.say("a", Offer(content=content))
    for at in range(0, len(encoded), FREE_FROM_BYTES):
        piece = encoded[at : at + FREE_FROM_BYTES]
        last = gate.say("a", Chunk(content=content, offset=at, step=None), piece)
    # all of it was taken, and the update in it looked at
    assert code_of(last[-1]) is Code.REJECTED  # type: ignore[arg-type]
    assert any("update 1 rejected" in e.text for e in gate.entries())


def test_chunks_of_single_bytes_are_not() -> None:
    gate = gate_with(messages_per_s=1, burst_messages=5)
    encoded = wire.encode(gate.update("a"), gate.encode(np.ones(gate.size, dtype=np.int64)))
    content = Content(content_digest(encoded), len(encoded))
    gate.say("a", Offer(content=content))
    for i, byte in enumerate(encoded):
        gate.say("a", Chunk(content=content, offset=i, step=None), bytes([byte]))
    assert not [r for r in gate.records if isinstance(r, Applied)]
    assert "more than 1 messages a second" in gate.entries(Deed.OFFENCE)[-1].text


def test_updates_are_bounded_by_the_numbers_they_stand_for() -> None:
    gate = gate_with(numbers_per_s=1.0)
    gate.machine._guard._record("a", gate.now).work.spend(3.0, gate.now)
    assert code_of(gate.answer("a", gate.update("a"))) is Code.APPLIED  # one number was left
    ones = gate.encode(np.ones(gate.size, dtype=np.int64))
    assert gate.say("a", gate.update("a"), ones) == []
    assert "more than 1 numbers a second" in gate.entries(Deed.REFUSED)[-1].text
    gate.now += gate.size
    assert code_of(gate.answer("a", gate.update("a"))) is Code.APPLIED
    assert gate.entries(Deed.OFFENCE) == []


def test_nobody_can_use_an_agents_incarnations_up() -> None:
    gate = Gate("a")
    welcome = gate.hello("a", epoch=gate.state.epoch, incarnation=2**31 - 1)
    assert isinstance(welcome, Welcome)
    assert welcome.incarnation == 2
    assert not [r for r in gate.records if isinstance(r, EpochStarted)]
    newcomer = gate.hello("b", incarnation=2**31 - 1)
    assert isinstance(newcomer, Welcome)
    assert newcomer.incarnation == 1
