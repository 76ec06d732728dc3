"""NumPy ``.npz`` files.

Either one array ``x`` (rows, columns) with a text array ``columns`` that names its columns, and
one-dimensional arrays beside it for what is not in it, such as the label; or one one-dimensional
array per column.
"""

from collections.abc import Mapping
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from plantfed_agent.column_mapping import ColumnsToRead
from plantfed_agent.table import Table, number_column, positions_of, text_column
from plantfed_shared.errors import DataError


def read_npz(path: str, wanted: ColumnsToRead) -> Table:
    """Read the wanted columns; pickled objects are refused.

    Raises:
        DataError: names file, column and, if it is one, row and value.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError("is one array, not an .npz file", where=path)
            columns = _columns(path, file, {*wanted.numbers, *wanted.texts})
    except OSError as error:
        raise DataError(f"cannot be read: {error}", where=path) from None
    except (ValueError, EOFError, BadZipFile, ZlibError) as error:
        raise DataError(f"is not a readable .npz file: {error}", where=path) from None
    return Table(
        source=path,
        n_rows=_length(path, columns),
        numbers={name: number_column(path, name, columns[name]) for name in wanted.numbers},
        texts={name: text_column(path, name, columns[name]) for name in wanted.texts},
    )


def _columns(
    path: str, file: Mapping[str, NDArray[Any]], wanted: set[str]
) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    in_matrix: list[str] = []
    if "columns" in file and "x" in file:
        matrix, in_matrix = file["x"], [str(name) for name in file["columns"]]
        if matrix.ndim != 2 or matrix.shape[1] != len(in_matrix):
            raise DataError(
                f"x has shape {matrix.shape} but columns has {len(in_matrix)} names", where=path
            )
        inside = [name for name in in_matrix if name in wanted]
        for name, at in zip(inside, positions_of(path, in_matrix, inside), strict=True):
            columns[name] = matrix[:, at]
    beside = [name for name in file if name not in ("x", "columns") or not in_matrix]
    missing = sorted(wanted - set(columns))
    positions_of(path, in_matrix + beside, missing)
    columns.update({name: file[name] for name in missing})
    return columns


def _length(path: str, columns: Mapping[str, NDArray[Any]]) -> int:
    lengths: dict[int, str] = {}
    for name, values in columns.items():
        if values.ndim != 1:
            raise DataError(
                f"column {name!r} has shape {values.shape}, not (rows,)",
                where=path,
                hint="Store one-dimensional arrays, or x with columns",
            )
        lengths.setdefault(len(values), name)
    if len(lengths) > 1:
        found = ", ".join(f"{name!r} has {n}" for n, name in lengths.items())
        raise DataError(f"columns of different length: {found} rows", where=path)
    return next(iter(lengths), 0)
