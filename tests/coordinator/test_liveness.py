"""The count of live members is that of counting all of them every time."""

from hypothesis import given
from hypothesis import strategies as st

from plantfed_coordinator.liveness import LiveCount

WITHIN_S = 10.0
steps = st.lists(
    st.tuples(st.sampled_from(["hear", "leave", "wait"]), st.integers(0, 4), st.floats(0, 8)),
    max_size=60,
)


@given(steps=steps)
def test_it_is_the_number_of_recent_ones(steps: list[tuple[str, int, float]]) -> None:
    seen: dict[int, float] = {}
    live, now = LiveCount(), 0.0
    for what, who, seconds in steps:
        now += seconds
        if what == "leave" and seen.pop(who, None) is not None:
            live.forget()
        if what == "hear":
            if who not in seen or now - seen[who] > WITHIN_S:
                live.forget()
            seen[who] = now
        expected = sum(now - at <= WITHIN_S for at in seen.values())
        assert live.count(seen.values(), WITHIN_S, now) == expected


def test_members_are_looked_at_only_when_their_number_may_have_changed() -> None:
    looks = 0

    def last_seen() -> list[float]:
        nonlocal looks
        looks += 1
        return [5.0, 7.0]

    class Looking:
        def __iter__(self):
            return iter(last_seen())

    live = LiveCount()
    assert [live.count(Looking(), WITHIN_S, now) for now in (8.0, 9.0, 15.0)] == [2, 2, 2]
    assert looks == 1
    assert live.count(Looking(), WITHIN_S, 15.5) == 1
    assert looks == 2
