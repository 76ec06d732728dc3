"""``python -m tests.faults SEED ...``: run seeds and say what happened; a failing one is replayed.

``--planted NAME`` plants one of the bugs of :mod:`tests.faults.planted` first.
"""

import argparse

from tests.faults.planted import PLANTED
from tests.faults.world import run_seed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("seeds", nargs="+", help="like 17, or 0-199")
    parser.add_argument("--planted", choices=sorted(PLANTED))
    options = parser.parse_args()
    if options.planted:
        PLANTED[options.planted]().__enter__()
    for text in options.seeds:
        first, _, last = text.partition("-")
        for seed in range(int(first), int(last or first) + 1):
            outcome = run_seed(seed)
            print(f"{seed}: {outcome.digest} {outcome.updates} updates", flush=True)
            if first == text:
                print(*sorted(outcome.happened.items()), sep="\n")


if __name__ == "__main__":
    main()
