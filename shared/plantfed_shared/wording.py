"""Numbers as people say them."""


def counted(n: int, noun: str) -> str:
    """A number with its noun, as 1 agent, 2 agents, 1,208 updates; plurals end in s."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
