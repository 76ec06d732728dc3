"""``python -m plantfed_coordinator`` is ``plantfed-coordinator``."""

from plantfed_coordinator.cli import main

main()
