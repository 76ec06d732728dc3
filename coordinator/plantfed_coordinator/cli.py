"""``plantfed-coordinator``: the consensus service."""

import asyncio
import logging
import random
import secrets
from pathlib import Path
from time import monotonic, sleep, time

import click

from plantfed_coordinator import audit_commands
from plantfed_coordinator.audit_chain import Line
from plantfed_coordinator.audit_log import AuditLog, opened
from plantfed_coordinator.events import OperatorOrder, Order
from plantfed_coordinator.export import export_shared
from plantfed_coordinator.federation_file import Federation, load_federation
from plantfed_coordinator.founding import (
    found_or_continue,
    refuse_lost_journal,
    refuse_other_structure,
)
from plantfed_coordinator.gate import Gate
from plantfed_coordinator.journal import FILE_NAME, Journal, give_order, order_is_done
from plantfed_coordinator.options import config_of_members_option, config_option, json_option
from plantfed_coordinator.probation import Probation
from plantfed_coordinator.service import CoordinatorService
from plantfed_coordinator.settings import (
    CoordinatorSettings,
    load_coordinator_settings,
)
from plantfed_coordinator.state import FederationState
from plantfed_coordinator.upkeep import backup, replay, restore
from plantfed_coordinator.views import (
    read_connection,
    read_definition,
    read_federation,
    read_history,
    read_overview,
)
from plantfed_coordinator.working_folder import sweep_state
from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import SessionSettings
from plantfed_shared.bus.probe import probe
from plantfed_shared.command_line import Findings, connection_finding, log_option, utc
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.disk_room import wait_for_room
from plantfed_shared.errors import ConfigError
from plantfed_shared.lattice import checksum
from plantfed_shared.log_lines import LogFormat, log_to_stderr
from plantfed_shared.signals import stop_on_signals
from plantfed_shared.store import in_use
from plantfed_shared.topics import COORDINATOR, Topics, check_id
from plantfed_shared.version import software_version
from plantfed_shared.vitals import Vitals
from plantfed_shared.watching import watched
from plantfed_shared.wording import counted

log = logging.getLogger("plantfed.coordinator")

ORDER_PATIENCE_S = 5.0


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(software_version())
def commands() -> None:
    """The PlantFed coordinator: joins what the agents have learnt.

    Exit codes: 0 done, 1 the audit log is not what was written, 2 wrong command line,
    65 the artefact of the model cannot be used, 69 broker not reachable, 74 state on disk,
    77 broker refused this identity, 78 settings, 130 Ctrl-C.
    """


@commands.command("run")
@config_option
@click.option("--verbose", is_flag=True, help="Log more.")
@log_option
def run_coordinator(config: Path, verbose: bool, log_format: LogFormat) -> None:
    """Serve the federation until SIGTERM or Ctrl-C."""
    log_to_stderr(verbose=verbose, form=log_format)
    settings = load_coordinator_settings(config)
    asyncio.run(_serve_watched(settings, load_federation(settings.coordinator.federation_file)))


@commands.command()
@config_option
@json_option
def check(config: Path, as_json: bool) -> None:
    """Check settings, federation file, state folder and broker, and say what is wrong."""
    findings = Findings(as_json=as_json)
    settings = load_coordinator_settings(config)
    findings.say("settings", f"{config} is in order")
    definition = load_federation(settings.coordinator.federation_file).definition
    size, algorithm = definition.lattice().size, definition.algorithm
    named = f"{definition.federation}, mode {algorithm.mode}, {counted(size, 'shared number')}"
    if algorithm.has_duals:
        named += f", penalty {algorithm.penalty:g}, relaxation {algorithm.relaxation:g}"
    findings.say("federation", named)
    state_dir = settings.coordinator.state_dir
    refuse_lost_journal(state_dir)
    old = read_definition(state_dir)
    if old is not None:
        refuse_other_structure(old, definition, str(settings.coordinator.federation_file))
    if in_use(state_dir / FILE_NAME):
        # a broker that knows clients by their user would let the check end that one's session
        findings.say("state", f"a coordinator is running on {state_dir}")
        connection = read_connection(state_dir)
        if connection is not None:
            findings.say("broker", connection_finding(connection, settings.broker.url))
    else:
        with opened(state_dir, time, settings.limits.audit_entries):
            Journal(state_dir, time).close()
        findings.say("state", f"{state_dir} can be written")
        asyncio.run(probe(_bus(settings, _topics(settings, definition), check=True)))
        findings.say("broker", f"{settings.broker.url} accepts the coordinator")
    findings.finish()


@commands.group(invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def members(context: click.Context, config: Path, as_json: bool) -> None:
    """Show the members, or remove, admit or release one."""
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    overview = read_overview(load_coordinator_settings(config).coordinator.state_dir)
    if as_json:
        click.echo(overview.model_dump_json(indent=2))
        return
    click.echo(
        f"{overview.federation}: epoch {overview.epoch}, release {overview.k}, "
        f"{counted(overview.updates, 'update')}, checksum {overview.checksum}"
    )
    width = max(8, len(overview.metric))
    click.echo(
        f"{'member':24} {'online':7} {'updates':>8} {'behind':>7} {overview.metric:>{width}}"
        f" {'KB up':>8} {'up today':>9} {'down today':>11}"
    )
    for m in overview.members:
        online = {True: "yes", False: "no", None: "-"}[m.online]
        score = "-" if m.score is None else f"{m.score:.3f}"
        kilobytes = f"{m.bytes_up / 1000:8.1f} {m.up_today / 1000:9.1f} {m.down_today / 1000:11.1f}"
        click.echo(
            f"{m.id:24} {online:7} {m.updates:8} {m.staleness:7} {score:>{width}} {kilobytes}"
        )
    for agent in overview.barred:
        click.echo(f"{agent:24} removed by the operator")
    for agent, reason in overview.quarantined.items():
        click.echo(f"{agent:24} {reason}")


@members.command()
@click.argument("agent")
@config_of_members_option
@click.pass_obj
def remove(of_members: Path, agent: str, config: Path | None) -> None:
    """Take AGENT out of the consensus, and keep it out."""
    _order(config or of_members, Order.REMOVE, agent)


@members.command()
@click.argument("agent")
@config_of_members_option
@click.pass_obj
def admit(of_members: Path, agent: str, config: Path | None) -> None:
    """Let a removed AGENT join again."""
    _order(config or of_members, Order.ADMIT, agent)


@members.command()
@click.argument("agent")
@config_of_members_option
@click.pass_obj
def release(of_members: Path, agent: str, config: Path | None) -> None:
    """Listen to a quarantined AGENT again."""
    _order(config or of_members, Order.RELEASE, agent)


commands.add_command(audit_commands.audit)


@commands.command()
@config_option
@json_option
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="Entries.")
def history(config: Path, as_json: bool, last: int) -> None:
    """Show releases and changes of members and epochs."""
    entries = read_history(load_coordinator_settings(config).coordinator.state_dir, last)
    if as_json:
        click.echo("[" + ",\n".join(entry.model_dump_json() for entry in entries) + "]")
        return
    for entry in entries:
        details = " ".join(f"{name}={value}" for name, value in entry.fields.items())
        click.echo(f"{utc(entry.unix_time)}  {entry.kind:12} {entry.agent or '':20} {details}")


@commands.command()
@config_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".npz file.")
@json_option
def export(config: Path, out: Path, as_json: bool) -> None:
    """Write the newest shared parameters."""
    if out.suffix != ".npz":
        raise click.BadParameter(f"{out.name!r} must end in .npz", param_hint="--out")
    state = read_federation(load_coordinator_settings(config).coordinator.state_dir)
    export_shared(state, out)
    findings = Findings(as_json=as_json)
    findings.say("model", f"{state.terms.definition.federation} release {state.k}")
    findings.say("file", str(out))
    findings.finish()


for upkeep in (replay, backup, restore):
    commands.add_command(upkeep)


async def _serve_watched(settings: CoordinatorSettings, federation: Federation) -> None:
    stopped, state_dir = stop_on_signals(), settings.coordinator.state_dir
    with watched(settings.health, state_dir) as vitals:
        await wait_for_room(state_dir, vitals, stopped)
        await _serve(settings, federation, vitals, stopped)


async def _serve(
    settings: CoordinatorSettings,
    federation: Federation,
    vitals: Vitals,
    stopped: asyncio.Event,
) -> None:
    topics = _topics(settings, federation.definition)
    section = settings.coordinator
    refuse_lost_journal(section.state_dir)
    # of two halves one is whole at any time
    journal = Journal(section.state_dir, time, section.journal_megabytes * 2**19)
    try:
        sweep_state(section.state_dir)
        with opened(section.state_dir, time, settings.limits.audit_entries) as audit:
            machine = found_or_continue(
                journal,
                federation,
                topics,
                lambda: secrets.randbits(64),
                monotonic(),
                str(section.federation_file),
                settings.limits,
                audit.quarantined(),
            )
            _audit_the_start(audit, machine.state)
            gate = Gate(topics, settings.limits)
            bus, probation = _bus(settings, topics, gate), Probation(topics)
            service = CoordinatorService(
                machine, bus, journal, topics, audit=audit, vitals=vitals, probation=probation
            )
            await service.run(stopped)
    finally:
        journal.close()


def _audit_the_start(audit: AuditLog, state: FederationState) -> None:
    """An epoch that began, or a backup that was restored, while nobody ran is seen here."""
    what = f"epoch {state.epoch.counter}, release {state.k}, checksum {checksum(state.model):016x}"
    audit.append([Line("started", None, f"{what}, version {software_version()}")])
    log.info("audit log: %s", audit.head)


def _order(config: Path, order: Order, agent: str) -> None:
    check_id(agent, "agent id")
    state_dir = load_coordinator_settings(config).coordinator.state_dir
    overview = read_overview(state_dir)
    what, known = {
        Order.REMOVE: ("member", [m.id for m in overview.members]),
        Order.ADMIT: ("removed agent", list(overview.barred)),
        Order.RELEASE: ("quarantined agent", list(overview.quarantined)),
    }[order]
    if agent not in known:
        raise ConfigError(
            f"{agent!r} is no {what}", hint=f"There are: {', '.join(known) or 'none'}"
        )
    number = give_order(state_dir, OperatorOrder(order, agent))
    deadline = monotonic() + ORDER_PATIENCE_S
    while in_use(state_dir / FILE_NAME) and monotonic() < deadline:
        if order_is_done(state_dir, number):
            click.echo(f"{order} {agent}: done")
            return
        sleep(0.1)
    click.echo(f"{order} {agent}: noted; it is done when the coordinator runs")


def _topics(settings: CoordinatorSettings, definition: FederationDefinition) -> Topics:
    return Topics(definition.federation, settings.coordinator.root)


def _bus(
    settings: CoordinatorSettings,
    topics: Topics,
    gate: Gate | None = None,
    *,
    check: bool = False,
) -> MqttBus:
    # the check must not take over the session of a coordinator that is running
    session = SessionSettings(
        client_id=f"{topics.federation}-{COORDINATOR}{'-check' if check else ''}",
        subscriptions=topics.coordinator_subscriptions(),
        persistent=not check,
        keepalive_s=settings.broker.keepalive_s,
    )
    rng = random.Random()  # noqa: S311 - jitter
    admits = None if gate is None else (lambda topic, size: gate.admits(topic, size, monotonic()))
    return MqttBus(settings.broker.address(), session, rng=rng, admits=admits)
