"""Mosquitto's configuration and access list, as text."""

from pathlib import Path

from plantfed_broker.settings import BrokerSettings
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.topics import COORDINATOR, Permission

CONFIG_FILE = "mosquitto.conf"
ACL_FILE = "acl"
PASSWD_FILE = "passwd"  # noqa: S105 - a file name
MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + 16 * 1024
"""With room for the topic and what a later protocol version may put around a payload."""

QUEUE_BYTES = 256 * 1024 * 1024
"""Per client.  One upload window of 128 KB from each of 2,000 agents, for a coordinator that is
being restarted."""

QUEUE_MESSAGES = 8000
"""Per client.  The same, at three chunks of 48 KiB for a window, and two messages more."""


def configuration(settings: BrokerSettings, folder: Path) -> str:
    """The drop-in for ``/etc/mosquitto/conf.d``; it has nothing Debian's own file has already.

    Args:
        settings: of the federation.
        folder: absolute; where the files named in it are.
    """
    return "\n".join([*_head(settings), *_listener(settings, folder), *_limits(), ""])


def access_list(settings: BrokerSettings) -> str:
    """One block of lines per user, from the topic table.

    Not ``pattern`` lines: those hold for every user of the broker, also for one removed here
    whose certificate still lives and for one of another application.
    """
    users = [(COORDINATOR, settings.topics.coordinator_permissions())]
    users += [(agent, settings.topics.permissions(agent)) for agent in settings.agents]
    blocks = [
        "# Written by plantfed-broker from the topic table; others belong in another broker.\n"
    ]
    blocks += [_block(user, permissions) for user, permissions in users]
    return "\n".join(blocks)


def _block(user: str, permissions: tuple[Permission, ...]) -> str:
    return "".join([f"user {user}\n", *(f"topic {p.access} {p.topic}\n" for p in permissions)])


def _head(settings: BrokerSettings) -> list[str]:
    return [
        f"# Federation {settings.federation}; written by plantfed-broker, overwritten by it.",
        "# Your own settings belong in another file of conf.d.",
        "",
        "# The two next hold for the whole broker: no other listener may let strangers in.",
        "per_listener_settings false",
        "allow_anonymous false",
        "",
        # Options of a listener that stand before the first `listener` line silently open one
        # more, on 1883 and without any of this.
        f"listener {settings.port} {settings.bind}".rstrip(),
        "set_tcp_nodelay true",
        "# A client is known by its user: nobody can end another's session by taking its client",
        "# id, and one user has one session.",
        "use_username_as_clientid true",
        "",
    ]


def _listener(settings: BrokerSettings, folder: Path) -> list[str]:
    lines = [f"acl_file {folder / ACL_FILE}"]
    if settings.variant == "password":
        return [*lines, f"password_file {folder / PASSWD_FILE}", ""]
    return [
        *lines,
        f"cafile {folder / 'ca.crt'}",
        f"certfile {folder / 'server.crt'}",
        f"keyfile {folder / 'server.key'}",
        f"crlfile {folder / 'revoked.crl'}",
        "require_certificate true",
        "use_identity_as_username true",
        "",
    ]


def _limits() -> list[str]:
    return [
        "persistence true",
        "# The default of 1800 s loses half an hour of sessions when the power fails.  PlantFed",
        "# says again what was lost; a minute keeps that short, and the database is small.",
        "autosave_interval 60",
        "# A client gone this long starts anew; its queue would otherwise be kept for ever.",
        "persistent_client_expiration 14d",
        "",
        "# Above the largest message there is.  Not message_size_limit: that acknowledges what",
        "# it drops, while this closes the connection and says why in the log.",
        f"max_packet_size {MAX_PACKET_BYTES}",
        "# The default of 1000 messages per client drops what it has acknowledged.  Without any",
        "# bound nothing bounds messages of QoS 0, and who floods the coordinator is heard by it",
        "# for long after they have ended.",
        f"max_queued_messages {QUEUE_MESSAGES}",
        f"max_queued_bytes {QUEUE_BYTES}",
        "",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
    ]
