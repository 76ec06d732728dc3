"""The agent's shell: waits for something to happen, asks the machine, carries out its actions.

Order of every step: persist, publish, acknowledge.  There is nothing about the protocol in here.
"""

import asyncio
import logging
from asyncio import Task
from collections.abc import Callable, Coroutine
from contextlib import suppress
from math import inf
from time import monotonic

from plantfed_agent.agent_store import AgentStore
from plantfed_agent.budget import LinkLimits
from plantfed_agent.events import (
    Action,
    BusConnected,
    BusDisconnected,
    DropPieces,
    Event,
    KeepPieces,
    LaneAnswered,
    LeaveRequested,
    Listen,
    MessageArrived,
    Note,
    Persist,
    Publish,
    RoundDone,
    RoundFailed,
    RowsChanged,
    Stop,
    StopListening,
    TimerDue,
    Train,
)
from plantfed_agent.link_meter import LinkMeter
from plantfed_agent.machine import AgentMachine
from plantfed_agent.training import Trainer, TrainingTask
from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.bus.port import (
    PUBACK_BYTES,
    Bus,
    BusEvent,
    Connected,
    Disconnected,
    Listening,
    Received,
    Refused,
)
from plantfed_shared.errors import BrokerRefused, DataError, PlantfedError
from plantfed_shared.threads import in_a_thread
from plantfed_shared.vitals import Vitals, no_vitals
from plantfed_shared.wall_clock import WallClock, local_time

log = logging.getLogger("plantfed.agent")


class AgentService:
    """Runs one agent until it is told to stop.

    Args:
        machine: the agent's protocol.
        bus: not yet opened.
        trainer: does the rounds.
        store: has given the machine its state.
        fingerprint: of the files with the rows; raises DataError where one is missing.
        look_every_s: how often to look whether those files have changed.
        meter: of its link; must have the machine's limits.
        clock: monotonic seconds.
        wall_clock: local time, for budgets per day and quiet hours.
        vitals: told that it lives, at every turn of its loop.
    """

    def __init__(
        self,
        machine: AgentMachine,
        bus: Bus,
        trainer: Trainer,
        store: AgentStore,
        fingerprint: Callable[[], str],
        meter: LinkMeter,
        look_every_s: float = 30.0,
        clock: Callable[[], float] = monotonic,
        wall_clock: WallClock = local_time,
        vitals: Vitals | None = None,
    ) -> None:
        self._machine = machine
        self._bus = bus
        self._trainer = trainer
        self._store = store
        self._fingerprint = fingerprint
        self._look_every_s = look_every_s
        self._meter = meter
        self._limited = meter.limits != LinkLimits()
        self._clock = clock
        self._wall_clock = wall_clock
        self._counted_before = store.load_counters()
        self._inbox: asyncio.Queue[tuple[Event, int | None] | BaseException] = asyncio.Queue()
        self._tasks: set[Task[None]] = set()
        self._said_before = 0
        self._connected_once = False
        self._last_trouble = ""
        self._noted_connection: ConnectionState | None = None
        self._ended = False
        self._vitals = vitals or no_vitals()
        self._model_k: int | None = None
        self._model_at = clock()

    @property
    def ended(self) -> bool:
        """Whether it has ended because the machine asked for it: it has left."""
        return self._ended

    async def run(self, stopped: asyncio.Event, *, leave: bool = False) -> None:
        """Work until ``stopped`` is set or the machine asks to end.

        Raises:
            PlantfedError: why it can't go on.
        """
        await self._bus.open()
        self._store.persist_connection(self._bus.connection)
        self._begin(self._pump_bus())
        self._begin(self._watch_files())
        self._begin(self._wait_for(stopped))
        if leave:
            self._act(LeaveRequested())
        try:
            while not self._ended and not stopped.is_set():
                self._tell_vitals()
                await self._step()
        finally:
            self._vitals.stopping()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._trainer.stop()
            await self._bus.close()
            self._meter.read(self._wall_clock(), self._bus.traffic)
            self._store.persist(self._machine.state, frozenset(), self._counters())
            self._store.persist_connection(self._bus.connection)

    async def _step(self) -> None:
        timer = self._machine.next_timer()
        leaving = self._meter.outlet.next_at(self._clock(), bulk=self._bulk_may_go())
        vital = self._vitals.next_at if self._vitals.next_at < inf else None
        dues = [due for due in (timer, leaving, vital) if due is not None]
        timeout = max(0.0, min(dues) - self._clock()) if dues else None
        try:
            item = await asyncio.wait_for(self._inbox.get(), timeout)
        except TimeoutError:
            if timer is not None and timer <= self._clock():
                self._act(TimerDue())
            else:
                self._read_link()
                self._let_go()
            return
        if isinstance(item, BaseException):
            raise item
        event, token = item
        self._act(event)
        if token is not None:
            self._bus.acknowledge(token)
            self._meter.outlet.sent_beside(PUBACK_BYTES, self._clock())

    def _tell_vitals(self) -> None:
        state = self._machine.state
        k = state.model_name.k if state.model_name else None
        if k != self._model_k:
            self._model_k, self._model_at = k, self._clock()
        self._vitals.turn(
            self._bus.connection,
            self._model_at,
            release=k,
            rounds=state.rounds,
            applied=state.applied_seq,
        )

    def _act(self, event: Event) -> None:
        self._read_link()
        self._tell(event)
        self._let_go()

    def _read_link(self) -> None:
        """Clock and counters come first: what the machine then does is done by what they say."""
        reading = self._meter.read(self._wall_clock(), self._bus.traffic)
        if self._limited:
            self._tell(reading)
        if self._meter.write_due:
            self._store.persist(self._machine.state, frozenset(), self._counters())

    def _let_go(self) -> None:
        outlet, now = self._meter.outlet, self._clock()
        for message in outlet.take_due(now, bulk=self._bulk_may_go()):
            self._bus.publish(message.topic, message.payload, retain=message.retain)

    def _bulk_may_go(self) -> bool:
        return not (self._limited and self._machine.budget.is_quiet)

    def _tell(self, event: Event) -> None:
        actions = self._machine.handle(event, self._clock())
        for action in actions:
            self._write(action)
        for action in actions:
            self._carry_out(action)

    def _write(self, action: Action) -> None:
        match action:
            case Persist(state, changed):
                self._store.persist(state, changed, self._counters())
            case KeepPieces(half):
                self._store.keep_pieces(half)
            case DropPieces():
                self._store.drop_pieces()

    def _carry_out(self, action: Action) -> None:
        match action:
            case Publish():
                self._meter.outlet.add(action)
            case Listen(topic):
                self._bus.listen(topic)
            case StopListening(topic):
                self._bus.stop_listening(topic)
            case Train(ticket, task):
                self._begin(self._train(ticket, task))
            case Note(text, warning):
                log.log(logging.WARNING if warning else logging.INFO, "%s", text)
            case Stop(error):
                if error is not None:
                    raise error
                self._ended = True

    # ------------------------------------------------------------------ what happens outside

    async def _pump_bus(self) -> None:
        while True:
            event = await self._bus.next_event()
            self._note_connection(event)
            match event:
                case Connected(max_payload_bytes):
                    self._begin_connection()
                    self._put(BusConnected(max_payload_bytes))
                case Disconnected() | Refused():
                    self._meter.outlet.clear()
                    self._put(BusDisconnected())
                case Received(topic, payload, token, retained):
                    self._put(MessageArrived(topic, payload, retained), token)
                case Listening(topic, allowed):
                    self._put(LaneAnswered(topic, allowed))

    def _begin_connection(self) -> None:
        """What was said on the way to it has crossed without waiting for its turn."""
        said = self._bus.traffic.session_bytes_out
        self._meter.outlet.clear()
        self._meter.outlet.sent_beside(said - self._said_before, self._clock())
        self._said_before = said

    def _note_connection(self, event: BusEvent) -> None:
        connection = self._bus.connection
        if connection.differs(self._noted_connection):
            self._noted_connection = connection
            self._store.persist_connection(connection)
        match event:
            case Connected():
                self._connected_once, self._last_trouble = True, ""
                log.info("connected to the broker")
            case Refused(reason) if not self._connected_once:
                hint = "Check [broker] in the settings and the broker's users"
                self._inbox.put_nowait(BrokerRefused(reason, where="broker", hint=hint))
            case Disconnected(reason) | Refused(reason) if reason != self._last_trouble:
                self._last_trouble = reason
                log.warning("no connection to the broker, trying again: %s", reason)

    async def _train(self, ticket: int, task: TrainingTask) -> None:
        try:
            self._put(RoundDone(ticket, await self._trainer.run(task)))
        except PlantfedError as error:
            self._put(RoundFailed(ticket, error))

    async def _watch_files(self) -> None:
        before = ""
        while True:
            with suppress(DataError):
                now = await in_a_thread(self._fingerprint)
                if now != before:
                    # also the first time: they may have changed while nobody looked
                    self._put(RowsChanged(now))
                before = now
            await asyncio.sleep(self._look_every_s)

    async def _wait_for(self, stopped: asyncio.Event) -> None:
        await stopped.wait()
        self._put(TimerDue())

    # ------------------------------------------------------------------ small tools

    def _put(self, event: Event, token: int | None = None) -> None:
        self._inbox.put_nowait((event, token))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended_task)

    def _ended_task(self, task: "Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._inbox.put_nowait(error)  # whatever it is: without this task nothing goes on

    def _counters(self) -> dict[str, int]:
        traffic = self._bus.traffic
        since_start = {
            "bytes_up": traffic.bytes_out,
            "bytes_down": traffic.bytes_in,
            "messages_up": traffic.messages_out,
            "messages_down": traffic.messages_in,
        }
        since_ever = {n: self._counted_before.get(n, 0) + v for n, v in since_start.items()}
        return {**since_ever, **self._meter.counters()}
