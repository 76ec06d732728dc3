"""Whose turn it is among the requests that stand."""

from hypothesis import given
from hypothesis import strategies as st

from plantfed_coordinator.standing import Standing, StandingWants
from plantfed_shared.messages import Want

WANT = Want(have=None, window=1, others=0)
AGENTS = "abcde"
updates = st.tuples(st.just("update"), st.sampled_from(AGENTS), st.just(0))
requests = st.tuples(st.just("request"), st.sampled_from(AGENTS), st.integers(0, 5))
answers = st.tuples(st.just("answer"), st.sampled_from(AGENTS), st.just(0))
leavings = st.tuples(st.just("leave"), st.sampled_from(AGENTS), st.just(0))


@given(st.lists(st.one_of(updates, requests, answers, leavings), max_size=60))
def test_a_turn_comes_when_so_many_others_have_sent_and_is_never_missed(events):
    standing = StandingWants()
    log: list[str] = []
    since: dict[str, tuple[int, int]] = {}
    for what, agent, others in events:
        if what == "update":
            log.append(agent)
            standing.updated(agent, len(log))
        elif what == "request":
            since[agent] = (len(log), others)
            standing.put(agent, Standing(WANT, len(log), others, 9.0))
        elif what == "answer":
            since.pop(agent, None)
            standing.discard(agent)
        else:
            since.pop(agent, None)
            standing.forget(agent)
            log = ["" if one == agent else one for one in log]
        turns = [
            who
            for who, (start, needed) in sorted(since.items())
            if len(set(log[start:]) - {who, ""}) >= needed
        ]
        if turns:
            assert standing.a_turn_may_have_come(len(log), 0.0)
        if standing.a_turn_may_have_come(len(log), 0.0):
            assert standing.whose_turn_it_is(0.0) == turns
            for who in turns:
                since.pop(who)
                standing.discard(who)
    assert standing.next_at == (9.0 if since else standing.next_at)
    assert standing.whose_turn_it_is(9.0) == sorted(since)


def test_who_was_served_and_asks_again_waits_from_there():
    standing = StandingWants()
    for agent in "bc":
        standing.updated(agent, "abc".index(agent))
    standing.put("a", Standing(WANT, 2, 1, 5.0))
    assert standing.whose_turn_it_is(0.0) == []
    assert standing.next_at == 5.0
    standing.updated("b", 3)
    assert standing.a_turn_may_have_come(3, 0.0)
    assert standing.whose_turn_it_is(0.0) == ["a"]
