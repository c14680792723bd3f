"""Two kinds of things compared within strata, and how much each thing moves the comparison.

An interval over documents would need every pair of documents; here it needs one number a thing.
A statistic's *influence* of a thing is its derivative by the thing's weight, so that a resample
that draws documents with weights w has, to first order, the value plus the sum of w times influence (the
infinitesimal jackknife; Efron 1982; for U-statistics Hajek's projection). What is left out is of the order
of one over the number of documents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int64

from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.within_bins import ranks_within


@dataclass(frozen=True)
class Influenced:
    """A statistic and its derivative by the weight of each thing; they sum to 0."""

    value: float
    influence: Float[np.ndarray, " n"]

    def resampled(self, bootstrap: Bootstrap, units: Units) -> Float[np.ndarray, " resamples"]:
        """Return its value in each resample of units, to first order."""
        per_unit = np.bincount(units.index, weights=self.influence, minlength=units.count)
        return self.value + bootstrap.weights(units.count) @ per_unit


@dataclass(frozen=True)
class Strata:
    """Things of two kinds in strata, each of which holds both kinds.

    Attributes:
        number: The stratum of each thing, from 0 on.
        is_one: Whether it is of the first kind.
    """

    number: Int64[np.ndarray, " n"]
    is_one: Bool[np.ndarray, " n"]

    def roc_auc(self, values: Float[np.ndarray, " n"]) -> Influenced:
        """Chance that a thing of the first kind has a higher value than another one of its stratum.

        Ties count one half. Strata count by their pairs of one of each kind.
        """
        if not len(values):
            return Influenced(math.nan, np.zeros(0))
        n_other = np.where(self.is_one, self._n_two[self.number], self._n_one[self.number])
        below = self._below(self.number, values) - self._below(2 * self.number + self.is_one, values)
        wins = np.where(self.is_one, below, n_other - below)
        n_pairs = float((self._n_one * self._n_two).sum())
        value = float(wins[self.is_one].sum()) / n_pairs
        return Influenced(value, (wins - value * n_other) / n_pairs)

    def ratio_of_means(self, values: Float[np.ndarray, " n"]) -> Influenced:
        """Mean of the first kind over the mean of the second, both over strata with the same weights.

        A stratum of a and b things of the two kinds weighs ab / (a + b). NaN where the lower mean is 0.
        """
        one, two = (self._means(values, kind) for kind in (self.is_one, ~self.is_one))
        share = self._n_one / (self._n_one + self._n_two)
        weight = share * self._n_two
        lower = float((weight * two).sum())
        if not len(values) or lower == 0:
            return Influenced(math.nan, np.zeros(len(values)))
        value = float((weight * one).sum()) / lower
        of_one = weight / self._n_one
        of_two = -value * weight / self._n_two
        at, drift = self.number, one - value * two
        own = np.where(self.is_one, of_one[at] * (values - one[at]), of_two[at] * (values - two[at]))
        reweighed = np.where(self.is_one, (1 - share[at]) ** 2, share[at] ** 2) * drift[at]
        return Influenced(value, (own + reweighed) / lower)

    @cached_property
    def _n_one(self) -> Int64[np.ndarray, " strata"]:
        return np.bincount(self.number[self.is_one])

    @cached_property
    def _n_two(self) -> Int64[np.ndarray, " strata"]:
        return np.bincount(self.number[~self.is_one])

    def _means(
        self, values: Float[np.ndarray, " n"], is_kind: Bool[np.ndarray, " n"]
    ) -> Float[np.ndarray, " strata"]:
        number = self.number[is_kind]
        return np.bincount(number, weights=values[is_kind]) / np.maximum(np.bincount(number), 1)

    @staticmethod
    def _below(code: Int64[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """How many others of the same code lie below each value, a tie counting one half."""
        n = np.bincount(code)[code]
        return ranks_within(code, values) * (n + 1) + (n - 1) / 2


def informative(
    code: Int64[np.ndarray, " n"], is_one: Bool[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return which things are in strata of both kinds, and the strata numbered from 0 on."""
    number = np.unique(code, return_inverse=True)[1].astype(np.int64)
    n = int(number.max(initial=-1)) + 1
    both = np.minimum(*(np.bincount(number[kind], minlength=n) for kind in (is_one, ~is_one))) > 0
    return both[number], (np.cumsum(both) - 1)[number]
