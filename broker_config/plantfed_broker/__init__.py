"""Renders what a message broker needs for one federation, and starts an embedded one."""

from plantfed_broker.embedded import BrokerKind, EmbeddedBroker, resolve_broker
from plantfed_broker.folder import add_agent, remove_agent, render_federation

__all__ = [
    "BrokerKind",
    "EmbeddedBroker",
    "add_agent",
    "remove_agent",
    "render_federation",
    "resolve_broker",
]
