"""A plant of one agent, and a demo not yet started."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.demos import Demo
from tests.e2e.plant import Agent, Plant


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with Plant(tmp_path) as made:
        yield made


@pytest.fixture
def agent(plant: Plant) -> Agent:
    return plant.agents[0]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    one = Demo(tmp_path / "demo")
    yield one
    for process in one.processes():
        process.kill()
