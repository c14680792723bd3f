"""Numbers with their resamples, and the one way in which gaps and spans are scored.

Whole documents are drawn again; every score of the same units sees the same resamples, so that differences
are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64, Num, Shaped
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from lrope_interp.probes.statistics.bootstrap import (
    N_BINS,
    Bootstrap,
    Ranked,
    Units,
    divided,
)
from lrope_interp.probes.statistics.ranking import Curve, Ranking

LEVEL = 0.95
SHARE = (0.0, 1.0)
_LEAST_P = 1e-15


@dataclass(frozen=True)
class Estimate:
    """A number, its resamples, and what seeds add to its uncertainty.

    Intervals are those of Student's t with one degree of freedom fewer than there are documents, and
    with the standard deviation of the resamples. Percentiles of few documents are too short: of 5 made-up
    documents they held the truth in 86 of 100 runs, these in 96.

    Attributes:
        value: The number; NaN where it could not be had.
        resampled: What it is in every resample; None where there is no interval.
        n_units: How many documents were drawn again.
        seeds: The variance of each mean over seeds that is part of the number, and its degrees of freedom.
        within: The least and the most that the number can be.
    """

    value: float
    resampled: Float[np.ndarray, " resamples"] | None = None
    n_units: int = 0
    seeds: tuple[tuple[float, int], ...] = ()
    within: tuple[float, float] = (-math.inf, math.inf)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, NaN without one."""
        return self._interval(self._parts)

    @property
    def interval_of_one_seed(self) -> tuple[float, float]:
        """Where the number would lie in 95 of 100 cases if one new seed stood for the mean over seeds."""
        # The error of the mean and the distance of a new seed are known from one spread: one part, not two.
        parts = self._parts
        return self._interval([*parts[:1], *((variance * (df + 2), df) for variance, df in parts[1:])])

    @property
    def p(self) -> float:
        """The two-sided p value of the number being 0: 1 less the level of the interval that ends there.

        NaN without an interval, and 0 where p is below 1e-15.
        """
        parts, far = self._parts, abs(self.value)
        if not parts or math.isnan(far):
            return math.nan
        if not far or _half_width(parts, _LEAST_P) <= far:
            return float(not far)
        log_p: Any = brentq(lambda x: _half_width(parts, math.exp(x)) - far, math.log(_LEAST_P), 0.0)
        return math.exp(log_p)

    def power(self, margin: float) -> float:
        """How likely the interval would lie above -`margin` if the number were 0; NaN without an interval."""
        parts = self._parts
        error = math.sqrt(sum(variance for variance, _ in parts))
        if not error:
            return 1.0 if parts else math.nan
        return float(stdtr(parts[0][1], (margin - _half_width(parts)) / error))

    def __sub__(self, other: Estimate) -> Estimate:
        """Return the paired difference."""
        value = self.value - other.value
        within = self.within[0] - other.within[1], self.within[1] - other.within[0]
        if self.resampled is None or other.resampled is None:
            return Estimate(value, within=within)
        drawn = self.resampled - other.resampled
        n_units = min(one.n_units for one in (self, other) if one.n_units)
        return Estimate(value, drawn, n_units, self.seeds + other.seeds, within)

    def row(self, name: str = "") -> dict[str, float]:
        """Return the columns of a table: NAME, NAME_low, NAME_high; without a name value, ci_low, ci_high."""
        names = (name, f"{name}_low", f"{name}_high") if name else ("value", "ci_low", "ci_high")
        return dict(zip(names, (self.value, *self.interval), strict=True))

    @classmethod
    def mean(cls, estimates: Sequence[Estimate]) -> Estimate:
        """Average over seeds, resample by resample; few seeds widen the interval."""
        values = np.array([one.value for one in estimates])
        value, within = float(values.mean()), estimates[0].within
        drawn = [one.resampled for one in estimates if one.resampled is not None]
        if len(drawn) < len(estimates):
            return cls(value, within=within)
        n = len(values)
        seeds = ((float(values.var(ddof=1)) / n, n - 1),) if n > 1 else ()
        return cls(value, np.mean(drawn, axis=0), estimates[0].n_units, seeds, within)

    @property
    def _parts(self) -> list[tuple[float, int]]:
        """The variance of the number over documents, and of each mean over seeds, with degrees of freedom.

        Resamples without a value are left out; where more than one in twenty has none, the interval would
        describe the lucky ones only, and there is none.
        """
        if self.resampled is None:
            return []
        known, n = self.resampled[~np.isnan(self.resampled)], self.n_units
        if n < 2 or len(known) < LEVEL * len(self.resampled):
            return []
        # A resample of n documents varies by (n - 1) / n of what a new sample would.
        variance = float(known.var()) if np.ptp(known) else 0.0
        return [(variance * n / (n - 1), n - 1), *self.seeds]

    def _interval(self, parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
        if not parts or math.isnan(self.value):
            return math.nan, math.nan
        half, (low, high) = _half_width(parts), self.within
        return max(self.value - half, low), min(self.value + half, high)


def simultaneous(family: Sequence[Estimate], seed: int = 0) -> list[tuple[float, float]]:
    """Return intervals that hold all numbers of a family at once in 95 of 100 cases (max-t).

    Their common width, in standard errors, is the 95 % quantile of the largest deviation among them in each
    resample, so that members that move together cost less than others. NaN without an interval of its own.

    Args:
        family: Estimates of the same units.
        seed: Of the draws that stand for estimating standard errors from few documents.
    """
    bounds, at, drawn = [(math.nan, math.nan)] * len(family), [], []
    for number, one in enumerate(family):
        parts = one._parts
        error = math.sqrt(sum(variance for variance, _ in parts))
        if parts and not error:
            bounds[number] = one.value, one.value
        elif one.resampled is not None and error:
            at.append((number, error))
            drawn.append((one.resampled - np.nanmean(one.resampled)) / np.nanstd(one.resampled))
    if not at:
        return bounds
    deviation, df = np.nan_to_num(np.array(drawn)), family[at[0][0]].n_units - 1
    # Each standard error is an estimate of its own; where members correlate by r, their variances do by r
    # squared. With one draw for all, bands of 24 layers hold in .80 of cases of 5 documents, .92 of 25.
    shared = np.atleast_2d(np.corrcoef(deviation)) ** 2 + 1e-6 * np.eye(len(at))
    rng, spread = np.random.default_rng([seed, df]), 2 / (9 * df)
    normal = rng.standard_normal(deviation.T.shape) @ np.linalg.cholesky(shared).T
    scale = np.maximum(1 - spread + math.sqrt(spread) * normal.T, 1e-3) ** 1.5  # Wilson & Hilferty 1931
    width = float(np.quantile(np.max(np.abs(deviation) / scale, axis=0), LEVEL))
    for number, error in at:
        one, half = family[number], width * error
        bounds[number] = max(one.value - half, one.within[0]), min(one.value + half, one.within[1])
    return bounds


def holm(p: Sequence[float]) -> list[float]:
    """Return p values for as many tests as there are (Holm 1979); unknown ones stay NaN and count as none."""
    known = sorted((one, at) for at, one in enumerate(p) if not math.isnan(one))
    found, least = [math.nan] * len(p), 0.0
    for rank, (one, at) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * one))
        found[at] = least
    return found


def _half_width(parts: Sequence[tuple[float, int]], p: float = 1 - LEVEL) -> float:
    """Return half of an interval: the parts, each at the t of its own degrees of freedom (Banerjee 1960).

    It holds the truth in at least 95 of 100 cases. One t for the sum, at pooled degrees of freedom, does so
    in 87 where two seeds are most of it, and in 92 with three.
    """
    return math.hypot(*(math.sqrt(variance) * float(stdtrit(df, p / 2)) for variance, df in parts))


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
        return self._of(value, self.drawing.roc_auc(ranked, is_one), SHARE)

    def average_precision(
        self, ranked: Ranked, is_one: Bool[np.ndarray, " n"], curve: Curve | None = None
    ) -> Estimate:
        """Return precision averaged over all that should be found."""
        value = (curve or Curve.of(ranked.ranking, is_one)).average_precision()
        if self.drawing is None or math.isnan(value):
            return Estimate(value)
        return self._of(value, self.drawing.average_precision(ranked, is_one), SHARE)

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
        return self._of(value, self.drawing.roc_auc_within([*zip(ranked, labels, strict=True)]), SHARE)

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
        is_drawn, within = self.drawing is not None, {"mcc": (-1.0, 1.0)}
        return {
            name: self._of(float(one[0]), one[1:] if is_drawn else None, within.get(name, SHARE))
            for name, one in found.items()
        }

    def ratio(self, upper: Shaped[np.ndarray, " n"], lower: Shaped[np.ndarray, " n"]) -> Estimate:
        """Return a ratio of sums, NaN where the lower sum is 0."""
        total = float(lower.sum(dtype=np.float64))
        value = float(upper.sum(dtype=np.float64)) / total if total else math.nan
        if self.drawing is None or math.isnan(value):
            return Estimate(value)
        return self._of(value, self.drawing.ratio(self.units, upper, lower))

    def mean(self, amount: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"]) -> Estimate:
        """Return the mean of a number a thing."""
        if not len(amount):
            return Estimate(math.nan)
        value = float(np.mean(amount, dtype=np.float64))
        if self.drawing is None:
            return Estimate(value)
        return self._of(value, self.drawing.ratio(self.units, amount, np.ones(len(amount))))

    def _of(
        self,
        value: float,
        resampled: Float[np.ndarray, " resamples"] | None,
        within: tuple[float, float] = (-math.inf, math.inf),
    ) -> Estimate:
        return Estimate(value, resampled, self.units.count, within=within)
