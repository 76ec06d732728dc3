"""An agent whose coordinator is the test, message by message."""

import numpy as np
from tests.federation_world import small_definition

from plantfed_agent.agreement import dual_after_outstanding
from plantfed_agent.budget import LinkLimits
from plantfed_agent.events import (
    Action,
    BusConnected,
    HalfFetched,
    MessageArrived,
    Publish,
    RoundDone,
    TimerDue,
    Train,
)
from plantfed_agent.machine import AgentMachine
from plantfed_agent.pace import Pace
from plantfed_agent.state import AgentState
from plantfed_agent.training import TrainingOutcome
from plantfed_shared.codec import Coding, decode_model, encode_integers, encode_model
from plantfed_shared.definition import Schedule
from plantfed_shared.digest import content_digest
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import (
    Chunk,
    Code,
    Content,
    Epoch,
    Group,
    Message,
    ModelName,
    ModelOffer,
    ModelStep,
    Need,
    Range,
    Start,
    State,
    Update,
    Verdict,
    Want,
    Welcome,
)
from plantfed_shared.topics import Kind, Topics
from plantfed_shared.transfer import WINDOW_BYTES
from plantfed_shared.wire import decode, encode

TOPICS = Topics("toy")
WHOLE = Want(have=None, window=WINDOW_BYTES, others=0)
DEFINITION = small_definition(
    model={"hidden": [700, 600]}, compression={"coding": "plain"}, lattice_bits=10
)

SYNCHRONOUS = DEFINITION.model_copy(update={"schedule": Schedule(kind="sync")}).to_bytes()
LATTICE = DEFINITION.lattice()
SIZE = DEFINITION.lattice().size
PIECE = 40_000


KINDS: dict[type[Message], Kind] = {
    Welcome: Kind.WELCOME,
    State: Kind.STATE,
    Chunk: Kind.CHUNK,
    Start: Kind.START,
    Need: Kind.NEED,
    Group: Kind.GROUP,
}


class Line:
    """An agent's machine, and the test in place of the coordinator."""

    def __init__(
        self,
        state: AgentState | None = None,
        definition: bytes | None = None,
        limits: LinkLimits | None = None,
        half: HalfFetched | None = None,
    ) -> None:
        self.definition = DEFINITION.to_bytes() if definition is None else definition
        state = AgentState(definition=DEFINITION.to_bytes()) if state is None else state
        self.machine = AgentMachine("m00", TOPICS, state, Pace(), "test", limits=limits, half=half)
        self.now = 0.0
        self.actions = self.connect()

    def connect(self) -> list[Action]:
        return self.machine.handle(BusConnected(48 * 1024), self.now)

    def hear(self, message: Message, tail: bytes = b"", *, retained: bool = False) -> list[Action]:
        kind = KINDS.get(type(message))
        topic = TOPICS.manifest if kind is None else TOPICS.down("m00", kind)
        event = MessageArrived(topic, encode(message, tail), retained)
        return self.machine.handle(event, self.now)

    def tick(self) -> list[Action]:
        due = self.machine.next_timer()
        assert due is not None
        self.now = max(self.now, due)
        return self.machine.handle(TimerDue(), self.now)

    def offer(self, k: int, counter: int = 1) -> ModelOffer:
        definition = Content(content_digest(self.definition), len(self.definition))
        return ModelOffer(name_of(k, counter), definition, False)

    def welcome(self, k: int, **fields: object) -> Welcome:
        values = {"epoch": Epoch(1, 7), "incarnation": 1, "dual_checksum": 0, "dual": None}
        return Welcome.model_validate({**values, "offer": self.offer(k), **fields})

    def state(self, k: int) -> State:
        """The answer to a HELLO that agrees, or to a NEED that can't be served."""
        return State(
            epoch=Epoch(1, 7),
            incarnation=1,
            last_seq=0,
            last_digest=None,
            dual_checksum=0,
            verdict=None,
            offer=self.offer(k),
        )

    def finish(self, train: Train) -> list[Action]:
        personal = DEFINITION.parameter_specification().personal
        head = np.zeros(sum(p.size for p in personal), dtype=np.float32)
        outcome = TrainingOutcome(train.task.base + 1, head, 0.1, None, 5, "rows", 0.1)
        return self.machine.handle(RoundDone(train.ticket, outcome), self.now)

    def first_update(self, k: int) -> bytes:
        """Fetch a model and train on it; the update that is outstanding then."""
        content = model(k)
        (train,) = [
            a
            for offset in range(0, len(content), PIECE)
            for a in self.send_piece(content, offset)
            if isinstance(a, Train)
        ]
        self.finish(train)
        outstanding = self.machine.state.outstanding
        assert outstanding is not None
        return outstanding

    def verdict(self) -> list[Action]:
        """The outstanding update is applied."""
        outstanding = self.machine.state.outstanding
        assert outstanding is not None
        update = decode(outstanding, Kind.UPDATE)
        assert isinstance(update.message, Update)
        applied = self.state(5).model_copy(
            update={
                "last_seq": update.message.seq,
                "last_digest": update.digest,
                "dual_checksum": dual_after_outstanding(self.machine.state).dual_checksum,
                "verdict": Verdict(update.digest, Code.APPLIED, ""),
                "offer": None,
            }
        )
        return self.hear(applied)

    def send_whole(self, content: bytes) -> None:
        for offset in range(0, len(content), PIECE):
            self.send_piece(content, offset)

    def send_piece(self, content: bytes, offset: int) -> list[Action]:
        chunk = Chunk(content=content_of(content), offset=offset, step=step_of(content))
        return self.hear(chunk, content[offset : offset + PIECE])


def integers_of(k: int) -> np.ndarray:
    integers = np.arange(SIZE, dtype=np.int64) % 1000
    integers[0] = k
    return integers


def name_of(k: int, counter: int = 1) -> ModelName:
    return ModelName(Epoch(counter, 7), k, checksum(integers_of(k)))


def model(k: int, counter: int = 1, base_k: int | None = None) -> bytes:
    base = None if base_k is None else (base_k, integers_of(base_k))
    return encode_model(name_of(k, counter), integers_of(k), LATTICE, Coding.PLAIN, base)


def step_of(content: bytes) -> ModelStep | None:
    """As the coordinator says it; None for a definition or a dual."""
    try:
        return decode_model(content, LATTICE).step
    except PeerError:
        return None


def dual() -> bytes:
    return encode_integers(integers_of(1), LATTICE, Coding.PLAIN)


def content_of(encoded: bytes) -> Content:
    return Content(content_digest(encoded), len(encoded))


def needs(actions: list[Action]) -> list[Need]:
    return [m for m in asked(actions) if isinstance(m, Need)]


def asked(actions: list[Action]) -> list[Message]:
    """What is asked of the coordinator: WANT and NEED."""
    published = [(TOPICS.parse(a.topic).kind, a) for a in actions if isinstance(a, Publish)]
    wanted = (Kind.NEED, Kind.WANT)
    return [decode(a.payload, kind).message for kind, a in published if kind in wanted]


def ranges_of(message: Message) -> tuple[Range, ...]:
    return message.ranges if isinstance(message, Need) else (Range(0, WINDOW_BYTES),)


def hellos(actions: list[Action]) -> int:
    return sum(isinstance(a, Publish) and a.topic.endswith("/hello") for a in actions)


def published(actions: list[Action]) -> list[Publish]:
    return [a for a in actions if isinstance(a, Publish)]
