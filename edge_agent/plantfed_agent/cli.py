"""``plantfed-agent``: the program on each machine."""

# one thread for numpy in this process, before anything imports it: it saves tens of megabytes
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import asyncio  # noqa: E402
import random  # noqa: E402
from contextlib import closing  # noqa: E402
from pathlib import Path  # noqa: E402

import click  # noqa: E402

from plantfed_agent.agent_store import FILE_NAME, AgentStore, read_connection  # noqa: E402
from plantfed_agent.link_meter import LinkMeter  # noqa: E402
from plantfed_agent.loading import fingerprint_of  # noqa: E402
from plantfed_agent.machine import AgentMachine  # noqa: E402
from plantfed_agent.pace import Pace  # noqa: E402
from plantfed_agent.process_trainer import ProcessTrainer  # noqa: E402
from plantfed_agent.service import AgentService  # noqa: E402
from plantfed_agent.settings import AgentSettings, load_agent_settings  # noqa: E402
from plantfed_shared.bus.mqtt import MqttBus  # noqa: E402
from plantfed_shared.bus.port import SessionSettings, Will  # noqa: E402
from plantfed_shared.bus.probe import probe  # noqa: E402
from plantfed_shared.command_line import (  # noqa: E402
    Findings,
    connection_finding,
    log_option,
)
from plantfed_shared.day_ledger import DayLedger  # noqa: E402
from plantfed_shared.disk_room import wait_for_room  # noqa: E402
from plantfed_shared.errors import BrokerError  # noqa: E402
from plantfed_shared.log_lines import LogFormat, log_to_stderr  # noqa: E402
from plantfed_shared.messages import Status  # noqa: E402
from plantfed_shared.signals import stop_on_signals  # noqa: E402
from plantfed_shared.store import in_use  # noqa: E402
from plantfed_shared.topics import Topics  # noqa: E402
from plantfed_shared.version import software_version  # noqa: E402
from plantfed_shared.vitals import Vitals  # noqa: E402
from plantfed_shared.watching import watched  # noqa: E402
from plantfed_shared.wire import encode  # noqa: E402

config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default="agent.toml",
    show_default=True,
    help="Settings of this machine.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(software_version())
def commands() -> None:
    """The PlantFed agent: trains on this machine's rows, shares only the shared parameters.

    Exit codes: 0 done, 2 wrong command line, 65 rows or the model cannot be used, 69 broker not
    reachable, 70 training failed, 74 state on disk, 77 broker refused this identity, 78 settings,
    130 Ctrl-C.
    """


@commands.command("run")
@config_option
@click.option("--verbose", is_flag=True, help="Log more.")
@log_option
def run_agent(config: Path, verbose: bool, log_format: LogFormat) -> None:
    """Take part in the federation until SIGTERM or Ctrl-C."""
    log_to_stderr(verbose=verbose, form=log_format)
    asyncio.run(_serve(load_agent_settings(config), leave=False))


@commands.command()
@config_option
def leave(config: Path) -> None:
    """Leave the federation for good: this machine is no part of the consensus any more."""
    log_to_stderr(verbose=False)
    if not asyncio.run(_serve(load_agent_settings(config), leave=True)):
        raise BrokerError("stopped before the coordinator has answered", hint="Leave again later")
    click.echo("left the federation; the head and the model stay on this machine")


@commands.command()
@config_option
@json_option
def check(config: Path, as_json: bool) -> None:
    """Check settings, rows, state folder and broker, and say what is wrong."""
    from plantfed_agent.checking import check_rows

    findings = Findings(as_json=as_json)
    settings = load_agent_settings(config)
    findings.say("settings", f"{config} is in order")
    findings.say("rows", check_rows(settings))
    state_dir = settings.agent.state_dir
    if in_use(state_dir / FILE_NAME):
        # asking the broker would end the running one's session with it
        findings.say("state", f"an agent is running on {state_dir}")
        connection = read_connection(state_dir)
        if connection is not None:
            findings.say("broker", connection_finding(connection, settings.broker.url))
    else:
        with closing(AgentStore(state_dir)) as store:
            store.claim(settings.agent.federation, settings.agent.id)
        findings.say("state", f"{state_dir} can be written")
        asyncio.run(probe(_bus(settings)))
        findings.say("broker", f"{settings.broker.url} accepts {settings.agent.id}")
    findings.finish()


@commands.command()
@config_option
@json_option
def status(config: Path, as_json: bool) -> None:
    """Show what this agent has done, also while it is running."""
    from plantfed_agent.views import read_status

    found = read_status(load_agent_settings(config))
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    for name, value in found.model_dump().items():
        click.echo(f"{name:15} {'-' if value is None else value}")


@commands.command()
@config_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".npz or .onnx file.")
@json_option
def export(config: Path, out: Path, as_json: bool) -> None:
    """Write the machine's own model: what this machine uses to predict."""
    from plantfed_agent.views import served_model

    model = served_model(load_agent_settings(config))
    if out.suffix == ".onnx":
        from plantfed_agent.onnx_export import export_onnx

        export_onnx(model, out)
    elif out.suffix == ".npz":
        model.export_npz(out)
    else:
        raise click.BadParameter(f"{out.name!r} must end in .npz or .onnx", param_hint="--out")
    findings = Findings(as_json=as_json)
    findings.say("model", f"{model.name} as this machine uses it")
    findings.say("file", str(out))
    findings.finish()


@commands.command()
@config_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option(
    "--prior",
    type=click.Choice(["own", "uniform"]),
    default="own",
    show_default=True,
    help="Mode auto: reckon with how often each class was seen on this machine, or with none.",
)
@click.argument("file", type=click.Path())
def predict(config: Path, as_json: bool, as_csv: bool, prior: str, file: str) -> None:
    """Score the rows of FILE with the machine's own model; the file needs no labels.

    In mode auto it also says where the other --prior would give another class.
    """
    from plantfed_agent.answers import in_csv, in_json, in_words
    from plantfed_agent.predictions import predict_file
    from plantfed_agent.views import served_models

    if as_json and as_csv:
        raise click.BadParameter("print JSON or CSV, not both", param_hint="--csv")
    settings = load_agent_settings(config)
    model, other = served_models(settings, uniform=prior == "uniform")
    predictions = predict_file(model, settings.data, file, other)
    if as_json:
        click.echo(in_json(model, predictions))
        return
    uniform = prior == "uniform"
    lines = in_csv(model, predictions) if as_csv else in_words(predictions, uniform=uniform)
    for line in lines:
        click.echo(line)


async def _serve(settings: AgentSettings, *, leave: bool) -> bool:
    """Returns whether it ended because it has left."""
    stopped, state_dir = stop_on_signals(), settings.agent.state_dir
    with watched(settings.health, state_dir) as vitals:
        await wait_for_room(state_dir, vitals, stopped)
        with closing(AgentStore(state_dir)) as store:
            store.claim(settings.agent.federation, settings.agent.id)
            service = _service(settings, store, vitals)
            await service.run(stopped, leave=leave)
    return service.ended


def _service(settings: AgentSettings, store: AgentStore, vitals: Vitals) -> AgentService:
    training, limits = settings.training, settings.link.limits()
    pace = Pace(training.min_interval_s, training.max_rounds_without_new_rows)
    machine = AgentMachine(
        settings.agent.id,
        _topics(settings),
        store.load(),
        pace,
        software_version(),
        report_score=training.report_score,
        limits=limits,
        half=store.load_half(),
        artefacts=store.models.digests(),
    )
    ledger = DayLedger.from_counters(store.load_counters())
    return AgentService(
        machine,
        _bus(settings),
        ProcessTrainer(settings),
        store,
        lambda: fingerprint_of(settings.data),
        LinkMeter(limits, _topics(settings), ledger),
        training.look_for_new_rows_s,
        vitals=vitals,
    )


def _topics(settings: AgentSettings) -> Topics:
    return Topics(settings.agent.federation, settings.agent.root)


def _bus(settings: AgentSettings) -> MqttBus:
    agent, topics = settings.agent.id, _topics(settings)
    gone = encode(Status(online=False, software=software_version()))
    session = SessionSettings(
        client_id=f"{settings.agent.federation}-{agent}",
        subscriptions=topics.agent_subscriptions(agent),
        will=Will(topics.status(agent), gone),
        keepalive_s=settings.broker.keepalive_s,
    )
    return MqttBus(settings.broker.address(), session, rng=random.Random())  # noqa: S311
