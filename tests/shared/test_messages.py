"""The message types: one for each kind, immutable, strict."""

import pytest
from pydantic import ValidationError
from tests.shared.message_strategies import MESSAGES

from plantfed_shared.messages import KIND_OF_MESSAGE, MESSAGE_OF_KIND, Bye, Need, Status, Update
from plantfed_shared.topics import DOWN, UP, Kind
from plantfed_shared.wire import KIND_CODES


def test_every_kind_has_one_type_one_code_and_one_place():
    assert set(MESSAGE_OF_KIND) == set(KIND_CODES) == set(Kind)
    assert set(KIND_OF_MESSAGE) == set(MESSAGES)
    assert len(set(KIND_CODES.values())) == len(Kind)
    assert {*UP, *DOWN, Kind.STATUS, Kind.MODEL} == set(Kind)


def test_messages_are_immutable():
    bye = Bye(incarnation=1)
    with pytest.raises(ValidationError, match="frozen"):
        bye.incarnation = 2


@pytest.mark.parametrize("incarnation", [-1, 2**32, True, 1.0, "1", None])
def test_a_number_must_be_one(incarnation):
    with pytest.raises(ValidationError):
        Bye(incarnation=incarnation)


def test_fields_are_all_needed_and_no_others_allowed():
    with pytest.raises(ValidationError, match="Field required"):
        Status(online=True)
    with pytest.raises(ValidationError, match="Extra inputs"):
        Status(online=True, software="", colour="blue")
    for message in MESSAGES:
        # a default would let two programs read different messages from the same bytes
        assert all(field.is_required() for field in message.model_fields.values()), message


def test_a_need_asks_for_something():
    with pytest.raises(ValidationError, match="at least 1"):
        Need(digest=bytes(16), ranges=(), step=None)


def test_order_on_the_wire():
    assert list(Update.model_fields) == [
        "base",
        "incarnation",
        "seq",
        "weight",
        "definition",
        "dual_check",
        "score",
        "want",
        "others",
    ]
