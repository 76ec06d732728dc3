"""Rows of a table become samples: scaled, clipped, windowed within groups, split by time.

    x = clip((value - centre) / scale)

One sample is ``window.rows`` consecutive rows of one group, row after row: feature
``r * inputs + i`` is input i of the window's row r.  Its answer is that of its last row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plantfed_agent.column_mapping import ColumnMapping
from plantfed_agent.kernels.port import Truth
from plantfed_agent.table import Table
from plantfed_shared.definition import FederationDefinition, Input, Window
from plantfed_shared.errors import DataError
from plantfed_shared.parameters import Floats

RowNumbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Samples:
    """What a network trains on or is tested with.

    Attributes:
        x: float32 (samples, window rows * inputs), scaled.
        y: int64 (samples,), class numbers, or float32 (samples, targets), scaled; (samples, 0)
            where the input is the answer.
    """

    x: Floats
    y: Truth

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True)
class SampleSets:
    """All samples of one machine.

    Attributes:
        train: at least one sample.
        test: later in time than those of the same group in ``train``, or None.
        fingerprint: of the files they come from.
    """

    train: Samples
    test: Samples | None = None
    fingerprint: str = ""


def features(
    table: Table, definition: FederationDefinition, mapping: ColumnMapping
) -> tuple[Floats, RowNumbers]:
    """Inputs alone, for predictions.

    Returns:
        float32 (samples, window rows * inputs), scaled, and int64 (samples,): the last row of each
        sample, counted from 0.

    Raises:
        DataError: a value is not a finite number.
    """
    windows = _windows(_groups(table, mapping), _window_of(table, definition))
    return _windowed(_scaled(table, definition.inputs, mapping), windows), windows[:, -1]


def samples_of(
    table: Table,
    definition: FederationDefinition,
    mapping: ColumnMapping,
    test_fraction: float = 0.0,
) -> tuple[Samples, Samples]:
    """All samples of one table; the last rows of every group are kept back for testing.

    Args:
        table: with the columns of :func:`plantfed_agent.column_mapping.columns_to_read`.
        definition: of the federation.
        mapping: of this machine.
        test_fraction: of the rows of each group, rounded down.

    Returns:
        Training and test samples; either may be empty.  No row is in both.

    Raises:
        DataError: a value is not a finite number or a label is unknown; names file, row, column
            and value.
    """
    x = _scaled(table, definition.inputs, mapping)
    y: Truth
    if definition.classes:
        y = _class_numbers(table, definition, mapping)
    else:
        y = _scaled(table, definition.targets, mapping)
    whole = table.sample_rows or 1
    cut = [
        (rows, len(rows) - whole * int(len(rows) // whole * test_fraction))
        for rows in _groups(table, mapping)
    ]

    def cut_out(parts: list[RowNumbers]) -> Samples:
        windows = _windows(parts, _window_of(table, definition))
        return Samples(_windowed(x, windows), y[windows[:, -1]])

    return cut_out([rows[:n] for rows, n in cut]), cut_out([rows[n:] for rows, n in cut])


def join(parts: Sequence[Samples], definition: FederationDefinition, where: str) -> Samples:
    """The samples of several files as one.

    Raises:
        DataError: there is not a single sample.
    """
    if sum(len(part) for part in parts) == 0:
        raise too_few_rows(definition.window, where)
    if len(parts) == 1:
        return parts[0]
    return Samples(np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts]))


def too_few_rows(window: Window, where: str) -> DataError:
    """The error where files give not a single sample."""
    if window.rows == 1:
        return DataError("has no rows", where=where, hint="Collect some, or check the path")
    return DataError(
        f"fewer rows than one sample needs: {window.rows} consecutive rows of one group",
        where=where,
        hint="Collect more rows, or check the group column",
    )


def _groups(table: Table, mapping: ColumnMapping) -> list[RowNumbers]:
    if mapping.group is None:
        return [np.arange(table.n_rows)]
    codes = table.texts[mapping.group].codes
    # stable, so that the rows of a group keep their order in time
    by_group = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))[:-1]
    return np.split(by_group, ends)


def _window_of(table: Table, definition: FederationDefinition) -> Window:
    """Of a file of rows that of the federation; whole samples stay what they are."""
    rows = table.sample_rows
    return definition.window if rows is None else Window(rows=rows, step=rows)


def _windows(groups: Sequence[RowNumbers], window: Window) -> NDArray[np.int64]:
    """Row numbers of each sample, (samples, window rows); groups that are too short give none."""
    offsets = np.arange(window.rows)
    parts = [
        rows[np.arange(0, len(rows) - window.rows + 1, window.step)[:, None] + offsets]
        for rows in groups
        if len(rows) >= window.rows
    ]
    return np.concatenate(parts) if parts else np.zeros((0, window.rows), dtype=np.int64)


def _windowed(values: Floats, windows: NDArray[np.int64]) -> Floats:
    n_samples, n_rows = windows.shape
    return values[windows].reshape(n_samples, n_rows * values.shape[1])


def _scaled(table: Table, quantities: Sequence[Input], mapping: ColumnMapping) -> Floats:
    """(rows, quantities) float32: clip((value - centre) / scale), computed in float64."""
    scaled = np.empty((table.n_rows, len(quantities)), dtype=np.float32)
    for number, (quantity, column) in enumerate(
        zip(quantities, mapping.local(quantities), strict=True)
    ):
        values = table.numbers[column]
        _refuse_non_finite(table, column, values, values)
        exact = (values.astype(np.float64) - quantity.centre) / quantity.scale
        if quantity.clip is not None:
            exact = np.clip(exact, -quantity.clip, quantity.clip)
        with np.errstate(over="ignore"):
            scaled[:, number] = exact
        _refuse_non_finite(table, column, scaled[:, number], values)
    return scaled


def _refuse_non_finite(
    table: Table, column: str, checked: NDArray[np.floating], values: NDArray[np.floating]
) -> None:
    finite = np.isfinite(checked)
    if finite.all():
        return
    row = int(np.argmin(finite))
    raise DataError(
        f"{values[row]} cannot be used as a number here",
        where=f"{table.place(row)}, column {column!r}",
        hint="Remove or repair rows with missing or infinite values",
    )


def _class_numbers(
    table: Table, definition: FederationDefinition, mapping: ColumnMapping
) -> NDArray[np.int64]:
    column = mapping.label_column()
    texts = table.texts[column]
    numbers = np.zeros(len(texts.values), dtype=np.int64)
    for code, value in enumerate(texts.values):
        name = mapping.labels.get(value, value)
        if name not in definition.classes:
            row = int(np.argmax(texts.codes == code))
            mapped = "" if name == value else f", mapped to {name!r},"
            raise DataError(
                f"label {value!r}{mapped} is not a class of the federation",
                where=f"{table.place(row)}, column {column!r}",
                hint=f"Map it in data.labels to one of: {', '.join(definition.classes)}",
            )
        numbers[code] = definition.classes.index(name)
    return numbers[texts.codes]
