"""The files a reader edits or reads: ``agent.toml``, the coordinator's section, the README."""

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template

from plantfed_broker.settings import BrokerSettings
from plantfed_shared.topics import COORDINATOR

TEMPLATES = Path(__file__).with_name("templates")

PASSWORD_FILES = {
    "mosquitto.conf": "drop-in for `/etc/mosquitto/conf.d`",
    "acl": "who may publish and subscribe to what",
    "passwd": "users and hashed passwords",
    "nats-passwords": "passwords in clear text, for `serve` without mosquitto only; else delete it",
    "coordinator.password": "**secret** of the coordinator",
    "coordinator-broker.toml": "the `[broker]` section of the coordinator's settings",
}
MTLS_FILES = {
    "mosquitto.conf": "drop-in for `/etc/mosquitto/conf.d`",
    "acl": "who may publish and subscribe to what",
    "ca.crt": "certificate authority; every client has a copy",
    "ca.key": "its **secret** key: who has it can be anybody here",
    "server.crt`, `server.key": "the broker's certificate and **secret** key",
    "coordinator.crt`, `coordinator.key": "the coordinator's certificate and **secret** key",
    "coordinator-broker.toml": "the `[broker]` section of the coordinator's settings",
    "issued/": "a copy of each agent's certificate",
    "revoked.crl": "certificates the broker refuses",
}
PASSWORD_WORDS = {
    "identity_kind": "clients prove who they are with a password",
    "warning": "**Passwords and updates travel in clear text.**  Where others can listen, render "
    "another folder with\n`--variant mtls`.\n\n",
    "readable": "acl passwd",
    "after_removal": "An agent removed\nwhile it is connected stays so until its connection "
    "breaks, without any right.",
    "coordinator_files": "`coordinator.password`",
    "backup": "The whole folder but `data/`; `coordinator.password` and `passwd` cannot be made "
    "again, only\nreplaced.",
}
MTLS_WORDS = {
    "identity_kind": "clients prove who they are with a certificate over TLS",
    "warning": "",
    "readable": "acl ca.crt server.crt server.key revoked.crl",
    "after_removal": "The list of\nrevoked certificates it reads only on "
    "`sudo systemctl restart mosquitto`: restart it after\n`remove-agent` and after "
    "`add-agent --replace`.",
    "coordinator_files": "`ca.crt`, `coordinator.crt`, `coordinator.key`",
    "backup": "The whole folder but `data/`.  Without `ca.key` no agent can be added, without "
    "`issued/` none revoked.",
}


def agent_toml(settings: BrokerSettings, agent: str) -> str:
    """Settings of one machine, ready to edit."""
    identity = {"username": agent, "password_file": "password"}
    if settings.variant == "mtls":
        identity = {"ca_file": "ca.crt", "cert_file": "agent.crt", "key_file": "agent.key"}
    return _filled(
        "agent.toml",
        id=json.dumps(agent),
        federation=json.dumps(settings.federation),
        root=json.dumps(settings.root),
        url=json.dumps(settings.url),
        identity=_assignments(identity),
    )


def coordinator_toml(settings: BrokerSettings) -> str:
    """The broker section of the coordinator's settings."""
    identity = {"username": COORDINATOR, "password_file": "coordinator.password"}
    if settings.variant == "mtls":
        names = ("ca.crt", "coordinator.crt", "coordinator.key")
        identity = dict(zip(("ca_file", "cert_file", "key_file"), names, strict=True))
    head = "# For the coordinator's settings; copy the files it names beside them.\n[broker]\n"
    return f"{head}url = {json.dumps(settings.url)}\n{_assignments(identity)}\n"


def readme(settings: BrokerSettings, folder: Path) -> str:
    """What each file is, how to start mosquitto with them, what to back up."""
    password = settings.variant == "password"
    described = PASSWORD_FILES if password else MTLS_FILES
    return _filled(
        "README.md",
        federation=settings.federation,
        url=settings.url,
        folder=str(folder),
        files="\n".join(f"| `{name}` | {what} |" for name, what in described.items()),
        **(PASSWORD_WORDS if password else MTLS_WORDS),
    )


def _assignments(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())


def _filled(template: str, **words: str) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    return Template(text).substitute(words)
