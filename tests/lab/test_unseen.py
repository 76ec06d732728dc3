"""Recall of classes that a machine has never trained on."""

import numpy as np
import pytest

from plantfed_lab.unseen import recall_of_unseen


def test_it_is_the_mean_over_unseen_classes_whatever_their_size() -> None:
    truth = np.array([0, 1, 1, 1, 1, 2])
    predicted = np.array([1, 1, 1, 0, 1, 2])
    assert recall_of_unseen(predicted, truth, {0}) == pytest.approx((3 / 4 + 1) / 2)
    assert recall_of_unseen(predicted, truth, {0, 2}) == pytest.approx(3 / 4)


def test_where_nothing_is_unseen_there_is_none() -> None:
    truth = np.array([0, 1])
    assert recall_of_unseen(truth, truth, {0, 1, 5}) is None
