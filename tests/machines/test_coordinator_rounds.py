"""The synchronous schedule: rounds with drawn participants."""

from itertools import pairwise

import pytest
from tests.federation_world import small_definition
from tests.machines.coordinator_desk import Desk, code_of
from tests.newcomers import newcomer

from plantfed_coordinator.events import (
    TimerDue,
)
from plantfed_shared.messages import (
    Bye,
    Code,
    Epoch,
    Start,
)


class TestSynchronous:
    def desk(self, mode: str = "fedapm") -> Desk:
        schedule = {"kind": "sync", "participation": 0.5, "min_members": 4, "deadline_s": 100.0}
        algorithm = {**small_definition().algorithm.model_dump(), "mode": mode}
        desk = Desk(schedule=schedule, algorithm=algorithm)
        for agent in ("a", "b", "c", "d"):
            desk.hello(agent)
        return desk

    def test_no_round_before_enough_members_and_then_the_drawn_are_invited(self) -> None:
        desk = self.desk()
        assert desk.state.round is not None
        assert len(desk.state.round.drawn) == 2
        invited = desk.state.round.drawn[0]
        answers = desk.say(invited, newcomer(epoch=Epoch(1, 5), incarnation=1))
        assert any(isinstance(m, Start) for m in answers)

    def test_the_round_closes_with_the_last_answer_and_the_next_one_opens(self) -> None:
        desk = self.desk()
        assert desk.state.round is not None
        first, second = desk.state.round.drawn
        desk.answer(first, desk.update(first))
        assert desk.state.k == 0
        desk.answer(second, desk.update(second))
        assert desk.state.k == 1
        assert desk.state.round.k == 1

    def test_the_round_closes_at_its_deadline_with_one_answer(self) -> None:
        desk = self.desk()
        assert desk.state.round is not None
        first, _ = desk.state.round.drawn
        desk.answer(first, desk.update(first))
        desk.now = 101.0
        desk.handle(TimerDue())
        assert desk.state.k == 1

    def test_a_drawn_member_that_leaves_does_not_hold_up_the_others(self) -> None:
        desk = self.desk()
        assert desk.state.round is not None
        first, second = desk.state.round.drawn
        desk.answer(first, desk.update(first))
        desk.say(second, Bye(incarnation=1))
        assert desk.state.k == 1

    def test_without_any_answer_others_are_drawn(self) -> None:
        desk = self.desk()
        desk.now = 101.0
        desk.handle(TimerDue())
        assert desk.state.k == 0
        assert desk.state.round is not None
        assert desk.state.round.attempt == 1

    @pytest.mark.parametrize(("mode", "code"), [("fedapm", Code.APPLIED), ("fedalt", Code.LATE)])
    def test_an_answer_of_one_who_was_not_drawn(self, mode: str, code: Code) -> None:
        desk = self.desk(mode)
        assert desk.state.round is not None
        (other, *_) = sorted(set("abcd") - set(desk.state.round.drawn))
        checksum_after = 0 if mode == "fedalt" else None
        fields = {} if checksum_after is None else {"dual_check": checksum_after}
        assert code_of(desk.answer(other, desk.update(other, **fields))) is code

    def test_who_does_not_answer_is_invited_again_in_growing_intervals(self) -> None:
        desk = Desk(schedule={"kind": "sync", "deadline_s": 10_000.0, "participation": 1.0})
        desk.hello("a")
        invited = [0.0]
        while (due := desk.machine.next_timer()) < 3000:
            desk.now = due
            if any(isinstance(message, Start) for _, message, _ in desk.handle(TimerDue())):
                invited.append(desk.now)
        assert [b - a for a, b in pairwise(invited)] == [30, 60, 120, 240, 480, 600, 600, 600]

    def test_a_new_round_begins_with_short_intervals(self) -> None:
        desk = Desk(schedule={"kind": "sync", "deadline_s": 200.0, "participation": 1.0})
        desk.hello("a")
        for now in (30.0, 90.0, 200.0):
            desk.now = now
            desk.handle(TimerDue())
        assert desk.state.round is not None
        assert desk.state.round.attempt == 1
        desk.now = 230.0
        assert any(isinstance(message, Start) for _, message, _ in desk.handle(TimerDue()))
