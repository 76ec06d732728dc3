"""The coordinator's shell: waits for something to happen, asks the machine, does what it wants.

Order of every step: persist, publish, acknowledge (:mod:`plantfed_coordinator.effects`).  What
has arrived within a few milliseconds is persisted in one commit.  There is nothing about the
protocol in here.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from plantfed_coordinator import effects
from plantfed_coordinator.audit_log import AuditLog
from plantfed_coordinator.events import (
    Action,
    BusConnected,
    Event,
    MessageArrived,
    Note,
    Publish,
    TimerDue,
)
from plantfed_coordinator.journal import Journal
from plantfed_coordinator.live import LiveCounters
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.probation import Probation
from plantfed_shared.bus.backlog import BACKLOG_BYTES, MESSAGE_BYTES
from plantfed_shared.bus.connection_state import ConnectionState, TroubleKind
from plantfed_shared.bus.port import Bus, BusEvent, Connected, Disconnected, Received, Refused
from plantfed_shared.errors import BrokerRefused
from plantfed_shared.topics import Topics
from plantfed_shared.vitals import Vitals, no_vitals
from plantfed_shared.wall_clock import WallClock, local_time

log = logging.getLogger("plantfed.coordinator")

COMMIT_AT_MOST = 64
"""Events in one commit."""
COMMIT_WITHIN_S = 0.005
"""So long a commit waits for events that are not there yet."""
COMMIT_BACKLOG_WITHIN_S = 0.02
"""So long it takes in those that are."""
LOOK_EVERY_S = 1.0
"""For operators' orders, and to write down what is seen live."""


@dataclass(slots=True)
class _Batch:
    """Events that are committed together."""

    actions: list[Action] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)


class CoordinatorService:
    """Runs one federation until it is told to stop.

    Args:
        machine: the federation's protocol; its state came from the journal.
        bus: not yet opened.
        journal: where records go.
        topics: of the federation.
        clock: monotonic seconds.
        wall_clock: local time, for the bytes per day.
        vitals: told that it lives, at every turn of its loop.
        audit: where refusals go, and who is quarantined; None where nobody will ask.
        probation: decides when it may serve after it has connected; at once without one.
    """

    def __init__(
        self,
        machine: FederationMachine,
        bus: Bus,
        journal: Journal,
        topics: Topics,
        clock: Callable[[], float] = monotonic,
        wall_clock: WallClock = local_time,
        vitals: Vitals | None = None,
        audit: AuditLog | None = None,
        probation: Probation | None = None,
    ) -> None:
        self._machine = machine
        self._bus = bus
        self._journal = journal
        self._audit = audit
        self._live = LiveCounters(
            topics, lambda: machine.state.members, wall_clock, journal.seen_live()
        )
        self._clock = clock
        self._connected_once = False
        self._last_trouble = ""
        self._noted_connection: ConnectionState | None = None
        self._next_look = clock()
        self._vitals = vitals or no_vitals()
        self._probation = probation
        self._held: list[BusEvent] = []
        self._held_bytes = 0
        self._k = machine.state.k
        self._released_at = clock()

    async def run(self, stopped: asyncio.Event) -> None:
        """Serve until ``stopped`` is set.

        Raises:
            PlantfedError: why it can't go on.
        """
        await self._bus.open()
        self._journal.write_connection(self._bus.connection)
        stopping = asyncio.create_task(stopped.wait())
        receiving = asyncio.create_task(self._bus.next_event())
        try:
            while not stopped.is_set():
                self._tell_vitals()
                await asyncio.wait(
                    {stopping, receiving},
                    timeout=self._patience(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                receiving = await self._step(receiving)
        finally:
            self._vitals.stopping()
            stopping.cancel()
            receiving.cancel()
            await asyncio.gather(stopping, receiving, return_exceptions=True)
            await self._bus.close()
        self._journal.append([], self._live.take_changes(self._machine.presence, self._clock()))
        self._journal.finish(self._machine.state)
        self._journal.write_connection(self._bus.connection)

    async def _step(self, receiving: "asyncio.Task[BusEvent]") -> "asyncio.Task[BusEvent]":
        batch = _Batch()
        begin = self._clock()
        while receiving.done():
            self._take(receiving.result(), batch)
            if not batch.actions:
                self._acknowledge(batch)
            receiving = asyncio.create_task(self._bus.next_event())
            spent = self._clock() - begin
            if len(batch.tokens) >= COMMIT_AT_MOST or spent >= COMMIT_BACKLOG_WITHIN_S:
                break
            await asyncio.wait({receiving}, timeout=max(0.0, COMMIT_WITHIN_S - spent))
        self._take_held(batch)
        if self._serves and self._machine.next_timer() <= self._clock():
            batch.actions += self._machine.handle(TimerDue(), self._clock())
        self._finish(batch)
        if self._clock() >= self._next_look:
            self._look()
        return receiving

    def _acknowledge(self, batch: _Batch) -> None:
        """Nothing of what has come has to be on disk first.

        A broker gives us no more than some messages that are not acknowledged: fewer than a batch,
        so that a flood that is not listened to would make all others wait for the end of each.
        """
        for effect in effects.in_order([], batch.tokens):
            self._do(effect)
        batch.tokens.clear()

    @property
    def _serves(self) -> bool:
        """On probation nothing may be said, also not because it is time to."""
        return self._probation is None or self._probation.until is None

    def _take(self, event: BusEvent, batch: _Batch) -> None:
        self._note_connection(event)
        if self._probation is not None:
            trouble = self._bus.connection.trouble
            taken_over = trouble is not None and trouble.kind is TroubleKind.REFUSED
            self._probation.take(event, self._machine.state, self._clock(), taken_over=taken_over)
            if isinstance(event, Disconnected | Refused):
                self._held.clear()
                self._held_bytes = 0
            self._hold(event)
            self._take_held(batch)
            return
        self._take_now(event, batch)

    def _hold(self, event: BusEvent) -> None:
        """Until it is known whether to serve; of a flood meanwhile, what is said again anyway."""
        if isinstance(event, Received):
            if self._held_bytes > BACKLOG_BYTES:
                return
            self._held_bytes += MESSAGE_BYTES + len(event.payload)
        self._held.append(event)

    def _take_held(self, batch: _Batch) -> None:
        if self._probation is not None and self._held and self._probation.over(self._clock()):
            held, self._held, self._held_bytes = self._held, [], 0
            # who has said hello meanwhile is welcomed before the manifest makes it say so again
            for event in sorted(held, key=lambda event: isinstance(event, Connected)):
                self._take_now(event, batch)

    def _take_now(self, event: BusEvent, batch: _Batch) -> None:
        match event:
            case Connected(max_payload_bytes):
                connected = BusConnected(max_payload_bytes)
                batch.actions += self._machine.handle(connected, self._clock())
            case Received(topic, payload, token, retained):
                arrived = MessageArrived(topic, payload, retained)
                batch.actions += self._machine.handle(arrived, self._clock())
                self._live.received(topic, payload)
                batch.tokens.append(token)

    def _finish(self, batch: _Batch) -> None:
        for effect in effects.in_order(batch.actions, batch.tokens):
            self._do(effect)
        self._journal.work(self._machine.state)

    def _do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Commit(records):
                self._journal.append(records, {})
            case effects.PutDown(actions):
                if self._audit is not None:
                    self._audit.take(actions)
            case Publish(topic, payload, retain, heard_by):
                self._live.sent(topic, payload, heard_by)
                self._bus.publish(topic, payload, retain=retain)
            case Note(text, agent, warning):
                level = logging.WARNING if warning else logging.INFO
                log.log(level, "%s", text, extra={"agent": agent})
            case effects.Acknowledge(token):
                self._bus.acknowledge(token)

    def _look(self) -> None:
        self._next_look = self._clock() + LOOK_EVERY_S
        # also an operator's order is answered to agents
        for number, order in self._journal.pending_orders() if self._serves else ():
            self._finish(_Batch(self.handle(order)))
            self._journal.order_done(number)
        changes = self._live.take_changes(self._machine.presence, self._clock())
        if changes:
            self._journal.append([], changes)

    def handle(self, event: Event) -> list[Action]:
        """Ask the machine."""
        return self._machine.handle(event, self._clock())

    def _patience(self) -> float:
        if self._journal.has_work:
            return 0.0
        waits = None if self._probation is None else self._probation.until
        timer = self._machine.next_timer() if waits is None else waits
        due = min(timer, self._next_look, self._vitals.next_at)
        return max(0.0, due - self._clock())

    def _tell_vitals(self) -> None:
        state = self._machine.state
        if state.k != self._k:
            self._k, self._released_at = state.k, self._clock()
        self._vitals.turn(
            self._bus.connection,
            self._released_at,
            release=state.k,
            members=len(state.members),
            updates=state.updates,
        )

    def _note_connection(self, event: BusEvent) -> None:
        connection = self._bus.connection
        if connection.differs(self._noted_connection):
            self._noted_connection = connection
            self._journal.write_connection(connection)
        match event:
            case Connected():
                self._connected_once, self._last_trouble = True, ""
                log.info("connected to the broker")
            case Refused(reason) if not self._connected_once:
                hint = "Check [broker] in the settings and the broker's users"
                raise BrokerRefused(reason, where="broker", hint=hint)
            case Disconnected(reason) | Refused(reason) if reason != self._last_trouble:
                self._last_trouble = reason
                log.warning("no connection to the broker, trying again: %s", reason)
