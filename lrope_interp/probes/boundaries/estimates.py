"""All metrics of one signal for one label, each with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Num

from lrope_interp.probes.boundaries.choice import Choice
from lrope_interp.probes.boundaries.words import Runs, pk_counts, token_counts, windowdiff_counts
from lrope_interp.probes.capture.gaps import Field
from lrope_interp.probes.capture.signals import SignalColumn
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Histograms, interval
from lrope_interp.probes.statistics.ranking import Confusion, Curve, Ranking

WORD_LABELS = ("words", "words_merged", "despaced", "tokens")
SEGMENT_LABELS = (*WORD_LABELS, "sentences", "lines", "scopes")
UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class Estimate:
    """A metric: its value, the one before the signal was turned, and its interval."""

    value: float = math.nan
    raw: float = math.nan
    ci: tuple[float, float] = UNKNOWN


NOTHING = Estimate()


@dataclass(frozen=True)
class Ranked:
    """One column in one field, aligned, signed, and sorted once for all labels.

    Attributes:
        column: Where the values come from.
        one: The field.
        values: Its values, higher where dev says that boundaries are.
        ranking: Their order.
    """

    column: SignalColumn
    one: Field
    values: Num[np.ndarray, " n"]
    ranking: Ranking

    @cached_property
    def histograms(self) -> Histograms:
        """Gaps by quantile and unit, for resampling."""
        return Histograms.of(self.ranking, self.one.units)


@dataclass(frozen=True)
class Estimator:
    """Estimates metrics with one set of resamples.

    Attributes:
        bootstrap: The resamples.
        runs: By the identity of a field, where its gaps follow each other without a break.
    """

    bootstrap: Bootstrap
    runs: dict[int, Runs]

    def resampled_auc(
        self, ranked: Ranked, is_boundary: Bool[np.ndarray, " n"]
    ) -> Float[np.ndarray, " resamples"] | None:
        """Return the AUC of each resample; None where units are too few."""
        if not ranked.one.units.has_interval:
            return None
        return self.bootstrap.roc_auc(ranked.histograms, is_boundary)

    def estimate(
        self,
        ranked: Ranked,
        label: str,
        choice: Choice,
        curve: Curve,
        resampled_auc: Float[np.ndarray, " resamples"] | None,
    ) -> dict[str, Estimate]:
        """Estimate every metric; those of one of several seeds have no interval of their own."""
        is_boundary = ranked.one.labels[label]
        with_interval = ranked.one.units.has_interval and ranked.column.signal.seed is None
        auc = curve.roc_auc()
        auc_ci = interval(resampled_auc) if with_interval and resampled_auc is not None else UNKNOWN
        found = {
            "roc_auc": Estimate(auc, auc if choice.sign > 0 else 1 - auc, auc_ci),
            "average_precision": self._precision(ranked, is_boundary, choice, curve, with_interval),
        }
        found |= self._at_thresholds(ranked, is_boundary, choice, with_interval)
        if label in SEGMENT_LABELS and ranked.one.stratum != "bytes":
            found |= self._words(ranked, label, choice, with_interval)
        return found

    def _precision(
        self,
        ranked: Ranked,
        is_boundary: Bool[np.ndarray, " n"],
        choice: Choice,
        curve: Curve,
        with_interval: bool,
    ) -> Estimate:
        value = curve.average_precision()
        raw = value
        if choice.sign < 0:
            raw = Curve.of(-ranked.values, is_boundary, ranked.ranking.reversed()).average_precision()
        if not with_interval:
            return Estimate(value, raw)
        return Estimate(
            value, raw, interval(self.bootstrap.average_precision(ranked.histograms, is_boundary))
        )

    def _at_thresholds(
        self, ranked: Ranked, is_boundary: Bool[np.ndarray, " n"], choice: Choice, with_interval: bool
    ) -> dict[str, Estimate]:
        """F1 and MCC at the threshold of dev's best F1; precision and recall at dev's prevalence."""
        if math.isnan(choice.threshold):
            return {}
        boot, units = self.bootstrap, ranked.one.units
        best = Confusion.at(ranked.values, is_boundary, choice.threshold)
        matched = Confusion.at(ranked.values, is_boundary, choice.prevalence_threshold)
        values = {
            "f1": best.f1(),
            "mcc": best.mcc(),
            "precision": matched.precision(),
            "recall": matched.recall(),
        }
        if not with_interval:
            return {name: Estimate(value) for name, value in values.items()}
        called, likely = (ranked.values >= cut for cut in (choice.threshold, choice.prevalence_threshold))
        resampled = {
            "f1": boot.f1(units, called, is_boundary),
            "mcc": boot.mcc(units, called, is_boundary),
            "precision": boot.ratio(units, likely & is_boundary, likely),
            "recall": boot.ratio(units, likely & is_boundary, is_boundary),
        }
        return {
            name: Estimate(value, ci=UNKNOWN if math.isnan(value) else interval(resampled[name]))
            for name, value in values.items()
        }

    def _words(self, ranked: Ranked, label: str, choice: Choice, with_interval: bool) -> dict[str, Estimate]:
        """Token F1, Pk and WindowDiff of the segmentation that calls make."""
        if math.isnan(choice.threshold):
            return {}
        is_boundary, called = ranked.one.labels[label], ranked.values >= choice.threshold
        runs = self.runs[id(ranked.one)]
        pairs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if label in WORD_LABELS:
            hits, n_called, n_true = token_counts(runs, called, is_boundary)
            pairs["token_f1"] = (2 * hits, n_called + n_true)
        pairs["pk"] = pk_counts(runs, called, is_boundary)
        pairs["windowdiff"] = windowdiff_counts(runs, called, is_boundary)
        return {name: self._ratio(ranked.one, a, b, with_interval) for name, (a, b) in pairs.items()}

    def _ratio(
        self, one: Field, part: Num[np.ndarray, " n"], whole: Num[np.ndarray, " n"], with_interval: bool
    ) -> Estimate:
        total = float(whole.sum())
        if not total:
            return NOTHING
        ci = interval(self.bootstrap.ratio(one.units, part, whole)) if with_interval else UNKNOWN
        return Estimate(float(part.sum()) / total, ci=ci)
