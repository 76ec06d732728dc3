"""The coordinator's server: its machine, its disk, and how a journal is replayed."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from plantfed_coordinator import audit_chain, effects
from plantfed_coordinator import events as coordinator_events
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import EpochStarted, Record
from plantfed_coordinator.releases import Selector, draw_participants
from plantfed_coordinator.state import FederationState
from plantfed_lab.simulation.engine import Boundary, Simulation
from plantfed_lab.simulation.process import ProcessHost
from plantfed_shared.bus.port import (
    BusEvent,
    Connected,
    Received,
    SessionSettings,
)
from plantfed_shared.topics import COORDINATOR, Topics
from plantfed_shared.transfer import Blob


class CoordinatorHost(
    ProcessHost[FederationMachine, coordinator_events.Event, coordinator_events.Action]
):
    """The coordinator's server: its machine and its journal; its computing takes no virtual time.

    Args:
        simulation: it is part of.
        topics: of the federation.
        founding: the first record.
        new_bits: draws 64 random bits for a new epoch.
        client_id: on the broker; None for the coordinator's usual one.

    Attributes:
        select: draws the participants of synchronous rounds.
        artefact: of a compiled model, which it serves.
        journal: survives a crash.
        quarantined: agents that are not listened to, and why; survives a crash.
        audit: the audit log, which survives a crash.
        keeps_journal: False where nothing will ever be replayed: it holds every update there was,
            and the audit log every refusal.
        load: makes the state of a journal at a start.
        commits_within_s: what arrives within so long is committed together; 0 for one by one.
        observe: told of every record right after it was persisted.
    """

    def __init__(
        self,
        simulation: Simulation,
        topics: Topics,
        founding: EpochStarted,
        new_bits: Callable[[], int],
        client_id: str | None = None,
    ) -> None:
        super().__init__(simulation, client_id or f"{topics.federation}-{COORDINATOR}")
        self.select: Selector = draw_participants
        self.artefact: Blob | None = None
        self.journal: list[Record] = [founding]
        self.quarantined: dict[str, str] = {}
        self.audit: list[audit_chain.Line] = []
        self.keeps_journal = True
        self.load: Callable[[Sequence[Record]], FederationState] = replay
        self.commits_within_s = 0.0
        self.observe: Callable[[Record], None] = lambda _: None
        self._topics = topics
        self._new_bits = new_bits
        self._batch: list[coordinator_events.Action] = []
        self._tokens: list[int] = []

    def start(self) -> None:
        """Start the coordinator from its journal."""
        self.machine = FederationMachine(
            self.load(self.journal),
            self._topics,
            self._new_bits,
            self.monotonic_s,
            self.select,
            quarantined=self.quarantined,
            artefact=self.artefact,
        )
        session = SessionSettings(
            self.client_id, self._topics.coordinator_subscriptions(), persistent=True
        )
        self._simulation.hosts[self.client_id] = self
        self._simulation.broker.connect(session, self._simulation.now)

    def crash(self) -> None:
        """Kill the coordinator; only its disk is left.

        Raises:
            RuntimeError: it keeps none.
        """
        if not self.keeps_journal:
            raise RuntimeError("a coordinator that keeps no journal can't come back")
        self.machine = None
        self._batch, self._tokens = [], []
        self._simulation.broker.disconnect(self.client_id, self._simulation.now, clean=False)

    @property
    def has_uncommitted(self) -> bool:
        """Whether its machine is ahead of the journal: something waits to be committed."""
        return bool(self._batch)

    def edit(self, definition: bytes) -> None:
        """Put other settings in force, as an operator does with a start.

        Args:
            definition: canonical bytes, of the same structure.
        """
        if self.machine is not None:
            self._carry_out(self.machine.start_epoch(definition, "the settings were edited"))
            self._simulation.watch_timer(self)

    def _event_of(self, event: BusEvent) -> coordinator_events.Event | None:
        match event:
            case Connected(max_payload_bytes):
                return coordinator_events.BusConnected(max_payload_bytes)
            case Received(topic, payload, _, retained):
                return coordinator_events.MessageArrived(topic, payload, retained)
            case _:
                return None

    def _time_has_passed(self) -> coordinator_events.Event:
        return coordinator_events.TimerDue()

    def receive(self, event: BusEvent) -> None:
        """Take in what the broker delivers; acknowledged with the batch it falls into."""
        told = self._event_of(event)
        if told is None or self.machine is None:
            return
        tokens = [event.token] if isinstance(event, Received) else []
        self._take(self.machine.handle(told, self.monotonic_s), tokens)
        self._simulation.watch_timer(self)

    def _carry_out(self, actions: Sequence[coordinator_events.Action]) -> None:
        self._take(actions, [])

    def _take(self, actions: Sequence[coordinator_events.Action], tokens: list[int]) -> None:
        begins, machine = not (self._batch or self._tokens), self.machine
        self._batch += actions
        self._tokens += tokens
        if not self.commits_within_s:
            self._finish(machine)
        elif begins:
            self._simulation.after(self.commits_within_s, partial(self._finish, machine))

    def _finish(self, machine: FederationMachine | None) -> None:
        if self.machine is not machine:
            return  # it has been killed meanwhile
        batch, self._batch = self._batch, []
        tokens, self._tokens = self._tokens, []
        for effect in effects.in_order(batch, tokens):
            if not self._do(effect):
                return

    def _do(self, effect: effects.Effect) -> bool:
        """Do one of them; returns whether the process lives on."""
        match effect:
            case effects.Commit(records):
                return self._write(partial(self._append, records))
            case effects.PutDown(actions):
                return self._write(partial(self._put_down, actions))
            case coordinator_events.Publish(topic, payload, retain):
                return self._publish(topic, payload, retain=retain)
            case effects.Acknowledge(token):
                self._acknowledge(token)
        return not self.is_down

    def _write(self, write: Callable[[], None]) -> bool:
        return self._simulation.survives(self, Boundary.PERSIST) and self._commit(write)

    def _append(self, records: Iterable[Record]) -> None:
        if self.keeps_journal:
            self.journal += records
        for record in records:
            self.observe(record)

    def _put_down(self, actions: Iterable[coordinator_events.Action]) -> None:
        if self.keeps_journal:
            self.audit += audit_chain.lines_of(actions)
        for action in actions:
            if isinstance(action, coordinator_events.Quarantine):
                self.quarantined.pop(action.agent, None)
                if action.reason is not None:
                    self.quarantined[action.agent] = action.reason


def replay(journal: Iterable[Record]) -> FederationState:
    """The state after all records of a journal.

    Raises:
        ValueError: it doesn't begin with the start of an epoch.
    """
    records = iter(journal)
    founding = next(records)
    if not isinstance(founding, EpochStarted):
        raise ValueError("a journal begins with the start of an epoch")
    state = FederationState.begin(founding)
    for record in records:
        state.apply(record)
    return state
