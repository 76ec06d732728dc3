"""``python -m plantfed_lab`` is ``plantfed``."""

from plantfed_lab.cli import main

main()
