"""A hostile corpus against living processes: nobody dies, nothing changes, all is on record."""

from contextlib import suppress
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tests.e2e.hostile_corpus import ENVELOPES, OF_A_MEMBER, Insider, Said
from tests.e2e.outcomes import run_coordinator
from tests.e2e.plant import FEDERATION, Agent, Plant, as_json
from tests.e2e.processes import find_mosquitto, run, until

from plantfed_coordinator.audit_chain import Entry
from plantfed_coordinator.audit_log import read_entries
from plantfed_shared.lattice import checksum
from plantfed_shared.topics import COORDINATOR, Kind, Topics

TOPICS = Topics(FEDERATION)
MAX_RSS = 200 * 10**6

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


class Client:
    """Somebody with credentials and any program of their own."""

    def __init__(self, plant: Plant, name: str, password_file: Path) -> None:
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"evil-{name}")
        self._client.username_pw_set(name, password_file.read_text().strip())
        self._client.connect("127.0.0.1", plant.port)
        self._client.loop_start()
        until(self._client.is_connected, f"{name} is connected")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, 1, retain=retain).wait_for_publish(10)

    def say(self, agent: str, said: Said) -> None:
        kind, payload = said
        topic = TOPICS.status(agent) if kind is Kind.STATUS else TOPICS.up(agent, kind)
        self.publish(topic, payload)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Siege:
    """A plant at rest: one member whose credentials are stolen, and somebody who never joined."""

    def __init__(self, plant: Plant, **limits: object) -> None:
        self.plant = plant
        self.stranger = plant.add_agent("m9")
        plant.configure(limits=limits)
        plant.start_broker("mosquitto")
        plant.start_coordinator().says("connected to the broker")
        agent = plant.agents[0]
        agent.start()
        plant.goes_on(3)
        assert agent.process.stop() == 0
        until(lambda: not plant.federation().changed, "all of it is released")
        self.before = self.fingerprint()

    def fingerprint(self) -> tuple[int, int, int, int]:
        state = self.plant.federation()
        return checksum(state.model), state.k, state.updates, state.epoch.counter

    def entries(self) -> list[Entry]:
        return read_entries(self.plant.state_dir)

    def client(self, agent: Agent) -> Client:
        return Client(self.plant, agent.id, agent.folder / "password")

    def process(self) -> psutil.Process:
        assert self.plant.coordinator is not None
        return psutil.Process(self.plant.coordinator.pid)

    def leaves_one_entry(self, client: Client, agent: str, case: str, said: list[Said]) -> Entry:
        before = self.entries()[-1].number
        for one in said:
            client.say(agent, one)
        until(lambda: self.entries()[-1].number > before, f"an entry of {case!r}")
        new = [e for e in self.entries() if e.number > before]
        assert len(new) == 1, (case, new)
        assert (new[0].line.agent, new[0].line.times) == (agent, 1), case
        return new[0]

    def nothing_has_changed(self) -> None:
        assert self.fingerprint() == self.before
        for service in (self.plant.coordinator, self.plant.broker):
            assert service is not None
            process = psutil.Process(service.pid)
            assert process.is_running()
            assert process.memory_info().rss < MAX_RSS
        code, _, err = run_audit(self.plant, "verify")
        assert code == 0, err


def run_audit(plant: Plant, *arguments: object) -> tuple[int, str, str]:
    outcome = run("coordinator", "audit", *arguments, "--config", plant.config)
    return outcome.code, outcome.out, outcome.err


@pytest.mark.timeout(180)
def test_every_message_of_the_corpus_leaves_one_entry_and_nothing_else(plant: Plant) -> None:
    siege = Siege(plant, offences=100_000)
    (member,) = [a for a in plant.agents if a.id == "m1"]
    insider, stranger = siege.client(member), siege.client(siege.stranger)
    assert len(ENVELOPES) + len(OF_A_MEMBER) >= 40
    started = siege.process().memory_info().rss
    for case, said in ENVELOPES.items():
        siege.leaves_one_entry(stranger, "m9", case, [said])
    knows = Insider("m1", plant.federation())
    for case, make in OF_A_MEMBER.items():
        siege.leaves_one_entry(insider, "m1", case, make(knows))
    # the rest of what the member can send
    last = list(ENVELOPES.items())[: 60 - len(OF_A_MEMBER)]
    for case, said in last:
        siege.leaves_one_entry(insider, "m1", case, [said])
    siege.nothing_has_changed()
    assert siege.process().memory_info().rss - started < 50 * 10**6
    # it still works
    for client in (insider, stranger):
        client.close()
    member.start()
    plant.goes_on(1)


def test_what_the_broker_does_not_allow_never_arrives(plant: Plant) -> None:
    siege = Siege(plant)
    before = siege.entries()[-1].number
    payload = ENVELOPES["no weight"][1]
    for topic in (
        TOPICS.up("m1", Kind.UPDATE),
        TOPICS.up("m1", Kind.BYE),
        TOPICS.status("m1"),
        TOPICS.down("m1", Kind.WELCOME),
        TOPICS.manifest,
        TOPICS.lane(1, 1),
        f"{TOPICS.prefix}../up/hello",
        f"{TOPICS.prefix}m9/up/hello/../../m1/up/bye",
        f"{TOPICS.prefix}m9'; DROP TABLE journal;--/up/hello",
        "plantfed/v1/other/m9/up/hello",
        "$SYS/broker/uptime",
    ):
        forger = siege.client(siege.stranger)
        with suppress(RuntimeError):  # this broker ends the connection for some of them
            forger.publish(topic, payload, retain=True)
        forger.close()
    forger = siege.client(siege.stranger)
    siege.leaves_one_entry(forger, "m9", "the last", [ENVELOPES["one byte"]])
    assert siege.entries()[-1].number == before + 1
    siege.nothing_has_changed()
    forger.close()


def test_an_agent_that_goes_on_offending_is_quarantined_until_it_is_released(plant: Plant) -> None:
    siege = Siege(plant)
    (member,) = [a for a in plant.agents if a.id == "m1"]
    insider = siege.client(member)
    for _ in range(11):
        insider.say("m1", ENVELOPES["no weight"])
    until(lambda: siege.entries()[-1].line.kind == "quarantined", "it is quarantined")
    insider.close()
    overview = as_json(run_coordinator(plant, "members", "--json"))
    assert "after 11 offences" in overview["quarantined"]["m1"]
    assert plant.coordinator is not None
    plant.coordinator.kill()
    plant.start_coordinator().says("connected to the broker")
    agent = member.start()
    agent.says("the coordinator does not listen to this agent (quarantined after 11 offences")
    siege.nothing_has_changed()
    released = run("coordinator", "members", "--config", plant.config, "release", "m1")
    assert (released.code, released.out) == (0, "release m1: done\n")
    plant.goes_on(1)
    assert as_json(run_coordinator(plant, "members", "--json"))["quarantined"] == {}
    kinds = [e.line.kind for e in siege.entries()]
    assert kinds.count("quarantined") == kinds.count("released") == 1
    again = run("coordinator", "members", "--config", plant.config, "release", "m1")
    assert (again.code, again.out) == (78, "")


def test_an_agent_survives_a_coordinator_that_is_hostile(plant: Plant) -> None:
    """Somebody has the coordinator's password, and its place: the broker knows a user once."""
    plant.start("mosquitto")
    plant.goes_on(2)
    agent = plant.agents[0]
    assert plant.coordinator is not None
    assert plant.coordinator.stop() == 0
    before = agent.state()
    evil = Client(plant, COORDINATOR, plant.broker_dir / "coordinator.password")
    for _, payload in ENVELOPES.values():
        for kind in (Kind.WELCOME, Kind.CHUNK):
            evil.publish(TOPICS.down(agent.id, kind), payload)
    evil.close()
    agent.process.says("ignored a message")
    assert psutil.Process(agent.process.pid).memory_info().rss < MAX_RSS
    after = agent.state()
    assert (after.model_name, after.incarnation) == (before.model_name, before.incarnation)
    assert after.dual_checksum == before.dual_checksum
    # what the coordinator had not read is lost with its session; the agent says it again in 30 s
    assert agent.process.stop() == 0
