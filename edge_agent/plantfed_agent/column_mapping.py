"""What one machine calls the columns that its federation defines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plantfed_shared.definition import FederationDefinition, Input
from plantfed_shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """How this machine names what its federation defines.

    Attributes:
        columns: federation input or target -> local column; what is not listed has the same name.
        labels: local label value -> class; what is not listed is itself the class.
        label: local column of the labels, for classification.
        group: local column; rows with equal values belong together and are in time order.
            None: the whole file is one group.
    """

    columns: Mapping[str, str]
    labels: Mapping[str, str]
    label: str | None = None
    group: str | None = None

    def local(self, quantities: Sequence[Input]) -> list[str]:
        """Local column names of inputs or targets."""
        return [self.columns.get(q.name, q.name) for q in quantities]

    def label_column(self) -> str:
        """Local name of the label column.

        Raises:
            ConfigError: it is not named.
        """
        if self.label is None:
            raise ConfigError(
                "key 'label' is missing: the federation learns classes",
                where="data",
                hint="Name the column that holds the label of each row",
            )
        return self.label


@dataclass(frozen=True, slots=True)
class ColumnsToRead:
    """Local names of the columns that are needed.

    Attributes:
        numbers: to be read as numbers.
        texts: to be read as texts.
        inputs: those of the numbers that are inputs, in the order of the federation.
        window_rows: of one sample, where a file holds whole samples.
        columns_first: whether such a file has (samples, inputs, rows) instead of
            (samples, rows, inputs).
    """

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    window_rows: int = 1
    columns_first: bool = False


def columns_to_read(
    definition: FederationDefinition, mapping: ColumnMapping, *, answers: bool
) -> ColumnsToRead:
    """What must be read of a file.

    Args:
        definition: of the federation.
        mapping: of this machine.
        answers: also the labels or targets; they are not needed for predictions.

    Raises:
        ConfigError: a name is mapped that the federation does not have, or the label column is
            not named.
    """
    known = [q.name for q in (*definition.inputs, *definition.targets)]
    for name in mapping.columns:
        if name not in known:
            raise ConfigError(
                f"the federation has no input {name!r}",
                where="data.columns",
                hint=f"It has: {', '.join(known)}",
            )
    numbers = mapping.local(definition.inputs)
    texts = [] if mapping.group is None else [mapping.group]
    if answers:
        numbers += mapping.local(definition.targets)
        texts += [mapping.label_column()] if definition.classes else []
    return ColumnsToRead(
        tuple(dict.fromkeys(numbers)),
        tuple(dict.fromkeys(texts)),
        tuple(mapping.local(definition.inputs)),
        definition.window.rows,
        columns_first=getattr(definition.model, "layout", "rows") == "columns",
    )
