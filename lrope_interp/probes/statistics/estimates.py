"""Numbers with their resamples, and what log-probabilities of spans are worth: areas, accuracies, losses.

Whole documents are drawn again; every score of one task sees the same resamples, so that differences
are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from lrope_interp.probes.statistics.bootstrap import Bootstrap, Histograms, Units, interval
from lrope_interp.probes.statistics.ranking import Ranking, roc_auc

N_BINS = 256
"""Quantiles of a probe's score that the resamples of its ROC-AUC tell apart; the value itself is exact."""


@dataclass(frozen=True)
class Estimate:
    """A number and its resamples.

    Attributes:
        value: The number; NaN where it could not be had.
        resampled: What it is in every resample.
    """

    value: float
    resampled: Float[np.ndarray, " resamples"]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, NaN without one."""
        return interval(self.resampled)

    def minus(self, other: Estimate) -> Estimate:
        """Return the paired difference."""
        return Estimate(self.value - other.value, self.resampled - other.resampled)

    @classmethod
    def mean_redrawn(cls, estimates: Sequence[Estimate]) -> Estimate:
        """Average over seeds that are themselves drawn again in every resample, as five are few."""
        drawn = np.stack([one.resampled for one in estimates])
        n, n_resamples = drawn.shape
        weights = np.random.default_rng([n, n_resamples]).multinomial(n, [1 / n] * n, size=n_resamples) / n
        return cls(float(np.mean([one.value for one in estimates])), (weights.T * drawn).sum(axis=0))

    @classmethod
    def mean(cls, estimates: Sequence[Estimate]) -> Estimate:
        """Average over seeds, resample by resample."""
        return cls(
            float(np.mean([one.value for one in estimates])),
            np.mean([one.resampled for one in estimates], axis=0),
        )


@dataclass(frozen=True)
class SpanScorer:
    """Scores the test spans of one task.

    Attributes:
        y: Their classes.
        document: Their documents.
        t: Their places in the documents, in bytes.
        bootstrap: The resamples.
    """

    y: Int64[np.ndarray, " n"]
    document: Int64[np.ndarray, " n"]
    t: Int64[np.ndarray, " n"]
    bootstrap: Bootstrap

    @cached_property
    def units(self) -> Units:
        """What is drawn again."""
        return Units.of(self.document, self.t)

    def roc_auc(self, log_p: Float32[np.ndarray, "n classes"], concept: int) -> Estimate:
        """Return how well one class is told from all others: by its log-odds."""
        is_concept = self.y == concept
        odds = _log_odds(log_p[:, concept])
        value = roc_auc(odds, is_concept)
        if not self.units.has_interval or math.isnan(value):
            return Estimate(value, self._nothing())
        histograms = Histograms.of(Ranking.of(odds), self.units, N_BINS)
        return Estimate(value, self.bootstrap.roc_auc(histograms, is_concept))

    def roc_auc_within(
        self, log_p: Float32[np.ndarray, "n classes"], concept: int, fold: Int64[np.ndarray, " n"]
    ) -> Estimate:
        """Return how well one class is told from all others that the same probe has scored.

        A probe of the type split has seen the fewer of a class, the more of it stand in its own fold.
        Across folds that alone would turn a probe that knows nothing upside down, so that only pairs of
        spans within a fold are compared.

        Args:
            log_p: What probes say, each of one fold.
            concept: Number of the class.
            fold: Which probe scored each span.
        """
        is_concept, odds = self.y == concept, _log_odds(log_p[:, concept])
        parts = [fold == one for one in np.unique(fold)]
        n_pairs = np.array([is_concept[own].sum() * (~is_concept[own]).sum() for own in parts], dtype=float)
        if not n_pairs.any():
            return Estimate(math.nan, self._nothing())
        parts = [own for own, n in zip(parts, n_pairs.tolist(), strict=True) if n]
        areas = [roc_auc(odds[own], is_concept[own]) for own in parts]
        value = float(np.average(areas, weights=n_pairs[n_pairs > 0]))
        if not self.units.has_interval:
            return Estimate(value, self._nothing())
        units = [replace(self.units, index=self.units.index[own]) for own in parts]
        ranked = [
            Histograms.of(Ranking.of(odds[own]), of, N_BINS) for own, of in zip(parts, units, strict=True)
        ]
        pairs = [(one, is_concept[own]) for one, own in zip(ranked, parts, strict=True)]
        return Estimate(value, self.bootstrap.roc_auc_within(pairs))

    def accuracy(self, log_p: Float32[np.ndarray, "n classes"]) -> Estimate:
        """Return the share of spans whose likeliest class is their own."""
        return self.mean(log_p.argmax(axis=1) == self.y)

    def log_loss(self, log_p: Float32[np.ndarray, "n classes"]) -> Estimate:
        """Return -ln p of the right class, in nats a span."""
        return self.mean(-log_p[np.arange(len(self.y)), self.y].astype(np.float64))

    def binary_loss(self, log_p: Float32[np.ndarray, "n classes"], concept: int) -> Estimate:
        """Return -ln p of being of one class or not, in nats a span."""
        own = log_p[:, concept].astype(np.float64)
        rest = np.log1p(-np.minimum(np.exp(own), 1 - 1e-7))
        return self.mean(-np.where(self.y == concept, own, rest))

    def mean(self, amount: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"]) -> Estimate:
        """Return the mean of a number a span."""
        if not len(amount):
            return Estimate(math.nan, self._nothing())
        value = float(np.mean(amount, dtype=np.float64))
        if not self.units.has_interval:
            return Estimate(value, self._nothing())
        return Estimate(value, self.bootstrap.ratio(self.units, amount, np.ones(len(amount))))

    def _nothing(self) -> Float[np.ndarray, " resamples"]:
        return np.full(self.bootstrap.n_resamples, np.nan)


def _log_odds(log_p: Float32[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    own = log_p.astype(np.float64)
    return own - np.log1p(-np.minimum(np.exp(own), 1 - 1e-12))
