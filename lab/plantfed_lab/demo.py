"""The demo: a broker, a coordinator and agents as processes of their own, and what they reach.

Nothing here knows more than an operator does: folders and settings are rendered, programs are
started by their public commands, and the run is read from what they leave on disk.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

import click
from rich.console import Console

from plantfed_agent.settings import load_agent_settings
from plantfed_agent.views import read_status
from plantfed_broker import resolve_broker
from plantfed_coordinator.federation_file import load_definition
from plantfed_coordinator.views import read_overview
from plantfed_lab.demo_folder import DemoFolder, fill_folder, fresh_folder
from plantfed_lab.evaluation import RunFacts, evaluate
from plantfed_lab.processes import Processes, last_line
from plantfed_lab.progress import Display, ProgressReader, display_for
from plantfed_lab.report import render_report
from plantfed_lab.result_files import refuse_unwritable, write_text
from plantfed_lab.results import DemoResult, Network
from plantfed_lab.tennessee_eastman import (
    CNN1D,
    Plant,
    federation_definition,
    in_mode,
    plants,
    thinned,
)
from plantfed_shared.bus.address import parse_broker_url
from plantfed_shared.definition import FederationDefinition, Schedule
from plantfed_shared.errors import BrokerError, ConfigError, PlantfedError, StorageError
from plantfed_shared.onnx_session import is_installed
from plantfed_shared.wording import counted

TICK_S = 0.25
READ_EVERY_S = 1.0
START_PATIENCE_S = 30.0
FETCH_PATIENCE_S = 20.0
STALLED_AFTER_S = 300.0
SYNC_PARTICIPATION = 0.3


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the reader asked for.

    Attributes:
        agents: how many plants.
        releases: to be made.
        seed: of split, start and draws.
        schedule: "async": nobody waits; "sync": rounds with drawn participants.
        thin: short messages, for thin links.
        mode: "auto" or "fedapm", see docs/modes.md.
        network: "mlp", or "cnn1d", a compiled network over windows.
        broker: URL of a running one, or None.
        out: folder.
        json_file: gets a copy of the result, or None.
    """

    agents: int
    releases: int
    seed: int
    schedule: Literal["async", "sync"]
    thin: bool
    mode: Literal["auto", "fedapm"]
    network: Network
    broker: str | None
    out: Path
    json_file: Path | None


def run_demo(options: DemoOptions, console: Console) -> DemoResult:
    """Run a demo from an empty folder to its report.

    Raises:
        PlantfedError: it cannot be started, or one of its processes has ended.
        KeyboardInterrupt: Ctrl-C; every process has ended then.
    """
    started, begin = datetime.now(UTC), monotonic()
    _check_broker(options.broker)
    _check_json(options.json_file)
    _check_runtime(options.network)
    with fresh_folder(options.out) as folder:
        artefact = CNN1D if options.network == "cnn1d" else None
        members = plants(options.seed, options.agents, windows=artefact is not None)
        click.echo(f"{options.out}: settings and rows of {counted(options.agents, 'plant')}")
        dense = _definition(options, folder.federation)
        fill_folder(folder, members, dense, options.broker, artefact)
        definition = load_definition(folder.coordinator / "federation.toml")
        kind, seconds = _federate(folder, options, [p.id for p in members], console)
        click.echo("computing what others reach: each alone, one global model, the other mode")
        run = RunFacts(
            folder=folder,
            started=started,
            begin=begin,
            seconds=seconds,
            seed=options.seed,
            thin=options.thin,
            network=options.network,
            artefact=artefact.read_bytes() if artefact else None,
            broker_kind=kind,
            broker_url=_broker_url(folder, members),
        )
        result = evaluate(run, members, definition)
        _write(result, folder, options.json_file)
    return result


def _definition(options: DemoOptions, federation: str) -> FederationDefinition:
    schedule = Schedule(
        kind=options.schedule,
        participation=SYNC_PARTICIPATION,
        min_members=options.agents,
        max_releases=options.releases,
        seed=options.seed,
    )
    definition = in_mode(options.mode, federation_definition(options.seed, schedule, federation))
    return thinned(definition) if options.thin else definition


def _check_broker(url: str | None) -> None:
    """Find out now whether there is a broker.

    Raises:
        ConfigError: the address is none, or asks for what a demo doesn't have.
        BrokerError: there is none to start, or it doesn't answer.
    """
    resolve_broker(url)
    if url is None:
        return
    host, port, tls = parse_broker_url(url)
    if tls:
        raise ConfigError(
            "a demo has no certificates",
            where=f"--broker {url}",
            hint="Use a broker at mqtt://HOST:PORT that lets anybody in, or leave --broker out",
        )
    try:
        socket.create_connection((host, port), START_PATIENCE_S).close()
    except OSError as error:
        # a coordinator would wait for it for ever
        raise BrokerError(
            f"no broker answers: {error}",
            where=f"--broker {url}",
            hint="Start it, or check host, port and firewall",
        ) from None


def _check_json(path: Path | None) -> None:
    """Find out now, not after the run, whether the file can be written.

    Raises:
        StorageError: it cannot.
    """
    if path is not None:
        try:
            refuse_unwritable(path)
        except StorageError as error:
            raise StorageError(error.what, where=f"--json {path}") from None


def _check_runtime(network: Network) -> None:
    """Find out now whether the agents could train it.

    Raises:
        ConfigError: onnxruntime is not installed.
    """
    if network != "mlp" and not is_installed():
        raise ConfigError(
            "needs onnxruntime, which is not installed",
            where=f"--model {network}",
            hint="pip install 'plantfed[agent]'",
        )


def _federate(
    folder: DemoFolder, options: DemoOptions, agents: Sequence[str], console: Console
) -> tuple[str, float]:
    """Run the federation to its last release.

    Returns:
        The kind of broker, and seconds from the coordinator's start until all had the last model.
    """
    with Processes(folder.logs) as processes:
        kind = "external"
        if options.broker is None:
            kind = _start_broker(processes, folder)
        reader = ProgressReader(
            folder.coordinator / "state",
            len(agents),
            options.releases,
            in_rounds=options.schedule == "sync",
        )
        run = ("run", "--config")
        processes.start(
            "coordinator", "plantfed_coordinator", [*run, "coordinator.toml"], folder.coordinator
        )
        _wait_for_coordinator(processes, reader)
        for agent in agents:
            processes.start(agent, "plantfed_agent", [*run, "agent.toml"], folder.agent(agent))
        click.echo(f"processes: broker ({kind}), coordinator, {counted(len(agents), 'agent')}")
        with display_for(console) as display:
            _watch(processes, reader, display)
        _wait_for_last_model(processes, folder, agents)
        return kind, reader.seconds


def _start_broker(processes: Processes, folder: DemoFolder) -> str:
    """Start ``plantfed-broker serve`` and wait for the line it writes when it is ready."""
    child = processes.start("broker", "plantfed_broker", ["serve", "--dir", "."], folder.broker)
    deadline = monotonic() + START_PATIENCE_S
    while monotonic() < deadline:
        processes.check()
        kind, _, address = last_line(child.log).partition(" ")
        if address.startswith("mqtt"):
            return kind
        sleep(TICK_S / 5)
    raise BrokerError(
        f"not ready after {START_PATIENCE_S:.0f} s",
        where="broker",
        hint=f"Look into {child.log}",
    )


def _wait_for_coordinator(processes: Processes, reader: ProgressReader) -> None:
    """Wait until it has founded the federation: who greets it earlier greets again after 5 s."""
    deadline = monotonic() + START_PATIENCE_S
    while reader.read() is None and monotonic() < deadline:
        processes.check()
        sleep(TICK_S / 5)


def _watch(processes: Processes, reader: ProgressReader, display: Display) -> None:
    """Show the progress until the last release.

    Raises:
        PlantfedError: a process has ended, or nothing happens any more.
    """
    releases, last_release_s, next_read_s = -1, reader.seconds, 0.0
    while True:
        processes.check()
        if reader.seconds >= next_read_s:
            next_read_s = reader.seconds + READ_EVERY_S
            progress = reader.read()
            if progress is not None:
                display.show(progress)
                if progress.final:
                    return
                if progress.releases > releases:
                    releases, last_release_s = progress.releases, reader.seconds
            if reader.seconds - last_release_s > STALLED_AFTER_S:
                raise PlantfedError(
                    f"no release for {STALLED_AFTER_S:.0f} s", hint="Look into the logs"
                )
        sleep(TICK_S)


def _wait_for_last_model(processes: Processes, folder: DemoFolder, agents: Sequence[str]) -> None:
    """Wait until every agent has fetched the last model, or long enough."""
    last = read_overview(folder.coordinator / "state").k
    settings = [load_agent_settings(folder.agent(agent) / "agent.toml") for agent in agents]
    deadline = monotonic() + FETCH_PATIENCE_S
    while settings and monotonic() < deadline:
        processes.check()
        settings = [s for s in settings if read_status(s).model_k != last]
        sleep(TICK_S)
    for one in settings:
        click.echo(f"{one.agent.id} has not fetched the last model; it is judged by an older one")


def _broker_url(folder: DemoFolder, members: Sequence[Plant]) -> str:
    return load_agent_settings(folder.agent(members[0].id) / "agent.toml").broker.url


def _write(result: DemoResult, folder: DemoFolder, json_file: Path | None) -> None:
    write_text(folder.path / "result.json", result.to_json())
    write_text(folder.path / "report.html", render_report(result))
    if json_file is not None:
        write_text(json_file, result.to_json())
