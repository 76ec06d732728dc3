"""Joining on a line that is slow, cut, or says things twice: each agent alone."""

from tests.machines.agent_on_a_line import (
    DEFINITION,
    PIECE,
    SYNCHRONOUS,
    WHOLE,
    Line,
    asked,
    content_of,
    dual,
    hellos,
    integers_of,
    model,
    needs,
)

from plantfed_agent.events import (
    BusDisconnected,
    Note,
    TimerDue,
    Train,
)
from plantfed_agent.state import AgentState
from plantfed_shared.digest import content_digest
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import (
    Code,
    Epoch,
    Manifest,
    Need,
    Start,
    Verdict,
)


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
