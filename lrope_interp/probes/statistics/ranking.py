"""How well one number a gap separates boundaries from the rest.

Every estimator is a function of the same curve: sort once by `Ranking`, count the positives of a
label along it once by `Curve`, then read off whatever is asked. Higher values mean "boundary";
a signal that falls at boundaries is negated by its caller. Ties are never broken: equal values
share one threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Num

MAX_ROC_POINTS = 100


@dataclass(frozen=True)
class Ranking:
    """Values in falling order, with equal values in one group.

    Attributes:
        values: What is ranked, in the order in which it came.
        order: Indices that sort the values from high to low.
        ends: For each group of equal values, the place in `order` just past its last member.
    """

    values: Num[np.ndarray, " n"]
    order: Int[np.ndarray, " n"]
    ends: Int[np.ndarray, " groups"]

    @classmethod
    def of(cls, values: Num[np.ndarray, " n"]) -> Ranking:
        """Rank `values`, which must be finite."""
        order = np.argsort(values)[::-1]
        falling = values[order]
        last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(values) - 1)
        return cls(values, order, last[: len(values)] + 1)

    @property
    def is_constant(self) -> bool:
        """True where there is nothing to rank: fewer than two different values."""
        return len(self.ends) < 2

    def reversed(self) -> Ranking:
        """Rank the same values negated, without sorting again."""
        sizes = np.diff(self.ends, prepend=0)
        return Ranking(-self.values, self.order[::-1], np.cumsum(sizes[::-1]))

    @cached_property
    def group_of(self) -> Int[np.ndarray, " n"]:
        """The group of each value, 0 for the highest."""
        groups = np.empty(len(self.order), dtype=np.int64)
        groups[self.order] = np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0))
        return groups

    @cached_property
    def doubled(self) -> Int[np.ndarray, " n"]:
        """Twice each value's midrank less its mean: an integer, from 1 - n (lowest) to n - 1."""
        starts = np.append(0, self.ends[:-1])
        return (len(self.order) - starts - self.ends)[self.group_of]


def ranks_within(code: Integer[np.ndarray, " n"], ranking: Ranking) -> Float[np.ndarray, " n"]:
    """Rank values among those of the same code (from 0): from -1/2 to 1/2, mean 0, equal values alike.

    A centred midrank over the number of values plus one; exactly 0 where a code has one value only.
    """
    order = ranking.order[np.argsort(code[ranking.order], kind="stable")]
    codes, groups = code[order], ranking.group_of[order]
    is_start = np.append(True, (np.diff(codes) != 0) | (np.diff(groups) != 0))[: len(order)]
    starts = np.flatnonzero(is_start)
    ends = np.append(starts[1:], len(order))
    sizes, own = np.bincount(code), codes[starts]
    doubled = sizes[own] + 2 * (np.cumsum(sizes) - sizes)[own] - starts - ends
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(doubled / (2 * (sizes[own] + 1)), ends - starts)
    return ranks


@dataclass(frozen=True)
class Curve:
    """True and false positives when every gap down to a group's value is called a boundary.

    Attributes:
        above: Gaps called so far, one entry a group of equal values.
        hits: Those of them that are boundaries.
        values: The value of each group, falling: the threshold that calls it.
    """

    above: Int[np.ndarray, " groups"]
    hits: Int[np.ndarray, " groups"]
    values: Num[np.ndarray, " groups"]

    @classmethod
    def of(cls, ranking: Ranking, is_boundary: Bool[np.ndarray, " n"]) -> Curve:
        """Count along `ranking`."""
        hits = np.cumsum(is_boundary[ranking.order], dtype=np.int64)
        last = ranking.ends - 1
        return cls(above=ranking.ends, hits=hits[last], values=ranking.values[ranking.order[last]])

    @property
    def n(self) -> int:
        """All gaps."""
        return int(self.above[-1]) if len(self.above) else 0

    @property
    def n_positive(self) -> int:
        """All boundaries."""
        return int(self.hits[-1]) if len(self.hits) else 0

    @property
    def is_scorable(self) -> bool:
        """True where both kinds of gap occur."""
        return 0 < self.n_positive < self.n

    def roc_auc(self) -> float:
        """Chance that a boundary lies above another gap, a tie counting one half; NaN without both kinds."""
        if not self.is_scorable:
            return math.nan
        misses = self.above - self.hits
        below = misses[-1] - misses
        pairs = np.diff(self.hits, prepend=0) * (2 * below + np.diff(misses, prepend=0))
        return float(pairs.sum(dtype=np.float64) / 2 / (self.n_positive * (self.n - self.n_positive)))

    def average_precision(self) -> float:
        """Precision averaged over the boundaries found; a signal that knows nothing scores the prevalence."""
        if not self.is_scorable:
            return math.nan
        return float((np.diff(self.hits, prepend=0) * (self.hits / self.above)).sum() / self.n_positive)

    def best_threshold(self) -> float:
        """The value at and above which to call a boundary, so that F1 is highest; NaN without both kinds."""
        if not self.is_scorable:
            return math.nan
        return float(self.values[np.argmax(2 * self.hits / (self.above + self.n_positive))])

    def prevalence_threshold(self, share: float) -> float:
        """The value at and above which the share of gaps called is closest to `share`.

        At least the highest value is called. With `share` dev's share of boundaries, precision and
        recall can be compared between signals without a threshold that favours one of them.
        """
        if math.isnan(share) or not self.n:
            return math.nan
        return float(self.values[np.argmin(np.abs(self.above / self.n - share))])

    def roc(self) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
        """False and true positive rates from (0, 0) to (1, 1), at most `MAX_ROC_POINTS` of them."""
        if not self.is_scorable:
            return np.zeros(0), np.zeros(0)
        false = np.concatenate([[0], self.above - self.hits]) / (self.n - self.n_positive)
        true = np.concatenate([[0], self.hits]) / self.n_positive
        keep = _spread(false + true, MAX_ROC_POINTS)
        return false[keep], true[keep]

    def precision_recall(self) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
        """Recall, rising, and the precision there, at most `MAX_ROC_POINTS` points; ties share one."""
        if not self.is_scorable:
            return np.zeros(0), np.zeros(0)
        recall, precision = self.hits / self.n_positive, self.hits / self.above
        keep = _spread(recall + self.above / self.n, MAX_ROC_POINTS)
        return recall[keep], precision[keep]


def _spread(path: Float[np.ndarray, " points"], most: int) -> Int[np.ndarray, " kept"]:
    """Pick at most `most` indices of a rising path, the ends among them, evenly along its length."""
    if len(path) <= most:
        return np.arange(len(path))
    at = np.searchsorted(path, np.linspace(path[0], path[-1], most))
    return np.unique(np.append(np.clip(at, 0, len(path) - 1)[:-1], len(path) - 1))


def roc_auc(values: Num[np.ndarray, " n"], is_boundary: Bool[np.ndarray, " n"]) -> float:
    """Area under the ROC curve: 0.5 is chance, and says nothing about what else separates the gaps."""
    return Curve.of(Ranking.of(values), is_boundary).roc_auc()
