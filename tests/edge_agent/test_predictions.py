import json
from dataclasses import replace

import numpy as np
import pytest
from tests.edge_agent.federations import agent_settings, classifier, regressor, write_csv

from plantfed_agent.answers import in_csv, in_json, in_words
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


ROWS = "a,b,c\n1,2,3\n-4,5,-6\n0,0,1\n"


def answered(tmp_path, *, bias: tuple[float, float]):
    """By a network that gives one logit for a, and by the same with another bias."""
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    definition = classifier(model={"hidden": []}, personal=[], algorithm={"mode": "auto"})
    weight = np.zeros((3, 2), np.float32)
    weight[0] = 1, 0
    own = PersonalModel(definition, [weight, np.float32(bias)], "presses release 3")
    bare = replace(own, parameters=[weight, np.zeros(2, np.float32)])
    section = agent_settings("-").data
    return own, predict_file(own, section, str(path), bare)


def test_where_the_other_prior_says_otherwise_it_is_told(tmp_path):
    own, found = answered(tmp_path, bias=(-2.0, 0.0))
    assert [(p.label, p.otherwise) for p in found] == [
        ("bad", "good"),
        ("bad", None),
        ("bad", "good"),
    ]
    assert list(in_words(found, uniform=False)) == [
        "1  bad  0.731  (other machines would call this good)",
        "2  bad  0.998",
        "3  bad  0.881  (other machines would call this good)",
    ]
    assert "  (this machine's own classes make this good)" in next(in_words(found, uniform=True))
    assert list(in_csv(own, found)) == [
        "row,label,probability,otherwise",
        "1,bad,0.731059,good",
        "2,bad,0.997527,",
        "3,bad,0.880797,good",
    ]
    read = json.loads(in_json(own, found))
    assert read["model"] == "presses release 3"
    assert [row["otherwise"] for row in read["rows"]] == ["good", None, "good"]


def test_without_another_prior_nothing_is_said_of_it(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    found = predict_file(model_of(classifier()), agent_settings("-").data, str(path))
    assert [p.otherwise for p in found] == [None] * 3


def test_values_are_columns_of_their_targets(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n12,2\n")
    model = model_of(regressor(targets=[{"name": "t, in bar"}, {"name": "u"}]))
    found = predict_file(model, agent_settings("-").data, str(path))
    header, line = in_csv(model, found)
    assert header == 'row,"t, in bar",u'
    assert [float(cell) for cell in line.split(",")] == pytest.approx(
        [1, *found[0].values], rel=1e-5
    )
