"""Segmentation metrics against plain loops over runs of characters."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lrope_interp.probes.boundaries.words import Runs, token_counts, window_errors, window_length


def sample(seed: int, n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gaps of several documents with some left out, calls and truth."""
    rng = np.random.default_rng(seed)
    document = np.sort(rng.integers(0, 4, n))
    character = np.concatenate([1 + np.arange((document == one).sum()) for one in range(4)])
    keep = rng.random(n) < 0.85
    called, true = rng.random((2, n)) < np.array([[0.3], [0.25]])
    called |= true & (rng.random(n) < 0.5)
    return document[keep], character[keep], called[keep], true[keep]


def runs_by_hand(document: np.ndarray, character: np.ndarray) -> list[list[int]]:
    runs: list[list[int]] = []
    for i in range(len(document)):
        if i and document[i] == document[i - 1] and character[i] == character[i - 1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def spans(run: list[int], is_boundary: np.ndarray) -> set[tuple[int, int]]:
    cuts = [0, *[1 + place for place, gap in enumerate(run) if is_boundary[gap]], len(run) + 1]
    return set(pairwise(cuts))


@pytest.mark.parametrize("seed", range(4))
def test_token_counts_are_those_of_comparing_sets_of_spans(seed: int) -> None:
    document, character, called, true = sample(seed)
    counts = token_counts(Runs.of(document, character), called, true)
    for run in runs_by_hand(document, character):
        found, there = spans(run, called), spans(run, true)
        assert [int(one[run].sum()) for one in counts] == [len(found & there), len(found), len(there)]


@pytest.mark.parametrize(("seed", "width"), [(0, 1), (1, 2), (2, 2), (3, 5)])
def test_windows_are_those_of_trying_every_pair_of_characters(seed: int, width: int) -> None:
    document, character, called, true = sample(seed)
    runs = Runs.of(document, character)
    pk, differ, windows = np.zeros((3, len(called)), dtype=int)
    for run in runs_by_hand(document, character):
        for begin in range(len(run) - width + 1):
            inside = run[begin : begin + width]
            windows[run[begin]] = 1
            pk[run[begin]] = called[inside].any() != true[inside].any()
            differ[run[begin]] = called[inside].sum() != true[inside].sum()
    found = window_errors(runs, called, true, width)
    assert [one.tolist() for one in found] == [pk.tolist(), differ.tolist(), windows.tolist()]


def test_a_short_text_is_scored_as_by_hand() -> None:
    # the|cat|sat against the|cats|at, 9 characters and 8 gaps.
    runs = Runs.of(np.zeros(8, dtype=int), np.arange(1, 9))
    true = np.isin(np.arange(1, 9), [3, 6])
    called = np.isin(np.arange(1, 9), [3, 7])
    assert [int(one.sum()) for one in token_counts(runs, called, true)] == [1, 3, 3]
    # Half of three characters is 1.5, which rounds to 2; windows of two gaps err at gaps 5-6 and 7-8.
    assert window_length(runs, true) == 2
    pk, windowdiff, windows = window_errors(runs, called, true)
    assert pk.tolist() == [0, 0, 0, 0, 1, 0, 1, 0]
    assert (windowdiff.sum(), windows.sum()) == (2, 7)


def test_windowdiff_sees_a_neighbouring_false_alarm_that_pk_forgives() -> None:
    runs = Runs.of(np.zeros(9, dtype=int), np.arange(1, 10))
    true = np.arange(9) == 4
    called = np.isin(np.arange(9), [4, 5])
    pk, windowdiff, _ = window_errors(runs, called, true, 3)
    assert (pk.sum(), windowdiff.sum()) == (1, 3)


def test_no_gaps_have_no_tokens_and_no_windows_and_unsorted_ones_are_refused() -> None:
    nothing, none = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
    runs = Runs.of(nothing, nothing)
    assert window_length(runs, none) == 1
    assert all(len(one) == 0 for one in (*token_counts(runs, none, none), *window_errors(runs, none, none)))
    with pytest.raises(AssertionError, match="sorted"):
        Runs.of(np.zeros(3, dtype=int), np.array([1, 3, 3]))
