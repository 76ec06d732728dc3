"""What is fuzzed: functions of bytes that may raise the documented error and nothing else.

A target also checks what it gets; an AssertionError is a finding like any other escape.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from math import inf

import numpy as np
from tests.federation_world import small_definition
from tests.fuzz.artefacts import artefact_in
from tests.shared.wire_payloads import payload_with

from plantfed_agent.compiled_dense import dense_kernel
from plantfed_agent.settings import AgentSettings
from plantfed_coordinator.events import MessageArrived
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import EpochStarted, Joined
from plantfed_coordinator.settings import CoordinatorSettings
from plantfed_coordinator.state import FederationState
from plantfed_shared import wire
from plantfed_shared.artefact import Artefact
from plantfed_shared.codec import decode_integers, decode_model, largest_encoding_bytes
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.digest import content_digest
from plantfed_shared.errors import ConfigError, ModelError, PeerError
from plantfed_shared.lattice import MAX_MAGNITUDE, Lattice
from plantfed_shared.messages import Content, Epoch
from plantfed_shared.settings_file import parse_settings
from plantfed_shared.topics import UP, Kind, Topics, check_id
from plantfed_shared.transfer import WINDOW_BYTES, Assembly

KINDS = tuple(Kind)
LATTICES = tuple(
    Lattice(tuple(r * c for r, c in shapes), (16,) * len(shapes), rows=tuple(r for r, _ in shapes))
    for shapes in (((1, 5),), ((12, 9), (1, 9)), ((1, 400),), ((40, 30), (1, 30), (30, 4)))
)
TOPICS = Topics("toy")
MEMBERS = ("a", "b")


def fuzz_wire(data: bytes) -> None:
    """A payload of some kind: as it is, or (kind, lengths) with a right checksum around it."""
    if len(data) < 3:
        return
    kind = KINDS[data[0] % len(KINDS)]
    payload = data[2:]
    if data[1] % 4:
        header = data[3 : 3 + data[1]]
        payload = payload_with(kind, header, data[3 + len(header) :], bytes(data[2] % 3))
    try:
        envelope = wire.decode(payload, kind)
    except PeerError:
        return
    # what is taken can be said again, and is the same then
    again = wire.decode(wire.encode(envelope.message, bytes(envelope.tail)), kind)
    assert again.message == envelope.message
    assert again.tail == envelope.tail


def fuzz_codec(data: bytes) -> None:
    """The tail of an UPDATE, or the content of a model, on one of some lattices."""
    if not data:
        return
    lattice = LATTICES[data[0] % len(LATTICES)]
    encoded = data[1 : 1 + largest_encoding_bytes(lattice)]
    try:
        if data[0] & 0x80:
            integers = decode_model(encoded, lattice).integers
        else:
            integers = decode_integers(encoded, lattice)
    except PeerError:
        return
    assert integers.shape == (lattice.size,)
    assert integers.dtype == np.int64
    assert int(np.abs(integers).max(initial=0)) < MAX_MAGNITUDE


def fuzz_chunks(data: bytes) -> None:
    """A transfer as its receiver sees it: each four bytes are a chunk, or something it does."""
    if len(data) < 4:
        return
    size = 1 + int.from_bytes(data[:2], "little") % 5000
    whole = (data * (size // len(data) + 1))[:size]
    # half of the transfers can be finished
    digest = content_digest(whole if data[2] & 1 else data)
    assembly = Assembly(Content(digest, size), window_bytes=1 + data[3] * 16)
    for at in range(4, len(data) - 3, 4):
        do, low, high, length = data[at : at + 4]
        offset = low + 256 * (high % 32)
        with suppress(PeerError):
            _do(assembly, do % 8, offset, whole[offset : offset + 8 * length] or b"x" * length)
        assert assembly.bytes_on_their_way <= max(assembly.window_bytes, WINDOW_BYTES)
        assert 0 <= assembly.missing_bytes <= size


def _do(assembly: Assembly, do: int, offset: int, piece: bytes) -> None:
    if do == 0:
        assembly.lost()
    elif do == 1:
        assembly.lost()
        if assembly.missing_bytes:  # else nobody asks
            assembly.next_need()
    elif do == 2:
        assembly.next_parts()
    elif do == 3:
        assembly.part_is_lost(offset)
    else:
        assembly.accept(offset, piece)
        found = assembly.finished()
        assert found is None or len(found) == assembly.content.size


def fuzz_topics(data: bytes) -> None:
    """A topic as a broker delivers it, and an id as a user types it."""
    text = data.decode("utf-8", "replace")
    for topic in (text, TOPICS.prefix + text):
        try:
            address = TOPICS.parse(topic)
        except PeerError:
            continue
        made = {
            TOPICS.manifest,
            TOPICS.status(address.agent),
            TOPICS.up(address.agent, address.kind),
            TOPICS.down(address.agent, address.kind),
        }
        assert topic in made or topic.startswith(f"{TOPICS.prefix}all/chunk/")
        assert "/../" not in topic
    for make in (lambda: check_id(text, "agent id"), lambda: Topics("toy", text)):
        try:
            make()
        except ConfigError:
            continue
        assert text.isascii()
        assert text.isprintable()


def fuzz_settings(data: bytes) -> None:
    """A settings file of one of the programs."""
    if not data:
        return
    text = data[1:].decode("utf-8", "replace")
    model = (FederationDefinition, AgentSettings, CoordinatorSettings)[data[0] % 3]
    with suppress(ConfigError):
        parse_settings(text, model, "file")


@lru_cache(maxsize=1)
def coordinator(number: int) -> FederationMachine:
    state = FederationState.begin(
        EpochStarted(Epoch(1, 5), 0, small_definition().to_bytes(), "created")
    )
    for agent in MEMBERS:
        state.apply(Joined(agent, 1))
    return FederationMachine(state, TOPICS, lambda: 77, 0.0)


_calls = 0


def fuzz_coordinator(data: bytes) -> None:
    """A message to a whole coordinator: from a member or not, header and tail of any kind."""
    global _calls
    if len(data) < 3:
        return
    _calls += 1
    machine = coordinator(_calls // 25)
    agent = ("a", "b", "stranger")[data[0] % 3]
    kind = UP[data[1] % len(UP)]
    header = data[3 : 3 + data[2]]
    payload = payload_with(kind, header, data[3 + data[2] :])
    # time passes, so that neither rates nor quarantine are all that is seen
    machine.handle(MessageArrived(TOPICS.up(agent, kind), payload), 700.0 * _calls)
    for weight in (m.contribution.weight for m in machine.state.members.values()):
        assert weight == 1


def fuzz_artefact(data: bytes) -> None:
    """A compiled model, as ``plantfed-compile`` writes it and an agent has it from the bus."""
    if not data:
        return
    try:
        artefact = Artefact.from_bytes(artefact_in(data))
        dense_kernel(artefact)
    except ModelError as error:
        _look_at_line(str(error))
        return
    manifest = artefact.manifest
    begun, known = artefact.initial(), (*manifest.parameters, *manifest.statistics)
    assert [v.shape for v in begun.values()] == [t.shape for t in known]
    test = artefact.self_test_arrays()
    assert manifest.self_test.tolerance < inf
    assert list(test) == [a.name for a in manifest.self_test.arrays]
    specification = manifest.parameter_specification()
    split = (*specification.shared, *specification.personal)
    assert sorted(p.name for p in split) == sorted(p.name for p in manifest.parameters)
    # what is taken can be written again, and is the same then
    assert Artefact.from_bytes(artefact.to_bytes()) == artefact


def _look_at_line(said: str) -> None:
    assert said.isprintable()


Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {
    "wire": fuzz_wire,
    "codec": fuzz_codec,
    "chunks": fuzz_chunks,
    "topics": fuzz_topics,
    "settings": fuzz_settings,
    "coordinator": fuzz_coordinator,
    "artefact": fuzz_artefact,
}
SHARES = {
    "wire": 0.43,
    "codec": 0.15,
    "chunks": 0.1,
    "topics": 0.2,
    "settings": 0.03,
    "coordinator": 0.07,
    "artefact": 0.02,
}
"""Of all inputs: those that are quick to try get more."""
