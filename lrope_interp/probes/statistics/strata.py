"""Values compared among things alike: in strata of two kinds, in bins of equal entropy and surprisal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, Num

from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.estimates import Estimate
from lrope_interp.probes.statistics.nulls import N_FLIPS, p_value
from lrope_interp.probes.statistics.ranking import Ranking, ranks_within

N_ENTROPY_BINS = 20
N_SURPRISAL_BINS = 10


@dataclass(frozen=True)
class Influenced:
    """A statistic and its *influence* of each thing: its derivative by the thing's weight; they sum to 0.

    An interval over documents would need every pair of documents; here it needs one number a thing.
    A resample that draws documents with weights w has, to first order, the value plus the sum of w times
    influence (the infinitesimal jackknife; Efron 1982; for U-statistics Hajek's projection). What is left
    out is of the order of one over the number of documents.
    """

    value: float
    influence: Float[np.ndarray, " n"]

    def estimate(self, bootstrap: Bootstrap, units: Units) -> Estimate:
        """Return it with its value in each resample of units, to first order."""
        if not units.has_interval:
            return Estimate(self.value)
        per_unit = np.bincount(units.index, weights=self.influence, minlength=units.count)
        return Estimate(self.value, self.value + bootstrap.weights(units.count) @ per_unit, units.count)


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
        return ranks_within(code, Ranking.of(values)) * (n + 1) + (n - 1) / 2


def informative(
    code: Int64[np.ndarray, " n"], is_one: Bool[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return which things are in strata of both kinds, and the strata numbered from 0 on."""
    number = np.unique(code, return_inverse=True)[1].astype(np.int64)
    n = int(number.max(initial=-1)) + 1
    both = np.minimum(*(np.bincount(number[kind], minlength=n) for kind in (is_one, ~is_one))) > 0
    return both[number], (np.cumsum(both) - 1)[number]


def joint_bins(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Cut gaps at 20 quantiles of `first`, and each part at 10 of its own of `second`.

    Bins are of about equal size; equal values stay together.
    """
    outer = _cut(ranks_within(np.zeros(len(first), dtype=np.int64), Ranking.of(first)), N_ENTROPY_BINS)
    inner = _cut(ranks_within(outer, Ranking.of(second)), N_SURPRISAL_BINS)
    return outer * N_SURPRISAL_BINS + inner


def _cut(ranks: Float[np.ndarray, " n"], n_bins: int) -> Int[np.ndarray, " n"]:
    return np.clip(((ranks + 0.5) * n_bins).astype(np.int64), 0, n_bins - 1)


@dataclass(frozen=True)
class WithinBins:
    """Does a signal tell boundaries apart among gaps of equal entropy and surprisal? Without a model.

    Gaps are cut into 200 joint bins and ranked inside each. What a bin leaves of entropy and surprisal,
    which differ a little inside it too, is taken out of the ranks by a parabola and a step: without that, a
    function of entropy is found "beyond entropy" as soon as there are enough gaps.

    Attributes:
        entropy: In nats.
        surprisal: In nats.
        is_boundary: The label.
        units: What is independent: the signs of their contributions are flipped.
        seed: Of the flips, which all signals share.
    """

    entropy: Float[np.ndarray, " n"]
    surprisal: Float[np.ndarray, " n"]
    is_boundary: Bool[np.ndarray, " n"]
    units: Units
    seed: int = 0

    def left_of(self, values: Num[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return what a parabola in both and a step of entropy leave of a signal's ranks in each bin."""
        ranks = self._without_curves(ranks_within(self.bins, Ranking.of(values)))
        step = self._without_curves(self._best_step(ranks))
        own = self._sum(step**2)
        slope = np.divide(self._sum(step * ranks), own, out=np.zeros(len(own)), where=own > 1e-9)
        return np.round(ranks - slope[self.bins] * step, 9)

    def auc(self, left: Float[np.ndarray, " n"]) -> float:
        """Chance that a boundary lies above another gap of its bin, a tie one half; NaN without a pair."""
        n = self._sum(np.ones(len(left)))
        hits = self._sum(self.is_boundary.astype(np.float64))
        pairs = hits * (n - hits)
        if not pairs.sum():
            return math.nan
        ranks = ranks_within(self.bins, Ranking.of(left)) * (n[self.bins] + 1)
        wins = self._sum(ranks * self.is_boundary) + pairs / 2
        return float(wins.sum() / pairs.sum())

    def sign(self, left: Float[np.ndarray, " n"]) -> int:
        """Return which way the values point within bins, which need not be the way they point across them."""
        return 1 if float(left @ self._label_left) >= 0 else -1

    def p(self, left: Float[np.ndarray, " n"]) -> float:
        """Return the chance of so large an association if the units' signs were a matter of luck.

        One-sided: higher values are taken to mean a boundary. 1 where nothing is left to test.
        """
        by_unit = np.bincount(self.units.index, weights=left * self._label_left, minlength=self.units.count)
        return p_value(float(by_unit.sum()), self._flips @ by_unit)

    @cached_property
    def bins(self) -> Int[np.ndarray, " n"]:
        """The joint bin of each gap."""
        return joint_bins(self.entropy, self.surprisal)

    @cached_property
    def _by_entropy(self) -> Int[np.ndarray, " n"]:
        return np.lexsort((self.entropy, self.bins))

    @cached_property
    def _curves(self) -> Float[np.ndarray, "5 n"]:
        a, b = (ranks_within(self.bins, Ranking.of(one)) for one in (self.entropy, self.surprisal))
        n = np.maximum(self._sum(np.ones(len(a))), 1)
        products = np.stack([a * a, a * b, b * b])
        means = np.stack([self._sum(one) / n for one in products])
        return np.concatenate([np.stack([a, b]), products - means[:, self.bins]])

    @cached_property
    def _inverses(self) -> Float[np.ndarray, "bins 5 5"]:
        products = [[self._sum(a * b) for a in self._curves] for b in self._curves]
        return np.linalg.pinv(np.moveaxis(np.array(products), -1, 0), hermitian=True)

    @cached_property
    def _label_left(self) -> Float[np.ndarray, " n"]:
        """The label minus its share in the bin.

        The curves are taken out of signals only. The sum over gaps would be the same with them out of
        the label too, but each unit's part would be too small by the degrees of freedom that they cost.
        """
        n = np.maximum(self._sum(np.ones(len(self.bins))), 1)
        share = self._sum(self.is_boundary.astype(np.float64)) / n
        return self.is_boundary - share[self.bins]

    @cached_property
    def _flips(self) -> Float[np.ndarray, "flips units"]:
        rng = np.random.Generator(np.random.Philox(key=[self.seed, self.units.count]))
        return rng.choice([-1.0, 1.0], size=(N_FLIPS, self.units.count))

    def _best_step(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Split each bin by entropy where the halves' values differ most; return the halves, centred."""
        order = self._by_entropy
        bins, entropy = self.bins[order], self.entropy[order]
        place = np.arange(len(order)) - np.searchsorted(bins, bins)
        total = np.cumsum(values[order])
        below, n = place + 1, self._sum(np.ones(len(order)))[bins]
        is_cut = np.append((bins[1:] == bins[:-1]) & (entropy[1:] > entropy[:-1]), False)
        before = (total - values[order])[np.searchsorted(bins, bins)]
        gain = np.where(is_cut, (total - before) ** 2 / (below * np.maximum(n - below, 1)), -1.0)
        best = np.lexsort((gain, bins))[np.searchsorted(bins, bins, side="right") - 1]
        halves = np.empty(len(order))
        halves[order] = (place > place[best]) - (1 - below[best] / n)
        return halves

    def _without_curves(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Subtract each bin's parabola in the ranks of entropy and surprisal from values of mean 0."""
        products = np.stack([self._sum(curve * values) for curve in self._curves], axis=-1)
        slopes = np.einsum("bij,bj->bi", self._inverses, products)
        return values - np.einsum("in,ni->n", self._curves, slopes[self.bins])

    def _sum(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " bins"]:
        return np.bincount(self.bins, weights=values, minlength=N_ENTROPY_BINS * N_SURPRISAL_BINS)
