"""Rows of one file as columns of numbers and columns of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantfed_shared.errors import DataError


@dataclass(frozen=True, slots=True)
class TextColumn:
    """Texts of which many are equal: row i holds ``values[codes[i]]``.

    Attributes:
        values: the distinct texts, in the order of their first row.
        codes: int64 (rows,).
    """

    values: tuple[str, ...]
    codes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Table:
    """Some columns of one file.

    Attributes:
        source: the file, for messages.
        n_rows: length of every column.
        numbers: by local column name, (rows,) of any real dtype; may hold NaN.
        texts: by local column name.
        sample_rows: where the file holds whole samples, so many rows after each other are one.
    """

    source: str
    n_rows: int
    numbers: Mapping[str, NDArray[Any]]
    texts: Mapping[str, TextColumn]
    sample_rows: int | None = None

    def place(self, row: int) -> str:
        """Of a row, counted from 0, for messages: of whole samples it names the sample."""
        if self.sample_rows is None:
            return f"{self.source}, row {row + 1}"
        sample, within = divmod(row, self.sample_rows)
        return f"{self.source}, sample {sample + 1}, row {within + 1} of it"


def positions_of(source: str, available: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where the wanted columns stand among those a file has.

    Raises:
        DataError: a column is missing or occurs twice; names the columns there are.
    """
    for name in wanted:
        if available.count(name) != 1:
            problem = "occurs twice" if name in available else "is missing"
            raise DataError(
                f"column {name!r} {problem}",
                where=source,
                hint=f"Map it in data.columns; the file has: {', '.join(available) or 'none'}",
            )
    return [available.index(name) for name in wanted]


def number_column(source: str, name: str, values: NDArray[Any]) -> NDArray[Any]:
    """A column as it can stand in :attr:`Table.numbers`.

    Raises:
        DataError: it holds no real numbers.
    """
    if values.dtype.kind not in "biuf":
        first = f", such as {values[0]!r:.80}" if len(values) else ""
        raise DataError(
            f"holds {values.dtype} instead of numbers{first}", where=f"{source}, column {name!r}"
        )
    return values


def text_column(source: str, name: str, values: NDArray[Any]) -> TextColumn:
    """A column of texts or whole numbers as texts: 3 and 3.0 are both "3".

    Raises:
        DataError: a value is missing or of another type.
    """
    known: dict[str, int] = {}
    codes = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values.tolist()):
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = value.strip() if isinstance(value, str) else str(value)
        if not text or not isinstance(value, str | int):
            raise DataError(
                f"{value!r} cannot be used as a text",
                where=f"{source}, row {row + 1}, column {name!r}",
                hint="Labels and groups are texts or whole numbers",
            )
        codes[row] = known.setdefault(text, len(known))
    return TextColumn(tuple(known), codes)
