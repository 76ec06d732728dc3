"""Tables from files: CSV, NumPy ``.npz`` and Parquet.

Every reader gives a :class:`Table` with the wanted columns and raises one :class:`DataError` that
names file, row or line, column and value.
"""

from collections.abc import Callable, Sequence
from glob import has_magic
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from plantfed_agent.column_mapping import ColumnsToRead
from plantfed_agent.csv_source import read_csv
from plantfed_agent.npz_source import read_npz
from plantfed_agent.parquet_source import read_parquet
from plantfed_agent.table import Table
from plantfed_shared.errors import DataError

Format = Literal["auto", "npz", "csv", "parquet"]

READERS: dict[str, Callable[[str, ColumnsToRead], Table]] = {
    "csv": read_csv,
    "npz": read_npz,
    "parquet": read_parquet,
}


def files_of(patterns: Sequence[str]) -> list[str]:
    """Files that patterns stand for, in the order of the patterns, then of their names.

    Args:
        patterns: paths, possibly with ``*``, ``?``, ``[...]`` or ``**``; an existing file is
            taken literally.

    Raises:
        DataError: a pattern matches nothing, or a path is not a file.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        for path in _matches(pattern):
            found[str(path)] = None
    return list(found)


def _matches(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_file():
        return [path]
    if not has_magic(pattern):
        raise DataError("no such file", where=pattern, hint="Check train and test in [data]")
    anchor = Path(path.anchor or ".")
    relative = path.relative_to(anchor) if path.anchor else path
    matches = sorted(p for p in anchor.glob(str(relative)) if p.is_file())
    if not matches:
        raise DataError(
            "no file matches this pattern", where=pattern, hint="Check train and test in [data]"
        )
    return matches


def fingerprint(files: Sequence[str], read_as: str = "") -> str:
    """32 hexadecimal digits over path, size and time of change; reads no rows.

    Args:
        files: their paths.
        read_as: what their columns mean, in any form: rows with another meaning are others.

    Raises:
        DataError: a file has vanished.
    """
    digest = blake2b(read_as.encode(), digest_size=16)
    for file in files:
        try:
            status = Path(file).stat()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=file) from None
        digest.update(repr((file, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()


def read_table(path: str, wanted: ColumnsToRead, file_format: Format = "auto") -> Table:
    """Read the wanted columns of one file.

    Args:
        path: of the file.
        wanted: local column names.
        file_format: "auto" goes by the suffix.

    Raises:
        DataError: the format is unknown, the file cannot be read, a column is missing or a value
            cannot be used.
        ConfigError: reading Parquet is not installed.
    """
    kind = Path(path).suffix.removeprefix(".").lower() if file_format == "auto" else file_format
    if kind not in READERS:
        raise DataError(
            f"files that end in {Path(path).suffix!r} are not known",
            where=path,
            hint=f"Use .{', .'.join(READERS)} or set data.format",
        )
    return READERS[kind](path, wanted)
