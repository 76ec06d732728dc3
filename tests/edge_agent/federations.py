"""Small federations, samples and settings for the tests of this folder."""

from pathlib import Path
from typing import Any

import numpy as np

from plantfed_agent.samples import Samples
from plantfed_agent.settings import AgentSettings
from plantfed_agent.training import TrainingTask
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.initial import initial_parameters
from plantfed_shared.parameters import flatten


def classifier(**changes: Any) -> FederationDefinition:
    """Three inputs, two hidden layers, two classes, the last layer personal."""
    document: dict[str, Any] = {
        "federation": "presses",
        "model": {"hidden": [5, 4], "seed": 7},
        "loss": {"kind": "cross-entropy"},
        "personal": ["layer3.*"],
        "inputs": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
        "classes": ["good", "bad"],
    }
    return FederationDefinition.model_validate(document | changes)


def regressor(**changes: Any) -> FederationDefinition:
    """Two inputs, two targets in units of their own."""
    document: dict[str, Any] = {
        "federation": "ovens",
        "model": {"hidden": [4], "activation": "tanh"},
        "loss": {"kind": "mse"},
        "personal": ["layer2.*"],
        "inputs": [{"name": "a", "centre": 10, "scale": 2}, {"name": "b", "clip": 3}],
        "targets": [{"name": "t", "centre": 100, "scale": 20}, {"name": "u", "scale": 0.5}],
    }
    return FederationDefinition.model_validate(document | changes)


def random_samples(definition: FederationDefinition, n_samples: int, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_samples, definition.n_inputs)).astype(np.float32)
    if definition.classes:
        return Samples(x, rng.integers(0, definition.n_outputs, n_samples))
    return Samples(x, rng.normal(size=(n_samples, definition.n_outputs)).astype(np.float32))


def first_task(definition: FederationDefinition, seq: int = 1) -> TrainingTask:
    shared, _ = definition.parameter_specification().split(initial_parameters(definition))
    base = flatten(shared)
    return TrainingTask("press-07", seq, base, np.zeros_like(base), None, definition)


def agent_settings(
    *train: Path | str, data: dict[str, Any] | None = None, **training: Any
) -> AgentSettings:
    return AgentSettings.model_validate(
        {
            "agent": {"id": "press-07", "federation": "presses"},
            "broker": {"url": "mqtt://localhost"},
            "data": {"train": [str(path) for path in train], "label": "label"} | (data or {}),
            "training": training,
        }
    )


def write_csv(path: Path, n_rows: int, seed: int = 0) -> Path:
    """Rows for :func:`classifier`: the label says whether a + b > 0."""
    rng = np.random.default_rng(seed)
    lines = ["a,b,c,label"]
    for row in rng.normal(size=(n_rows, 3)):
        label = "good" if row[0] + row[1] > 0 else "bad"
        lines.append(",".join([*(repr(float(v)) for v in row), label]))
    path.write_text("\n".join(lines) + "\n")
    return path
