"""Topics: parsing is the inverse of building, and permissions cover exactly what is needed."""

import re
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from plantfed_shared.bus.filters import matches
from plantfed_shared.errors import ConfigError, PeerError
from plantfed_shared.topics import (
    COORDINATOR,
    DOWN,
    EVERYBODY,
    ID_PATTERN,
    RESERVED_IDS,
    ROOT_PATTERN,
    UP,
    Address,
    Kind,
    Permission,
    Topics,
    check_id,
)

ids = st.from_regex(ID_PATTERN, fullmatch=True).filter(lambda name: name not in RESERVED_IDS)
roots = st.from_regex(ROOT_PATTERN, fullmatch=True)
federations = st.builds(Topics, ids, roots)
PRESSES = Topics("presses")


@given(federations, ids)
def test_parse_is_the_inverse_of_build(topics, agent):
    for kind in UP:
        assert topics.parse(topics.up(agent, kind)) == Address(agent, "up", kind)
    for kind in DOWN:
        assert topics.parse(topics.down(agent, kind)) == Address(agent, "down", kind)
    assert topics.parse(topics.status(agent)) == Address(agent, "", Kind.STATUS)
    assert topics.parse(topics.manifest) == Address(EVERYBODY, "", Kind.MODEL)
    assert topics.parse(topics.lane(2**32 - 1, 4095)) == Address(EVERYBODY, "", Kind.CHUNK)


def build(topics: Topics, address: Address) -> str:
    if address.kind is Kind.MODEL:
        return topics.manifest
    if address.agent == EVERYBODY:
        return topics.lane(7, 0)
    if address.kind is Kind.STATUS:
        return topics.status(address.agent)
    side = topics.up if address.direction == "up" else topics.down
    return side(address.agent, address.kind)


levels = ids | st.sampled_from(
    ["all", "up", "down", "", "+", "#", "..", COORDINATOR, "v1", *Kind, *RESERVED_IDS]
)


@given(federations, st.lists(levels, max_size=5).map("/".join) | st.text(max_size=30))
def test_what_is_parsed_would_be_built_again(topics, rest):
    topic = topics.prefix + rest
    try:
        address = topics.parse(topic)
    except PeerError:
        return
    assert build(topics, address) == topic


@given(federations, federations, ids, st.sampled_from(UP))
def test_topics_of_another_federation_are_refused(ours, theirs, agent, kind):
    assume(ours != theirs)
    with pytest.raises(PeerError):
        ours.parse(theirs.up(agent, kind))


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "press-07",
        "press-07/",
        "press-07/up",
        "press-07/up/",
        "press-07/up/hello/",
        "press-07/up/hello/more",
        "press-07/up/welcome",
        "press-07/down/hello",
        "press-07/up/status",
        "press-07/down/status",
        "press-07/up/model",
        "press-07/model",
        "press-07/sideways/need",
        "press-07/UP/hello",
        "press-07/up/HELLO",
        "all/status",
        "all/up/hello",
        "all/down/state",
        "coordinator/up/hello",
        "broker/status",
        "_coordinator/up/hello",
        "Press-07/up/hello",
        "-press/up/hello",
        "press 07/up/hello",
        "press-07\n/up/hello",
        "pressé/up/hello",
        "/up/hello",
        "+/up/hello",
        "#",
        "p" * 64 + "/up/hello",
        "x" * 60_000,
    ],
)
def test_odd_topics_are_refused(rest):
    with pytest.raises(PeerError) as refused:
        PRESSES.parse(PRESSES.prefix + rest)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "press-07/up/hello",
        "plantfed/v1/press/press-07/up/hello",
        "plantfed/v1/presses2/press-07/up/hello",
        "plantfed/v2/presses/press-07/up/hello",
        "site/plantfed/v1/presses/press-07/up/hello",
        "$SYS/broker/version",
    ],
)
def test_foreign_topics_are_refused(topic):
    with pytest.raises(PeerError, match="not a topic of this federation"):
        PRESSES.parse(topic)


@given(federations, ids)
def test_no_topic_has_more_than_seven_slashes(topics, agent):
    built = [build(topics, address) for address in addresses([agent])]
    filters = [*topics.agent_subscriptions(agent), *topics.coordinator_subscriptions()]
    assert max(topic.count("/") for topic in [*built, *filters]) <= 7


def test_the_longest_topic_fits_the_smallest_limit():
    # AWS IoT Core: 256 bytes and seven slashes
    longest = Topics("f" * 63, f"{'r' * 20}/{'s' * 19}").up("a" * 63, Kind.WELCOME)
    assert longest.count("/") == 6
    assert len(longest) <= 256


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize(
    "name",
    ["", "-press", "Press", "press_07", "press.07", "a/b", "+", "#", "é", "p" * 64, "p\n", " p"],
)
def test_other_ids_are_refused(name):
    with pytest.raises(ConfigError, match=r"agent id .* is not allowed"):
        check_id(name, "agent id")
    with pytest.raises(ConfigError, match=r"federation id .* is not allowed"):
        Topics(name)


@pytest.mark.parametrize("name", sorted(RESERVED_IDS))
def test_reserved_ids_are_refused(name):
    with pytest.raises(ConfigError, match="none of: all, broker, coordinator"):
        check_id(name, "agent id")


def test_no_agent_can_be_named_like_the_coordinator():
    assert not re.fullmatch(ID_PATTERN, COORDINATOR)
    assert EVERYBODY in RESERVED_IDS


@pytest.mark.parametrize("name", ["0", "press-07", "a" * 63, "up", "v1", "status"])
def test_ids_pass_unchanged(name):
    assert check_id(name, "agent id") == name


@pytest.mark.parametrize("root", ["", "/", "a/", "/a", "a/b/c", "a b", "a+", "#", "$SYS", "a\n"])
def test_other_roots_are_refused(root):
    with pytest.raises(ConfigError, match="topic root"):
        Topics("presses", root)


# ---------------------------------------------------------------- subscriptions and permissions

AGENTS = ["press-07", "press-08"]
LANE = Address(EVERYBODY, "", Kind.CHUNK)


def addresses(agents: list[str]) -> list[Address]:
    """Everything that may be said in a federation."""
    return [
        Address(EVERYBODY, "", Kind.MODEL),
        LANE,
        *(Address(agent, "", Kind.STATUS) for agent in agents),
        *(Address(agent, "up", kind) for agent, kind in product(agents, UP)),
        *(Address(agent, "down", kind) for agent, kind in product(agents, DOWN)),
    ]


def named(address: Address) -> str:
    return f"{address.agent} {address.direction} {address.kind}"


def is_granted(permissions: tuple[Permission, ...], user: str, access: str, topic: str) -> bool:
    return any(
        p.user == user and p.access in (access, "readwrite") and matches(p.topic, topic)
        for p in permissions
    )


def is_needed_by_agent(agent: str, access: str, address: Address) -> bool:
    if address.agent == EVERYBODY:
        return access == "read"
    own = "read" if address.direction == "down" else "write"
    return address.agent == agent and access == own


def is_needed_by_coordinator(access: str, address: Address) -> bool:
    if address.kind is Kind.MODEL:
        return True
    return access == ("write" if address == LANE or address.direction == "down" else "read")


@pytest.mark.parametrize("access", ["read", "write"])
@pytest.mark.parametrize("address", addresses(AGENTS), ids=named)
@pytest.mark.parametrize("root", ["plantfed", "site/plantfed"])
def test_permissions_are_exactly_what_is_needed(root, address, access):
    topics = Topics("presses", root)
    topic = build(topics, address)
    for agent in AGENTS:
        granted = is_granted(topics.permissions(agent), agent, access, topic)
        assert granted == is_needed_by_agent(agent, access, address), agent
    granted = is_granted(topics.coordinator_permissions(), COORDINATOR, access, topic)
    assert granted == is_needed_by_coordinator(access, address)


@given(federations, ids)
def test_permissions_name_one_user_and_stay_in_the_federation(topics, agent):
    for permission in topics.permissions(agent):
        assert permission.user == agent
        assert permission.access in ("read", "write")
        assert permission.topic.startswith(f"{topics.prefix}{agent}/") or (
            permission.access == "read" and permission.topic.startswith(f"{topics.prefix}all/")
        )
    for permission in topics.coordinator_permissions():
        assert permission.user == COORDINATOR
        assert permission.topic.startswith(topics.prefix)


@given(federations, ids)
def test_every_subscription_is_one_granted_line(topics, agent):
    # NATS grants a filter only if one line covers all of it
    granted = {p.topic for p in topics.permissions(agent) if "read" in p.access}
    lanes = topics.lane(0, 0).replace("0-0", "+")
    assert {*topics.agent_subscriptions(agent), lanes} == granted
    granted = {p.topic for p in topics.coordinator_permissions() if "read" in p.access}
    assert set(topics.coordinator_subscriptions()) == granted


@pytest.mark.parametrize("address", addresses(AGENTS), ids=named)
def test_subscriptions_receive_what_is_meant_for_them(address):
    topic = build(PRESSES, address)

    def receives(filters: tuple[str, ...]) -> bool:
        return any(matches(topic_filter, topic) for topic_filter in filters)

    for agent in AGENTS:
        expected = is_needed_by_agent(agent, "read", address) and address != LANE
        assert receives(PRESSES.agent_subscriptions(agent)) == expected
    expected = is_needed_by_coordinator("read", address)
    assert receives(PRESSES.coordinator_subscriptions()) == expected
