"""Renders what a message broker needs for one federation, and starts an embedded one."""

TYPE_CHECKING = False  # typing would be imported before Ctrl-C is heeded
if TYPE_CHECKING:
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


def __getattr__(name: str) -> object:
    """Import when asked for: the command says in one line where the extra is missing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from plantfed_broker import embedded, folder

    return getattr(embedded if hasattr(embedded, name) else folder, name)
