"""Predictions for the rows of a file."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from plantfed_agent.column_mapping import columns_to_read
from plantfed_agent.personal_model import PersonalModel
from plantfed_agent.samples import features, too_few_rows
from plantfed_agent.settings import DataSection
from plantfed_agent.sources import read_table
from plantfed_shared.parameters import Floats


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about one sample.

    Attributes:
        row: number of its last row in the file, from 1, without the header; of itself where the
            file holds whole samples.
        label: the most probable class, or None for regression.
        probability: of that class, or None.
        values: of the targets in their units; empty for classification.
        otherwise: the most probable class by the other prior, where that is another; None where
            both agree, and where there is no other.
    """

    row: int
    label: str | None
    probability: float | None
    values: tuple[float, ...]
    otherwise: str | None = None


def predict_file(
    model: PersonalModel, section: DataSection, path: str, other: PersonalModel | None = None
) -> list[Prediction]:
    """Predict every sample of a file, in the order of its rows; it needs no labels.

    Args:
        model: the network.
        section: what the columns of this machine mean.
        path: .csv, .npz or .parquet.
        other: the same network with another prior, to say where it differs.

    Raises:
        DataError: the file cannot be used, or has too few rows for one sample.
        ConfigError: the settings do not fit the federation, or an extra is not installed.
    """
    mapping = section.mapping
    wanted = columns_to_read(model.definition, mapping, answers=False)
    table = read_table(path, wanted, section.format)
    x, last_rows = features(table, model.definition, mapping)
    if not len(x):
        raise too_few_rows(model.definition.window, path)
    numbers = ((last_rows + 1) // (table.sample_rows or 1)).tolist()
    found = _predictions(model, numbers, model.predict(x))
    if other is not None:
        asked = _predictions(other, numbers, other.predict(x))
        found = (_beside(one, two) for one, two in zip(found, asked, strict=True))
    return sorted(found, key=lambda p: p.row)


def _beside(one: Prediction, two: Prediction) -> Prediction:
    return one if one.label == two.label else replace(one, otherwise=two.label)


def _predictions(model: PersonalModel, rows: list[int], answers: Floats) -> Iterator[Prediction]:
    classes = model.definition.classes
    if not classes:
        for row, values in zip(rows, answers.tolist(), strict=True):
            yield Prediction(row, None, None, tuple(values))
        return
    best = answers.argmax(1).tolist()
    for row, number, probabilities in zip(rows, best, answers, strict=True):
        yield Prediction(row, classes[number], float(probabilities[number]), ())
