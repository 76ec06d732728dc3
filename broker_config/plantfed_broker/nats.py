"""The same federation as a configuration of nats-server, whose MQTT side is our pip broker.

NATS calls a topic a subject: levels are parted by '.', '+' is '*'.  It speaks MQTT 3.1.1 and keeps
sessions, queues and retained messages in JetStream, on disk.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from plantfed_broker.mosquitto import MAX_PACKET_BYTES
from plantfed_broker.settings import BrokerSettings
from plantfed_shared.topics import COORDINATOR, Permission

MAX_PENDING_ACKS = 100
"""Unacknowledged messages per subscription; the default of 1024 are 48 MB of chunks."""

ACK_WAIT_S = 10
STORE_BYTES = 1024 * 1024 * 1024


def configuration(
    settings: BrokerSettings,
    folder: Path,
    *,
    store: Path,
    passwords: Mapping[str, str],
    pins: Sequence[str],
) -> str:
    """The text of a nats-server configuration file.

    Args:
        settings: of the federation.
        folder: absolute; where certificates are.
        store: absolute; where JetStream keeps its files.
        passwords: by user; empty for certificates.
        pins: public keys of all valid certificates; NATS knows no revocation list.
    """
    permissions = {COORDINATOR: settings.topics.coordinator_permissions()}
    permissions |= {agent: settings.topics.permissions(agent) for agent in settings.agents}
    users = [_user(user, passwords.get(user), lines) for user, lines in permissions.items()]
    return "\n".join(
        [
            # The port for NATS's own protocol cannot be switched off; no user may use it.
            'host: "127.0.0.1"',
            "port: -1",
            f'server_name: "plantfed-{settings.federation}"',
            f"max_payload: {MAX_PACKET_BYTES}",
            # A thin link takes longer over what is in flight than the 10 s after which NATS
            # would cut it off.
            'write_deadline: "2m"',
            f"jetstream {{ store_dir: {json.dumps(str(store))}, max_file: {STORE_BYTES} }}",
            "mqtt {",
            f"  host: {json.dumps(settings.bind or '0.0.0.0')}",  # noqa: S104 - asked for
            f"  port: {settings.port}",
            f"  max_ack_pending: {MAX_PENDING_ACKS}",
            # Unacknowledged messages come again after this time and not before, even to a client
            # that connected anew: so long does a restarted coordinator wait for them.  Shorter
            # would repeat what a thin link still carries: one window of 128 KiB takes 4 s at
            # 256 kbit/s, and at 64 kbit/s its last chunk comes twice.
            f'  ack_wait: "{ACK_WAIT_S}s"',
            *_tls(settings, folder, pins),
            "}",
            "authorization { users: [",
            *users,
            "] }",
            "",
        ]
    )


def _tls(settings: BrokerSettings, folder: Path, pins: Sequence[str]) -> list[str]:
    if settings.variant == "password":
        return []
    files = {"ca_file": "ca.crt", "cert_file": "server.crt", "key_file": "server.key"}
    return [
        "  tls {",
        *(f"    {key}: {json.dumps(str(folder / name))}" for key, name in files.items()),
        "    verify_and_map: true",
        f"    pinned_certs: {json.dumps(list(pins))}",
        "  }",
    ]


def _user(user: str, password: str | None, permissions: Sequence[Permission]) -> str:
    """One entry of the user list; NATS grants a filter only if one line covers all of it."""
    publish = [_subject(p.topic) for p in permissions if p.access in ("write", "readwrite")]
    subscribe = [_subject(p.topic) for p in permissions if p.access in ("read", "readwrite")]
    entry: dict[str, object] = {"user": user, "password": password}
    if password is None:
        entry = {"user": f"CN={user}"}
    entry |= {
        "allowed_connection_types": ["MQTT"],
        "permissions": {
            "publish": {"allow": publish},
            "subscribe": {"allow": subscribe},
        },
    }
    # NATS reads JSON too.
    return "  " + json.dumps(entry)


def _subject(topic: str) -> str:
    return topic.replace("/", ".").replace("+", "*")
