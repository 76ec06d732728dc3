"""Whose turn it is among the requests that stand."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from plantfed_coordinator.standing import StandingWants
from plantfed_shared.messages import Want

AGENTS = "abcde"
PATIENCE_S = 100.0


class Happening(NamedTuple):
    what: str
    agent: str
    others: int


def wants(others):
    return Want(have=None, window=1, others=others)


happenings = st.builds(
    Happening,
    st.sampled_from(["update", "last update", "request", "answer", "leave", "away", "back"]),
    st.sampled_from(AGENTS),
    st.integers(0, 255),
)


class Reference:
    """The same, from the whole story at every look."""

    def __init__(self):
        self.log: list[str] = []
        self.members = set(AGENTS)
        self.away: set[str] = set()
        self.rests: set[str] = set()
        self.others: dict[str, int] = {}
        self.asked_at: dict[str, int] = {}

    @property
    def reachable(self):
        return self.members - self.away

    def since(self, agent):
        sent = [at for at, who in enumerate(self.log, 1) if who == agent]
        return sent[-1] if sent else self.asked_at[agent]

    def turns(self):
        going_on = len(self.reachable - self.rests)
        return [
            agent
            for agent, others in sorted(self.others.items())
            if len(set(self.log[self.since(agent) :]) & self.members) >= others * going_on // 256
        ]

    def take(self, happening, standing):
        what, agent, others = happening
        if what in ("update", "last update"):
            self.members.add(agent)
            self.away.discard(agent)
            self.log.append(agent)
            self.rests.discard(agent)
            if what == "last update":
                self.rests.add(agent)
            standing.updated(agent, len(self.log), 0.0, goes_on=what == "update")
        elif what == "request":
            self.members.add(agent)
            if agent not in self.log:
                self.asked_at[agent] = len(self.log)
            self.others[agent] = others
            standing.put(agent, wants(others), len(self.log), 0.0, PATIENCE_S)
        elif what == "answer":
            self.others.pop(agent, None)
            standing.discard(agent)
        elif what == "leave":
            self.members.discard(agent)
            self.others.pop(agent, None)
            self.rests.discard(agent)
            self.log = ["" if one == agent else one for one in self.log]
            standing.forget(agent)
        elif what == "away":
            self.away.add(agent)
            standing.look_again()
        else:
            self.away.discard(agent)


@given(st.lists(happenings, max_size=60))
def test_a_turn_comes_when_so_many_others_have_sent_and_is_never_missed(story):
    standing, reference = StandingWants(), Reference()
    for happening in story:
        reference.take(happening, standing)
        turns = reference.turns()
        updates = len(reference.log)
        if turns:
            assert standing.a_turn_may_have_come(updates, 0.0)
        if standing.a_turn_may_have_come(updates, 0.0):
            going_on = standing.going_on(reference.reachable)
            assert standing.whose_turn_it_is(going_on, 0.0) == turns
            for who in turns:
                reference.others.pop(who)
                standing.discard(who)
    going_on = standing.going_on(reference.reachable)
    assert standing.whose_turn_it_is(going_on, PATIENCE_S) == sorted(reference.others)


def test_what_is_asked_for_again_is_waited_for_since_the_update():
    standing = StandingWants()
    standing.updated("a", 1, 10.0, goes_on=True)
    standing.put("a", wants(128), 1, 10.0, 50.0)
    assert standing.whose_turn_it_is(5, 10.0) == []
    assert standing.next_at == 60.0
    standing.updated("b", 2, 20.0, goes_on=True)
    standing.put("a", wants(128), 2, 30.0, 50.0)
    assert standing.whose_turn_it_is(5, 30.0) == []
    assert standing.next_at == 60.0
    standing.updated("c", 3, 40.0, goes_on=True)
    assert standing.a_turn_may_have_come(3, 40.0)
    assert standing.whose_turn_it_is(5, 40.0) == ["a"]
