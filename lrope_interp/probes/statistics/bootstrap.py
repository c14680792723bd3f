"""Intervals that resample documents, not gaps; and gaps drawn for a fit, by document.

Gaps of one document resemble each other, so the unit that is drawn again is the document. A
resample is a vector of multinomial weights over the units; a statistic of it needs only each
unit's histogram of the signal, so that 2,000 resamples cost a few matrix products. All signals
that share units share the weights: their differences are paired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from lrope_interp.probes.statistics.ranking import Ranking

N_RESAMPLES = 2_000
N_BINS = 4_096
MIN_UNITS = 5
MAX_UNITS = 1_024
MAX_FIT_GAPS = 50_000
_CHUNK = 256


@dataclass(frozen=True)
class Units:
    """Which unit of resampling each gap belongs to.

    Attributes:
        index: The unit of each gap, from 0 to `count` - 1.
        count: How many units there are.
        n_documents: How many documents they come from.
    """

    index: Int[np.ndarray, " n"]
    count: int
    n_documents: int

    @classmethod
    def of(cls, document: Int[np.ndarray, " n"]) -> Units:
        """Make units of gaps given by document number.

        Parts of a document resemble each other, so that blocks of few documents are no substitute for more
        of them. More than 1,024 documents are pooled into 1,024 units, which stay independent of each other.
        """
        found, index = np.unique(document, return_inverse=True)
        return cls(index % MAX_UNITS, min(len(found), MAX_UNITS), len(found))

    @property
    def has_interval(self) -> bool:
        """True with at least 5 units."""
        return self.count >= MIN_UNITS


@dataclass(frozen=True)
class Ranked:
    """Values in their order, and how many gaps of each unit each quantile has, counted when first asked for.

    Equal values share a bin; a signal of at most 4,096 different values loses nothing.

    Attributes:
        ranking: The values.
        units: What is drawn again.
        most_bins: Into how many bins of about equal size they are cut at most; bin 0 is the highest.
    """

    ranking: Ranking
    units: Units
    most_bins: int = N_BINS

    @cached_property
    def bin_of(self) -> Int[np.ndarray, " n"]:
        """The bin of each gap."""
        ends = self.ranking.ends
        if len(ends) <= self.most_bins:
            return self.ranking.group_of
        starts = np.append(0, ends[:-1]) * self.most_bins // len(self.ranking.order)
        return np.unique(starts, return_inverse=True)[1][self.ranking.group_of]

    @cached_property
    def gaps(self) -> Float[np.ndarray, "units bins"]:
        """How many gaps of each unit fall into each bin."""
        return self._count(self._cell)

    @cached_property
    def gaps_above(self) -> Float[np.ndarray, "units bins"]:
        """How many gaps of each unit fall into each bin or a higher one."""
        return np.cumsum(self.gaps, axis=1)

    def boundaries(self, is_boundary: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "units bins"]:
        """How many boundaries of each unit fall into each bin."""
        return self._count(self._cell[is_boundary])

    @cached_property
    def n_bins(self) -> int:
        """How many bins there are."""
        return int(self.bin_of.max(initial=-1)) + 1

    @cached_property
    def _cell(self) -> Int[np.ndarray, " n"]:
        return self.units.index * self.n_bins + self.bin_of

    def _count(self, cells: Int[np.ndarray, " m"]) -> Float[np.ndarray, "units bins"]:
        shape = (self.units.count, self.n_bins)
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float32)


@dataclass(frozen=True)
class Bootstrap:
    """Resampled statistics; one object a run, so that every signal sees the same resamples."""

    seed: int = 0
    n_resamples: int = N_RESAMPLES
    _weights: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def weights(self, n_units: int) -> Float[np.ndarray, "resamples units"]:
        """How often each unit is drawn in each resample."""
        if n_units not in self._weights:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, n_units]))
            drawn = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=self.n_resamples)
            self._weights[n_units] = drawn.astype(np.float32)
        return self._weights[n_units]

    def roc_auc(self, ranked: Ranked, is_boundary: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " resamples"]:
        """ROC-AUC of each resample, NaN where a resample holds one kind of gap only.

        With wins[u, v] the pairs of a boundary in unit u above another gap in unit v, a resample's
        AUC is w' wins w over its pairs: one small matrix serves all resamples.
        """
        return self.roc_auc_within([(ranked, is_boundary)])

    def roc_auc_within(
        self, parts: Sequence[tuple[Ranked, Bool[np.ndarray, " _"]]]
    ) -> Float[np.ndarray, " resamples"]:
        """ROC-AUC of each resample over the pairs of gaps that stand in the same part.

        All parts count the same units; see `roc_auc`.
        """
        weights = self.weights(parts[0][0].units.count)
        pairs = np.zeros(len(weights), dtype=np.float64)
        won = np.zeros((weights.shape[1],) * 2, dtype=np.float32)
        for ranked, is_boundary in parts:
            hits = ranked.boundaries(is_boundary)
            others = ranked.gaps - hits
            below = others.sum(axis=1, keepdims=True) - np.cumsum(others, axis=1) + others / 2
            won += hits @ below.T
            pairs += (weights @ hits.sum(axis=1)).astype(np.float64) * (weights @ others.sum(axis=1))
        wins = ((weights @ won) * weights).sum(axis=1, dtype=np.float64)
        return divided(wins, pairs)

    def average_precision(
        self, ranked: Ranked, is_boundary: Bool[np.ndarray, " n"]
    ) -> Float[np.ndarray, " resamples"]:
        """Average precision of each resample, NaN where a resample holds no boundary."""
        weights = self.weights(ranked.units.count)
        hits = ranked.boundaries(is_boundary)
        used = np.flatnonzero(hits.any(axis=0))
        found, above = np.cumsum(hits[:, used], axis=1), ranked.gaps_above[:, used]
        sums = [
            _precision_sum(part, found, above) for part in np.array_split(weights, -(-len(weights) // _CHUNK))
        ]
        positives = (weights @ hits.sum(axis=1)).astype(np.float64)
        return divided(np.concatenate(sums).astype(np.float64), positives)

    def ratio(
        self, units: Units, numerator: Shaped[np.ndarray, " n"], denominator: Shaped[np.ndarray, " n"]
    ) -> Float[np.ndarray, " resamples"]:
        """A ratio of sums over the gaps of each resample, NaN where the lower sum is 0."""
        return divided(self.total(units, numerator), self.total(units, denominator))

    def total(self, units: Units, amount: Shaped[np.ndarray, " n"]) -> Float[np.ndarray, " resamples"]:
        """Sum of `amount` over the gaps of each resample."""
        per_unit = np.bincount(units.index, weights=amount, minlength=units.count)
        return self.weights(units.count) @ per_unit.astype(np.float64)


def divided(
    upper: Float[np.ndarray, " resamples"], lower: Float[np.ndarray, " resamples"]
) -> Float[np.ndarray, " resamples"]:
    """Divide, with NaN where there is nothing to divide by."""
    return np.divide(upper, lower, out=np.full(len(upper), np.nan), where=lower > 0)


def _precision_sum(
    weights: Float[np.ndarray, "chunk units"],
    found: Float[np.ndarray, "units bins"],
    above: Float[np.ndarray, "units bins"],
) -> Float[np.ndarray, " chunk"]:
    """Sum precision over the boundaries of each resample, bin by bin."""
    hits = weights @ found
    precision = weights @ above
    np.maximum(precision, 1, out=precision)
    np.divide(hits, precision, out=precision)
    hits[:, 1:] -= hits[:, :-1].copy()
    return np.einsum("rb,rb->r", hits, precision)


def draw_gaps(
    document: Int[np.ndarray, " n"], code: Int[np.ndarray, " n"], seed: int, most: int = MAX_FIT_GAPS
) -> Int[np.ndarray, " kept"]:
    """Draw at most `most` gaps at random, whatever order the documents come in.

    A document draws by what it holds, so that neither its number nor rounding of any signal decides. Two
    documents that hold the same draw alike.

    Args:
        document: The document of each gap; gaps of one document in their order.
        code: A whole number for each gap that is a matter of the text, such as its class of byte.
        seed: Another seed draws others.
        most: Where there are no more gaps than this, all are kept.

    Returns:
        The numbers of the gaps, rising.
    """
    if len(document) <= most:
        return np.arange(len(document))
    tickets = np.empty(len(document))
    for at, rng in _draws(document, code, seed):
        tickets[at] = rng.random(len(at))
    return np.flatnonzero(tickets <= np.partition(tickets, most - 1)[most - 1])


def hold_out(
    document: Int[np.ndarray, " n"], code: Shaped[np.ndarray, " n"], seed: int, share: float = 0.2
) -> Bool[np.ndarray, " n"]:
    """Hold out whole documents, about `share` of them and at least one; drawn as by `draw_gaps`."""
    draws = list(_draws(document, code, seed))
    tickets = np.array([rng.random() for _, rng in draws])
    is_held = np.zeros(len(document), dtype=bool)
    for k in np.argsort(tickets)[: max(1, round(share * len(draws)))]:
        is_held[draws[k][0]] = True
    return is_held


def _draws(
    document: Int[np.ndarray, " n"], code: Shaped[np.ndarray, " n"], seed: int
) -> Iterator[tuple[Int[np.ndarray, " gaps"], np.random.Generator]]:
    """Yield the gaps of each document, and its source of random numbers."""
    order = np.argsort(document, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(document[order])) + 1):
        digest = hashlib.blake2b(code[at].astype(np.int64).tobytes(), digest_size=8).digest()
        yield at, np.random.Generator(np.random.Philox(key=[seed, int.from_bytes(digest)]))
