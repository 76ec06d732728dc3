"""Many agents that want one long model at once: what the broker is given, and what it queues."""

from tests.machines.fan_out_world import FAST, THIN, FanOut

from plantfed_lab.simulation.links import LinkQuality
from plantfed_shared.bus.faults import Faults
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.topics import Kind
from plantfed_shared.transfer import WINDOW_BYTES

QUEUE_BYTES = WINDOW_BYTES + MAX_MESSAGE_BYTES


def test_two_hundred_that_join_at_once_cost_the_broker_one_copy() -> None:
    world = FanOut(200)
    assert world.run(120, until=world.all_have_it)
    longest = max(world.queues.longest[name] for name in world.agents)
    print(f"{world.copies:.3f} copies, {longest} bytes queued at most, {world.now:.1f} s")
    assert world.model_bytes > 3 * WINDOW_BYTES
    assert world.copies <= 1.1
    assert longest <= QUEUE_BYTES


def test_one_thin_link_among_two_hundred_has_its_window_in_the_broker_and_holds_nobody_up() -> None:
    world = FanOut(200, lambda number: THIN if number == 7 else FAST)
    assert world.run(60, until=lambda: world.have_the_model() == 199)
    fast_s = world.now
    assert world.agents["m07"].disk.model is None
    assert world.run(300, until=world.all_have_it)
    queued = world.queues.longest["m07"]
    print(
        f"{world.copies:.3f} copies, {queued} bytes queued, fast {fast_s:.1f} s {world.now:.1f} s"
    )
    assert queued <= QUEUE_BYTES
    assert world.copies <= 2.1
    assert fast_s < 15


def test_links_of_all_speeds_share_with_those_of_their_pace() -> None:
    qualities = [LinkQuality(r * 1e3, r * 1e3, latency_s=0.15) for r in range(64, 257, 4)]
    world = FanOut(len(qualities), lambda number: qualities[number])
    assert world.run(600, until=world.all_have_it)
    longest = max(world.queues.longest[name] for name in world.agents)
    print(f"{len(qualities)} agents: {world.copies:.3f} copies, {longest} bytes, {world.now:.0f} s")
    assert world.copies < len(qualities) / 4
    assert world.now < 1.15 * 8 * world.model_bytes / 64e3
    assert longest <= QUEUE_BYTES


def test_losses_doubles_and_disorder_only_cost_time() -> None:
    faults = Faults(drop=0.05, duplicate=0.1, reorder=0.2, delay_s=(0.01, 0.2))
    world = FanOut(30, faults=faults, seed=3)
    assert world.run(900, until=world.all_have_it)
    print(f"{world.copies:.2f} copies for 30 agents, {world.now:.0f} s")
    assert world.copies < 15


def test_what_a_broker_drops_or_denies_on_lanes_comes_to_each_agent_alone() -> None:
    world = FanOut(6)
    world.broker.allows = lambda client_id, topic: client_id not in ("m01", "m02")
    assert world.run(60, until=world.all_have_it)
    for name in ("m01", "m02"):
        assert world.ingress[world.topics.down(name, Kind.CHUNK)] > world.model_bytes
    assert world.ingress[world.topics.down("m03", Kind.CHUNK)] == 0
    silent = FanOut(6)
    silent.loses = lambda topic: "/all/chunk/" in topic
    assert silent.run(60, until=silent.all_have_it)
    for name in silent.agents:
        assert silent.ingress[silent.topics.down(name, Kind.CHUNK)] > silent.model_bytes


def test_nothing_comes_twice_on_a_lane() -> None:
    """That is what makes the queue of who listens to it bounded."""
    qualities = [FAST, LinkQuality(300e3, 300e3, 0.1), LinkQuality(150e3, 150e3, 0.2), THIN]
    for seed in range(5):
        faults = Faults(drop=0.02, duplicate=0.1, delay_s=(0.0, 0.5))
        world = FanOut(16, lambda number: qualities[number % 4], faults=faults, seed=seed)
        assert world.run(900, until=world.all_have_it)
        lanes = {key: n for key, n in world.ranges.items() if "/all/" in key[0]}
        assert lanes
        assert set(lanes.values()) == {1}


def test_two_are_served_one_by_one_and_at_once() -> None:
    world = FanOut(2)
    assert world.run(60, until=world.all_have_it)
    assert not any("/all/" in topic for topic in world.ingress)
    assert world.now < 1.0


def test_a_group_goes_on_after_a_crash_of_the_coordinator_and_a_cut_of_everybody() -> None:
    world = FanOut(30, lambda _: LinkQuality(1e6, 1e6, latency_s=0.05))

    def has_published(copies: float) -> bool:
        return world.model_bytes > 0 and world.copies > copies

    assert world.run(60, until=lambda: has_published(0.4))
    for name in world.agents:
        world.broker.cut(name, world.now)
    world.run(1.0)
    for name in world.agents:
        world.broker.mend(name, world.now)
    assert world.run(60, until=lambda: has_published(0.9))
    assert world.have_the_model() == 0
    world.simulation.kill(world.coordinator, 5.0)
    assert world.run(120, until=world.all_have_it)
    print(f"{world.copies:.2f} copies for 30 agents, cut in the middle")
    assert 1.1 < world.copies < 2
    assert not any("/down/" in topic for topic in world.ingress)
