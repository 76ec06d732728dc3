"""Fuzzing without anything to install: mutations of a committed corpus, the same for the same seed.

    python -m tests.fuzz.driver --inputs 100000 [--seed 1] [--target codec]
    python -m tests.fuzz.driver --target codec --replay 00ff

It prints one JSON line; a finding is printed with the command that repeats it, and exits 1.
"""

import argparse
import json
import random
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.targets import SHARES, TARGETS

CORPUS = Path(__file__).with_name("corpus")
INTERESTING = (
    *(bytes([b]) for b in (0, 1, 0x7F, 0x80, 0xC0, 0xC1, 0xCA, 0xCB, 0xCF, 0xDD, 0xDF, 0xFF)),
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x40",
    b"\x00\x00\xc0\x7f",
    b"\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"/../",
    b"#+$",
    b"\xed\xa0\x80",
    b"[" * 40,
    b"9" * 60,
)
LONGEST = 4096


def seeds(target: str) -> list[bytes]:
    """The committed inputs of a target."""
    lines = (CORPUS / f"{target}.txt").read_text(encoding="ascii").split()
    return [bytes.fromhex(line) for line in lines]


def mutated(rng: random.Random, known: list[bytes]) -> bytes:
    """One of the known inputs with some changes."""
    data = bytearray(rng.choice(known))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0 | 1 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 2 if data:
                data[at % len(data)] = rng.randrange(256)
            case 3:
                some = rng.choice(INTERESTING)
                data[at : at + rng.choice((0, len(some)))] = some
            case 4:
                del data[at : at + rng.randrange(1, 9)]
            case 5:
                data[at:at] = rng.randbytes(rng.randrange(1, 17))
            case 6:
                data[at:at] = data[at : at + rng.randrange(1, 65)] * rng.choice((1, 2, 8))
            case _:
                other = rng.choice(known)
                data[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data[:LONGEST])


def inputs(target: str, number: int, seed: int) -> Iterator[bytes]:
    """The corpus itself, then so many mutations of it."""
    known = seeds(target)
    yield from known
    rng = random.Random(f"{target} {seed}")
    for _ in range(number - len(known)):
        yield mutated(rng, known)


def run(target: str, data: bytes) -> bool:
    """Try one input; what escapes is reported."""
    try:
        TARGETS[target](data)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        traceback.print_exc()
        command = f"python -m tests.fuzz.driver --target {target} --replay {data.hex()}"
        print(f"{type(error).__name__} escaped; repeat it with:\n{command}", file=sys.stderr)
        return False
    return True


def _peak_rss_mb() -> int:
    """Of this process alone: what getrusage says of one that was forked has its parent's in it."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1000


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=list(TARGETS))
    parser.add_argument("--replay")
    asked = parser.parse_args()
    if asked.replay is not None:
        return 0 if run(asked.target, bytes.fromhex(asked.replay)) else 1
    tried: dict[str, int] = {}
    begun = time.monotonic()
    for target in [asked.target] if asked.target else list(TARGETS):
        number = asked.inputs if asked.target else round(asked.inputs * SHARES[target])
        tried[target] = 0
        for data in inputs(target, number, asked.seed):
            tried[target] += 1
            if not run(target, data):
                return 1
    found = {
        "tried": tried,
        "seconds": round(time.monotonic() - begun, 1),
        "rss_mb": _peak_rss_mb(),
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
