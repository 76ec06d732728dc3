"""The folder of one federation's broker: render it, let agents in, take them out again.

Everything without a secret is made anew from ``broker.toml`` each time; secrets are made once.
"""

from pathlib import Path

from cryptography import x509

from plantfed_broker import mosquitto, texts
from plantfed_broker.certificates import (
    Identity,
    issue_client,
    issue_server,
    new_authority,
    revocation_list,
)
from plantfed_broker.files import (
    PRIVATE,
    PUBLIC,
    locked,
    make_folder,
    read_lines,
    read_text,
    write_file,
)
from plantfed_broker.passwords import new_password, passwd_line
from plantfed_broker.settings import (
    PORTS,
    SETTINGS_FILE,
    BrokerSettings,
    Variant,
    default_bind,
    read_folder,
)
from plantfed_shared.errors import ConfigError
from plantfed_shared.settings_file import check_settings
from plantfed_shared.topics import COORDINATOR, check_id

NATS_PASSWORDS_FILE = "nats-passwords"
COORDINATOR_PASSWORD_FILE = "coordinator.password"  # noqa: S105 - a file name
REVOKED_FILE = "revoked.crl"
AGENT_FILE = "agent.toml"
ADD_AGAIN = "Give it new credentials with: plantfed-broker add-agent {} --replace"


def render_federation(
    out: Path,
    federation: str,
    root: str = "plantfed",
    host: str | None = None,
    port: int | None = None,
    variant: Variant = "password",
    *,
    bind: str | None = None,
) -> None:
    """Write a broker's folder, or bring an existing one up to date.

    A second call keeps every secret and every agent.

    Args:
        out: the folder.
        federation: its id.
        root: topic levels before ours.
        host: of the broker as its clients know it; by default as before, at first localhost.
        port: TCP port; by default as before, at first 1883 or, with TLS, 8883.
        variant: "password", or "mtls" for client certificates.
        bind: address to listen on, "" for all; by default all unless the host is this machine.

    Raises:
        ConfigError: a value is not allowed, or the folder is another federation's.
        StorageError: the folder cannot be written.
    """
    out = out.resolve()
    before = read_folder(out) if (out / SETTINGS_FILE).exists() else None
    same_host = before if before and host in (None, before.host) else None
    host = host or (before.host if before else "localhost")
    chosen = {
        "federation": federation,
        "root": root,
        "host": host,
        "port": port or (before.port if before else PORTS.get(variant)),
        "bind": bind if bind is not None else (same_host.bind if same_host else default_bind(host)),
        "variant": variant,
        "agents": before.agents if before else (),
    }
    settings = check_settings(chosen, BrokerSettings, where="")
    if before:
        _refuse_another(out, before, settings)
    make_folder(out)
    with locked(out):
        _write_secrets(out, settings, new_host=same_host is None)
        _write_made(out, settings)


def add_agent(
    folder: Path, agent_id: str, out: Path | None = None, *, replace: bool = False
) -> Path:
    """Let an agent in.

    Args:
        folder: a rendered folder.
        agent_id: of the new agent.
        out: gets all that goes to its machine; by default ``agents/ID`` below the folder.
        replace: give a known agent new credentials; the old ones stop to work.

    Returns:
        The path of its ``agent.toml``; an existing one is kept.

    Raises:
        ConfigError: the id is not allowed or known already, or ``out`` holds other credentials.
        StorageError: a folder cannot be written.
    """
    check_id(agent_id, "agent id")
    folder = folder.resolve()
    out = (out or folder / "agents" / agent_id).resolve()
    read_folder(folder)
    with locked(folder):
        settings = read_folder(folder)
        if agent_id in settings.agents and not replace:
            raise ConfigError(f"agent {agent_id!r} exists", hint=ADD_AGAIN.format(agent_id))
        if not replace and any((out / name).exists() for name in ("password", "agent.key")):
            raise ConfigError(
                "holds credentials already", where=str(out), hint=ADD_AGAIN.format(agent_id)
            )
        if settings.variant == "password":
            password = new_password()
            write_file(out / "password", password + "\n", PRIVATE)
            _set_password(folder, agent_id, password)
        else:
            _revoke(folder, agent_id)
            _issue(folder, agent_id, out)
        agents = tuple(sorted({*settings.agents, agent_id}))
        settings = settings.model_copy(update={"agents": agents})
        if not (out / AGENT_FILE).exists():
            write_file(out / AGENT_FILE, texts.agent_toml(settings, agent_id), PRIVATE)
        _write_made(folder, settings)
    return out / AGENT_FILE


def remove_agent(folder: Path, agent_id: str) -> None:
    """Take an agent's credentials and rights away.

    Raises:
        ConfigError: there is no such agent.
        StorageError: the folder cannot be written.
    """
    folder = folder.resolve()
    read_folder(folder)
    with locked(folder):
        settings = read_folder(folder)
        if agent_id not in settings.agents:
            known = ", ".join(settings.agents) or "none"
            raise ConfigError(f"no agent {agent_id!r}", where=str(folder), hint=f"Known: {known}")
        if settings.variant == "password":
            _set_password(folder, agent_id, None)
        else:
            _revoke(folder, agent_id)
        agents = tuple(agent for agent in settings.agents if agent != agent_id)
        _write_made(folder, settings.model_copy(update={"agents": agents}))


def nats_passwords(folder: Path, settings: BrokerSettings) -> dict[str, str]:
    """Passwords of all users, which NATS cannot take in mosquitto's hashed form.

    Raises:
        ConfigError: one is missing.
    """
    path = folder / NATS_PASSWORDS_FILE
    passwords = {
        user: password for user, _, password in (line.partition(":") for line in read_lines(path))
    }
    passwords[COORDINATOR] = read_text(folder / COORDINATOR_PASSWORD_FILE).strip()
    for agent in settings.agents:
        if agent not in passwords:
            raise ConfigError(
                f"no password of agent {agent!r}",
                where=str(path),
                hint=f"Create the file if it is missing. {ADD_AGAIN.format(agent)}",
            )
    return passwords


def valid_certificates(folder: Path, settings: BrokerSettings) -> list[x509.Certificate]:
    """Certificates of the coordinator and of all agents.

    Raises:
        StorageError: one is missing or damaged.
    """
    paths = [folder / "coordinator.crt", *(_issued(folder, agent) for agent in settings.agents)]
    return [x509.load_pem_x509_certificate(read_text(path).encode()) for path in paths]


def _refuse_another(out: Path, before: BrokerSettings, now: BrokerSettings) -> None:
    for key in ("federation", "root", "variant"):
        old, new = getattr(before, key), getattr(now, key)
        if old != new:
            raise ConfigError(
                f"is of {key} {old!r}, not {new!r}", where=str(out), hint="Use another folder"
            )


def _write_made(folder: Path, settings: BrokerSettings) -> None:
    made = {
        mosquitto.CONFIG_FILE: mosquitto.configuration(settings, folder),
        "coordinator-broker.toml": texts.coordinator_toml(settings),
        "README.md": texts.readme(settings, folder),
    }
    for name, text in made.items():
        write_file(folder / name, text, PUBLIC)
    write_file(folder / mosquitto.ACL_FILE, mosquitto.access_list(settings), PRIVATE)
    write_file(folder / SETTINGS_FILE, settings.to_toml(), PUBLIC)


def _write_secrets(folder: Path, settings: BrokerSettings, *, new_host: bool) -> None:
    if settings.variant == "mtls":
        _write_identities(folder, settings, new_host=new_host)
        return
    path = folder / COORDINATOR_PASSWORD_FILE
    if not path.exists():
        write_file(path, new_password() + "\n", PRIVATE)
        write_file(folder / NATS_PASSWORDS_FILE, "", PRIVATE)
        _set_password(folder, COORDINATOR, read_text(path).strip())


def _write_identities(folder: Path, settings: BrokerSettings, *, new_host: bool) -> None:
    if not (folder / "ca.key").exists():
        if (folder / "ca.crt").exists():
            raise ConfigError(
                "ca.key is missing beside ca.crt",
                where=str(folder),
                hint="Restore it from a backup, or render a new folder",
            )
        new_authority(settings.federation).save(folder / "ca.crt", folder / "ca.key")
    authority = Identity.load(folder / "ca.crt", folder / "ca.key")
    server = folder / "server.crt", folder / "server.key"
    if new_host or not server[0].exists():
        key = Identity.load(*server).key if all(path.exists() for path in server) else None
        issue_server(authority, settings.host, key).save(*server)
    if not (folder / "coordinator.crt").exists():
        identity = issue_client(authority, COORDINATOR)
        identity.save(folder / "coordinator.crt", folder / "coordinator.key")
    if not (folder / REVOKED_FILE).exists():
        write_file(folder / REVOKED_FILE, revocation_list(authority, []), PUBLIC)


def _set_password(folder: Path, user: str, password: str | None) -> None:
    """Put a user's password in both lists, or take it out of both.

    The one in clear text is not made again by the next ``add-agent`` where somebody deleted it.
    """
    plain = None if password is None or user == COORDINATOR else f"{user}:{password}"
    hashed = None if password is None else passwd_line(user, password)
    for name, new in ((mosquitto.PASSWD_FILE, hashed), (NATS_PASSWORDS_FILE, plain)):
        path = folder / name
        if name == NATS_PASSWORDS_FILE and not path.exists():
            continue
        kept = [line for line in read_lines(path) if not line.startswith(f"{user}:")]
        lines = sorted([*kept, new] if new else kept)
        write_file(path, "".join(f"{line}\n" for line in lines), PRIVATE)


def _issue(folder: Path, agent: str, out: Path) -> None:
    authority = Identity.load(folder / "ca.crt", folder / "ca.key")
    identity = issue_client(authority, agent)
    identity.save(out / "agent.crt", out / "agent.key")
    write_file(out / "ca.crt", read_text(folder / "ca.crt"), PUBLIC)
    write_file(_issued(folder, agent), read_text(out / "agent.crt"), PUBLIC)


def _revoke(folder: Path, agent: str) -> None:
    path = _issued(folder, agent)
    if not path.exists():
        return
    authority = Identity.load(folder / "ca.crt", folder / "ca.key")
    serials = [entry.serial_number for entry in _revoked(folder)]
    serials.append(x509.load_pem_x509_certificate(read_text(path).encode()).serial_number)
    write_file(folder / REVOKED_FILE, revocation_list(authority, serials), PUBLIC)
    path.unlink()


def _revoked(folder: Path) -> list[x509.RevokedCertificate]:
    return list(x509.load_pem_x509_crl(read_text(folder / REVOKED_FILE).encode()))


def _issued(folder: Path, agent: str) -> Path:
    return folder / "issued" / f"{agent}.crt"
