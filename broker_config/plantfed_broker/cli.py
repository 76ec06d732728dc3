"""``plantfed-broker``: render a broker's folder, manage its agents, serve it."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from plantfed_broker.settings import SETTINGS_FILE, Variant, read_folder
from plantfed_shared.command_line import missing_extra
from plantfed_shared.errors import StorageError
from plantfed_shared.version import software_version
from plantfed_shared.wording import counted

try:
    from plantfed_broker.embedded import BrokerKind, EmbeddedBroker
    from plantfed_broker.folder import add_agent, remove_agent, render_federation
except ModuleNotFoundError as missing:
    if missing.name != "cryptography":
        raise
    # the command is installed with every part, what it needs only with its own
    missing_extra("plantfed-broker", "broker")

PROGRAM = "plantfed-broker"
LOOK_EVERY_S = 1.0

FOLDER = click.Path(file_okay=False, path_type=Path)
RELOAD = {
    "password": "sudo systemctl reload mosquitto",
    "mtls": "sudo systemctl restart mosquitto",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(software_version())
def commands() -> None:
    """The message broker of a federation: its settings, its users, and one to try things with.

    Exit codes: 0 done, 2 wrong command line, 69 broker can't be started, 74 disk, 78 settings.
    """


@commands.command()
@click.option("--federation", required=True, metavar="ID", help="Of the federation.")
@click.option("--root", default="plantfed", show_default=True, help="First levels of all topics.")
@click.option("--host", help="Name or address of the broker for its clients.  [localhost]")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port.  [1883, mtls: 8883]")
@click.option("--bind", help="Address to listen on.  [all, or 127.0.0.1 if the host is localhost]")
@click.option(
    "--variant",
    type=click.Choice(["password", "mtls"]),
    default="password",
    show_default=True,
    help="How clients prove who they are: password in clear text, or certificate over TLS.",
)
@click.option("--out", required=True, type=FOLDER, help="Folder to write.")
def render(
    federation: str,
    root: str,
    host: str | None,
    port: int | None,
    bind: str | None,
    variant: Variant,
    out: Path,
) -> None:
    """Write all a broker needs for one federation; again: keeps secrets and agents."""
    before = read_folder(out) if (out / SETTINGS_FILE).exists() else None
    render_federation(out, federation, root, host, port, variant, bind=bind)
    settings = read_folder(out)
    n_agents = counted(len(settings.agents), "agent")
    click.echo(f"{out}: broker of {federation} at {settings.url}, {n_agents}")
    if before and before.agents and before.url != settings.url:
        click.echo(
            f"{PROGRAM}: write the new address into agent.toml of every agent; "
            f"it still says {before.url}",
            err=True,
        )
    if variant == "password" and settings.bind not in ("127.0.0.1", "::1"):
        click.echo(
            f"{PROGRAM}: passwords and updates will travel in clear text; "
            "use --variant mtls where others can listen",
            err=True,
        )


@commands.command("add-agent")
@click.argument("agent_id", metavar="ID")
@click.option("--dir", "folder", type=FOLDER, default=".", help="Rendered folder.  [.]")
@click.option("--out", type=FOLDER, help="Gets what goes to the machine.  [DIR/agents/ID]")
@click.option("--replace", is_flag=True, help="New credentials for a known agent.")
def add_agent_command(agent_id: str, folder: Path, out: Path | None, *, replace: bool) -> None:
    """Let an agent in; writes the folder that goes to its machine."""
    settings_file = add_agent(folder, agent_id, out, replace=replace)
    click.echo(f"{settings_file.parent}: move it to the machine of {agent_id}, then delete it here")
    _say_reload(folder, restart=replace)


@commands.command("remove-agent")
@click.argument("agent_id", metavar="ID")
@click.option("--dir", "folder", type=FOLDER, default=".", help="Rendered folder.  [.]")
def remove_agent_command(agent_id: str, folder: Path) -> None:
    """Take an agent's credentials and rights away."""
    remove_agent(folder, agent_id)
    click.echo(f"{agent_id} may not connect any more")
    _say_reload(folder, restart=True)


def _say_reload(folder: Path, *, restart: bool) -> None:
    variant = read_folder(folder).variant
    told = RELOAD[variant if restart else "password"]
    click.echo(f"`{PROGRAM} serve` notices by itself; a mosquitto under systemd needs: {told}")


@commands.command()
@click.option("--dir", "folder", type=FOLDER, default=".", help="Rendered folder.  [.]")
@click.option("--port", type=click.IntRange(1, 65535), help="Instead of the folder's.")
@click.option("--broker", "url", metavar="URL", help="Use this running broker, start none.")
@click.option("--kind", type=click.Choice(["mosquitto", "nats"]), help="Start this one.")
def serve(folder: Path, port: int | None, url: str | None, kind: str | None) -> None:
    """Run the broker in the foreground until Ctrl-C or SIGTERM."""
    with _asked_to_stop() as stop:
        chosen = BrokerKind(kind) if kind else None
        with EmbeddedBroker(folder, url=url, kind=chosen, port=port) as broker:
            click.echo(f"{broker.kind} {broker.address}")
            sys.stdout.flush()
            if broker.kind is not BrokerKind.EXTERNAL:
                _watch(broker, stop)


def _watch(broker: EmbeddedBroker, stop: threading.Event) -> None:
    seen = _changed(broker.folder)
    while not stop.wait(LOOK_EVERY_S):
        broker.check()
        now = _changed(broker.folder)
        if now != seen:
            seen = now
            broker.reload()


def _changed(folder: Path) -> int:
    """When ``add-agent`` or ``remove-agent`` last ended; they write this file last."""
    path = folder / SETTINGS_FILE
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", where=str(path)) from error


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event set by Ctrl-C and SIGTERM, which then end nothing by themselves."""
    stop = threading.Event()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
