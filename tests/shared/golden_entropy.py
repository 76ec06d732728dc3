"""Fixed vectors and their entropy codes: what is on the wire for ever.

``python -m tests.shared.golden_entropy --write`` writes ``golden_entropy.json`` anew.  Only a new
version of the wire format may change a line that is there.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests.shared.vectors import int64

from plantfed_shared.entropy_codec import encode

FILE = Path(__file__).with_name("golden_entropy.json")


def _scattered(n: int, period: int, bound: int) -> list[int]:
    """Every so many elements one that is not 0, by arithmetic alone."""
    return [(i * i * 7919 % (2 * bound + 1)) - bound if i % period == 3 else 0 for i in range(n)]


VECTORS: dict[str, tuple[list[int], list[int]]] = {
    "nothing": ([], []),
    "empty tensors": ([], [0, 0]),
    "zeros": ([0] * 100, [64, 36]),
    "one": ([1], [1]),
    "minus one": ([-1], [1]),
    "the first of 32": ([5] + [0] * 31, [32]),
    "the last of 32": ([0] * 31 + [-48], [32]),
    "the largest": ([2**30 - 1, 1 - 2**30, 2**29], [3]),
    "all equal": ([-12] * 50, [50]),
    "small": (list(range(-20, 20)), [40]),
    "biased signs": ([1, 1, 2, 1, 1, 1, 1, 3, 1, 1, -1, 1, 1, 1, 2, 1, 1, 1, 1, 1] * 3, [60]),
    "empty between": ([0, 4, 0, -8, 0], [2, 0, 3]),
    "sparse": (_scattered(500, 29, 7), [400, 100]),
    "dense": (_scattered(90, 1, 7), [90]),
    "rows": ([x if i // 64 % 3 else 0 for i, x in enumerate(_scattered(600, 7, 3))], [600]),
    "rows of different scale": (
        [x << 2 * (i // 64 % 5) for i, x in enumerate(_scattered(1900, 1, 9))],
        [1900],
    ),
    "wide": (_scattered(90, 1, 2**20), [60, 30]),
    "powers of two": ([(-1) ** i << i for i in range(30)], [30]),
}


def golden() -> dict[str, Any]:
    """What the file holds, made by the code as it is now."""
    return {
        name: encode(int64(integers), sizes).hex() for name, (integers, sizes) in VECTORS.items()
    }


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python -m tests.shared.golden_entropy --write")
    FILE.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
