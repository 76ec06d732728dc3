"""An agent that is killed while it fetches a long content asks only for what is not on its disk."""

import random
from collections.abc import Iterator

import pytest
from tests.machines.agent_on_a_line import (
    DEFINITION,
    Line,
    asked,
    content_of,
    dual,
    integers_of,
    model,
    needs,
)
from tests.machines.fan_out_world import FAST, THIN, FanOut

from plantfed_agent.events import Action, DropPieces, HalfFetched, KeepPieces, Train
from plantfed_agent.state import AgentState
from plantfed_lab.simulation.engine import Boundary, Host
from plantfed_lab.simulation.links import LinkQuality
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Chunk, Epoch, ModelStep, Need, Range
from plantfed_shared.topics import Kind
from plantfed_shared.transfer import PART_BYTES, WINDOW_BYTES

CONTENT = model(5)
PIECE = 32_768


def kept(actions: list[Action]) -> list[HalfFetched]:
    return [a.half for a in actions if isinstance(a, KeepPieces)]


def drops(actions: list[Action]) -> int:
    return sum(isinstance(a, DropPieces) for a in actions)


def half(step: ModelStep | None, content: bytes, n_bytes: int, epoch: int = 1) -> HalfFetched:
    return HalfFetched(Epoch(epoch, 7), content_of(content), step, ((0, content[:n_bytes]),))


def joined(kept_before: HalfFetched | None, state: AgentState | None = None) -> Line:
    before = AgentState(definition=DEFINITION.to_bytes(), epoch=Epoch(1, 7), incarnation=1)
    return Line(state or before, half=kept_before)


def send(line: Line, content: bytes, start: int, stop: int, step: ModelStep | None) -> list[Action]:
    actions: list[Action] = []
    for offset in range(start, min(stop, len(content)), PIECE):
        chunk = Chunk(content=content_of(content), offset=offset, step=step)
        actions += line.hear(chunk, content[offset : min(offset + PIECE, stop)])
    return actions


def test_what_is_here_is_on_disk_before_more_is_asked_for() -> None:
    line = joined(None)
    line.hear(line.state(5))
    actions = send(line, CONTENT, 0, PART_BYTES, ModelStep(5, None))
    (written,) = kept(actions)
    assert written == half(ModelStep(5, None), CONTENT, PART_BYTES)
    assert actions.index(KeepPieces(written)) < len(actions) - 1
    assert needs(actions[actions.index(KeepPieces(written)) :])
    (written,) = kept(send(line, CONTENT, PART_BYTES, 2 * PART_BYTES, ModelStep(5, None)))
    assert written.pieces == ((PART_BYTES, CONTENT[PART_BYTES : 2 * PART_BYTES]),)


def test_after_a_restart_only_the_rest_is_asked_for_and_at_the_end_all_is_dropped() -> None:
    line = joined(half(ModelStep(5, None), CONTENT, 3 * PART_BYTES))
    actions = line.hear(line.state(6))
    first = Range(3 * PART_BYTES, 3 * PART_BYTES + WINDOW_BYTES)
    assert asked(actions) == [
        Need(digest=content_of(CONTENT).digest, ranges=(first,), step=ModelStep(5, None))
    ]
    assert not drops(actions)
    actions = send(line, CONTENT, 3 * PART_BYTES, len(CONTENT), ModelStep(5, None))
    assert all(start >= 3 * PART_BYTES for h in kept(actions) for start, _ in h.pieces)
    assert any(isinstance(a, Train) for a in actions)
    assert drops(actions) == 1


def test_a_dual_goes_on_as_well() -> None:
    content = dual()
    line = joined(half(None, content, 2 * PART_BYTES))
    welcome = line.welcome(
        5, incarnation=2, dual=content_of(content), dual_checksum=checksum(integers_of(1))
    )
    (need,) = needs(line.hear(welcome))
    assert need.ranges == (Range(2 * PART_BYTES, 2 * PART_BYTES + WINDOW_BYTES),)
    actions = send(line, content, 2 * PART_BYTES, len(content), None)
    assert drops(actions) == 1
    assert line.machine.state.dual is not None


@pytest.mark.parametrize(
    "useless",
    [
        half(ModelStep(5, None), CONTENT, PART_BYTES, epoch=2),
        half(ModelStep(5, 3), CONTENT, PART_BYTES),
    ],
    ids=["of another epoch", "from a model that is not here"],
)
def test_what_is_of_no_use_is_dropped(useless: HalfFetched) -> None:
    line = joined(useless)
    actions = [*line.actions, *line.hear(line.state(5))]
    assert drops(actions) == 1
    assert needs(actions) == []


def test_a_model_that_is_gone_is_dropped_and_so_are_pieces_that_are_not_right() -> None:
    line = joined(half(ModelStep(5, None), CONTENT, PART_BYTES))
    line.hear(line.state(6))
    assert drops(line.hear(line.state(6))) == 1
    wrong = HalfFetched(
        Epoch(1, 7), content_of(CONTENT), ModelStep(5, None), ((0, bytes(PART_BYTES)),)
    )
    line = joined(wrong)
    line.hear(line.state(5))
    actions = send(line, CONTENT, PART_BYTES, len(CONTENT), ModelStep(5, None))
    assert drops(actions) == 1
    assert line.machine.state.model is None


def test_a_new_epoch_drops_it() -> None:
    line = joined(half(ModelStep(5, None), CONTENT, PART_BYTES))
    line.hear(line.state(5))
    actions = line.hear(
        line.welcome(1, incarnation=2, epoch=Epoch(2, 7), offer=line.offer(1, counter=2))
    )
    assert drops(actions) == 1


def test_what_fits_a_window_is_not_kept() -> None:
    line = joined(None)
    line.hear(line.state(5))
    short = CONTENT[:WINDOW_BYTES]
    assert kept(send(line, short, 0, PART_BYTES, ModelStep(5, None))) == []


# ---------------------------------------------------------------- killed at every place


class Crashing(FanOut):
    """One agent that fetches alone, is killed now and then, and what is sent to it."""

    def __init__(self, link: LinkQuality, agents: int = 1) -> None:
        self.crashes = 0
        super().__init__(agents, lambda _: link)
        self.simulation.downtime_s = lambda: 1.0

    def crash_before(self, steps: Iterator[bool]) -> None:
        """Ask whether to kill the first agent before each of its actions."""

        def strikes(host: Host, _: Boundary) -> bool:
            struck = host is self.agents["m00"] and next(steps, False)
            self.crashes += struck
            return struck

        self.simulation.chance_of_crash = strikes

    def sent_again(self) -> int:
        """Bytes of the model that were given to the broker beyond one copy."""
        return sum(self.content_bytes.values()) - self.model_bytes


def at(place: int) -> Iterator[bool]:
    return (number == place for number in range(place + 1))


@pytest.mark.parametrize("link", [FAST, THIN], ids=["fast", "thin"])
def test_a_kill_between_any_two_actions_costs_at_most_a_window(link: LinkQuality) -> None:
    calm = Crashing(link)
    passed = iter(range(10_000))
    calm.crash_before(number < 0 for number in passed)
    assert calm.run(300, until=calm.all_have_it)
    calm.run(30.0)
    places = next(passed)
    assert places > 30
    worst = 0
    for place in range(places):
        world = Crashing(link)
        world.crash_before(at(place))
        assert world.run(600, until=world.all_have_it)
        world.run(30.0)
        assert world.crashes == 1
        assert world.agents["m00"].half is None
        worst = max(worst, world.sent_again())
    print(f"{places} places, at most {worst} bytes of {calm.model_bytes} sent again")
    assert worst <= WINDOW_BYTES


def test_many_kills_cost_at_most_a_window_each_and_half_a_window_goes_forward() -> None:
    world = Crashing(FAST)
    rng = random.Random(4)
    world.crash_before(iter(lambda: rng.random() < 0.1, None))
    assert world.run(3600, until=world.all_have_it)
    assert world.crashes > 3
    print(f"{world.crashes} kills, {world.copies:.2f} copies")
    assert world.sent_again() <= world.crashes * WINDOW_BYTES


def test_a_member_of_a_group_that_is_killed_asks_for_the_rest_alone() -> None:
    world = Crashing(LinkQuality(1e6, 1e6, latency_s=0.05), agents=5)
    world.run(60, until=lambda: world.agents["m00"].half is not None)
    world.simulation.kill(world.agents["m00"], 2.0)
    assert world.run(120, until=world.all_have_it)
    alone = world.content_bytes[world.topics.down("m00", Kind.CHUNK)]
    assert 0 < alone <= world.model_bytes - PART_BYTES
    assert all(agent.half is None for agent in world.agents.values())
