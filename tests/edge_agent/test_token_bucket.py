"""The law of the bucket: within any 10 s never 5 % more than the rate."""

from hypothesis import given
from hypothesis import strategies as st

from plantfed_agent.events import Publish
from plantfed_agent.outlet import Outlet
from plantfed_agent.token_bucket import TokenBucket
from plantfed_shared.bus.port import PUBACK_BYTES, publish_bytes
from plantfed_shared.topics import Kind, Topics

WINDOW_S = 10.0
TOPICS = Topics("presses")
CHUNK = TOPICS.up("p", Kind.CHUNK)
HELLO = TOPICS.up("p", Kind.HELLO)
NEED = TOPICS.up("p", Kind.NEED)
PART = TOPICS.up("p", Kind.PART)
Crossing = tuple[float, int]


def most_in_a_window(crossings: list[Crossing]) -> int:
    """Most bytes within any 10 s, both ends included."""
    most = first = total = 0
    for at, n_bytes in crossings:
        total += n_bytes
        while crossings[first][0] < at - WINDOW_S:
            total -= crossings[first][1]
            first += 1
        most = max(most, total)
    return most


rates = st.integers(1000, 10**7)
steps = st.lists(
    st.tuples(st.one_of(st.floats(0, 2), st.floats(0, 60)), st.floats(0.001, 1)),
    min_size=1,
    max_size=200,
)


@given(rate=rates, steps=steps)
def test_any_ten_seconds_see_at_most_five_percent_more(
    rate: int, steps: list[tuple[float, float]]
) -> None:
    bucket, now, crossings = TokenBucket(rate), 0.0, []
    for wait_s, share in steps:
        now += wait_s
        n_bytes = max(1, int(share * bucket.burst_bytes))
        while bucket.take(n_bytes, now):
            crossings.append((now, n_bytes))
    assert most_in_a_window(crossings) <= 1.05 * rate * WINDOW_S


@given(rate=rates, shares=st.lists(st.floats(0.001, 1), min_size=30, max_size=200))
def test_who_comes_when_told_finds_what_was_told_and_wastes_nothing(
    rate: int, shares: list[float]
) -> None:
    bucket, now, total = TokenBucket(rate), 0.0, 0
    for share in shares:
        n_bytes = max(1, int(share * bucket.burst_bytes))
        now = bucket.ready_at(n_bytes, now)
        assert bucket.take(n_bytes, now)
        total += n_bytes
    assert total >= 0.99 * rate * now
    assert total <= bucket.burst_bytes + rate * now + 1


def test_what_was_forced_is_waited_for() -> None:
    bucket = TokenBucket(1000.0)
    bucket.force(600, 0.0)
    assert bucket.available(0.0) == -200.0
    assert not bucket.take(1, 0.2)
    assert bucket.take(100, 0.3001)


def test_what_is_longer_than_a_burst_goes_when_the_bucket_is_full() -> None:
    bucket = TokenBucket(1000.0)
    assert bucket.take(1000, 0.0)
    assert not bucket.take(1, 0.6)
    assert bucket.ready_at(1000, 0.6) == 1.0 + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1000.0, now=100.0)
    assert bucket.take(400, 100.0)
    assert not bucket.take(1, 50.0)
    assert not bucket.take(1, 100.0)


# ---------------------------------------------------------------- the outlet

events = st.lists(
    st.tuples(
        st.sampled_from(["chunk", "hello", "puback", "wait"]), st.integers(1, 250), st.floats(0, 1)
    ),
    max_size=300,
)


@given(rate=st.integers(1000, 100_000), events=events)
def test_what_leaves_the_outlet_keeps_to_the_rate(
    rate: int, events: list[tuple[str, int, float]]
) -> None:
    outlet, now, crossings, pubacks = Outlet(TOPICS, rate), 0.0, [], -WINDOW_S
    for number, (what, n_bytes, seconds) in enumerate(events):
        payload = number.to_bytes(2, "big") + bytes(n_bytes)
        match what:
            case "chunk":
                outlet.add(Publish(CHUNK, payload))
            case "hello":
                outlet.add(Publish(HELLO, payload))
            case "puback" if now >= pubacks + 0.4:
                # as many as there are pieces that come down at the same rate
                outlet.sent_beside(PUBACK_BYTES, now)
                crossings.append((now, PUBACK_BYTES))
                pubacks = now
            case "wait":
                now += 10 * seconds
        for message in outlet.take_due(now):
            length = publish_bytes(message.topic, len(message.payload), mqtt5=True)
            crossings.append((now, length))
    assert most_in_a_window(crossings) <= 1.05 * rate * WINDOW_S


def sent(outlet: Outlet, seconds: float = 100.0) -> list[bytes]:
    found, now = [], 0.0
    while (due := outlet.next_at(now)) is not None and due <= seconds:
        now = due
        found += [m.payload for m in outlet.take_due(now)]
    return found


def test_control_goes_first_and_each_kind_in_order() -> None:
    outlet = Outlet(TOPICS, 1000.0)
    for number in range(3):
        outlet.add(Publish(CHUNK, bytes([number]) * 300))
    assert [m.payload[:1] for m in outlet.take_due(0.0)] == [b"\x00"]
    outlet.add(Publish(NEED, b"need"))
    outlet.add(Publish(HELLO, b"hello"))
    assert [p[:5] for p in sent(outlet)] == [b"need", b"hello", b"\x01" * 5, b"\x02" * 5]


def test_what_waits_is_superseded() -> None:
    outlet = Outlet(TOPICS, 1000.0)
    outlet.add(Publish(CHUNK, bytes(380)))
    assert len(outlet.take_due(0.0)) == 1
    outlet.add(Publish(HELLO, b"old"))
    outlet.add(Publish(CHUNK, b"piece"))
    outlet.add(Publish(HELLO, b"new"))
    outlet.add(Publish(CHUNK, b"piece"))
    assert sent(outlet) == [b"new", b"piece"]


def test_requests_for_different_things_all_go() -> None:
    outlet = Outlet(TOPICS, 1000.0)
    outlet.add(Publish(CHUNK, bytes(380)))
    assert len(outlet.take_due(0.0)) == 1
    for payload in (b"the dual", b"a model", b"the dual"):
        outlet.add(Publish(NEED, payload))
        outlet.add(Publish(PART, payload))
    assert sorted(sent(outlet)) == [b"a model", b"a model", b"the dual", b"the dual"]


def test_bulk_can_be_held_back() -> None:
    outlet = Outlet(TOPICS, None)
    outlet.add(Publish(CHUNK, b"piece"))
    outlet.add(Publish(HELLO, b"hello"))
    assert [m.payload for m in outlet.take_due(0.0, bulk=False)] == [b"hello"]
    assert outlet.next_at(0.0, bulk=False) is None
    assert outlet.next_at(0.0) == 0.0
    assert [m.payload for m in outlet.take_due(0.0)] == [b"piece"]


def test_a_new_connection_begins_with_nothing() -> None:
    outlet = Outlet(TOPICS, 1000.0)
    outlet.add(Publish(CHUNK, b"piece"))
    outlet.add(Publish(HELLO, b"hello"))
    outlet.clear()
    assert outlet.next_at(0.0) is None
    assert outlet.take_due(0.0) == []
