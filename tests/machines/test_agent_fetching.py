"""What an agent fetches, message by message: cut links, thin links, contents that are not right."""

import numpy as np
from tests.federation_world import small_definition

from plantfed_agent.events import (
    Action,
    BusConnected,
    BusDisconnected,
    MessageArrived,
    Note,
    Publish,
    TimerDue,
    Train,
)
from plantfed_agent.machine import AgentMachine
from plantfed_agent.pace import Pace
from plantfed_agent.state import AgentState
from plantfed_shared.codec import encode_dense, encode_model
from plantfed_shared.definition import content_digest
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import (
    Chunk,
    Content,
    Epoch,
    Manifest,
    Message,
    ModelName,
    ModelOffer,
    Need,
    Range,
    State,
    Welcome,
)
from plantfed_shared.topics import Kind, Topics
from plantfed_shared.transfer import WINDOW_BYTES
from plantfed_shared.wire import decode, encode

TOPICS = Topics("toy")
DEFINITION = small_definition(model={"hidden": [700, 600]})
SIZE = DEFINITION.lattice().size
PIECE = 40_000


class Line:
    """An agent's machine, and the test in place of the coordinator."""

    def __init__(self, state: AgentState | None = None, definition: bytes | None = None) -> None:
        self.definition = DEFINITION.to_bytes() if definition is None else definition
        state = AgentState(definition=DEFINITION.to_bytes()) if state is None else state
        self.machine = AgentMachine("m00", TOPICS, state, Pace(), "test")
        self.now = 0.0
        self.connect()

    def connect(self) -> list[Action]:
        return self.machine.handle(BusConnected(48 * 1024), self.now)

    def hear(self, message: Message, tail: bytes = b"") -> list[Action]:
        kind = {Welcome: Kind.WELCOME, State: Kind.STATE, Chunk: Kind.CHUNK}.get(type(message))
        topic = TOPICS.manifest if kind is None else TOPICS.down("m00", kind)
        return self.machine.handle(MessageArrived(topic, encode(message, tail)), self.now)

    def tick(self) -> list[Action]:
        due = self.machine.next_timer()
        assert due is not None
        self.now = max(self.now, due)
        return self.machine.handle(TimerDue(), self.now)

    def offer(self, k: int, counter: int = 1) -> ModelOffer:
        content = self.model(k, counter)
        definition = Content(content_digest(self.definition), len(self.definition))
        return ModelOffer(
            name_of(k, counter), Content(content_digest(content), len(content)), definition, False
        )

    def model(self, k: int, counter: int = 1) -> bytes:
        return encode_model(name_of(k, counter), integers_of(k))

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

    def send_piece(self, content: bytes, offset: int) -> list[Action]:
        chunk = Chunk(digest=content_digest(content), offset=offset)
        return self.hear(chunk, content[offset : offset + PIECE])


def integers_of(k: int) -> np.ndarray:
    integers = np.arange(SIZE, dtype=np.int64) % 1000
    integers[0] = k
    return integers


def name_of(k: int, counter: int = 1) -> ModelName:
    return ModelName(Epoch(counter, 7), k, checksum(integers_of(k)))


def needs(actions: list[Action]) -> list[Need]:
    sent = [a for a in actions if isinstance(a, Publish) and a.topic.endswith("/need")]
    messages = [decode(a.payload, Kind.NEED).message for a in sent]
    return [m for m in messages if isinstance(m, Need)]


def hellos(actions: list[Action]) -> int:
    return sum(isinstance(a, Publish) and a.topic.endswith("/hello") for a in actions)


def test_a_model_half_here_is_finished_after_a_cut_although_there_is_a_newer_one() -> None:
    """On a link that is cut more often than a model takes to cross it, nothing else ever ends."""
    line = Line()
    (need,) = needs(line.hear(line.welcome(5)))
    content = line.model(5)
    assert need == Need(digest=content_digest(content), ranges=(Range(0, WINDOW_BYTES),))
    line.send_piece(content, 0)
    line.machine.handle(BusDisconnected(), line.now)
    line.now += 60
    line.connect()
    line.hear(line.state(6))
    line.hear(Manifest(offer=line.offer(7)))
    assert line.machine.link == "joined"
    rest = Range(PIECE, PIECE + WINDOW_BYTES)
    assert needs(line.tick()) == [Need(digest=content_digest(content), ranges=(rest,))]
    actions = [a for o in range(PIECE, len(content), PIECE) for a in line.send_piece(content, o)]
    (train,) = [a for a in actions if isinstance(a, Train)]
    assert line.machine.state.model_name == name_of(5)
    assert train.task.seq == 1


def test_a_model_that_is_gone_is_given_up_for_the_newest() -> None:
    line = Line()
    line.hear(line.welcome(5))
    line.send_piece(line.model(5), 0)
    (need,) = needs(line.hear(line.state(6)))
    assert need.digest == content_digest(line.model(6))


def test_a_model_of_an_epoch_that_is_over_is_given_up_at_once() -> None:
    line = Line()
    line.hear(line.welcome(5))
    line.send_piece(line.model(5), 0)
    line.hear(Manifest(offer=line.offer(6, counter=2)))
    assert line.machine.link == "joining"
    answer = line.state(6).model_copy(update={"epoch": Epoch(2, 7), "offer": line.offer(6, 2)})
    (need,) = needs(line.hear(answer))
    assert need.digest == content_digest(line.model(6, 2))


def test_no_hello_while_the_dual_of_a_welcome_is_on_its_way() -> None:
    """Each would be answered by another incarnation, and on a thin link that goes on for ever."""
    line = Line()
    content = encode_dense(integers_of(1))
    dual = Content(content_digest(content), len(content))
    line.hear(line.welcome(5, dual=dual, dual_checksum=checksum(integers_of(1))))
    said = 0
    for offset in range(0, len(content) - PIECE, PIECE):
        comes_at = line.now + 50
        while (due := line.machine.next_timer()) is not None and due <= comes_at:
            said += hellos(line.tick())
        line.now = comes_at
        line.send_piece(content, offset)
    assert line.now > 150
    assert said == 0
    line.send_piece(content, len(content) // PIECE * PIECE)
    assert line.machine.link == "joined"
    assert line.machine.state.dual is not None


def test_a_dual_that_is_not_the_one_of_the_welcome_is_not_taken() -> None:
    line = Line()
    content = encode_dense(integers_of(1))
    dual = Content(content_digest(content), len(content))
    line.hear(line.welcome(5, dual=dual, dual_checksum=checksum(integers_of(2))))
    actions = [a for o in range(0, len(content), PIECE) for a in line.send_piece(content, o)]
    assert [a for a in actions if isinstance(a, Note) and a.warning]
    assert (line.machine.link, line.machine.state.dual) == ("joining", None)


def test_a_link_slower_than_the_first_patience_is_not_filled_with_repetitions() -> None:
    line = Line()
    content = line.model(5)
    queue = list(needs(line.hear(line.welcome(5))))
    sent, free_at = 0, line.now
    while line.machine.state.model_name is None:
        pieces = [
            offset
            for start, stop in queue.pop(0).ranges
            for offset in range(start, min(stop, len(content)), PIECE)
        ]
        for offset in pieces:
            free_at = max(free_at, line.now) + 20.0  # one piece at a time crosses
            while (due := line.machine.next_timer()) is not None and due < free_at:
                queue += needs(line.tick())
            line.now = free_at
            queue += needs(line.send_piece(content, offset))
            sent += 1
    assert sent * PIECE < 3 * len(content)


def test_a_definition_this_version_cannot_read_is_not_asked_for_without_end() -> None:
    newer = DEFINITION.to_bytes()[:-1] + b',"setting_of_a_later_version":1}'
    line = Line(definition=newer)
    actions = line.hear(line.welcome(5))
    asked = 0
    while line.now < 600:
        for _ in needs(actions):
            asked += 1
            actions = line.send_piece(newer, 0)
            assert [a for a in actions if isinstance(a, Note) and a.warning]
        actions = actions if needs(actions) else line.tick()
    assert 2 <= asked <= 10


def test_a_welcome_is_void_when_a_newer_epoch_is_announced_before_its_dual_is_here() -> None:
    """Else the agent would be in one epoch and train, for nothing, on the model of another."""
    state = AgentState(definition=DEFINITION.to_bytes(), epoch=Epoch(1, 7), incarnation=1)
    line = Line(state)
    content = encode_dense(integers_of(1))
    dual = Content(content_digest(content), len(content))
    fields = {"epoch": Epoch(2, 7), "incarnation": 2, "offer": line.offer(5, 2)}
    line.hear(line.welcome(5, **fields, dual=dual, dual_checksum=checksum(integers_of(1))))
    line.hear(Manifest(offer=line.offer(4, 1)))  # an old one means nothing
    assert line.machine.link == "joining"
    actions = line.hear(Manifest(offer=line.offer(6, 3)))
    assert hellos(actions) == 1
    for offset in range(0, len(content), PIECE):
        line.send_piece(content, offset)
    assert line.machine.link == "joining"
    assert line.machine.state.incarnation == 1
    assert line.machine.state.epoch == Epoch(1, 7)
