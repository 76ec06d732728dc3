"""Options that several commands of the coordinator have."""

from pathlib import Path

import click

config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default="coordinator.toml",
    show_default=True,
    help="Settings of the coordinator.",
)
config_of_members_option = click.option(
    "--config", "config", type=click.Path(path_type=Path), help="As of `members`."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
