"""From a federation file and a journal to a machine: created, continued, edited, refused."""

from contextlib import closing
from pathlib import Path

import pytest
from tests.federation_world import small_definition

from plantfed_coordinator.founding import found_or_continue
from plantfed_coordinator.journal import Journal
from plantfed_coordinator.records import Joined
from plantfed_coordinator.state import FederationState
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import ConfigError
from plantfed_shared.messages import Epoch
from plantfed_shared.topics import Topics


def found(folder: Path, definition: FederationDefinition, bits: int) -> FederationState:
    """The state the machine begins with; it is what a reader of the journal finds."""
    with closing(Journal(folder, lambda: 0.0)) as journal:
        machine = found_or_continue(
            journal, definition, Topics("toy"), lambda: bits, 0.0, "federation.toml"
        )
        written = journal.load()
        assert written is not None
        assert (written.epoch, written.k) == (machine.state.epoch, machine.state.k)
        assert written.terms.encoded == machine.state.terms.encoded == definition.to_bytes()
        if not machine.state.members:
            journal.append([Joined("a", 1)], {})
        return machine.state


def test_a_federation_is_created_once(tmp_path: Path) -> None:
    assert found(tmp_path, small_definition(), 5).epoch == Epoch(1, 5)
    again = found(tmp_path, small_definition(), 6)
    assert again.epoch == Epoch(1, 5)
    assert list(again.members) == ["a"]


def test_edited_settings_are_in_force_from_the_next_start(tmp_path: Path) -> None:
    found(tmp_path, small_definition(), 5)
    edited = small_definition(lattice_bits=12)
    state = found(tmp_path, edited, 6)
    assert (state.epoch, state.k) == (Epoch(2, 6), 1)
    assert list(state.members) == ["a"]
    assert found(tmp_path, edited, 7).epoch == Epoch(2, 6)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"classes": ("a", "b", "d")}, "classes"),
        ({"model": {"hidden": [4, 3]}}, "model"),
        ({"window": {"rows": 1, "step": 2}}, "window"),
        ({"personal": ("layer2.*",)}, "personal"),
    ],
)
def test_another_structure_is_refused(
    tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    found(tmp_path, small_definition(), 5)
    with pytest.raises(ConfigError, match=named):
        found(tmp_path, small_definition(**changes), 6)
    assert found(tmp_path, small_definition(), 7).epoch == Epoch(1, 5)
