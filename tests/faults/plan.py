"""What goes wrong in one seed: drawn from the seed alone, before anything runs."""

import random
from dataclasses import dataclass, field
from enum import StrEnum

from tests.machines.test_under_faults import SCHEDULED_MODES, definition_of

from plantfed_lab.simulation.engine import Boundary
from plantfed_shared.bus.faults import Faults
from plantfed_shared.definition import FederationDefinition

FAULTY_S = 240.0
"""So long things go wrong; then all faults stop."""
WEATHER_S = 30.0
"""So often the bus becomes better or worse."""
CALM = Faults(delay_s=(0.02, 0.02))


class Disturbance(StrEnum):
    """What is done to a host, the broker or the federation at one moment."""

    KILL = "a process is killed"
    CUT = "a host is parted from the broker"
    FORGET = "the broker forgets everything"
    DISK_FULL = "a disk is full for some time"
    LEAP = "a monotonic clock leaps a year"
    TWIN = "a second coordinator is started"
    RESTORE_COORDINATOR = "the coordinator is restored from a backup"
    RESTORE_AGENT = "an agent is restored from a backup"
    LOSE_DISK = "an agent loses its disk"
    LEAVE = "an agent leaves and comes back"
    REMOVE = "the operator removes an agent and admits it again"
    EDIT = "the settings are edited"


LOSING = frozenset(
    {
        Disturbance.TWIN,
        Disturbance.RESTORE_COORDINATOR,
        Disturbance.RESTORE_AGENT,
        Disturbance.LOSE_DISK,
    }
)
"""After these one side rightly can't know what the other holds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults of one seed.

    Attributes:
        definition: of the federation.
        agents: how many.
        worst: what of the bus may go wrong, and how often at most.
        crash: probability at each (role, boundary).
        failed_write: probability that a transaction fails.
        unsure_write: that it is written and its process ends without knowing.
        commits_within_s: of the coordinator.
        snapshot_every: records after which the coordinator starts from a snapshot; 0: never.
        any_clock: whether monotonic clocks begin anywhere within a year.
        short_windows: whether a machine's average goes back a few turnovers only.
        disturbances: when what happens, seconds.
    """

    definition: FederationDefinition
    agents: int
    worst: Faults
    crash: dict[tuple[str, Boundary], float]
    failed_write: float
    unsure_write: float
    commits_within_s: float
    snapshot_every: int
    any_clock: bool
    short_windows: bool
    disturbances: tuple[tuple[float, Disturbance], ...] = field(default=())

    def has(self, *kinds: Disturbance) -> bool:
        """Whether one of these happens."""
        return any(kind in kinds for _, kind in self.disturbances)


def plan_of(seed: int) -> Plan:
    """Every kind of fault is there in some seeds and not in others, so that each also comes alone.

    A fault that strikes all the time can hide another: an agent that is killed every second never
    comes to the message that would have been taken twice.
    """
    draw = random.Random(f"plan {seed}")

    def perhaps(*values: float) -> float:
        return draw.choice(values) if draw.random() < 0.4 else 0.0

    orderly = draw.random() < 0.3
    # equal delays keep the order between topics as well, as a connection to a real broker does
    delays = [(0.02, 0.02), (0.2, 0.2)] if orderly else [(0.01, 0.2), (0.1, 3.0), (0.0, 0.0)]
    worst = Faults(
        drop=perhaps(0.05, 0.3),
        duplicate=0.0 if orderly else perhaps(0.1, 0.5),
        reorder=0.0 if orderly else perhaps(0.2, 0.5),
        corrupt=perhaps(0.05, 0.2),
        replay=0.0 if orderly else perhaps(0.05, 0.2),
        delay_s=draw.choice(delays),
    )
    crash = {
        (role, boundary): perhaps(0.01, 0.05)
        for role in ("agent", "coordinator")
        for boundary in Boundary
    }
    kinds = [kind for kind in Disturbance if not (orderly and kind in LOSING)]
    chosen = draw.sample(kinds, draw.randint(0, 5))
    times = sorted(draw.uniform(5.0, FAULTY_S) for _ in range(draw.randint(0, 8)))
    disturbances = tuple((time, draw.choice(chosen)) for time in times if chosen)
    if any(kind is Disturbance.TWIN for _, kind in disturbances) and worst.delay_s[1] == 0.0:
        # two that answer each other without time passing would do so for ever
        worst = Faults(**{**_fields(worst), "delay_s": (0.01, 0.2)})
    main = [("async", "auto"), ("async", "fedapm")] * 2 + [("sync", "fedapm")]
    mode = draw.choice(draw.choice([main, main, SCHEDULED_MODES]))
    return Plan(
        definition=definition_of(*mode, thin=draw.random() < 0.25),
        agents=draw.randint(1, 5),
        worst=worst,
        crash=crash,
        failed_write=perhaps(0.005, 0.05),
        unsure_write=perhaps(0.005, 0.05),
        commits_within_s=draw.choice([0.0, 0.005]),
        snapshot_every=draw.choice([0, 20]),
        any_clock=draw.random() < 0.5,
        short_windows=draw.random() < 0.5,
        disturbances=disturbances,
    )


def weather(worst: Faults, draw: random.Random) -> Faults:
    """Each of the faults at its worst, at a tenth of that, or not at all."""
    parts = {
        name: value * draw.choice([0.0, 0.1, 1.0])
        for name, value in _fields(worst).items()
        if isinstance(value, float)
    }
    return Faults(**parts, delay_s=worst.delay_s)


def _fields(faults: Faults) -> dict[str, object]:
    return {name: getattr(faults, name) for name in Faults.__slots__}
