"""A federation whose records are written to a journal on disk as they happen."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tests.federation_world import small_definition

from plantfed_coordinator.journal import KEEP_BYTES, Journal
from plantfed_coordinator.records import Applied, EpochStarted, Record, Released
from plantfed_coordinator.state import FederationState
from plantfed_shared.codec import Coding, encode_integers
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Epoch

DEFINITION = small_definition(release_bits=12)
"""What a release loses by being rounded is kept, too."""
FIRST = EpochStarted(Epoch(1, 2**64 - 1), 0, DEFINITION.to_bytes(), "created")


@contextmanager
def journal_in(folder: Path, keep_bytes: int = KEEP_BYTES) -> Iterator[Journal]:
    journal = Journal(folder, lambda: 0.0, keep_bytes)
    try:
        yield journal
    finally:
        journal.close()


def applied(state: FederationState, agent: str, seq: int) -> Applied:
    lattice = state.terms.lattice
    change = encode_integers(np.arange(lattice.size) + seq, lattice, Coding.ENTROPY)
    return Applied(
        agent, state.members[agent].incarnation, seq, 2**64 - seq, state.k, 1, 0.5, change
    )


class Story:
    """A federation whose records are written as they happen."""

    def __init__(self, journal: Journal, first: EpochStarted = FIRST) -> None:
        self.journal = journal
        self.state = FederationState.begin(first)
        self.records: list[Record] = [first]
        journal.append([first], {})

    def tell(self, *records: Record) -> None:
        for record in records:
            self.state.apply(record)
        self.records += records
        self.journal.append(records, {})

    def update(self, agent: str) -> None:
        self.tell(applied(self.state, agent, self.state.members[agent].last_seq + 1))

    def release(self) -> None:
        self.tell(Released(self.state.k + 1, checksum(self.state.next_model())))
