"""Does a signal tell boundaries apart among gaps of equal entropy and surprisal? Without a model.

Gaps are cut into 200 joint bins and ranked inside each. What a bin leaves of entropy and surprisal,
which differ a little inside it too, is taken out of the ranks by a parabola and a step: without that, a
function of entropy is found "beyond entropy" as soon as there are enough gaps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from lrope_interp.probes.statistics.bootstrap import Units
from lrope_interp.probes.statistics.nulls import N_FLIPS, p_value

N_ENTROPY_BINS = 20
N_SURPRISAL_BINS = 10


def ranks_within(code: Int[np.ndarray, " n"], values: Num[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Rank values among those of the same code: from -1/2 to 1/2, mean 0, equal values alike."""
    if not len(code):
        return np.zeros(0)
    order = np.lexsort((values, code))
    codes, sorted_values = code[order], values[order]
    is_new_code = np.append(True, codes[1:] != codes[:-1])
    is_new = is_new_code | np.append(True, sorted_values[1:] != sorted_values[:-1])
    first = np.flatnonzero(is_new)
    size = np.diff(first, append=len(code))
    middle = np.repeat(first + (size - 1) / 2, size)
    begin = np.flatnonzero(is_new_code)
    n_same = np.diff(begin, append=len(code))
    centre, spread = np.repeat(begin + (n_same - 1) / 2, n_same), np.repeat(n_same + 1, n_same)
    ranks = np.empty(len(code))
    ranks[order] = (middle - centre) / spread
    return ranks


def joint_bins(
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
    shape: tuple[int, int] = (N_ENTROPY_BINS, N_SURPRISAL_BINS),
) -> Int[np.ndarray, " n"]:
    """Cut gaps at quantiles of `first`, and each part at its own quantiles of `second`.

    Bins are of about equal size; equal values stay together.
    """
    outer = _cut(ranks_within(np.zeros(len(first), dtype=np.int64), first), shape[0])
    return outer * shape[1] + _cut(ranks_within(outer, second), shape[1])


def _cut(ranks: Float[np.ndarray, " n"], n_bins: int) -> Int[np.ndarray, " n"]:
    return np.clip(((ranks + 0.5) * n_bins).astype(np.int64), 0, n_bins - 1)


@dataclass(frozen=True)
class WithinBins:
    """The gaps that signals are tested on.

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
        ranks = self._without_curves(ranks_within(self.bins, values))
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
        wins = self._sum(ranks_within(self.bins, left) * (n[self.bins] + 1) * self.is_boundary) + pairs / 2
        return float(wins.sum() / pairs.sum())

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
        a, b = (ranks_within(self.bins, values) for values in (self.entropy, self.surprisal))
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
