"""From files to samples, read again only when the files have changed."""

import json
from collections.abc import Sequence

from plantfed_agent.column_mapping import columns_to_read
from plantfed_agent.samples import Samples, SampleSets, join, samples_of
from plantfed_agent.settings import DataSection
from plantfed_agent.sources import files_of, fingerprint, read_table
from plantfed_shared.definition import FederationDefinition


def fingerprint_of(section: DataSection) -> str:
    """Of the files with the rows and of what the settings make of them; reads no rows.

    Raises:
        DataError: a file is missing.
    """
    read_as = section.model_dump(mode="json", exclude={"train", "test"})
    files = [*files_of(section.train), *files_of(section.test)]
    return fingerprint(files, json.dumps(read_as, sort_keys=True))


class SampleLoader:
    """Keeps the samples of one machine in memory.

    Args:
        section: which files, and what their columns mean.
    """

    def __init__(self, section: DataSection) -> None:
        self._section = section
        self._loaded: tuple[bytes, SampleSets] | None = None

    def load(self, definition: FederationDefinition) -> SampleSets:
        """The samples as they are on disk now.

        Raises:
            DataError: a file is missing or its rows cannot be used.
            ConfigError: the settings do not fit the federation, or an extra is not installed.
        """
        # taken before reading: rows written meanwhile give another one next time
        mark = fingerprint_of(self._section)
        structure = definition.structure()
        if self._loaded is not None:
            loaded_structure, sets = self._loaded
            if (loaded_structure, sets.fingerprint) == (structure, mark):
                return sets
        # the old samples are let go before the new ones are read: they need not both fit
        self._loaded = None
        train_files = files_of(self._section.train)
        test_files = files_of(self._section.test)
        sets = self._read(definition, train_files, test_files, mark)
        self._loaded = structure, sets
        return sets

    def _read(
        self,
        definition: FederationDefinition,
        train_files: Sequence[str],
        test_files: Sequence[str],
        mark: str,
    ) -> SampleSets:
        kept_back = 0.0 if test_files else self._section.test_fraction
        train, test = self._samples(definition, train_files, kept_back)
        if test_files:
            test, _ = self._samples(definition, test_files, 0.0)
        where = ", ".join(self._section.train)
        whole_test = join(test, definition, where) if any(map(len, test)) else None
        return SampleSets(join(train, definition, where), whole_test, mark)

    def _samples(
        self, definition: FederationDefinition, files: Sequence[str], test_fraction: float
    ) -> tuple[list[Samples], list[Samples]]:
        section = self._section
        wanted = columns_to_read(definition, section.mapping, answers=True)
        pairs = [
            samples_of(
                read_table(path, wanted, section.format),
                definition,
                section.mapping,
                test_fraction,
            )
            for path in files
        ]
        return [train for train, _ in pairs], [test for _, test in pairs]
