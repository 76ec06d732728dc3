import numpy as np
import pytest
from tests.edge_agent.federations import agent_settings, classifier, regressor, write_csv

from plantfed_agent.personal_model import PersonalModel
from plantfed_agent.predictions import predict_file
from plantfed_shared.errors import DataError
from plantfed_shared.initial import initial_parameters


def model_of(definition) -> PersonalModel:
    return PersonalModel(definition, initial_parameters(definition))


def test_every_row_gets_its_most_probable_class_without_labels(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c\n1,2,3\n-4,5,-6\n")
    model = model_of(classifier())
    found = predict_file(model, agent_settings("-").data, str(path))
    probabilities = model.predict(np.float32([[1, 2, 3], [-4, 5, -6]]))
    assert [p.row for p in found] == [1, 2]
    for prediction, row in zip(found, probabilities, strict=True):
        assert prediction.label == ("good", "bad")[row.argmax()]
        assert prediction.probability == row.max()
        assert prediction.values == ()


def test_regression_gives_values_in_target_units(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n12,2\n")
    model = model_of(regressor())
    (found,) = predict_file(model, agent_settings("-").data, str(path))
    assert (found.label, found.probability) == (None, None)
    assert found.values == tuple(model.predict(np.float32([[1, 2]]))[0].tolist())


def test_rows_are_those_of_the_file_also_with_windows_and_groups(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c,run\n" + "".join(f"{i},0,0,{'pq'[i % 2]}\n" for i in range(8)))
    section = agent_settings("-", data={"group": "run"}).data
    found = predict_file(model_of(classifier(window={"rows": 3})), section, str(path))
    assert [p.row for p in found] == [5, 6, 7, 8]


def test_too_few_rows_are_an_error(tmp_path):
    path = write_csv(tmp_path / "rows.csv", 2)
    with pytest.raises(DataError, match=r"rows\.csv: fewer rows than one sample needs: 3"):
        predict_file(model_of(classifier(window={"rows": 3})), agent_settings("-").data, str(path))
