"""A federation machine, and what it answers to one message at a time."""

from typing import Any

import numpy as np
from tests.federation_world import small_definition
from tests.newcomers import newcomer

from plantfed_coordinator.events import (
    MessageArrived,
    Persist,
    Publish,
)
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import EpochStarted, Record
from plantfed_coordinator.state import FederationState
from plantfed_shared import wire
from plantfed_shared.codec import Coding, encode_integers
from plantfed_shared.lattice import checksum, upper_half
from plantfed_shared.messages import (
    Bye,
    Chunk,
    Code,
    Epoch,
    Hello,
    Message,
    ModelName,
    Need,
    Offer,
    Part,
    State,
    Update,
    Want,
)
from plantfed_shared.topics import Kind, Topics
from plantfed_shared.transfer import WINDOW_BYTES

TOPICS = Topics("toy")
WANT = Want(have=None, window=WINDOW_BYTES, others=0)
KINDS = {
    Hello: Kind.HELLO,
    Update: Kind.UPDATE,
    Want: Kind.WANT,
    Part: Kind.PART,
    Need: Kind.NEED,
    Bye: Kind.BYE,
    Offer: Kind.OFFER,
}


class Desk:
    """A machine, and what it answers to one message at a time."""

    def __init__(self, **changes: Any) -> None:
        self.definition = small_definition(**changes)
        first = EpochStarted(Epoch(1, 5), 0, self.definition.to_bytes(), "created")
        self.records: list[Record] = []
        self.now = 0.0
        state = FederationState.begin(first)
        self.machine = FederationMachine(state, TOPICS, lambda: 77, self.now)
        self.size = state.terms.lattice.size

    @property
    def state(self) -> FederationState:
        return self.machine.state

    def handle(self, event: Any) -> list[tuple[str, Message, bytes]]:
        sent = []
        for action in self.machine.handle(event, self.now):
            match action:
                case Persist(record):
                    self.records.append(record)
                case Publish(topic=topic, payload=payload):
                    address = TOPICS.parse(topic)
                    envelope = wire.decode(payload, address.kind)
                    sent.append((address.agent, envelope.message, bytes(envelope.tail)))
        return sent

    def say(self, agent: str, message: Message, tail: bytes = b"") -> list[Message]:
        kind = Kind.CHUNK if isinstance(message, Chunk) else KINDS[type(message)]
        event = MessageArrived(TOPICS.up(agent, kind), wire.encode(message, tail))
        return [m for to, m, _ in self.handle(event) if to == agent]

    def hello(self, agent: str, **claims: Any) -> Message:
        """Its answer; where it must first be shown that this is no replay, it is."""
        answer = self.say(agent, newcomer(**claims))[0]
        verdict = answer.verdict if isinstance(answer, State) else None
        if verdict is not None and verdict.code is Code.UNPROVEN:
            return self.say(agent, newcomer(**{**claims, "proof": verdict.digest}))[0]
        return answer

    def update(self, agent: str, change: np.ndarray | None = None, **fields: Any) -> Update:
        """A valid update of this agent, except for what ``fields`` say."""
        member = self.state.members[agent]
        change = np.ones(self.size, dtype=np.int64) if change is None else change
        dual = member.contribution.dual + self.state.terms.lattice.relaxed(change)
        name = ModelName(self.state.epoch, self.state.k, checksum(self.state.model))
        values: dict[str, Any] = {
            "base": name,
            "incarnation": member.incarnation,
            "seq": member.last_seq + 1,
            "weight": 1,
            "definition": self.state.terms.digest[:8],
            "dual_check": upper_half(checksum(dual)),
            "score": 0.5,
            "want": 0,
            "others": 0,
        }
        return Update(**{**values, **fields})

    def encode(self, change: np.ndarray) -> bytes:
        return encode_integers(change, self.state.terms.lattice, Coding.ENTROPY)

    def answer(self, agent: str, update: Update, tail: bytes | None = None) -> State:
        tail = self.encode(np.ones(self.size, dtype=np.int64)) if tail is None else tail
        (state,) = [m for m in self.say(agent, update, tail) if isinstance(m, State)]
        return state


def code_of(state: State) -> Code | None:
    return state.verdict.code if state.verdict else None
