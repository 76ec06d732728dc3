"""Predictions as they are printed: for people, as JSON and as CSV."""

import csv
import json
from collections.abc import Iterator, Sequence
from io import StringIO

from plantfed_agent.personal_model import PersonalModel
from plantfed_agent.predictions import Prediction


def in_words(predictions: Sequence[Prediction], *, uniform: bool) -> Iterator[str]:
    """One line each: row, class and its probability, or the values.

    Args:
        predictions: to be printed.
        uniform: they were made without the machine's own prior.
    """
    who = "this machine's own classes make" if uniform else "other machines would call"
    for p in predictions:
        answer = p.label if p.label is not None else " ".join(f"{v:.6g}" for v in p.values)
        certainty = "" if p.probability is None else f"  {p.probability:.3f}"
        doubt = "" if p.otherwise is None else f"  ({who} this {p.otherwise})"
        yield f"{p.row}  {answer}{certainty}{doubt}"


def in_json(model: PersonalModel, predictions: Sequence[Prediction]) -> str:
    """One object; ``otherwise`` is the class that the other prior gives, or null."""
    rows = [
        {
            "row": p.row,
            "label": p.label,
            "probability": p.probability,
            "values": p.values,
            "otherwise": p.otherwise,
        }
        for p in predictions
    ]
    return json.dumps({"model": model.name, "rows": rows})


def in_csv(model: PersonalModel, predictions: Sequence[Prediction]) -> Iterator[str]:
    """A header, then one line each; ``otherwise`` is empty where both priors agree."""
    if model.definition.classes:
        yield _line(["row", "label", "probability", "otherwise"])
        for p in predictions:
            yield _line([p.row, p.label, f"{p.probability:.6g}", p.otherwise or ""])
        return
    named = [target.name for target in model.definition.targets] or ["anomaly_score"]
    yield _line(["row", *named])
    for p in predictions:
        yield _line([p.row, *(f"{v:.6g}" for v in p.values)])


def _line(cells: Sequence[object]) -> str:
    line = StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
