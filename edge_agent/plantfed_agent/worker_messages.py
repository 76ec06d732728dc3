"""What the agent and its training process say to each other, as frames.

The agent sends its settings once, then a task at a time; each task is answered by an outcome or an
error.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from plantfed_agent.frames import Frame
from plantfed_agent.guard_frames import fresh_frame, fresh_in, guard_frame, guard_in
from plantfed_agent.settings import AgentSettings, DataSection, TrainingSection
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import (
    ConfigError,
    DataError,
    LostModelError,
    ModelError,
    PlantfedError,
    TrainingError,
)

T = TypeVar("T")

ERRORS: dict[str, type[PlantfedError]] = {
    kind.__name__: kind
    for kind in (ConfigError, DataError, LostModelError, ModelError, TrainingError)
}
"""What a round can fail with."""


def settings_frame(settings: AgentSettings) -> Frame:
    """What the training process needs of the settings: nothing of the broker."""
    return Frame(
        {
            "data": settings.data.model_dump(mode="json"),
            "training": settings.training.model_dump(mode="json"),
            "state_dir": str(settings.agent.state_dir),
        }
    )


def settings_in(frame: Frame) -> tuple[DataSection, TrainingSection, Path]:
    """The inverse of :func:`settings_frame`; the folder is that of the agent's state."""
    return (
        DataSection.model_validate(frame.header["data"]),
        TrainingSection.model_validate(frame.header["training"]),
        Path(frame.header["state_dir"]),
    )


def task_frame(task: TrainingTask) -> Frame:
    """One round to do."""
    arrays = {"base": task.base, "dual": task.dual}
    if task.head is not None:
        arrays["head"] = task.head
    if task.earlier is not None:
        arrays["earlier"] = task.earlier
    if task.served is not None:
        arrays["served"] = task.served
    if task.prior is not None:
        arrays["prior"] = task.prior
    if task.own_head is not None:
        arrays["own_head"] = task.own_head
    definition = task.definition.to_bytes().decode()
    header = {
        "agent": task.agent,
        "seq": task.seq,
        "definition": definition,
        "head_only": task.head_only,
        "rounds": task.rounds,
        "asked_for_own_head": task.asked_for_own_head,
    }
    return _with(Frame(header, arrays), "guard", guard_frame, task.guard)


def task_in(frame: Frame) -> TrainingTask:
    """The inverse of :func:`task_frame`."""
    return TrainingTask(
        agent=frame.header["agent"],
        seq=frame.header["seq"],
        base=frame.arrays["base"],
        dual=frame.arrays["dual"],
        head=frame.arrays.get("head"),
        definition=_definition(frame.header["definition"]),
        head_only=frame.header["head_only"],
        earlier=frame.arrays.get("earlier"),
        served=frame.arrays.get("served"),
        prior=frame.arrays.get("prior"),
        guard=_within(frame, "guard", guard_in),
        rounds=frame.header["rounds"],
        asked_for_own_head=frame.header["asked_for_own_head"],
        own_head=frame.arrays.get("own_head"),
    )


@lru_cache(maxsize=1)
def _definition(text: str) -> FederationDefinition:
    return FederationDefinition.from_bytes(text.encode())


def outcome_frame(outcome: TrainingOutcome) -> Frame:
    """A round that went well."""
    header = {
        "loss": outcome.loss,
        "score": outcome.score,
        "n_samples": outcome.n_samples,
        "data_fingerprint": outcome.data_fingerprint,
        "seconds": outcome.seconds,
        "start_loss": outcome.start_loss,
        "asked_for_own_head": outcome.asked_for_own_head,
    }
    arrays = {"shared": outcome.shared, "head": outcome.head}
    if outcome.prior is not None:
        arrays["prior"] = outcome.prior
    if outcome.own_head is not None:
        arrays["own_head"] = outcome.own_head
    return _with(Frame(header, arrays), "fresh", fresh_frame, outcome.fresh)


def error_frame(error: PlantfedError) -> Frame:
    """A round that failed."""
    return Frame(
        {
            "error": type(error).__name__,
            "what": error.what,
            "where": error.where,
            "hint": error.hint,
        }
    )


def outcome_in(frame: Frame) -> TrainingOutcome:
    """The inverse of :func:`outcome_frame`.

    Raises:
        PlantfedError: the frame is one of :func:`error_frame`; its error, word for word.
    """
    if "error" in frame.header:
        error = ERRORS[frame.header["error"]]
        raise error(frame.header["what"], where=frame.header["where"], hint=frame.header["hint"])
    values = {name: value for name, value in frame.header.items() if name != "fresh"}
    return TrainingOutcome(
        shared=frame.arrays["shared"],
        head=frame.arrays["head"],
        prior=frame.arrays.get("prior"),
        own_head=frame.arrays.get("own_head"),
        fresh=_within(frame, "fresh", fresh_in),
        **values,
    )


def _with(frame: Frame, name: str, framed: Callable[[T], Frame], value: T | None) -> Frame:
    """A frame with another in it, if there is a value."""
    if value is None:
        return frame
    inner = framed(value)
    arrays = {f"{name}.{of}": values for of, values in inner.arrays.items()}
    return Frame({**frame.header, name: inner.header}, {**frame.arrays, **arrays})


def _within(frame: Frame, name: str, value_in: Callable[[Frame], T]) -> T | None:
    """The inverse of :func:`_with`."""
    header = frame.header.get(name)
    if header is None:
        return None
    start = f"{name}."
    arrays = {n.removeprefix(start): v for n, v in frame.arrays.items() if n.startswith(start)}
    return value_in(Frame(header, arrays))
