import numpy as np
import pytest
from tests.edge_agent.federations import agent_settings, classifier, write_csv

from plantfed_agent.loading import SampleLoader, fingerprint_of
from plantfed_shared.errors import DataError


def loader(*files, **data):
    return SampleLoader(agent_settings(*files, data=data).data)


def test_keeps_the_samples_until_files_or_structure_change(tmp_path):
    file = write_csv(tmp_path / "rows.csv", 50)
    keeper = loader(file)
    first = keeper.load(classifier())
    other_settings = classifier(algorithm={"learning_rate": 0.5})
    assert keeper.load(other_settings) is first
    second = keeper.load(classifier(window={"rows": 2}))
    assert second.train.x.shape[1] == 6
    write_csv(file, 60)
    third = keeper.load(classifier())
    assert third.fingerprint != first.fingerprint
    assert (len(first.train), len(third.train)) == (40, 48)


@pytest.mark.parametrize(
    "data", [{"labels": {"0": "red", "red": "0"}}, {"test_fraction": 0.5}, {"columns": {"a": "b"}}]
)
def test_rows_that_mean_something_else_are_others(tmp_path, data):
    file = write_csv(tmp_path / "rows.csv", 50)
    settings = agent_settings(file).data
    other = agent_settings(file, data=data).data
    assert fingerprint_of(settings) == fingerprint_of(agent_settings(file).data)
    assert fingerprint_of(settings) != fingerprint_of(other)


def test_new_files_of_a_pattern_are_found(tmp_path):
    write_csv(tmp_path / "1.csv", 10)
    keeper = loader(tmp_path / "*.csv")
    assert len(keeper.load(classifier()).train) == 8
    write_csv(tmp_path / "2.csv", 20, seed=1)
    sets = keeper.load(classifier())
    assert (len(sets.train), len(sets.test)) == (24, 6)


def test_test_files_keep_all_rows_for_training(tmp_path):
    train = write_csv(tmp_path / "1.csv", 10)
    test = write_csv(tmp_path / "2.csv", 4, seed=1)
    sets = loader(train, test=[str(test)]).load(classifier())
    assert (len(sets.train), len(sets.test)) == (10, 4)


def test_without_anything_kept_back_there_is_no_test(tmp_path):
    file = write_csv(tmp_path / "rows.csv", 10)
    assert loader(file, test_fraction=0.0).load(classifier()).test is None


def test_windows_never_cross_files(tmp_path):
    one, two = write_csv(tmp_path / "1.csv", 4), write_csv(tmp_path / "2.csv", 3, seed=1)
    sets = loader(one, two, test_fraction=0.0).load(classifier(window={"rows": 3}))
    assert len(sets.train) == 3
    values = np.loadtxt(two, delimiter=",", skiprows=1, usecols=(0, 1, 2))
    np.testing.assert_array_equal(sets.train.x[2], values.astype(np.float32).ravel())


def test_too_few_rows_name_the_files(tmp_path):
    file = write_csv(tmp_path / "rows.csv", 4)
    with pytest.raises(DataError, match=r"rows\.csv: fewer rows than one sample needs"):
        loader(file).load(classifier(window={"rows": 5}))


def test_headers_alone_are_no_rows_but_one_among_others_is_fine(tmp_path):
    headers = [write_csv(tmp_path / f"{n}.csv", 0) for n in range(2)]
    with pytest.raises(DataError, match=r"1\.csv: has no rows\. Collect some"):
        loader(*headers).load(classifier())
    full = write_csv(tmp_path / "full.csv", 4)
    assert len(loader(*headers, full, test_fraction=0.0).load(classifier()).train) == 4


def test_a_failed_reading_is_tried_again(tmp_path):
    file = write_csv(tmp_path / "rows.csv", 10)
    good = file.read_text()
    keeper = loader(file)
    keeper.load(classifier())
    file.write_text(good + "x\n")
    for _ in range(2):
        with pytest.raises(DataError, match="line 12"):
            keeper.load(classifier())
    file.write_text(good)
    assert len(keeper.load(classifier()).train) == 8
