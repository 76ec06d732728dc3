import re
import sys
from io import BytesIO
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from plantfed_agent.column_mapping import ColumnsToRead
from plantfed_agent.sources import files_of, fingerprint, read_table
from plantfed_shared.errors import ConfigError, DataError

WANTED = ColumnsToRead(("b", "a"), ("label",))


def write(path, suffix, columns):
    """The same columns in each format."""
    path = path.with_suffix(suffix)
    if suffix == ".csv":
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif suffix == ".npz":
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})
    else:
        parquet.write_table(pa.table(columns), path)
    return str(path)


SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet"])


@SUFFIXES
def test_gives_the_wanted_columns(tmp_path, suffix):
    columns = {
        "a": [1.5, -2.0, 0.25],
        "other": ["x", "y", "z"],
        "b": [1, 2, 3],
        "label": ["ok", "bad", "ok"],
    }
    file = write(tmp_path / "rows", suffix, columns)
    table = read_table(file, WANTED)
    assert (table.source, table.n_rows) == (file, 3)
    assert list(table.numbers) == ["b", "a"]
    np.testing.assert_array_equal(table.numbers["a"], [1.5, -2.0, 0.25])
    np.testing.assert_array_equal(table.numbers["b"], [1, 2, 3])
    assert table.texts["label"].values == ("ok", "bad")
    assert table.texts["label"].codes.tolist() == [0, 1, 0]


@SUFFIXES
def test_whole_numbers_can_be_labels(tmp_path, suffix):
    file = write(tmp_path / "rows", suffix, {"a": [1.0], "b": [2.0], "label": [7]})
    assert read_table(file, WANTED).texts["label"].values == ("7",)


@SUFFIXES
def test_a_missing_column_names_those_there_are(tmp_path, suffix):
    file = write(tmp_path / "rows", suffix, {"a": [1.0], "label": ["ok"], "c": [2.0]})
    with pytest.raises(DataError, match=r"column 'b' is missing.*the file has: a, label, c"):
        read_table(file, WANTED)


@SUFFIXES
def test_text_in_a_number_column_is_an_error(tmp_path, suffix):
    file = write(tmp_path / "rows", suffix, {"a": ["1", "2"], "b": ["3", "x"], "label": [1, 2]})
    with pytest.raises(DataError, match=re.escape(file) + r".*column 'b'"):
        read_table(file, WANTED)


@SUFFIXES
def test_a_file_with_no_rows_is_a_table_with_no_rows(tmp_path, suffix):
    empty = np.zeros(0) if suffix == ".npz" else pa.array([], pa.float64())
    texts = np.array([], dtype=str) if suffix == ".npz" else pa.array([], pa.string())
    columns = {"a": empty, "b": empty, "label": texts}
    table = read_table(write(tmp_path / "rows", suffix, columns), WANTED)
    assert table.n_rows == 0
    assert table.numbers["a"].shape == (0,)
    assert table.texts["label"].codes.shape == (0,)


@SUFFIXES
def test_bytes_of_something_else_are_an_error(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(b"\xff\xfe\0\1PK not this")
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_table(str(path), WANTED)


@SUFFIXES
def test_an_unreadable_file_is_an_error(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    path.mkdir()
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_table(str(path), WANTED)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,x1,ok", r"line 3, column 'b': 'x1' is not a number"),
        ("1,,ok", r"line 3, column 'b': the cell is empty"),
        ("1, ,ok", r"line 3, column 'b': the cell is empty"),
        ("nan,2,ok", r"line 3, column 'a': 'nan' is not a finite number"),
        ("1,-inf,ok", r"line 3, column 'b': '-inf' is not a finite number"),
        ("inf,-inf,ok", r"line 3, column 'b': '-inf' is not a finite number"),
        ("1,2", r"line 3: 2 cells where the header has 3"),
        ("1,2,ok,4", r"line 3: 4 cells where the header has 3"),
        ("1,2,", r"line 3, column 'label': the cell is empty"),
        ('1,2,"ok', r"line 3: is not CSV"),
    ],
)
def test_csv_errors_name_line_column_and_value(tmp_path, line, words):
    path = tmp_path / "rows.csv"
    path.write_text(f"a,b,label\n1,2,ok\n{line}\n")
    with pytest.raises(DataError, match=re.escape(str(path)) + ", " + words):
        read_table(str(path), WANTED)


def test_csv_line_numbers_count_lines_not_rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('a,b,label\n\n1,2,"o\nk"\n\n1,x,ok\n')
    with pytest.raises(DataError, match="line 6, column 'b': 'x'"):
        read_table(str(path), WANTED)


def test_csv_may_have_a_mark_spaces_empty_lines_and_quotes(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfa, b ,"label"\r\n 1 , 2e3,ok \r\n\r\n3,4,"o, k"\r\n')
    table = read_table(str(path), WANTED)
    np.testing.assert_array_equal(table.numbers["b"], [2000, 4])
    assert table.texts["label"].values == ("ok", "o, k")


def test_csv_numbers_whose_sum_overflows_are_numbers(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b,label\n1e308,1e308,ok\n")
    assert read_table(str(path), WANTED).numbers["a"][0] == 1e308


def test_a_column_that_occurs_twice_is_an_error_only_if_wanted(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b,label,c,c\n1,2,ok,3,4\n")
    assert read_table(str(path), WANTED).n_rows == 1
    with pytest.raises(DataError, match="column 'c' occurs twice"):
        read_table(str(path), ColumnsToRead(("c",), ()))


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_csv_file_is_called_so(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.csv: is empty\. Give it a header line"):
        read_table(str(path), WANTED)


def whole_npz() -> bytes:
    file = BytesIO()
    np.savez(file, a=np.zeros(9), b=np.zeros(9), label=np.array(["ok"] * 9))
    return file.getvalue()


def archive(content: bytes) -> bytes:
    file = BytesIO()
    with ZipFile(file, "w") as written:
        for name in ("a", "b", "label"):
            written.writestr(f"{name}.npy", content)
    return file.getvalue()


def single_array() -> bytes:
    file = BytesIO()
    np.save(file, np.zeros(9))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"a,b,label\n1,2,ok\n", "is not an .npz file"),
        (b"\x80\x04N.", "is not an .npz file"),
        (b"\0" * 999, "is not an .npz file"),
        (single_array(), "is a single array (.npy), not an .npz file"),
        (whole_npz()[:-30], "is an .npz file without its end"),
        (whole_npz().replace(b"\x93NUMPY", b"\x93MUMPY"), "is a damaged .npz file"),
        (archive(b"no array"), "'a' is no array of numbers or texts"),
    ],
)
def test_what_is_no_npz_file_is_called_so_and_pickle_is_never_advised(tmp_path, content, words):
    path = tmp_path / "rows.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"rows\.npz: {re.escape(words)}") as refused:
        read_table(str(path), WANTED)
    assert "pickle" not in str(refused.value)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
@settings(deadline=None)
def test_csv_gives_back_every_float(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_text("a\n" + "\n".join(map(repr, values)) + "\n")
    table = read_table(str(path), ColumnsToRead(("a",), ()))
    assert table.numbers["a"].tolist() == values


def test_npz_may_hold_a_matrix_with_named_columns(tmp_path):
    path = tmp_path / "rows.npz"
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(path, x=matrix, columns=np.array(["a", "c", "b"]), label=np.array(["ok", "bad"]))
    table = read_table(str(path), WANTED)
    np.testing.assert_array_equal(table.numbers["b"], [2, 5])
    np.testing.assert_array_equal(table.numbers["a"], [0, 3])
    assert table.texts["label"].values == ("ok", "bad")
    with pytest.raises(DataError, match="the file has: a, c, b, label"):
        read_table(str(path), ColumnsToRead(("d",), ()))


def test_an_npz_column_may_be_called_x(tmp_path):
    path = tmp_path / "rows.npz"
    np.savez(path, x=np.array([1.0, 2.0]))
    assert read_table(str(path), ColumnsToRead(("x",), ())).n_rows == 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros((2, 2))}, r"column 'a' has shape \(2, 2\)"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "different length: .* rows"),
        (
            {"x": np.zeros((2, 2)), "columns": np.array(["a"])},
            r"x has shape \(2, 2\) but .* 1 name$",
        ),
        ({"a": np.zeros(2, complex), "b": np.zeros(2)}, "holds complex128 instead of numbers"),
        ({"a": np.array([object()])}, "'a' is no array of numbers or texts"),
    ],
)
def test_npz_errors_name_the_column(tmp_path, arrays, words):
    path = tmp_path / "rows.npz"
    arrays = {"b": np.zeros(len(next(iter(arrays.values())))), "label": np.array(["k"])} | arrays
    if "columns" in arrays:
        del arrays["b"]
    np.savez(path, allow_pickle=True, **arrays)
    wanted = ColumnsToRead(("a", "b") if "b" in arrays else ("a",), ())
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + words):
        read_table(str(path), wanted)


@pytest.mark.parametrize("label", [None, 1.5, "", " "])
def test_a_missing_or_broken_label_is_an_error(tmp_path, label):
    file = str(tmp_path / "rows.parquet")
    parquet.write_table(pa.table({"label": [1.0 if label == 1.5 else "ok", label]}), file)
    with pytest.raises(DataError, match=r"row 2, column 'label'.*cannot be used as a text"):
        read_table(file, ColumnsToRead((), ("label",)))


def test_missing_numbers_of_parquet_become_nan(tmp_path):
    file = str(tmp_path / "rows.parquet")
    parquet.write_table(pa.table({"a": [1, None]}), file)
    np.testing.assert_array_equal(
        read_table(file, ColumnsToRead(("a",), ())).numbers["a"], [1, np.nan]
    )


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'plantfed\[parquet\]'"):
        read_table(str(tmp_path / "rows.parquet"), WANTED)


def test_the_format_goes_by_suffix_or_setting(tmp_path):
    path = tmp_path / "rows.log"
    path.write_text("a\n1\n")
    assert read_table(str(path), ColumnsToRead(("a",), ()), "csv").n_rows == 1
    with pytest.raises(DataError, match=r"'\.log' are not known.*\.csv, \.npz, \.parquet"):
        read_table(str(path), ColumnsToRead(("a",), ()))


def test_patterns_give_files_in_order_once(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.csv", "a.csv", "c.npz", "deep/d.csv", "odd[1].csv"):
        (tmp_path / name).write_text("")
    paths = [str(tmp_path / p) for p in ("c.npz", "[ab].csv", "**/*.csv", "odd[1].csv")]
    names = [path.removeprefix(f"{tmp_path}/") for path in files_of(paths)]
    assert names == ["c.npz", "a.csv", "b.csv", "deep/d.csv", "odd[1].csv"]


@pytest.mark.parametrize(
    ("pattern", "words"), [("none.csv", "no such file"), ("*.csv", "no file matches"), (".", "no")]
)
def test_a_pattern_without_files_is_an_error(tmp_path, pattern, words):
    with pytest.raises(DataError, match=words):
        files_of([str(tmp_path / pattern)])


def test_the_fingerprint_follows_the_files(tmp_path):
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("1")
    two.write_text("2")
    files = [str(one), str(two)]
    first = fingerprint(files)
    assert fingerprint(files) == first
    assert fingerprint(files[:1]) != first
    one.write_text("11")
    assert fingerprint(files) != first
    one.unlink()
    with pytest.raises(DataError, match=r"one\.csv: cannot be read"):
        fingerprint(files)
