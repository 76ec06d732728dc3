"""How well a machine knows classes that it has never trained on."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


def recall_of_unseen(predicted: Labels, truth: Labels, seen: Collection[int]) -> float | None:
    """The part of rows of unseen classes that are named rightly, as a mean over those classes.

    Args:
        predicted: int64 (rows,), class numbers.
        truth: int64 (rows,), class numbers.
        seen: classes in the training rows of the machine.

    Returns:
        None where no row is of an unseen class.
    """
    unseen = sorted(set(truth.tolist()) - set(seen))
    if not unseen:
        return None
    return float(np.mean([(predicted[truth == label] == label).mean() for label in unseen]))
