"""``python -m tests.faults SEED ...``: run seeds and say what happened; a failing one is replayed.

``--planted NAME`` plants one of the bugs of :mod:`tests.faults.planted` and counts the seeds that
catch it.
"""

import argparse
from collections.abc import Iterator

from tests.faults.planted import PLANTED, catches
from tests.faults.world import run_seed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("seeds", nargs="+", help="like 17, or 0-199")
    parser.add_argument("--planted", choices=sorted(PLANTED))
    options = parser.parse_args()
    seeds = [seed for text in options.seeds for seed in _seeds_in(text)]
    if options.planted:
        caught = [seed for seed in seeds if catches(options.planted, seed)]
        print(f"{options.planted}: caught in {len(caught)} of {len(seeds)} seeds, {caught[:5]} ...")
        return
    for seed in seeds:
        outcome = run_seed(seed)
        print(f"{seed}: {outcome.digest} {outcome.updates} updates", flush=True)
        if len(seeds) == 1:
            for kind, times in sorted(outcome.happened.items()):
                if times:
                    print(f"{times:6} {kind}")


def _seeds_in(text: str) -> Iterator[int]:
    first, _, last = text.partition("-")
    yield from range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    main()
