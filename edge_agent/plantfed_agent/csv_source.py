"""CSV files: a header line, then one row per line (RFC 4180).

The separator is the one the header line has most of: comma, semicolon or tab.  Where it isn't the
comma, numbers may have a decimal comma, as spreadsheets in half of the world write them.
"""

import csv
from array import array
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import NoReturn, TextIO

import numpy as np

from plantfed_agent.column_mapping import ColumnsToRead
from plantfed_agent.table import Table, TextColumn, positions_of
from plantfed_shared.errors import DataError
from plantfed_shared.wording import counted

SEPARATORS = (",", ";", "\t")


def read_csv(path: str, wanted: ColumnsToRead) -> Table:
    """Read the wanted columns row by row, straight into arrays; empty lines are skipped.

    Space around names and cells doesn't count.

    Raises:
        DataError: names file, line, column and value.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return _read(_Rows(path, file), wanted)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8: {error.reason}", where=path) from None


def _read(rows: "_Rows", wanted: ColumnsToRead) -> Table:
    header = [name.strip() for name in next(rows, [])]
    if not header:
        raise DataError("is empty", where=rows.path, hint="Give it a header line and rows")
    rows.n_cells = len(header)
    number_at = positions_of(rows.path, header, wanted.numbers)
    text_at = positions_of(rows.path, header, wanted.texts)
    numbers = array("d")
    codes = [array("q") for _ in text_at]
    values: list[dict[str, int]] = [{} for _ in text_at]
    for cells in rows:
        # a sum is finite only if all its terms are; which one isn't is asked only then
        try:
            row = [rows.to_float(cells[at]) for at in number_at]
            usable = isfinite(sum(row))
        except ValueError:
            usable = False
        if not usable:
            row = [rows.number(header[at], cells[at]) for at in number_at]
        numbers.extend(row)
        for at, column, known in zip(text_at, codes, values, strict=True):
            text = cells[at].strip() or rows.refuse(header[at], "", "the cell is empty")
            column.append(known.setdefault(text, len(known)))
    by_row = np.frombuffer(numbers, dtype=np.float64).reshape(-1, max(len(number_at), 1))
    return Table(
        source=rows.path,
        n_rows=rows.n_rows,
        numbers={name: by_row[:, i] for i, name in enumerate(wanted.numbers)},
        texts={
            name: TextColumn(tuple(known), np.frombuffer(column, dtype=np.int64))
            for name, column, known in zip(wanted.texts, codes, values, strict=True)
        },
    )


class _Rows:
    """The rows of a file, all with as many cells as the header; knows where it is."""

    def __init__(self, path: str, file: TextIO) -> None:
        self.path = path
        header = file.readline()
        file.seek(0)
        separator = max(SEPARATORS, key=header.count)
        self.to_float = float if separator == "," else _float_with_comma
        self._lines = csv.reader(file, delimiter=separator, strict=True)
        self.n_cells = 0
        self.n_rows = -1  # the header is none

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        try:
            cells: list[str] = next(self._lines)
            while not cells:
                cells = next(self._lines)
        except csv.Error as error:
            raise DataError(f"is not CSV: {error}", where=self._place()) from None
        if self.n_cells and len(cells) != self.n_cells:
            raise DataError(
                f"{counted(len(cells), 'cell')} where the header has {self.n_cells}",
                where=self._place(),
                hint="Repair or remove the line",
            )
        self.n_rows += 1
        return cells

    def number(self, column: str, cell: str) -> float:
        """The number in a cell.

        Raises:
            DataError: it is not a finite one.
        """
        try:
            value = self.to_float(cell)
        except ValueError:
            what = "is not a number" if cell.strip() else "the cell is empty"
            self.refuse(column, cell, what)
        if not isfinite(value):
            self.refuse(column, cell, "is not a finite number")
        return value

    def refuse(self, column: str, cell: str, what: str) -> NoReturn:
        """Report a cell of the row that was read last."""
        shown = f"{cell[:80]!r} " if cell.strip() else ""
        raise DataError(
            f"{shown}{what}",
            where=f"{self._place()}, column {column!r}",
            hint="Repair or remove the line",
        )

    def _place(self) -> str:
        return f"{self.path}, line {self._lines.line_num}"


def _float_with_comma(cell: str) -> float:
    return float(cell.replace(",", "."))
