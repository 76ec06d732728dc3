"""Rates and sizes as people write them in settings: "32 kbit/s", "500 KB"."""

import re
from collections.abc import Mapping

RATE_UNITS = {"bit/s": 1, "kbit/s": 10**3, "Mbit/s": 10**6, "Gbit/s": 10**9}
"""Bits per second."""
SIZE_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
"""Bytes."""
LARGEST = 2**53
"""Beyond it counting is not exact any more."""
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(\S*)")


def rate(value: object) -> int:
    """A rate in bit/s, from a whole number of them or a text.

    Raises:
        ValueError: it is neither; says how to write it.
    """
    return _quantity(value, RATE_UNITS, 'a rate such as 32000 (bit/s) or "32 kbit/s"')


def size(value: object) -> int:
    """A size in bytes, from a whole number of them or a text.

    Raises:
        ValueError: it is neither; says how to write it.
    """
    return _quantity(value, SIZE_UNITS, 'a size such as 500000 (bytes) or "500 KB"')


def shown_size(n_bytes: float) -> str:
    """A size with three digits at most: 812 B, 1.5 KB, 21 MB."""
    units = ["B", "KB", "MB", "GB"]
    while round(n_bytes) >= 1000 and len(units) > 1:
        n_bytes /= 1000
        del units[0]
    digits = 1 if units[0] != "B" and n_bytes < 9.95 else 0
    return f"{n_bytes:.{digits}f} {units[0]}"


def _quantity(value: object, units: Mapping[str, int], wanted: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return _in_bounds(value)
    match = _WRITTEN.fullmatch(value.strip()) if isinstance(value, str) else None
    by_name = {name.lower(): factor for name, factor in units.items()}
    # without a unit it is meant as the number would be
    factor = by_name.get(match[2].lower()) if match and match[2] else 1
    if match is None or factor is None:
        raise ValueError(f"write {wanted}; units: {', '.join(units)}")
    return _in_bounds(float(match[1]) * factor)


def _in_bounds(number: float) -> int:
    if number > LARGEST:
        raise ValueError("more than there can be: give less, or leave it out for no limit")
    return round(number)
