"""The errors that a threshold is surest of."""

from __future__ import annotations

import numpy as np

from lrope_interp.probes.boundaries.comparisons import confident_errors


def test_the_farthest_on_their_side_come_first() -> None:
    values = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    is_boundary = np.array([False, True, True, True, False, True])
    # called: 5, 4, 3; wrong are 5 (false alarm) and 2 and 0 (misses), 2 being the least sure of its side
    found = confident_errors(values, is_boundary, 2.5, np.zeros(6, dtype=np.int64))
    assert found.tolist() == [0, 5, 3]


def test_correct_calls_are_no_errors() -> None:
    values = np.array([2.0, 0.0])
    assert not len(confident_errors(values, np.array([True, False]), 1.0, np.zeros(2, dtype=np.int64)))


def test_of_equally_confident_errors_every_document_gets_its_turn() -> None:
    document = np.repeat(np.arange(5), 20)
    values, is_boundary = np.ones(100), np.zeros(100, dtype=bool)
    found = confident_errors(values, is_boundary, 0.5, document)
    assert sorted(document[found].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert found.tolist() == [0, 20, 40, 60, 80, 1, 21, 41, 61, 81]
