"""docs/simulation.md: its example is a scenario, and it names every key there is."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from plantfed_lab.simulation.draws import Law
from plantfed_lab.simulation.scenario import (
    DataSection,
    FederationSection,
    MachinesSection,
    OfflineWindow,
    RandomOffline,
    RandomRestarts,
    Scenario,
    ScenarioSection,
    shipped_scenarios,
)

TEXT = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")


def test_the_example_is_a_scenario() -> None:
    found = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    scenario = Scenario.model_validate(tomllib.loads(found[1]))
    assert scenario.machines.slowdown == Law(kind="pareto", minimum=1, shape=1.5)


@pytest.mark.parametrize(
    "section",
    [
        Scenario,
        ScenarioSection,
        DataSection,
        FederationSection,
        MachinesSection,
        OfflineWindow,
        RandomOffline,
        RandomRestarts,
        Law,
    ],
)
def test_every_key_is_named(section: type[BaseModel]) -> None:
    missing = [key for key in section.model_fields if not re.search(rf"\b{key}\b", TEXT)]
    assert missing == []


def test_every_shipped_scenario_is_named() -> None:
    assert all(f"`{name}`" in TEXT for name in shipped_scenarios())
