"""Errors: one line each, one tree, and the exit codes that its documentation promises."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantfed_shared import errors
from plantfed_shared.errors import PlantfedError


def family(root: type[PlantfedError]) -> list[type[PlantfedError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in family(child))]


ALL = [kind for kind in family(PlantfedError) if kind.__module__ == errors.__name__]
texts = st.text(max_size=40)


def documented_tree() -> list[tuple[str, str, int | None]]:
    """(name, its parent's name, exit code) of each line of the tree in the docstring."""
    tree, path = [], []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"( {4,})(\w+Error|BrokerRefused)\b(?:.*\bexit (\d+))?", line)
        if found:
            depth = len(found[1]) // 4 - 1
            path[depth:] = [found[2]]
            parent = path[depth - 1] if depth else "Exception"
            tree.append((found[2], parent, int(found[3]) if found[3] else None))
    return tree


def test_the_documented_tree_is_the_real_one():
    documented = {name: parent for name, parent, _ in documented_tree()}
    assert documented == {kind.__name__: kind.__bases__[0].__name__ for kind in ALL}


def test_exit_codes_are_the_documented_ones():
    documented = {name: code for name, _, code in documented_tree() if code is not None}
    assert documented == {
        "ConfigError": os.EX_CONFIG,
        "DataError": os.EX_DATAERR,
        "ModelError": os.EX_DATAERR,
        "BrokerError": os.EX_UNAVAILABLE,
        "BrokerRefused": os.EX_NOPERM,
        "StorageError": os.EX_IOERR,
        "TrainingError": os.EX_SOFTWARE,
    }
    for name, code in documented.items():
        assert getattr(errors, name).exit_code == code


@given(st.sampled_from(ALL), texts, texts, texts)
def test_every_message_is_one_line(kind, what, where, hint):
    error = kind(what, where=where, hint=hint)
    assert str(error).isprintable()
    assert (error.what, error.where, error.hint) == (what, where, hint)
    for part in (what, where, hint):
        words = " ".join(part.split())
        assert "".join(c if c.isprintable() else "?" for c in words) in str(error)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "is missing"),
        ({"where": "agent.toml"}, "agent.toml: is missing"),
        ({"hint": "Add it"}, "is missing. Add it"),
        ({"where": "agent.toml", "hint": "Add\n it"}, "agent.toml: is missing. Add it"),
    ],
)
def test_where_and_hint_are_around_what(parts, text):
    assert str(PlantfedError("is missing", **parts)) == text
