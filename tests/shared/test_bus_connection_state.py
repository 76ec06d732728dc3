"""What a bus says about itself."""

import pytest

from plantfed_shared.bus.connection_state import ConnectionState, Trouble, TroubleKind
from plantfed_shared.errors import BrokerError, BrokerRefused

CUT = Trouble("the link is cut", TroubleKind.UNAVAILABLE, at=30.0)
CUT_STILL = Trouble("nothing listens", TroubleKind.UNAVAILABLE, at=40.0)


def test_since_is_when_it_changed_and_not_the_last_attempt() -> None:
    never = ConnectionState(connected=False, since=10.0)
    assert never.failed(CUT) == ConnectionState(False, 10.0, CUT)
    made = never.made(20.0)
    assert made == ConnectionState(True, 20.0)
    cut = made.failed(CUT)
    assert cut == ConnectionState(False, 30.0, CUT)
    assert cut.failed(CUT_STILL) == ConnectionState(False, 30.0, CUT_STILL)
    assert cut.ended(50.0) == cut


def test_the_last_trouble_is_remembered_when_it_is_over() -> None:
    cut = ConnectionState(connected=True, since=20.0).failed(CUT)
    assert cut.made(50.0) == ConnectionState(True, 50.0, CUT)
    assert cut.made(50.0).ended(60.0) == ConnectionState(False, 60.0, CUT)


@pytest.mark.parametrize(
    ("kind", "error", "exit_code"),
    [(TroubleKind.UNAVAILABLE, BrokerError, 69), (TroubleKind.REFUSED, BrokerRefused, 77)],
)
def test_each_kind_has_its_exit_code(
    kind: TroubleKind, error: type[BrokerError], exit_code: int
) -> None:
    found = Trouble("no", kind, at=0.0).as_error()
    assert (type(found), found.exit_code, found.what) == (error, exit_code, "no")


@pytest.mark.parametrize(
    "state",
    [ConnectionState(False, 1.5), ConnectionState(True, 20.0), ConnectionState(False, 3.0, CUT)],
)
def test_it_survives_being_written_down(state: ConnectionState) -> None:
    assert ConnectionState.from_json(state.to_json()) == state


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"connected": true, "since": 1, "trouble": {}}'])
def test_something_else_is_one_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the parser says
        ConnectionState.from_json(text)


def test_an_attempt_that_fails_as_the_last_one_is_no_news() -> None:
    never = ConnectionState(connected=False, since=10.0)
    cut = never.failed(CUT)
    assert never.differs(None)
    assert cut.differs(never)
    assert not cut.failed(Trouble(CUT.text, CUT.kind, at=99.0)).differs(cut)
    assert cut.failed(CUT_STILL).differs(cut)
    assert cut.made(50.0).differs(cut)
