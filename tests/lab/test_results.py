import json

import pytest
from tests.lab.synthetic import made_up_agent, made_up_result

from plantfed_lab.results import DemoResult, mean_accuracy


def test_the_json_has_what_others_rely_on() -> None:
    document = json.loads(made_up_result().to_json())
    assert document["broker"]["kind"] == "mosquitto"
    assert document["releases"] == 12
    assert document["seconds"] == 34.0
    assert document["model"]["checksum"] == "bb3ed96738ff7d6b"
    assert set(document["accuracy"]) == {"local", "global", "of_other_mode", "personal"}
    assert set(document["bytes"]) == {"up", "down"}
    for agent in document["agents"]:
        assert {"id", "updates", "staleness", "bytes_up", "bytes_down"} <= set(agent)
        assert set(agent["accuracy"]) == {"local", "global", "of_other_mode", "personal"}


def test_the_json_is_read_back_as_it_was() -> None:
    result = made_up_result()
    assert DemoResult.model_validate_json(result.to_json()) == result


def test_the_mean_counts_every_agent_the_same() -> None:
    mean = mean_accuracy([made_up_agent(1, gain=0.1), made_up_agent(2, gain=0.3)])
    assert mean.personal == pytest.approx(0.7)
    assert mean.local == pytest.approx(0.5)
