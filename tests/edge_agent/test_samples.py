import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge_agent.federations import classifier, regressor

from plantfed_agent.column_mapping import ColumnMapping, columns_to_read
from plantfed_agent.samples import features, join, samples_of
from plantfed_agent.table import Table, TextColumn
from plantfed_shared.errors import ConfigError, DataError

PLAIN = ColumnMapping({}, {}, label="label")


def texts(values):
    distinct = tuple(dict.fromkeys(values))
    return TextColumn(distinct, np.array([distinct.index(v) for v in values], dtype=np.int64))


def table_of(n_rows, label=None, group=None, **numbers):
    numbers = {name: np.arange(n_rows) * 1.0 for name in "abc"} | numbers
    columns = {"label": texts(label or ["good"] * n_rows)}
    if group is not None:
        columns["group"] = texts(group)
    return Table("rows.csv", n_rows, numbers, columns)


def test_inputs_are_scaled_then_clipped():
    inputs = [{"name": "a", "centre": 10, "scale": 4, "clip": 2}, {"name": "b"}, {"name": "c"}]
    table = table_of(3, a=np.array([12.0, 100.0, -100.0]))
    train, _ = samples_of(table, classifier(inputs=inputs), PLAIN)
    assert train.x.dtype == np.float32
    np.testing.assert_array_equal(train.x, [[0.5, 0, 0], [2, 1, 1], [-2, 2, 2]])


def test_targets_are_scaled_like_inputs():
    table = table_of(2, t=np.array([100.0, 140.0]), u=np.array([1.0, 2.0]))
    train, _ = samples_of(table, regressor(), ColumnMapping({}, {}))
    assert train.y.dtype == np.float32
    np.testing.assert_array_equal(train.y, [[0, 2], [2, 4]])


def test_local_names_of_columns_and_labels():
    mapping = ColumnMapping({"a": "T_1"}, {"1": "bad", "good": "good"}, label="fault")
    table = Table(
        "rows.csv",
        2,
        {"T_1": np.array([5.0, 6.0]), "b": np.zeros(2), "c": np.zeros(2)},
        {"fault": texts(["1", "good"])},
    )
    train, _ = samples_of(table, classifier(), mapping)
    np.testing.assert_array_equal(train.x[:, 0], [5, 6])
    assert train.y.tolist() == [1, 0]
    assert train.y.dtype == np.int64
    wanted = columns_to_read(classifier(), mapping, answers=True)
    assert (wanted.numbers, wanted.texts) == (("T_1", "b", "c"), ("fault",))


def test_columns_to_read():
    grouped = ColumnMapping({}, {}, label="label", group="run")
    assert columns_to_read(classifier(), grouped, answers=True).texts == ("run", "label")
    assert columns_to_read(classifier(), grouped, answers=False).texts == ("run",)
    assert columns_to_read(regressor(), PLAIN, answers=True).numbers == ("a", "b", "t", "u")
    assert columns_to_read(regressor(), PLAIN, answers=False).numbers == ("a", "b")
    with pytest.raises(ConfigError, match=r"data\.columns: .* no input 'd'\. It has: a, b, c"):
        columns_to_read(classifier(), ColumnMapping({"d": "D"}, {}), answers=False)
    with pytest.raises(ConfigError, match="data: key 'label' is missing"):
        columns_to_read(classifier(), ColumnMapping({}, {}), answers=True)


@given(
    group=st.lists(st.sampled_from("pqr"), min_size=1, max_size=30),
    rows=st.integers(1, 5),
    step=st.integers(1, 5),
)
@settings(deadline=None)
def test_windows_lie_within_groups_in_time_order(group, rows, step):
    n_rows = len(group)
    definition = classifier(window={"rows": rows, "step": step})
    label = ["good" if i % 3 else "bad" for i in range(n_rows)]
    train, test = samples_of(
        table_of(n_rows, label, group), definition, ColumnMapping({}, {}, "label", "group")
    )
    assert len(test) == 0
    expected = []
    for value in dict.fromkeys(group):
        own = [i for i in range(n_rows) if group[i] == value]
        expected += [own[s : s + rows] for s in range(0, len(own) - rows + 1, step)]
    assert train.x.shape == (len(expected), 3 * rows)
    for x, y, window in zip(train.x, train.y, expected, strict=True):
        assert x.tolist() == [float(i) for i in window for _ in "abc"]
        assert y == (0 if window[-1] % 3 else 1)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    fraction=st.floats(0, 0.99),
    rows=st.integers(1, 3),
)
@settings(deadline=None)
def test_the_last_rows_of_each_group_are_kept_back(sizes, fraction, rows):
    group = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    definition = classifier(window={"rows": rows})
    train, test = samples_of(
        table_of(len(group), group=group),
        definition,
        ColumnMapping({}, {}, "label", "group"),
        fraction,
    )
    in_train, in_test = set(train.x.ravel().tolist()), set(test.x.ravel().tolist())
    assert not in_train & in_test
    first = 0
    for size in sizes:
        border = first + size - int(size * fraction)
        assert all(not first <= row < border for row in in_test)
        assert all(not border <= row < first + size for row in in_train)
        first += size
    assert len(train) == sum(max(s - int(s * fraction) - rows + 1, 0) for s in sizes)
    assert len(test) == sum(max(int(s * fraction) - rows + 1, 0) for s in sizes)


def test_features_know_their_last_row():
    definition = classifier(window={"rows": 2, "step": 3})
    x, last = features(table_of(9), definition, ColumnMapping({}, {}))
    assert last.tolist() == [1, 4, 7]
    assert x.shape == (3, 6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_an_error(value):
    clipped = [{"name": name, "clip": 1} for name in "abc"]
    table = table_of(3, b=np.array([0.0, value, 0.0]))
    with pytest.raises(DataError, match=r"rows\.csv, row 2, column 'b': -?(nan|inf) cannot"):
        samples_of(table, classifier(inputs=clipped), PLAIN)


def test_a_value_too_large_for_float32_is_an_error():
    with pytest.raises(DataError, match=r"row 1, column 'b': 1e\+300 cannot"):
        samples_of(table_of(1, b=np.array([1e300])), classifier(), PLAIN)


def test_an_unknown_label_names_value_file_and_classes():
    with pytest.raises(
        DataError, match=r"rows\.csv, row 2, column 'label': label 'odd' is not .*: good, bad"
    ):
        samples_of(table_of(2, ["good", "odd"]), classifier(), PLAIN)
    mapping = ColumnMapping({}, {"odd": "worse"}, label="label")
    with pytest.raises(DataError, match=r"label 'odd', mapped to 'worse', is not a class"):
        samples_of(table_of(2, ["good", "odd"]), classifier(), mapping)


def test_fewer_rows_than_a_window_is_an_error():
    definition = classifier(window={"rows": 5})
    short, _ = samples_of(table_of(4), definition, PLAIN)
    long, _ = samples_of(table_of(6), definition, PLAIN)
    with pytest.raises(DataError, match=r"here: fewer rows than one sample needs: 5 consecutive"):
        join([short, short], definition, "here")
    assert len(join([short, long, long], definition, "here")) == 4
    assert join([long], definition, "here") is long
