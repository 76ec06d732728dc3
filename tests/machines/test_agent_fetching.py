"""What an agent fetches, message by message: cut links, thin links, contents that are not right."""

import numpy as np
from tests.federation_world import small_definition

from plantfed_agent.agreement import dual_after_outstanding
from plantfed_agent.budget import LinkLimits
from plantfed_agent.events import (
    Action,
    BusConnected,
    BusDisconnected,
    HalfFetched,
    LinkRead,
    MessageArrived,
    Note,
    Publish,
    RoundDone,
    TimerDue,
    Train,
)
from plantfed_agent.machine import AgentMachine
from plantfed_agent.need import Need as Learnt
from plantfed_agent.pace import ASK_AFTER_S, Pace
from plantfed_agent.state import AgentState
from plantfed_agent.training import TrainingOutcome
from plantfed_shared.codec import Coding, decode_model, encode_integers, encode_model
from plantfed_shared.day_ledger import Spent
from plantfed_shared.definition import Schedule
from plantfed_shared.digest import content_digest
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import checksum
from plantfed_shared.local_time import LocalTime
from plantfed_shared.messages import (
    MAX_CONTENT_BYTES,
    Chunk,
    Code,
    Content,
    Epoch,
    Group,
    Manifest,
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


def test_a_model_half_here_is_finished_after_a_cut_although_there_is_a_newer_one() -> None:
    """On a link that is cut more often than a model takes to cross it, nothing else ever ends."""
    line = Line()
    assert asked(line.hear(line.welcome(5))) == [WHOLE]
    content = model(5)
    line.send_piece(content, 0)
    line.machine.handle(BusDisconnected(), line.now)
    line.now += 60
    line.connect()
    line.hear(line.state(6))
    line.hear(Manifest(offer=line.offer(7)))
    assert line.machine.link == "joined"
    rest = Range(PIECE, PIECE + WINDOW_BYTES)
    assert asked(line.tick()) == [
        Need(digest=content_digest(content), ranges=(rest,), step=ModelStep(5, None))
    ]
    actions = [a for o in range(PIECE, len(content), PIECE) for a in line.send_piece(content, o)]
    (train,) = [a for a in actions if isinstance(a, Train)]
    assert line.machine.state.model_name == name_of(5)
    assert train.task.seq == 1


def test_a_model_that_is_gone_is_given_up_for_the_newest() -> None:
    line = Line()
    line.hear(line.welcome(5))
    line.send_piece(model(5), 0)
    line.hear(line.state(6))
    assert asked(line.tick()) == [WHOLE]
    content = model(6)
    for offset in range(0, len(content), PIECE):
        line.send_piece(content, offset)
    assert line.machine.state.model_name == name_of(6)


def test_a_late_piece_of_the_model_before_is_not_taken_for_the_next() -> None:
    line = Line()
    line.hear(line.welcome(5))
    content = model(5)
    pieces = range(0, len(content), PIECE)
    (train,) = [
        a for offset in pieces for a in line.send_piece(content, offset) if isinstance(a, Train)
    ]
    line.finish(train)
    for offset in pieces:
        assert line.send_piece(content, offset) == []
    line.verdict()
    line.hear(Manifest(offer=line.offer(6)))
    step = model(6, base_k=5)
    for offset in range(0, len(step), PIECE):
        line.send_piece(step, offset)
    assert line.machine.state.model_name == name_of(6)
    np.testing.assert_array_equal(line.machine.state.model, integers_of(6))


def test_a_late_answer_to_an_earlier_want_is_not_waited_for() -> None:
    """Two wants of one model may be answered by two contents; the slower one comes in the next."""
    line = Line()
    line.hear(line.welcome(5))
    pieces = [line.send_piece(model(5), offset) for offset in range(0, len(model(5)), PIECE)]
    (train,) = [a for actions in pieces for a in actions if isinstance(a, Train)]
    line.finish(train)
    line.verdict()
    line.hear(Manifest(offer=line.offer(6)))
    line.send_piece(model(5, 1), PIECE)
    line.send_piece(DEFINITION.to_bytes(), 0)
    step = model(6, base_k=5)
    for offset in range(0, len(step), PIECE):
        line.send_piece(step, offset)
    assert line.machine.state.model_name == name_of(6)


def test_who_lets_others_go_first_does_not_ask_again_before_they_had_time_to() -> None:
    definition = DEFINITION.model_copy(update={"schedule": Schedule(pace=0.5)}).to_bytes()
    held = AgentState(definition=definition, need=Learnt(0.02, 0.0, 0.0, highest=2.0))
    line = Line(held, definition)
    line.hear(line.welcome(5))
    update = decode(line.first_update(5), Kind.UPDATE).message
    assert isinstance(update, Update)
    assert 0 < update.others <= 128
    line.verdict()
    sent_at = line.now
    line.hear(Manifest(offer=line.offer(6)))
    assert asked(line.tick()) == [Want(have=name_of(5), window=WINDOW_BYTES, others=0)]
    assert line.now >= sent_at + Schedule().release_after_s


def test_the_model_after_an_update_comes_by_itself_and_is_asked_for_where_it_does_not() -> None:
    line = Line()
    line.hear(line.welcome(5))
    outstanding = line.first_update(5)
    update = decode(outstanding, Kind.UPDATE).message
    assert isinstance(update, Update)
    assert update.want == WINDOW_BYTES
    assert asked(line.verdict()) == []  # nothing newer is known: nothing to remind of
    assert line.machine.next_timer() == line.now + ASK_AFTER_S  # a question how we stand
    line.hear(Manifest(offer=line.offer(6)))
    assert asked(line.tick()) == [Want(have=name_of(5), window=WINDOW_BYTES, others=0)]


def test_a_difference_from_a_model_that_is_not_here_is_refused_and_the_whole_asked_for() -> None:
    line = Line()
    line.hear(line.welcome(5))
    step = model(6, base_k=4)
    for offset in range(0, len(step), PIECE):
        assert line.send_piece(step, offset) == []
    assert line.machine.state.model_name is None
    assert asked(line.tick()) == [WHOLE]


def test_a_model_longer_than_any_is_refused_before_it_takes_memory() -> None:
    line = Line()
    line.hear(line.welcome(5))
    endless = Content(bytes(16), MAX_CONTENT_BYTES)
    actions = line.hear(Chunk(content=endless, offset=0, step=ModelStep(5, None)), b"x")
    assert [a for a in actions if isinstance(a, Note) and "at most" in a.text]
    assert asked(line.tick()) == [WHOLE]


def test_a_model_of_an_epoch_that_is_over_is_given_up_at_once() -> None:
    line = Line()
    line.hear(line.welcome(5))
    line.send_piece(model(5), 0)
    line.hear(Manifest(offer=line.offer(6, counter=2)))
    assert line.machine.link == "joining"
    answer = line.state(6).model_copy(update={"epoch": Epoch(2, 7), "offer": line.offer(6, 2)})
    assert asked(line.hear(answer)) == [WHOLE]


def test_no_hello_while_the_dual_of_a_welcome_is_on_its_way() -> None:
    """Each would be answered by another incarnation, and on a thin link that goes on for ever."""
    line = Line()
    content = dual()
    line.hear(line.welcome(5, dual=content_of(content), dual_checksum=checksum(integers_of(1))))
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
    content = dual()
    line.hear(line.welcome(5, dual=content_of(content), dual_checksum=checksum(integers_of(2))))
    actions = [a for o in range(0, len(content), PIECE) for a in line.send_piece(content, o)]
    assert [a for a in actions if isinstance(a, Note) and a.warning]
    assert (line.machine.link, line.machine.state.dual) == ("joining", None)


def test_a_link_slower_than_the_first_patience_is_not_filled_with_repetitions() -> None:
    line = Line()
    content = model(5)
    queue = list(asked(line.hear(line.welcome(5))))
    sent, free_at = 0, line.now
    while line.machine.state.model_name is None:
        pieces = [
            offset
            for start, stop in ranges_of(queue.pop(0))
            for offset in range(start, min(stop, len(content)), PIECE)
        ]
        for offset in pieces:
            free_at = max(free_at, line.now) + 20.0  # one piece at a time crosses
            while (due := line.machine.next_timer()) is not None and due < free_at:
                queue += asked(line.tick())
            line.now = free_at
            queue += asked(line.send_piece(content, offset))
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
    content = dual()
    fields = {"epoch": Epoch(2, 7), "incarnation": 2, "offer": line.offer(5, 2)}
    line.hear(
        line.welcome(5, **fields, dual=content_of(content), dual_checksum=checksum(integers_of(1)))
    )
    line.hear(Manifest(offer=line.offer(4, 1)))  # an old one means nothing
    assert line.machine.link == "joining"
    actions = line.hear(Manifest(offer=line.offer(6, 3)))
    assert hellos(actions) == 1
    for offset in range(0, len(content), PIECE):
        line.send_piece(content, offset)
    assert line.machine.link == "joining"
    assert line.machine.state.incarnation == 1
    assert line.machine.state.epoch == Epoch(1, 7)


def test_after_a_cut_nothing_is_asked_for_before_the_coordinator_has_answered() -> None:
    """It may come back later than the agent: what it does not hear is waited for in vain."""
    line = Line()
    line.hear(line.welcome(5))
    line.send_piece(model(5), 0)
    line.machine.handle(BusDisconnected(), line.now)
    line.now += 60
    assert asked(line.connect()) == []
    unheard = []
    while (due := line.machine.next_timer()) is not None and due < 75:
        unheard += asked(line.tick())
    assert unheard == []
    line.now = 75
    again = line.hear(line.state(5)) + line.tick()
    assert len(needs(again)) == 1
    # the cut was nobody's fault: it is not waited longer than ever for an answer
    line.now = 90.1
    assert len(needs(line.machine.handle(TimerDue(), line.now))) == 1


def test_a_welcome_is_an_answer_after_which_its_dual_is_asked_for_again() -> None:
    line = Line()
    content = dual()
    fields = {"dual": content_of(content), "dual_checksum": checksum(integers_of(1))}
    assert len(needs(line.hear(line.welcome(5, **fields)))) == 1
    line.now = 15.0
    assert len(needs(line.machine.handle(TimerDue(), line.now))) == 1


def test_a_manifest_says_that_the_coordinator_is_back_and_hurries_the_hello() -> None:
    line = Line()
    line.hear(line.welcome(5))
    line.machine.handle(BusDisconnected(), line.now)
    line.now = 100.0
    assert hellos(line.connect()) == 1
    # what the broker has kept says nothing
    line.hear(Manifest(offer=line.offer(5)), retained=True)
    assert line.machine.next_timer() == 105.0
    line.hear(Manifest(offer=line.offer(5)))
    assert line.machine.next_timer() == 100.5
    assert hellos(line.tick()) == 1


def test_a_late_copy_of_an_invitation_does_not_replace_a_newer_one() -> None:
    line = Line(definition=SYNCHRONOUS, state=AgentState(definition=SYNCHRONOUS))
    line.hear(line.welcome(5))
    line.hear(Start(offer=line.offer(6), deadline_s=60.0))
    line.hear(Start(offer=line.offer(5), deadline_s=60.0))
    content = model(6)
    actions = [a for o in range(0, len(content), PIECE) for a in line.send_piece(content, o)]
    assert any(isinstance(a, Train) for a in actions)


def test_an_invitation_in_a_new_epoch_counts_from_its_beginning() -> None:
    line = Line(definition=SYNCHRONOUS, state=AgentState(definition=SYNCHRONOUS))
    line.hear(line.welcome(5))
    line.hear(Start(offer=line.offer(6), deadline_s=60.0))
    line.hear(line.state(1).model_copy(update={"epoch": Epoch(2, 7), "offer": line.offer(1, 2)}))
    line.hear(Manifest(offer=line.offer(1, 2)))
    line.hear(line.state(1).model_copy(update={"epoch": Epoch(2, 7), "offer": line.offer(1, 2)}))
    line.hear(Start(offer=line.offer(1, 2), deadline_s=60.0))
    content = model(1, 2)
    actions = [a for o in range(0, len(content), PIECE) for a in line.send_piece(content, o)]
    assert any(isinstance(a, Train) for a in actions)


def test_a_need_that_comes_twice_is_answered_once() -> None:
    """TCP survives a hole of minutes, and then all that was asked for in it comes at once."""
    line = Line()
    line.hear(line.welcome(5))
    outstanding = line.first_update(5)
    need = Need(digest=content_digest(outstanding), ranges=(Range(0, 100),), step=None)
    assert len(published(line.hear(need))) == 1
    line.now += 9.9
    assert published(line.hear(need)) == []
    line.now += 0.2
    assert len(published(line.hear(need))) == 1
    # what was sent on the connection before may be lost
    line.machine.handle(BusDisconnected(), line.now)
    line.connect()
    assert len(published(line.hear(need))) == 1


def published(actions: list[Action]) -> list[Publish]:
    return [a for a in actions if isinstance(a, Publish)]


def test_answers_to_a_hello_said_twice_do_not_begin_a_half_fetched_model_anew() -> None:
    line = Line()
    line.hear(line.welcome(5))
    content = model(5)
    line.send_piece(content, 0)
    line.machine.handle(BusDisconnected(), line.now)
    line.now += 60
    line.connect()
    line.hear(Manifest(offer=line.offer(6)))
    assert hellos(line.tick()) == 1
    line.hear(line.state(6))
    assert len(needs(line.tick())) == 1
    line.hear(line.state(6))
    line.now += 20
    (need,) = asked(line.machine.handle(TimerDue(), line.now))
    assert isinstance(need, Need)
    assert need.digest == content_digest(content)
    # that one answers the NEED
    line.hear(line.state(6))
    assert asked(line.tick()) == [WHOLE]


def test_a_manifest_does_not_hurry_one_that_the_operator_has_removed() -> None:
    line = Line()
    removed = Verdict(0, Code.REMOVED, "")
    line.hear(line.state(5).model_copy(update={"verdict": removed, "offer": None}))
    assert line.machine.next_timer() == 600.0
    line.hear(Manifest(offer=line.offer(5)))
    assert line.machine.next_timer() == 600.0


def test_with_little_left_of_the_day_less_may_be_on_its_way() -> None:
    line = Line(limits=LinkLimits(day_down=3_000_000))
    content = model(5)

    def spend(down: int) -> None:
        line.machine.handle(LinkRead(LocalTime(1, 0.0), Spent(0, down), down), line.now)

    spend(0)
    assert asked(line.hear(line.welcome(5))) == [WHOLE]
    line.send_piece(content, 0)
    # 51072 bytes are on their way, more than is left: nothing is asked for, nor given up
    spend(2_940_000 - 50_000)
    assert asked(line.send_piece(content, PIECE)) == []
    spend(2_940_000 - 20_000)
    (need,) = needs(line.send_piece(content, 2 * PIECE))
    assert sum(stop - start for start, stop in need.ranges) < 20_000
    spend(3_000_000)
    assert asked(line.send_piece(content, 3 * PIECE)) == []
    line.now += 20
    assert asked(line.machine.handle(TimerDue(), line.now)) == []
    line.machine.handle(LinkRead(LocalTime(2, 0.0), Spent(), 0), line.now)
    line.now += 600
    (rest,) = needs(line.machine.handle(TimerDue(), line.now))
    assert rest.ranges == (Range(4 * PIECE, 4 * PIECE + WINDOW_BYTES),)


def test_with_a_rate_limit_a_window_is_asked_for_when_nothing_is_on_its_way() -> None:
    line = Line(limits=LinkLimits(bytes_per_s=400_000.0))
    line.machine.handle(LinkRead(LocalTime(1, 0.0), Spent(), 0), line.now)
    (want,) = asked(line.hear(line.welcome(5)))
    assert isinstance(want, Want)
    assert 2 * PIECE < want.window < WINDOW_BYTES + 10_000
    content = model(5)
    line.now += 5
    assert asked(line.send_piece(content, 0)) == []
    assert asked(line.send_piece(content, PIECE)) == []
    assert asked(line.send_piece(content, 2 * PIECE)) == []
    assert len(needs(line.send_piece(content, 3 * PIECE))) == 1
