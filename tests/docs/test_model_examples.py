"""The examples in docs/examples learn what they are for, from their own files."""

import re
import shutil
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from tests.compiled_federations import kernels_of
from tests.federation_world import World

from plantfed_agent.inprocess import carry_out
from plantfed_agent.loading import SampleLoader
from plantfed_agent.settings import load_agent_settings
from plantfed_agent.whole_model import whole_model
from plantfed_compiler.cli import command
from plantfed_coordinator.federation_file import load_federation
from plantfed_coordinator.settings import load_coordinator_settings

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


class Example:
    """One of them in a folder of its own, compiled as its federation file says."""

    def __init__(self, name, folder, monkeypatch):
        self.folder = folder / name
        shutil.copytree(EXAMPLES / name, self.folder)
        monkeypatch.chdir(self.folder)
        text = Path("federation.toml").read_text()
        (line,) = re.findall(r"# plantfed-compile (.*)", text)
        assert f"plantfed-compile {line}" in (EXAMPLES / "README.md").read_text()
        done = CliRunner().invoke(command, [w.strip("'") for w in line.split()])
        assert done.exit_code == 0, done.output
        settings = load_coordinator_settings(self.folder / "coordinator.toml")
        self.made = load_federation(settings.coordinator.federation_file)
        self.kernels = kernels_of(self.made)
        self.samples = {f"m{n:02d}": self.load("machine-1", f"machine-{n + 1}") for n in range(3)}

    def load(self, old, new):
        text = (EXAMPLES / self.folder.name / "agent.toml").read_text()
        path = self.folder / "agent.toml"
        path.write_text(text.replace(old, new))
        settings = load_agent_settings(path)
        assert settings.agent.federation == self.made.definition.federation
        return SampleLoader(settings.data).load(self.made.definition)

    def learn(self, rounds):
        def train(name):
            return lambda task: carry_out(
                task, lambda _: self.samples[name], report_score=True, kernels=self.kernels
            )

        world = World(
            self.made.definition,
            agents=3,
            seed=1,
            train=train,
            initial=self.made.initial,
            artefact=self.made.artefact,
        )
        agents = world.agents.values()
        assert world.run(9000, lambda: all(a.disk.rounds >= rounds for a in agents))
        return world.agents

    def row_losses(self, agent, samples):
        definition = self.made.definition
        shared = definition.lattice().to_floats(agent.disk.model)
        parameters = whole_model(definition.parameter_specification(), shared, agent.disk.head)
        kernel = self.kernels.of(definition)
        outputs = kernel.outputs(parameters, samples.x)
        return ((outputs.reshape(len(samples), -1) - samples.x) ** 2).mean(1)


def test_a_faulty_pump_stands_out(tmp_path, monkeypatch):
    example = Example("anomaly", tmp_path, monkeypatch)
    agents = example.learn(rounds=60)
    for n, (name, agent) in enumerate(agents.items(), start=1):
        faulty = example.load("machine-1.npz", f"machine-{n}-faulty.npz").train
        normal = example.row_losses(agent, example.samples[name].test)
        above = example.row_losses(agent, faulty) > np.quantile(normal, 0.99)
        assert above.mean() > 0.5


def test_remaining_life_is_told_better_than_by_the_mean(tmp_path, monkeypatch):
    example = Example("remaining-life", tmp_path, monkeypatch)
    agents = example.learn(rounds=8)
    (target,) = example.made.definition.targets
    for name, agent in agents.items():
        spread = example.samples[name].test.y.std() * target.scale
        # the score is minus the error in cycles
        assert -agent.disk.score < 0.75 * spread
