"""Parquet files; the only importer of pyarrow, and only when it is needed."""

from plantfed_agent.column_mapping import ColumnsToRead
from plantfed_agent.table import Table, number_column, positions_of, text_column
from plantfed_shared.errors import ConfigError, DataError


def read_parquet(path: str, wanted: ColumnsToRead) -> Table:
    """Read the wanted columns; a missing number becomes NaN.

    Raises:
        DataError: names file, column and, if it is one, row and value.
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            "reading Parquet is not installed",
            where=path,
            hint="pip install 'plantfed[parquet]'",
        ) from None
    names = list(dict.fromkeys((*wanted.numbers, *wanted.texts)))
    try:
        # memory-mapped files would keep changing under the reader
        with parquet.ParquetFile(path, memory_map=False) as file:
            positions_of(path, file.schema_arrow.names, names)
            columns = file.read(columns=names, use_threads=False)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"is not a readable Parquet file: {error}", where=path) from None
    arrays = {name: columns.column(name).to_numpy() for name in names}
    return Table(
        source=path,
        n_rows=columns.num_rows,
        numbers={name: number_column(path, name, arrays[name]) for name in wanted.numbers},
        texts={name: text_column(path, name, arrays[name]) for name in wanted.texts},
    )
