"""Numbers with their resamples, and the one way in which gaps and spans are scored.

Whole documents are drawn again; every score of the same units sees the same resamples, so that differences
are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int64, Num, Shaped

from lrope_interp.probes.statistics.bootstrap import (
    N_BINS,
    Bootstrap,
    Ranked,
    Units,
    divided,
    interval,
)
from lrope_interp.probes.statistics.ranking import Curve, Ranking


@dataclass(frozen=True)
class Estimate:
    """A number and its resamples.

    Attributes:
        value: The number; NaN where it could not be had.
        resampled: What it is in every resample; None where there is no interval.
    """

    value: float
    resampled: Float[np.ndarray, " resamples"] | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, NaN without one."""
        if self.resampled is None or math.isnan(self.value):
            return math.nan, math.nan
        return interval(self.resampled)

    def __sub__(self, other: Estimate) -> Estimate:
        """Return the paired difference."""
        value = self.value - other.value
        if self.resampled is None or other.resampled is None:
            return Estimate(value)
        return Estimate(value, self.resampled - other.resampled)

    def row(self, name: str = "") -> dict[str, float]:
        """Return the columns of a table: NAME, NAME_low, NAME_high; without a name value, ci_low, ci_high."""
        names = (name, f"{name}_low", f"{name}_high") if name else ("value", "ci_low", "ci_high")
        return dict(zip(names, (self.value, *self.interval), strict=True))

    @classmethod
    def mean(cls, estimates: Sequence[Estimate], *, is_redrawn: bool = False) -> Estimate:
        """Average over seeds, resample by resample.

        Args:
            estimates: One a seed.
            is_redrawn: Whether the seeds are themselves drawn again in every resample, as five are few.
        """
        value = float(np.mean([one.value for one in estimates]))
        drawn = [one.resampled for one in estimates if one.resampled is not None]
        if len(drawn) < len(estimates):
            return cls(value)
        if not is_redrawn:
            return cls(value, np.mean(drawn, axis=0))
        n, n_resamples = len(drawn), len(drawn[0])
        weights = np.random.default_rng([n, n_resamples]).multinomial(n, [1 / n] * n, size=n_resamples) / n
        return cls(value, (weights.T * np.stack(drawn)).sum(axis=0))


def over_seeds(estimates: Sequence[Estimate]) -> dict[str, float]:
    """Return value, ci_low and ci_high of one estimate, or of several seeds: their mean and their range.

    The range of seeds says more than the interval of any one of them.
    """
    if len(estimates) == 1:
        return estimates[0].row()
    values = [one.value for one in estimates]
    return {
        "value": float(np.mean(values)),
        "ci_low": float(np.min(values)),
        "ci_high": float(np.max(values)),
    }


@dataclass(frozen=True)
class Scoring:
    """Scores things, such as gaps or spans, each score with its resamples.

    Attributes:
        units: What is drawn again, of the things.
        bootstrap: The resamples, which all that is compared shares; None for values alone.
        n_bins: Quantiles that resamples of a ranking tell apart; the value itself is exact.
    """

    units: Units
    bootstrap: Bootstrap | None
    n_bins: int = N_BINS

    @property
    def drawing(self) -> Bootstrap | None:
        """The resamples; None with too few units for an interval."""
        return self.bootstrap if self.units.has_interval else None

    def rank(self, values: Num[np.ndarray, " n"]) -> Ranked:
        """Sort finite values once for any number of labels. Higher ones mean that a label holds."""
        return Ranked(Ranking.of(values), self.units, self.n_bins)

    def roc_auc(self, ranked: Ranked, is_one: Bool[np.ndarray, " n"], curve: Curve | None = None) -> Estimate:
        """Return the chance that one is ranked above another; see `Curve`, which saves counting again."""
        value = (curve or Curve.of(ranked.ranking, is_one)).roc_auc()
        if self.drawing is None or math.isnan(value):
            return Estimate(value)
        return Estimate(value, self.drawing.roc_auc(ranked, is_one))

    def average_precision(
        self, ranked: Ranked, is_one: Bool[np.ndarray, " n"], curve: Curve | None = None
    ) -> Estimate:
        """Return precision averaged over all that should be found."""
        value = (curve or Curve.of(ranked.ranking, is_one)).average_precision()
        if self.drawing is None or math.isnan(value):
            return Estimate(value)
        return Estimate(value, self.drawing.average_precision(ranked, is_one))

    def roc_auc_within(
        self, values: Num[np.ndarray, " n"], is_one: Bool[np.ndarray, " n"], part: Int64[np.ndarray, " n"]
    ) -> Estimate:
        """Return the chance that one is ranked above another of its own part; parts weigh by their pairs."""
        masks = [part == number for number in np.unique(part)]
        n_pairs = np.array([is_one[own].sum() * (~is_one[own]).sum() for own in masks], dtype=float)
        if not n_pairs.any():
            return Estimate(math.nan)
        masks = [own for own, n in zip(masks, n_pairs.tolist(), strict=True) if n]
        units = [replace(self.units, index=self.units.index[own]) for own in masks]
        ranked = [replace(self, units=of).rank(values[own]) for of, own in zip(units, masks, strict=True)]
        labels = [is_one[own] for own in masks]
        areas = [Curve.of(one.ranking, own).roc_auc() for one, own in zip(ranked, labels, strict=True)]
        value = float(np.average(areas, weights=n_pairs[n_pairs > 0]))
        if self.drawing is None:
            return Estimate(value)
        return Estimate(value, self.drawing.roc_auc_within([*zip(ranked, labels, strict=True)]))

    def calls(self, is_called: Bool[np.ndarray, " n"], is_one: Bool[np.ndarray, " n"]) -> dict[str, Estimate]:
        """Return F1, precision, recall and Matthews' correlation of calls at one fixed threshold.

        NaN where there is nothing to divide by, as in the last where calls or truth are of one kind.
        """
        cells = 4 * self.units.index + 2 * is_called + is_one
        counts = np.bincount(cells, minlength=4 * self.units.count).reshape(-1, 4)
        amounts = np.stack([counts[:, 3], counts[:, 2:].sum(1), counts[:, 1::2].sum(1), counts.sum(1)], 1)
        rows = amounts.sum(axis=0, keepdims=True).astype(np.float64)  # first of all, then of each resample
        if self.drawing is not None:
            rows = np.vstack([rows, self.drawing.weights(self.units.count) @ amounts.astype(np.float64)])
        hits, called, true, n = rows.T
        scale = np.sqrt(called * (n - called)) * np.sqrt(true * (n - true))
        found = {
            "f1": divided(2 * hits, called + true),
            "precision": divided(hits, called),
            "recall": divided(hits, true),
            "mcc": divided(hits * n - called * true, scale),
        }
        is_drawn = self.drawing is not None
        return {name: Estimate(float(one[0]), one[1:] if is_drawn else None) for name, one in found.items()}

    def ratio(self, upper: Shaped[np.ndarray, " n"], lower: Shaped[np.ndarray, " n"]) -> Estimate:
        """Return a ratio of sums, NaN where the lower sum is 0."""
        total = float(lower.sum(dtype=np.float64))
        value = float(upper.sum(dtype=np.float64)) / total if total else math.nan
        if self.drawing is None or math.isnan(value):
            return Estimate(value)
        return Estimate(value, self.drawing.ratio(self.units, upper, lower))

    def mean(self, amount: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"]) -> Estimate:
        """Return the mean of a number a thing."""
        if not len(amount):
            return Estimate(math.nan)
        value = float(np.mean(amount, dtype=np.float64))
        if self.drawing is None:
            return Estimate(value)
        return Estimate(value, self.drawing.ratio(self.units, amount, np.ones(len(amount))))
