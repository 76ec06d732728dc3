"""NumPy ``.npz`` files.

Either one array ``x`` (rows, columns) with a text array ``columns`` that names its columns, and
one-dimensional arrays beside it for what is not in it, such as the label; or one one-dimensional
array per column; or one array ``x`` of whole samples in the shape that the network takes, such as
(samples, inputs, rows), with one-dimensional arrays beside it for what each sample has once.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from plantfed_agent.column_mapping import ColumnsToRead
from plantfed_agent.table import Table, number_column, positions_of, text_column
from plantfed_shared.errors import DataError
from plantfed_shared.wording import counted

NPY_START, ZIP_START = b"\x93NUMPY", b"PK"


def read_npz(path: str, wanted: ColumnsToRead) -> Table:
    """Read the wanted columns; pickled objects are refused.

    Raises:
        DataError: names file, column and, if it is one, row and value.
    """
    try:
        _refuse_others(path)
        with np.load(path, allow_pickle=False) as file:
            samples = _whole_samples(path, file, wanted)
            if samples is None:
                columns = _columns(path, file, {*wanted.numbers, *wanted.texts})
            else:
                columns = samples
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=path) from None
    except (EOFError, BadZipFile, ZlibError) as error:
        raise DataError(f"is a damaged .npz file: {error}", where=path) from None
    return Table(
        source=path,
        n_rows=_length(path, columns),
        numbers={name: number_column(path, name, columns[name]) for name in wanted.numbers},
        texts={name: text_column(path, name, columns[name]) for name in wanted.texts},
        sample_rows=None if samples is None else wanted.window_rows,
    )


def _refuse_others(path: str) -> None:
    """NumPy would take them for pickled objects, and advise to load those.

    Raises:
        DataError: it is no zip archive with all of its end, which an .npz file is.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        start = file.read(len(NPY_START))
        if is_zipfile(file):
            return
    if not start:
        what = "is empty"
    elif start == NPY_START:
        what = "is a single array (.npy), not an .npz file"
    elif start.startswith(ZIP_START):
        what = "is an .npz file without its end"
    else:
        what = "is not an .npz file"
    raise DataError(what, where=path, hint="Write it with numpy.savez, whole")


def _array(path: str, file: Mapping[str, Any], name: str) -> NDArray[Any]:
    try:
        array = file[name]
    except ValueError:
        # NumPy's own words would advise to load pickled objects, which can be programs
        array = None
    # NumPy gives the bytes of what is no array
    if not isinstance(array, np.ndarray):
        raise DataError(
            f"{name!r} is no array of numbers or texts, or is damaged",
            where=path,
            hint="Write it with numpy.savez, without Python objects",
        )
    return array


def _whole_samples(
    path: str, file: Mapping[str, Any], wanted: ColumnsToRead
) -> dict[str, NDArray[Any]] | None:
    """Columns of the rows of all samples, one sample after the other; None for a file of rows."""
    x = _array(path, file, "x") if "x" in file else None
    if x is None or x.ndim < 3:
        return None
    if "x" in wanted.numbers:
        raise DataError(
            "x is an array of whole samples, and also the name of a column of the federation",
            where=path,
            hint='Give that another name in data.columns, as x = "x_axis": whole samples are x',
        )
    n_inputs, n_rows = len(wanted.inputs), wanted.window_rows
    shape = (n_inputs, n_rows) if wanted.columns_first else (n_rows, n_inputs)
    # another order of the axes has as many numbers, and reshape would take it
    axes = [size for size in x.shape[1:] if size != 1] or [1]
    inputs_axis = axes[0] if wanted.columns_first else axes[-1]
    fits = prod(axes) == n_inputs * n_rows and n_inputs in (1, inputs_axis)
    if not fits:
        raise DataError(
            f"x has samples of shape {x.shape[1:]}, the network takes {shape[0]} x {shape[1]}",
            where=path,
            hint=f"{counted(n_inputs, 'input')}, window.rows = {n_rows}",
        )
    values = x.reshape(len(x), *shape)
    by_row = (values.transpose(0, 2, 1) if wanted.columns_first else values).reshape(-1, n_inputs)
    columns = {name: by_row[:, at] for at, name in enumerate(wanted.inputs)}
    missing = [n for n in dict.fromkeys((*wanted.numbers, *wanted.texts)) if n not in columns]
    positions_of(path, [name for name in file if name != "x"], missing)
    for name in missing:
        values_once = _array(path, file, name)
        if values_once.shape != (len(x),):
            raise DataError(
                f"column {name!r} has shape {values_once.shape}, x has {len(x)} samples", where=path
            )
        columns[name] = np.repeat(values_once, n_rows)
    return columns


def _columns(path: str, file: Mapping[str, Any], wanted: set[str]) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    in_matrix: list[str] = []
    if "columns" in file and "x" in file:
        matrix = _array(path, file, "x")
        in_matrix = [str(name) for name in _array(path, file, "columns")]
        if matrix.ndim != 2 or matrix.shape[1] != len(in_matrix):
            raise DataError(
                f"x has shape {matrix.shape} but columns has {counted(len(in_matrix), 'name')}",
                where=path,
            )
        inside = [name for name in in_matrix if name in wanted]
        for name, at in zip(inside, positions_of(path, in_matrix, inside), strict=True):
            columns[name] = matrix[:, at]
    beside = [name for name in file if name not in ("x", "columns") or not in_matrix]
    missing = sorted(wanted - set(columns))
    positions_of(path, in_matrix + beside, missing)
    columns.update({name: _array(path, file, name) for name in missing})
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
