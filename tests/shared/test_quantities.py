import pytest

from plantfed_shared.quantities import rate, shown_size, size


@pytest.mark.parametrize(
    ("written", "bits"),
    [
        ("32 kbit/s", 32_000),
        ("32kbit/s", 32_000),
        (" 1.5 Mbit/s ", 1_500_000),
        ("9600", 9600),
        (9600, 9600),
        ("64 KBIT/S", 64_000),
    ],
)
def test_rates(written: object, bits: int) -> None:
    assert rate(written) == bits


@pytest.mark.parametrize(
    ("written", "n_bytes"),
    [("500 KB", 500_000), ("2 MB", 2_000_000), ("1 MiB", 2**20), (17, 17), ("17 B", 17)],
)
def test_sizes(written: object, n_bytes: int) -> None:
    assert size(written) == n_bytes


@pytest.mark.parametrize("written", ["", "fast", "32 kB/s", "-1 kbit/s", "1e3", True, 1.5, None])
def test_what_is_no_rate_is_told_how_to_write_one(written: object) -> None:
    with pytest.raises(ValueError, match=r'write a rate such as 32000 \(bit/s\) or "32 kbit/s"'):
        rate(written)


@pytest.mark.parametrize("written", ["5 kbit/s", "much", [], "1,5 MB"])
def test_what_is_no_size_is_told_how_to_write_one(written: object) -> None:
    with pytest.raises(ValueError, match=r"units: B, KB, MB, GB, KiB"):
        size(written)


@pytest.mark.parametrize("written", [10**400, "9" * 400, "9" * 400 + " GB", "9007200 GB"])
def test_what_cannot_be_counted_is_too_much(written: object) -> None:
    with pytest.raises(ValueError, match="give less"):
        size(written)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (812, "812 B"), (1500, "1.5 KB"), (21e6, "21 MB"), (999_700, "1.0 MB")],
)
def test_sizes_are_shown_short(n_bytes: float, text: str) -> None:
    assert shown_size(n_bytes) == text


def test_the_largest_unit_is_not_left() -> None:
    assert shown_size(5e15) == "5000000 GB"
