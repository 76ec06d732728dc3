"""Separators and decimal commas of CSV files; everything else is in test_sources.py."""

from pathlib import Path

import pytest

from plantfed_agent.column_mapping import ColumnsToRead
from plantfed_agent.csv_source import read_csv
from plantfed_shared.errors import DataError


@pytest.mark.parametrize(("separator", "decimal"), [(";", ","), (";", "."), ("\t", ",")])
def test_separator_is_found_and_a_decimal_comma_is_read(
    tmp_path: Path, separator: str, decimal: str
) -> None:
    path = tmp_path / "export.csv"
    lines = [["T", "p", "state"], [f"1{decimal}5", f"-2{decimal}25", "ok"], ["3", "4e2", "leak"]]
    path.write_text("\n".join(separator.join(cells) for cells in lines), encoding="utf-8")
    table = read_csv(str(path), ColumnsToRead(("T", "p"), ("state",)))
    assert table.numbers["T"].tolist() == [1.5, 3.0]
    assert table.numbers["p"].tolist() == [-2.25, 400.0]
    assert table.texts["state"].values == ("ok", "leak")


def test_a_thousands_separator_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text("T;p\n1.234,5;2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2, column 'T': '1.234,5' is not a number"):
        read_csv(str(path), ColumnsToRead(("T", "p"), ()))
