"""Topic filters with ``+`` and ``#``, matched by a tree so that thousands cost no more than one."""

from plantfed_shared.bus.port import SessionSettings


def check_topic(topic: str) -> None:
    """Refuse a topic no broker would take in a PUBLISH.

    Raises:
        ValueError: it is empty or holds a wildcard or a NUL.
    """
    if not topic or any(sign in topic for sign in "+#\0"):
        raise ValueError(f"not a topic one can publish to: {topic!r}")


class FilterTree:
    """Who subscribed to what; answers in the order of subscription, each subscriber once."""

    def __init__(self) -> None:
        self._root = _Node()
        self._known: dict[str, list[str]] = {}

    def add(self, session: SessionSettings) -> None:
        """Enter all filters of one client."""
        self._known.clear()
        for topic_filter in session.subscriptions:
            node = self._root
            for level in topic_filter.split("/"):
                node = node.children.setdefault(level, _Node())
            node.subscribers[session.client_id] = None

    def remove(self, session: SessionSettings) -> None:
        """Take out all filters of one client."""
        self._known.clear()
        for topic_filter in set(session.subscriptions):
            path = [self._root]
            levels = topic_filter.split("/")
            for level in levels:
                path.append(path[-1].children[level])
            path[-1].subscribers.pop(session.client_id, None)
            for parent, level in zip(reversed(path[:-1]), reversed(levels), strict=True):
                if parent.children[level].is_bare():
                    del parent.children[level]

    def subscribers(self, topic: str) -> list[str]:
        """Client ids with a filter that matches."""
        known = self._known.get(topic)
        if known is None:
            known = self._known[topic] = list(self._search(topic))
        return known

    def _search(self, topic: str) -> dict[str, None]:
        found: dict[str, None] = {}
        nodes = [self._root]
        for level in topic.split("/"):
            deeper = []
            for node in nodes:
                children = node.children
                for key in (level, "+"):
                    if key in children:
                        deeper.append(children[key])
                if "#" in children:
                    found.update(children["#"].subscribers)
            nodes = deeper
        for node in nodes:
            found.update(node.subscribers)
            # MQTT 4.7.1.2: "a/#" matches "a" itself too.
            if "#" in node.children:
                found.update(node.children["#"].subscribers)
        return found


class _Node:
    __slots__ = ("children", "subscribers")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.subscribers: dict[str, None] = {}

    def is_bare(self) -> bool:
        return not self.children and not self.subscribers


def matches(topic_filter: str, topic: str) -> bool:
    """Whether one filter covers one topic."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for depth, level in enumerate(wanted):
        if level == "#":
            return True
        if depth == len(levels) or level not in ("+", levels[depth]):
            return wanted[depth:] == ["#"]
    return len(wanted) == len(levels)
