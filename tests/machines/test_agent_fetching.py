"""What an agent fetches, message by message: cut links, thin links, contents that are not right."""

import numpy as np
from tests.machines.agent_on_a_line import (
    DEFINITION,
    PIECE,
    WHOLE,
    Line,
    asked,
    content_of,
    dual,
    integers_of,
    model,
    name_of,
    needs,
    published,
    ranges_of,
)

from plantfed_agent.budget import LinkLimits
from plantfed_agent.events import (
    BusDisconnected,
    LinkRead,
    Note,
    TimerDue,
    Train,
)
from plantfed_agent.need import Need as Learnt
from plantfed_agent.pace import ASK_AFTER_S
from plantfed_agent.state import AgentState
from plantfed_shared.day_ledger import Spent
from plantfed_shared.definition import Schedule
from plantfed_shared.digest import content_digest
from plantfed_shared.lattice import checksum
from plantfed_shared.local_time import LocalTime
from plantfed_shared.messages import (
    MAX_CONTENT_BYTES,
    Chunk,
    Content,
    Epoch,
    Manifest,
    ModelStep,
    Need,
    Range,
    Update,
    Want,
)
from plantfed_shared.topics import Kind
from plantfed_shared.transfer import WINDOW_BYTES
from plantfed_shared.wire import decode


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


def test_a_model_that_overtakes_the_verdict_waits_for_it_and_is_trained_on_then() -> None:
    """What the update began from is averaged once it counts, and would be gone."""
    line = Line()
    line.hear(line.welcome(5))
    line.first_update(5)
    line.send_whole(model(6, base_k=5))
    assert line.machine.state.model_name == name_of(5)
    line.tick()  # the update again, which asks for a difference from release 5 again
    (train,) = [a for a in line.verdict() if isinstance(a, Train)]
    assert line.machine.state.model_name == name_of(6)
    np.testing.assert_array_equal(line.machine.state.model, integers_of(6))
    # the next one is the difference from that
    line.finish(train)
    said = [*line.verdict(), *line.hear(Manifest(offer=line.offer(7)))]
    while not asked(said):
        said = line.tick()
    assert [want.have for want in asked(said) if isinstance(want, Want)] == [name_of(6)]


def test_a_model_that_waits_for_a_verdict_is_dropped_where_other_units_have_come_first() -> None:
    line = Line()
    line.hear(line.welcome(5))
    line.first_update(5)
    line.send_whole(model(6, base_k=5))
    line.definition = DEFINITION.model_copy(update={"lattice_bits": 8}).to_bytes()
    offer, epoch = line.offer(7, counter=2), Epoch(2, 7)
    line.hear(Manifest(offer=offer))
    fields = {"dual": content_of(dual()), "dual_checksum": checksum(integers_of(1))}
    line.hear(line.welcome(7, epoch=epoch, incarnation=2, offer=offer, **fields))
    line.send_whole(line.definition)
    assert line.machine.state.definition == line.definition
    in_new_units = line.machine.state.model
    assert in_new_units is not None
    assert line.machine.state.outstanding is not None
    line.verdict()
    assert line.machine.state.outstanding is None
    assert line.machine.state.model_name is None
    assert line.machine.state.model is in_new_units


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
