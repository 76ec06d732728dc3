"""The in-memory broker: its semantics, its faults and its repeatability."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plantfed_shared.bus.faults import REPLAY_AFTER_S, Faults
from plantfed_shared.bus.filters import FilterTree, matches
from plantfed_shared.bus.memory import Delivery, MemoryBroker
from plantfed_shared.bus.port import (
    MAX_MESSAGE_BYTES,
    Connected,
    Disconnected,
    Listening,
    Received,
    SessionSettings,
    Will,
)

READER = SessionSettings("reader", ("a/+", "b/#"))
KEEPER = replace(READER, client_id="keeper", persistent=True)
WRITER = SessionSettings("writer", (), will=Will("a/will", b"gone"))


def broker_with(*sessions: SessionSettings, faults: Faults | None = None) -> MemoryBroker:
    broker = MemoryBroker(random.Random(7), faults)
    for session in sessions:
        broker.connect(session, 0.0)
    assert [type(d.event) for d in broker.due(0.0)] == [Connected] * len(sessions)
    return broker


def messages(deliveries: list[Delivery], client_id: str | None = None) -> list[Received]:
    return [
        d.event
        for d in deliveries
        if isinstance(d.event, Received) and client_id in (None, d.client_id)
    ]


def payloads(deliveries: list[Delivery], client_id: str | None = None) -> list[bytes]:
    return [event.payload for event in messages(deliveries, client_id)]


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("#", "a/b", True),
        ("+/#", "a", True),
        ("+/+", "a", False),
        ("a/b/#", "a", False),
    ],
)
def test_filters(topic_filter: str, topic: str, expected: bool) -> None:
    session = SessionSettings("x", (topic_filter,))
    tree = FilterTree()
    tree.add(session)
    assert matches(topic_filter, topic) is expected
    assert tree.subscribers(topic) == (["x"] if expected else [])
    tree.remove(session)
    assert tree.subscribers(topic) == []


level = st.sampled_from(["a", "b", "+"])
topic_filters = st.tuples(st.lists(level, min_size=1, max_size=3), st.sampled_from(["", "/#"])).map(
    lambda parts: "/".join(parts[0]) + parts[1]
)
topic_names = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)


@given(st.lists(st.lists(topic_filters, max_size=3), max_size=6), topic_names, st.data())
def test_tree_agrees_with_matches(
    filters: list[list[str]], topic: str, data: st.DataObject
) -> None:
    sessions = [SessionSettings(str(i), tuple(some)) for i, some in enumerate(filters)]
    tree = FilterTree()
    for session in sessions:
        tree.add(session)
    gone = data.draw(st.sets(st.sampled_from(sessions))) if sessions else set()
    for session in gone:
        tree.remove(session)
    left = [session for session in sessions if session not in gone]
    expected = {s.client_id for s in left if any(matches(f, topic) for f in s.subscriptions)}
    found = tree.subscribers(topic)
    assert set(found) == expected
    assert len(found) == len(set(found))


def test_a_message_reaches_each_subscriber_once() -> None:
    broker = broker_with(replace(READER, subscriptions=("a/+", "a/b", "#")), WRITER)
    assert broker.publish("writer", "a/b", b"x", 1.0)
    assert broker.next_due() == 1.0
    assert broker.due(0.5) == []
    (received,) = messages(broker.due(1.0))
    assert (received.topic, received.payload, received.retained) == ("a/b", b"x", False)
    assert broker.next_due() is None


def test_who_listens_hears_from_then_on_until_it_ends_or_the_connection_does() -> None:
    broker = broker_with(KEEPER, WRITER)
    broker.publish("writer", "lane/1", b"before", 0.0)
    broker.listen("keeper", "lane/1", 1.0)
    broker.listen("keeper", "lane/1", 1.0)  # twice is once
    assert [d.event for d in broker.due(1.0)] == 2 * [Listening("lane/1", allowed=True)]
    broker.publish("writer", "lane/1", b"heard", 2.0)
    broker.stop_listening("keeper", "lane/1", 2.0)
    broker.publish("writer", "lane/1", b"after", 2.0)
    assert payloads(broker.due(2.0)) == [b"heard"]
    broker.listen("keeper", "lane/1", 3.0)
    broker.disconnect("keeper", 3.0, clean=True)
    broker.publish("writer", "lane/1", b"away", 3.0)
    broker.publish("writer", "a/b", b"kept", 3.0)
    broker.connect(KEEPER, 4.0)
    assert payloads(broker.due(4.0)) == [b"heard", b"kept"]  # one never acknowledged, one fixed


def test_a_broker_may_deny_a_topic() -> None:
    broker = broker_with(READER, WRITER)
    broker.allows = lambda client_id, topic: (client_id, topic) != ("reader", "lane/1")
    broker.listen("reader", "lane/1", 0.0)
    broker.listen("reader", "lane/2", 0.0)
    for topic in ("lane/1", "lane/2"):
        broker.publish("writer", topic, topic.encode(), 1.0)
    deliveries = broker.due(1.0)
    assert [d.event for d in deliveries[:2]] == [
        Listening("lane/1", allowed=False),
        Listening("lane/2", allowed=True),
    ]
    assert payloads(deliveries) == [b"lane/2"]


def test_a_wish_to_listen_crosses_the_link_like_everything_else() -> None:
    class SlowUp:
        def up(self, client_id: str, n_bytes: int, now: float) -> float:
            assert n_bytes > 0
            return now + 1.0 if client_id == "reader" else now

        def down(self, client_id: str, n_bytes: int, now: float) -> float:
            return now + 0.5

        def broken(self, client_id: str, now: float) -> None:
            pass

    broker = MemoryBroker(random.Random(7), transit=SlowUp())
    for session in (READER, WRITER):
        broker.connect(session, 0.0)
    broker.listen("reader", "lane/1", 0.0)
    broker.publish("writer", "lane/1", b"too early", 0.9)
    broker.publish("writer", "lane/1", b"in time", 1.1)
    assert broker.due(1.4)[2:] == []
    assert [d.event for d in broker.due(1.5)] == [Listening("lane/1", allowed=True)]
    assert payloads(broker.due(1.6)) == [b"in time"]


def test_a_retained_message_waits_for_late_subscribers_until_it_is_cleared() -> None:
    broker = broker_with(WRITER)
    broker.publish("writer", "a/b", b"old", 0.0, retain=True)
    broker.publish("writer", "a/b", b"new", 0.0, retain=True)
    broker.publish("writer", "c", b"other", 0.0, retain=True)
    broker.connect(READER, 1.0)
    (received,) = messages(broker.due(1.0))
    assert received.payload == b"new"
    assert received.retained
    broker.publish("writer", "a/b", b"", 2.0, retain=True)
    broker.connect(KEEPER, 3.0)
    assert payloads(broker.due(3.0), "keeper") == []


@pytest.mark.parametrize("clean", [True, False])
def test_the_will_is_for_deaths(clean: bool) -> None:
    broker = broker_with(READER, WRITER)
    broker.disconnect("writer", 1.0, clean=clean)
    assert payloads(broker.due(1.0)) == ([] if clean else [b"gone"])
    assert not broker.publish("writer", "a/b", b"x", 1.0)


def test_a_second_process_with_the_same_name_ends_the_first() -> None:
    broker = broker_with(READER, WRITER)
    broker.connect(WRITER, 1.0)
    assert [d.event for d in broker.due(1.0) if d.client_id == "writer"] == [Connected()]


def test_a_persistent_session_queues_and_a_clean_one_does_not() -> None:
    broker = broker_with(READER, KEEPER, WRITER)
    for name in ("reader", "keeper"):
        broker.disconnect(name, 1.0, clean=True)
    for number in range(3):
        broker.publish("writer", "a/b", b"%d" % number, 2.0)
    for session in (READER, KEEPER):
        broker.connect(session, 3.0)
    deliveries = broker.due(3.0)
    assert payloads(deliveries, "reader") == []
    assert payloads(deliveries, "keeper") == [b"0", b"1", b"2"]


def test_unacknowledged_messages_come_again_in_order_before_queued_ones() -> None:
    broker = broker_with(KEEPER, WRITER)
    for number in range(4):
        broker.publish("writer", "a/b", b"%d" % number, 1.0)
    first = messages(broker.due(1.0))
    broker.acknowledge("keeper", first[1].token)
    broker.disconnect("keeper", 2.0, clean=False)
    broker.publish("writer", "a/b", b"4", 2.0)
    broker.connect(KEEPER, 3.0)
    second = messages(broker.due(3.0))
    assert [event.payload for event in second] == [b"0", b"2", b"3", b"4"]
    broker.acknowledge("keeper", first[0].token)
    for event in second[1:]:
        broker.acknowledge("keeper", event.token)
    broker.connect(KEEPER, 4.0)
    assert payloads(broker.due(4.0)) == [b"0"]


def test_messages_on_the_way_die_with_the_connection() -> None:
    broker = broker_with(READER, WRITER, faults=Faults(delay_s=(1.0, 1.0)))
    broker.publish("writer", "a/b", b"x", 0.0)
    broker.connect(READER, 0.5)
    assert [d.event for d in broker.due(9.0)] == [Connected()]
    assert broker.next_due() is None


def test_a_cut_client_is_told_and_comes_back_when_mended() -> None:
    broker = broker_with(READER, WRITER)
    broker.cut("writer", 1.0)
    deliveries = broker.due(1.0)
    assert payloads(deliveries, "reader") == [b"gone"]
    assert [type(d.event) for d in deliveries if d.client_id == "writer"] == [Disconnected]
    assert not broker.publish("writer", "a/b", b"x", 1.0)
    broker.connect(WRITER, 2.0)
    assert broker.due(2.0) == []
    broker.mend("writer", 3.0)
    broker.mend("writer", 3.0)
    assert broker.due(3.0) == [Delivery("writer", Connected())]
    assert broker.publish("writer", "a/b", b"x", 3.0)


def test_a_process_that_died_while_cut_stays_away_when_mended() -> None:
    broker = broker_with(WRITER)
    broker.cut("writer", 1.0)
    broker.disconnect("writer", 1.0, clean=False)
    broker.mend("writer", 2.0)
    assert broker.due(2.0) == []


def test_a_client_may_be_cut_before_it_was_ever_seen() -> None:
    broker = broker_with()
    broker.cut("writer", 0.0)
    broker.connect(WRITER, 1.0)
    assert broker.due(1.0) == []
    broker.mend("writer", 2.0)
    assert broker.due(2.0) == [Delivery("writer", Connected())]


def test_a_forgetful_broker_knows_no_session_no_queue_and_no_retained_message() -> None:
    broker = broker_with(KEEPER, replace(KEEPER, client_id="away"), WRITER)
    broker.disconnect("away", 1.0, clean=True)
    broker.publish("writer", "a/b", b"x", 1.0, retain=True)
    broker.forget(2.0)
    assert [(d.client_id, type(d.event)) for d in broker.due(2.0)] == [
        ("keeper", Disconnected),
        ("writer", Disconnected),
        ("keeper", Connected),
        ("writer", Connected),
    ]
    broker.publish("writer", "a/b", b"y", 3.0)
    broker.connect(replace(KEEPER, client_id="away"), 4.0)
    deliveries = broker.due(4.0)
    assert payloads(deliveries, "away") == []
    assert payloads(deliveries, "keeper") == [b"y"]


def test_one_delivery_at_a_time_lets_the_caller_stop_a_client_in_between() -> None:
    broker = broker_with(READER, WRITER)
    broker.publish("writer", "a/b", b"1", 1.0)
    broker.publish("writer", "a/b", b"2", 1.0)
    assert broker.pop_due(1.0) is not None
    broker.disconnect("reader", 1.0, clean=False)
    assert broker.pop_due(1.0) is None


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0"])
def test_topics_a_broker_would_refuse(topic: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        broker_with(WRITER).publish("writer", topic, b"", 0.0)


def test_too_long_a_payload() -> None:
    with pytest.raises(ValueError, match="at most 49152"):
        broker_with(WRITER).publish("writer", "a", bytes(MAX_MESSAGE_BYTES + 1), 0.0)


def test_dropped_messages_stay_lost() -> None:
    broker = broker_with(KEEPER, WRITER, faults=Faults(drop=1.0))
    broker.publish("writer", "a/b", b"x", 0.0)
    broker.faults = Faults()
    broker.connect(KEEPER, 1.0)
    assert messages(broker.due(1.0)) == []


def test_duplicates_share_a_token() -> None:
    broker = broker_with(READER, WRITER, faults=Faults(duplicate=1.0))
    broker.publish("writer", "a/b", b"x", 0.0)
    one, two = messages(broker.due(0.0))
    assert one == two


def test_replays_come_much_later_and_on_any_connection() -> None:
    broker = broker_with(READER, WRITER, faults=Faults(replay=1.0))
    broker.publish("writer", "a/b", b"x", 0.0)
    assert payloads(broker.due(0.0)) == [b"x"]
    broker.connect(READER, 1.0)
    broker.due(1.0)
    due = broker.next_due()
    assert due is not None
    assert REPLAY_AFTER_S[0] <= due <= REPLAY_AFTER_S[1]
    assert payloads(broker.due(due)) == [b"x"]


def test_corrupted_messages_differ_and_come_right_on_redelivery() -> None:
    broker = broker_with(KEEPER, WRITER, faults=Faults(corrupt=1.0))
    for _ in range(20):
        broker.publish("writer", "a/b", b"some payload", 0.0)
    assert b"some payload" not in payloads(broker.due(0.0))
    broker.faults = Faults()
    broker.connect(KEEPER, 1.0)
    assert payloads(broker.due(1.0)) == [b"some payload"] * 20


def test_reordering_needs_a_hit_even_with_random_delays() -> None:
    def arrivals(faults: Faults) -> list[int]:
        broker = broker_with(READER, WRITER, faults=faults)
        for number in range(100):
            broker.publish("writer", "a/b", bytes([number]), 0.01 * number)
        return [payload[0] for payload in payloads(broker.due(99.0))]

    assert arrivals(Faults(delay_s=(0.1, 2.0))) == list(range(100))
    shuffled = arrivals(Faults(delay_s=(0.1, 2.0), reorder=0.2))
    assert shuffled != list(range(100))
    assert sorted(shuffled) == list(range(100))


NAMES = ("reader", "keeper", "writer")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(NAMES), st.sampled_from(["a/x", "a/y", "b"])),
        st.tuples(
            st.sampled_from(["connect", "die", "leave", "cut", "mend"]), st.sampled_from(NAMES)
        ),
        st.tuples(st.sampled_from(["forget", "due", "acknowledge"])),
    ),
    max_size=60,
)


def play(script: list[tuple[str, ...]], faults: Faults, seed: int) -> list[Delivery]:
    """Run a script of calls one second apart and return all that was delivered."""
    broker = MemoryBroker(random.Random(seed), faults)
    sessions = {s.client_id: s for s in (READER, KEEPER, WRITER)}
    log: list[Delivery] = []
    for now, step in enumerate(script):
        match step:
            case ("publish", name, topic):
                broker.publish(name, topic, b"%d" % now, now, retain=now % 5 == 0)
            case ("connect", name):
                broker.connect(sessions[name], now)
            case ("die", name) | ("leave", name):
                broker.disconnect(name, now, clean=step[0] == "leave")
            case ("cut", name):
                broker.cut(name, now)
            case ("mend", name):
                broker.mend(name, now)
            case ("forget",):
                broker.forget(now)
            case ("acknowledge",):
                for delivery in log:
                    if isinstance(delivery.event, Received):
                        broker.acknowledge(delivery.client_id, delivery.event.token)
            case _:
                log += broker.due(now)
    due = broker.next_due()
    while due is not None:
        log += broker.due(due)
        due = broker.next_due()
    return log


EVERYTHING = Faults(0.1, 0.2, 0.2, 0.1, 0.1, (0.0, 3.0))


@given(steps, st.integers(0, 2**32))
def test_same_seed_same_deliveries(script: list[tuple[str, ...]], seed: int) -> None:
    assert play(script, EVERYTHING, seed) == play(script, EVERYTHING, seed)


@given(steps, st.integers(0, 2**32))
def test_events_follow_the_port(script: list[tuple[str, ...]], seed: int) -> None:
    """A message is never handed to a client between Disconnected and Connected."""
    connected: set[str] = set()
    for delivery in play(script, EVERYTHING, seed):
        match delivery.event:
            case Connected():
                connected.add(delivery.client_id)
            case Disconnected():
                connected.discard(delivery.client_id)
            case Received():
                assert delivery.client_id in connected


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(["p", "q"]), st.sampled_from(["a/x", "a/y"])), max_size=40),
    st.tuples(st.floats(0.0, 5.0), st.floats(5.0, 9.0)),
    st.integers(0, 2**32),
)
def test_without_faults_everything_comes_once_and_in_order(
    sent: list[tuple[str, str]], delay_s: tuple[float, float], seed: int
) -> None:
    broker = MemoryBroker(random.Random(seed), Faults(delay_s=delay_s))
    for session in (READER, SessionSettings("p", ()), SessionSettings("q", ())):
        broker.connect(session, 0.0)
    for number, (publisher, topic) in enumerate(sent):
        assert broker.publish(publisher, topic, b"%d" % number, float(number))
    received = messages(broker.due(1e6))
    assert sorted(int(e.payload) for e in received) == list(range(len(sent)))
    for way in set(sent):
        numbers = [int(e.payload) for e in received if sent[int(e.payload)] == way]
        assert numbers == sorted(numbers)
