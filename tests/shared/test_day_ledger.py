"""Bytes per day: through restarts, and whatever the clock does."""

from hypothesis import given
from hypothesis import strategies as st

from plantfed_shared.day_ledger import DayLedger, Spent
from plantfed_shared.local_time import LocalTime


def test_a_day_ends_when_the_date_differs() -> None:
    ledger = DayLedger({})
    assert ledger.count(LocalTime(100, 50_000.0), 3, 5) == Spent(3, 5, 50_000.0)
    assert ledger.count(LocalTime(100, 80_000.0), 1, 1) == Spent(4, 6, 50_000.0)
    assert ledger.count(LocalTime(101, 5.0), 7, 0) == Spent(7, 0, 0.0)
    assert ledger.of(100) == Spent(4, 6, 50_000.0)


def test_a_clock_that_jumps_to_and_fro_finds_what_was_spent() -> None:
    """A machine without a battery is in 1970 after every start, until the network corrects it."""
    ledger = DayLedger({})
    for start in range(1, 50):
        restored = DayLedger.from_counters(ledger.counters())
        assert restored.count(LocalTime(719_163, 10.0), 1, 0).up == start
        assert restored.count(LocalTime(740_000, 43_000.0), 100, 0).up == 100 * start
        ledger = restored


def test_days_that_were_never_there_push_out_the_oldest_only() -> None:
    ledger = DayLedger({})
    for day in (900_000, 900_001, 900_002, 900_003, 900_004):
        ledger.count(LocalTime(day, 0.0), 1, 1)
        ledger.count(LocalTime(740_000, 0.0), 1, 1)
    assert ledger.of(740_000).up == 5
    assert ledger.of(900_000) == Spent()
    assert len(ledger.days) == 4


days = st.lists(
    st.tuples(st.integers(1, 8), st.integers(0, 86_399), st.integers(0, 9)), max_size=40
)


@given(days)
def test_it_comes_back_from_its_counters(counted: list[tuple[int, int, int]]) -> None:
    ledger, stored = DayLedger({}), {"bytes_up": 9}
    for day, second, n_bytes in counted:
        ledger.count(LocalTime(day, second), n_bytes, 1)
        # a store forgets no name
        stored.update(ledger.counters())
        restored = DayLedger.from_counters(stored)
        assert restored == ledger
        assert list(restored.days) == list(ledger.days)
    assert len(stored) <= 1 + 4 * ledger.kept


def test_the_forecast_goes_on_as_the_day_went() -> None:
    assert Spent(100, 10, 0.0).forecast(LocalTime(1, 43_200.0)) == (200, 20)
    assert Spent(100, 10, 21_600.0).forecast(LocalTime(1, 43_200.0)) == (300, 30)


def test_the_first_minutes_are_no_measure() -> None:
    at_start = Spent(1000, 0, 0.0).forecast(LocalTime(1, 1.0))
    assert at_start[0] < 26 * 1000
