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
