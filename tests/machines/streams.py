"""Federations whose machines get new rows all the time, and may be told wrong answers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tests.federation_world import World, of_mode

from plantfed_agent.comparing import Judge
from plantfed_agent.guard import Guard, ServedModel
from plantfed_agent.inprocess import carry_out
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.samples import Samples, SampleSets
from plantfed_agent.scores import score
from plantfed_agent.serving_model import newest_model, used_model
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_shared.definition import FederationDefinition

WATCHED = "m00"
FIRST_ROWS, NEW_ROWS, EVERY_S = 200, 60, 50.0


@dataclass
class Stream:
    """A federation of alike machines; the watched one is never told anything wrong.

    Attributes:
        mode: of the federation.
        noise: part of all answers that are drawn at random.
        wrong: while every other machine calls every class by the name of the next one, virtual s.
        seed: of rows, weights and messages.
    """

    mode: str
    noise: float = 0.05
    wrong: tuple[float, float] = (np.inf, np.inf)
    seed: int = 0

    def __post_init__(self) -> None:
        self.definition: FederationDefinition = of_mode(
            self.mode, model={"hidden": [8, 4], "seed": self.seed}, lattice_bits=16
        )
        self.test = self._draw("test", 2000, noise=0.0)
        self.world = World(self.definition, 5, seed=self.seed, train=self._train, training_s=5.0)

    def run(self, until: float) -> Iterator[float]:
        """Let time pass; stops whenever new rows have come."""
        while self.world.now < until:
            self.world.run(EVERY_S)
            yield self.world.now

    @property
    def guard(self) -> Guard:
        """Of the watched machine, as its disk has it."""
        found = self.world.agents[WATCHED].disk.guard
        assert found is not None
        return found

    def log_lines(self) -> list[str]:
        """What the log of the watched machine says of its guard."""
        return [line for line in self.world.agents[WATCHED].log if "guard" in line]

    def accuracy(self, *, used: bool) -> float:
        """Of what the watched machine uses, or of the newest model it may use."""
        disk = self.world.agents[WATCHED].disk
        model = (used_model if used else newest_model)(disk, self.definition)
        assert isinstance(model, ServedModel)
        kernels = Kernels()
        parameters = Judge(self.definition, kernels).parameters(model)
        return score(kernels.of(self.definition), self.definition, parameters, self.test)

    def _train(self, agent: str) -> Callable[[TrainingTask], TrainingOutcome]:
        rows = self._draw(agent, 4000, self.noise)

        def train(task: TrainingTask) -> TrainingOutcome:
            return carry_out(task, lambda _: self._rows_now(agent, rows), report_score=True)

        return train

    def _rows_now(self, agent: str, rows: Samples) -> SampleSets:
        now = self.world.now
        n = FIRST_ROWS + NEW_ROWS * int(now // EVERY_S)
        misled = agent != WATCHED and self.wrong[0] <= now < self.wrong[1]
        y = (rows.y[:n] + 1) % 3 if misled else rows.y[:n]
        return SampleSets(Samples(rows.x[:n], y), None, f"{n} {misled}")

    def _draw(self, name: str, n: int, noise: float) -> Samples:
        rng = np.random.default_rng([self.seed, *name.encode()])
        x = rng.normal(size=(n, 3)).astype(np.float32)
        at_random = rng.random(n) < noise
        y: NDArray[np.int64] = np.where(at_random, rng.integers(0, 3, n), x.argmax(1))
        return Samples(x, y)
