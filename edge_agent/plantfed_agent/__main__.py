"""``python -m plantfed_agent`` is ``plantfed-agent``."""

from plantfed_agent.cli import main

main()
