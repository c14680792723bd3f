"""How well calls cut text into segments: word tokens found, Pk and WindowDiff.

Gaps count one character each; the gap before character c separates c - 1 from c. Gaps that follow
each other in a document form a *run*, and its two edges count as boundaries in both
segmentations, because what lies beyond them is not scored. Every function returns amounts by gap,
so that they can be summed over all gaps or over those of a unit: the metric is a ratio of sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int64, Num


@dataclass(frozen=True)
class Runs:
    """Where stretches of consecutive gaps begin and end.

    Attributes:
        first: The index of the first gap of each gap's run.
        last: The index of the last gap of each gap's run.
    """

    first: Int64[np.ndarray, " n"]
    last: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, document: Int[np.ndarray, " n"], character: Int[np.ndarray, " n"]) -> Runs:
        """Find the runs of gaps sorted by document, then by the character that follows them."""
        step = np.diff(character)
        is_same = np.diff(document) == 0
        assert (step[is_same] > 0).all(), "gaps must be sorted, one a character"
        starts = np.flatnonzero(np.append(True, ~is_same | (step != 1))[: len(document)])
        sizes = np.diff(starts, append=len(document))
        return cls(np.repeat(starts, sizes), np.repeat(starts + sizes - 1, sizes))

    @property
    def sizes(self) -> Int64[np.ndarray, " runs"]:
        """How many gaps each run has."""
        return np.diff(np.flatnonzero(self.is_last), prepend=-1)

    @property
    def is_last(self) -> Bool[np.ndarray, " n"]:
        """Whether each gap is the last of its run."""
        return self.last == np.arange(len(self.last))


def token_counts(
    runs: Runs, is_called: Bool[np.ndarray, " n"], is_boundary: Bool[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Count tokens by the gap that ends them; a run's last token belongs to its last gap.

    A token is hit when both its ends are boundaries in both segmentations and none lies inside it
    in either (Goldwater, Griffiths & Johnson 2009). With the sums of the three, precision is
    hits / called, recall hits / true and F1 2 hits / (called + true). A run's edges are given
    away, so that the scores of a stratum with short runs flatter.

    Returns:
        Tokens hit, tokens of the calls, tokens of the truth.
    """
    is_both, is_last = is_called & is_boundary, runs.is_last
    nearest = np.maximum.accumulate(np.where(is_called | is_boundary, np.arange(len(is_called)), -1))
    before = np.append(-1, nearest)[:-1]
    hits = (is_both & _is_start(runs, is_both, before)).astype(np.int64)
    hits += is_last & _is_start(runs, is_both, nearest)
    return hits, is_last.astype(np.int64) + is_called, is_last.astype(np.int64) + is_boundary


def word_lengths(runs: Runs, is_boundary: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, " words"]:
    """Return how many characters each word has, a run's edges counting as boundaries."""
    return np.diff(_ends(runs, is_boundary), prepend=-1)


def best_token_threshold(
    runs: Runs, values: Num[np.ndarray, " n"], is_boundary: Bool[np.ndarray, " n"]
) -> float:
    """Return the value at and above which to call a boundary, so that token F1 is highest.

    A true word is hit by every threshold that is above all values inside it and not above that of either end:
    so two sorted lists give its hits for all thresholds at once. Infinity, where calling nothing is best.
    """
    ends = _ends(runs, is_boundary)
    after = np.full(len(values) + len(runs.sizes), np.inf)  # by character; infinite at a run's edge
    after[_characters(runs)] = values
    inside = after.copy()
    inside[ends] = -np.inf
    highest = np.maximum.reduceat(inside, np.append(0, ends[:-1] + 1)) if len(ends) else inside
    edge = np.minimum(after[ends], np.append(np.inf, after[ends])[: len(ends)])
    can_be_hit = highest < edge
    cuts, at_least = (
        np.append(np.unique(values), np.inf),
        lambda x: len(x) - np.searchsorted(np.sort(x), cuts),
    )
    hits = at_least(edge[can_be_hit]) - at_least(highest[can_be_hit])
    called = at_least(np.asarray(values, dtype=np.float64)) + len(runs.sizes)
    return float(cuts[np.argmax(2 * hits / np.maximum(called + len(ends), 1))])


def _characters(runs: Runs) -> Int64[np.ndarray, " n"]:
    """Return the number of the character before each gap; each run has one character more than gaps."""
    return np.arange(len(runs.last)) + np.cumsum(runs.is_last) - runs.is_last


def _ends(runs: Runs, is_boundary: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, " words"]:
    """Return the last character of each word."""
    is_end = np.ones(len(is_boundary) + len(runs.sizes), dtype=bool)
    is_end[_characters(runs)] = is_boundary
    return np.flatnonzero(is_end)


def _is_start(
    runs: Runs, is_both: Bool[np.ndarray, " n"], nearest: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Tell whether the nearest boundary of either segmentation is one of both, or the run's edge."""
    return (nearest < runs.first) | is_both[nearest]


def window_length(runs: Runs, is_boundary: Bool[np.ndarray, " n"]) -> int:
    """Half the mean length of a true segment in characters, rounded, and at least 1.

    It belongs to the label, not to the signal: every signal is scored with the same window.
    """
    n_runs = int(runs.is_last.sum())
    n_segments = n_runs + int(is_boundary.sum())
    return max(1, round((len(is_boundary) + n_runs) / n_segments / 2)) if n_segments else 1


def window_errors(
    runs: Runs,
    is_called: Bool[np.ndarray, " n"],
    is_boundary: Bool[np.ndarray, " n"],
    width: int | None = None,
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Count windows that are wrong for Pk and for WindowDiff, by the window's first gap.

    A window lies between two characters `width` apart in one run; without `width` it is `window_length`.
    For Pk (Beeferman, Berger & Lafferty 1999) it is wrong where one segmentation has the two in one segment
    and the other does not: a false alarm near a boundary is forgiven. For WindowDiff (Pevzner & Hearst 2002)
    it is wrong where the *numbers* of boundaries inside differ, so that it is never below Pk. Both are
    errors / windows: 0 is perfect; calling nothing or everything scores far below 1, so read them beside
    such rows. A run shorter than the window is not counted.

    Returns:
        Errors for Pk, errors for WindowDiff, and windows.
    """
    width = width or window_length(runs, is_boundary)
    called, true = (_inside(segmentation, width) for segmentation in (is_called, is_boundary))
    fits = np.arange(len(is_called)) + width - 1 <= runs.last
    counts = (fits & ((called > 0) != (true > 0)), fits & (called != true), fits)
    pk, windowdiff, windows = (one.astype(np.int64) for one in counts)
    return pk, windowdiff, windows


def _inside(segmentation: Bool[np.ndarray, " n"], width: int) -> Int64[np.ndarray, " n"]:
    """Count boundaries among the `width` gaps from each gap on, whatever their runs."""
    so_far = np.append(0, np.cumsum(segmentation, dtype=np.int64))
    ends = np.minimum(np.arange(len(segmentation)) + width, len(segmentation))
    return so_far[ends] - so_far[:-1]
