"""Coverage-guided fuzzing, where atheris is installed (``pip install -e '.[fuzz]'``).

    python -m tests.fuzz.with_atheris TARGET FOLDER [-runs=1000000] [libFuzzer's options]

FOLDER gets the committed corpus and whatever covers more.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["plantfed_shared", "plantfed_coordinator"]):
    from tests.fuzz.driver import seeds
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """See the module."""
    program, target, folder, *options = sys.argv
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (place / f"seed-{number:04}").write_bytes(seed)
    atheris.Setup([program, folder, *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
