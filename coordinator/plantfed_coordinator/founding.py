"""From a federation file and a journal to a running machine: create, continue, or new settings."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from plantfed_coordinator.audit_log import has_entries
from plantfed_coordinator.events import Action, Persist
from plantfed_coordinator.federation_file import Federation
from plantfed_coordinator.journal import FILE_NAME, Journal, holds_records
from plantfed_coordinator.limits import Limits
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import EpochStarted, Record
from plantfed_coordinator.state import FederationState
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import ConfigError, StorageError
from plantfed_shared.lattice import SaturationError
from plantfed_shared.messages import Epoch
from plantfed_shared.topics import Topics


def found_or_continue(
    journal: Journal,
    federation: Federation | FederationDefinition,
    topics: Topics,
    new_bits: Callable[[], int],
    now: float,
    where: str,
    limits: Limits | None = None,
    quarantined: Mapping[str, str] | None = None,
) -> FederationMachine:
    """The machine of the federation in this journal, with the settings of this definition.

    Args:
        journal: empty, or of the same federation.
        federation: as the operator has it now; a definition alone where its model is dense.
        topics: of the federation.
        new_bits: draws 64 random bits.
        now: monotonic seconds.
        where: the definition's file, for errors.
        limits: of what is put up with.
        quarantined: agents that are not listened to, and why.

    Raises:
        ConfigError: the structure differs from that of the federation in the journal, or its
            numbers don't fit the edited settings.
        StorageError: the journal can't be read or written.
    """
    if isinstance(federation, FederationDefinition):
        federation = Federation(federation)
    definition = federation.definition
    machine_of = partial(
        FederationMachine,
        topics=topics,
        new_bits=new_bits,
        now=now,
        limits=limits,
        quarantined=quarantined,
        artefact=federation.artefact,
    )
    state = journal.load()
    encoded = definition.to_bytes()
    if state is None:
        record = EpochStarted(Epoch(1, new_bits()), 0, encoded, "created", federation.initial)
        founded = FederationState.begin(record)
        journal.append([record], {})
        return machine_of(founded)
    refuse_other_structure(state.terms.definition, definition, where)
    machine = machine_of(state)
    if state.terms.encoded != encoded:
        try:
            actions = machine.start_epoch(encoded, "settings were edited")
        except SaturationError:
            raise ConfigError(
                "with these settings the federation's numbers leave the range of the lattice",
                where=where,
                hint="Choose fewer lattice_bits, or penalty and relaxation nearer to the old ones",
            ) from None
        journal.append(_records(actions), {})
    return machine


def epoch_after_restore(state: FederationState, new_bits: Callable[[], int]) -> EpochStarted:
    """The record with which a restored state goes on: agents may be ahead of it.

    Should they have seen later epochs than that, their hello or the retained manifest says so, and
    there will be another one.

    Args:
        state: of the backup.
        new_bits: draws 64 random bits.
    """
    epoch = Epoch(state.epoch.counter + 1, new_bits())
    return EpochStarted(epoch, state.k + 1, state.terms.encoded, "restored from a backup")


def refuse_lost_journal(state_dir: Path) -> None:
    """A federation is founded only where none was before.

    Args:
        state_dir: of the coordinator.

    Raises:
        StorageError: the audit log, or a state that a restore has moved aside, tells of a
            federation, and its journal is gone or empty; or one of them cannot be read.
    """
    moved = sorted(path.name for path in state_dir.glob("before-restore-*.db"))
    told_by = moved[-1:] or (["audit.db"] if has_entries(state_dir) else [])
    if told_by and not holds_records(state_dir):
        raise StorageError(
            f"the journal is gone or empty, and {told_by[0]} beside it tells of a federation",
            where=str(state_dir / FILE_NAME),
            hint="Restore a backup, or remove the folder to found the federation anew",
        )


def refuse_other_structure(
    old: FederationDefinition, new: FederationDefinition, where: str
) -> None:
    """Only settings may be edited.

    Raises:
        ConfigError: what differs is part of the structure.
    """
    if old.structure() == new.structure():
        return
    differing = [
        name
        for name in ("federation", "model", "loss", "personal", "inputs", "classes", "targets")
        if getattr(old, name) != getattr(new, name)
    ]
    raise ConfigError(
        f"{', '.join(differing) or 'window'} differ from the federation in the journal",
        where=where,
        hint="That would be a new federation: give it another id and another state_dir",
    )


def _records(actions: list[Action]) -> list[Record]:
    return [a.record for a in actions if isinstance(a, Persist)]
