"""Does a signal say more about boundaries than the model's own surprise does (EVALUATION 3)?

Boundaries are where text is hard to predict, so whatever follows entropy "finds" them. Two tests ask
what is left: nested logistic models, which hold byte class, entropy, its rise, surprisal and bigram
frequency fixed by curves, and ranks within bins of equal entropy and surprisal, which assume no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from lrope_interp.probes.statistics.bootstrap import Bootstrap, Histograms, Units, interval
from lrope_interp.probes.statistics.class_logit import ClassLogit, Grouped, fit_logit, log_likelihood
from lrope_interp.probes.statistics.drawn_gaps import draw_gaps
from lrope_interp.probes.statistics.ranking import Ranking, roc_auc
from lrope_interp.probes.statistics.splines import Axis, Spline
from lrope_interp.probes.statistics.within_bins import WithinBins

LEVEL = 0.05
LEAST_BINNED = 6_000
CURVES = ("entropy", "rise", "surprisal", "log_bigram")
BEYOND_COLUMNS = (
    *("baseline", "delta_auc", "auc_low", "auc_high", "bits", "bits_low", "bits_high"),
    *("base_auc", "full_auc", "p", "is_beyond", "n", "n_positive", "n_documents"),
)
_ESTIMATES = BEYOND_COLUMNS[1:10]


@dataclass(frozen=True)
class Covariates:
    """What is held fixed at each gap; all finite.

    Attributes:
        byte_class: The class of the byte after it, as a number.
        entropy: Of the model's prediction of that byte, in nats.
        rise: Entropy minus that of the byte before, in nats.
        surprisal: -ln p of the byte that came, in nats.
        log_bigram: Log frequency, in training text, of the byte after the byte before.
        log_odds: Log-odds of a boundary by character unigram and bigram, from training text.
        more: Whatever else is held fixed by a curve, by name: the same for both samples.
    """

    byte_class: Int[np.ndarray, " n"]
    entropy: Float[np.ndarray, " n"]
    rise: Float[np.ndarray, " n"]
    surprisal: Float[np.ndarray, " n"]
    log_bigram: Float[np.ndarray, " n"]
    log_odds: Float[np.ndarray, "n 2"] | None = None
    more: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)

    def curves(self) -> dict[str, Float[np.ndarray, " n"]]:
        """Return everything that is held fixed by a curve."""
        return {name: getattr(self, name) for name in CURVES} | dict(self.more)

    def taken(self, at: Int[np.ndarray, " kept"]) -> Covariates:
        """Return those of some gaps."""
        curves = {name: getattr(self, name)[at] for name in CURVES}
        odds = None if self.log_odds is None else self.log_odds[at]
        more = {name: values[at] for name, values in self.more.items()}
        return Covariates(byte_class=self.byte_class[at], **curves, log_odds=odds, more=more)


@dataclass(frozen=True)
class Sample:
    """Gaps of one split: what is held fixed, the label, and the document."""

    covariates: Covariates
    is_boundary: Bool[np.ndarray, " n"]
    document: Int[np.ndarray, " n"]

    @property
    def is_of_both_kinds(self) -> bool:
        """True with a boundary and another gap."""
        return bool(self.is_boundary.any() and not self.is_boundary.all())


@dataclass(frozen=True)
class _Base:
    """A fitted baseline, and what every comparison with it needs."""

    name: str
    fit: Grouped
    test: Grouped
    model: ClassLogit


@dataclass(frozen=True)
class _Added:
    """Columns that a signal adds, at the drawn fit gaps and at the test gaps.

    Attributes:
        steps: To the baseline too: a step of each number held fixed, where the signal jumps along it.
            No smooth curve follows a jump, and where boundaries jump at the same entropy, a signal that
            is a step of entropy was declared "beyond entropy" in 83 % of made-up data sets.
        curve: To the larger model only.
    """

    steps: tuple[Float[np.ndarray, "fit steps"], Float[np.ndarray, "test steps"]]
    curve: tuple[Float[np.ndarray, "fit more"], Float[np.ndarray, "test more"]]


@dataclass(frozen=True)
class BeyondTest:
    """Tests of any number of signals for one label in one stratum; baselines are fitted once.

    Attributes:
        fit: Where models are fitted, on at most 50,000 gaps.
        test: Where they are compared.
        units: What is resampled, of the test gaps.
        bootstrap: The resamples, shared by both models: differences are paired.
        seed: Of the draw of fit gaps and of the flips.
    """

    fit: Sample
    test: Sample
    units: Units
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    seed: int = 0

    def of_signal(
        self, fit_values: Num[np.ndarray, " n_fit"], test_values: Num[np.ndarray, " n_test"], sign: int = 1
    ) -> list[dict[str, Any]]:
        """Return one row a baseline: "M0", "M0_lexical" where log-odds are given, and "bins".

        `bits` is the mean gain in log2-likelihood a gap, `delta_auc` that in ROC-AUC. A signal is beyond
        a model where the intervals of both lie above 0: either alone can be, by a better calibration
        that ranks nothing better, or by ranks that no probability supports. Of "bins" it is where
        p < 0.05; `delta_auc` is there the AUC within bins minus 1/2.

        `is_beyond` does not say how much: read `bits`. Neither does it say that a signal knows what
        entropy and the rest *together* do not know: M0 adds up curves of one number each, and bins hold
        neither byte class nor frequency fixed, so that a signal of the byte alone may pass them.

        Args:
            fit_values: The signal at the fit gaps, finite.
            test_values: The signal at the test gaps, finite.
            sign: -1 where lower values mean a boundary, as chosen on dev. Only "bins" uses it.

        Returns:
            Rows with `BEYOND_COLUMNS`. Numbers are NaN and `is_beyond` None where a split has gaps of
            one kind only, or too few units for an interval; of "bins" below 6,000 gaps as well.
        """
        if not (self.fit.is_of_both_kinds and self.test.is_of_both_kinds):
            return [self._row(name) for name in self._names]
        added = self._added(fit_values[self._drawn], test_values)
        return [*(self._nested(base, added) for base in self._bases), self._binned(sign * test_values)]

    @property
    def _names(self) -> tuple[str, ...]:
        has_odds = self.fit.covariates.log_odds is not None and self.test.covariates.log_odds is not None
        return ("M0", "M0_lexical", "bins") if has_odds else ("M0", "bins")

    @cached_property
    def _drawn(self) -> Int[np.ndarray, " drawn"]:
        return draw_gaps(self.fit.document, self.fit.covariates.byte_class, self.seed)

    @cached_property
    def _fit_covariates(self) -> Covariates:
        return self.fit.covariates.taken(self._drawn)

    @cached_property
    def _is_boundary(self) -> Bool[np.ndarray, " drawn"]:
        return self.fit.is_boundary[self._drawn]

    @cached_property
    def _bases(self) -> list[_Base]:
        fit, test = self._fit_covariates, self.test.covariates
        classes = np.unique(np.concatenate([fit.byte_class, test.byte_class]))
        curves = {name: Spline.of(values) for name, values in fit.curves().items()}
        plain_fit, plain_test = (
            Grouped.of(
                np.searchsorted(classes, one.byte_class),
                len(classes),
                np.hstack([curves[name].columns(values) for name, values in one.curves().items()]),
            )
            for one in (fit, test)
        )
        bases = [_Base("M0", plain_fit, plain_test, fit_logit(plain_fit, self._is_boundary))]
        if fit.log_odds is not None and test.log_odds is not None:
            odds = [Spline.of(fit.log_odds[:, k]) for k in range(2)]
            more_fit, more_test = (
                np.hstack([curve.columns(x[:, k]) for k, curve in enumerate(odds)])
                for x in (fit.log_odds, test.log_odds)
            )
            wider, first = plain_fit.with_shared(more_fit), bases[0].model
            model = fit_logit(wider, self._is_boundary, first.widened(wider.n_columns))
            bases.append(_Base("M0_lexical", wider, plain_test.with_shared(more_test), model))
        return bases

    def _auc(self, log_odds: Float[np.ndarray, " n"]) -> tuple[float, Float[np.ndarray, " resamples"]]:
        """Return the AUC on test, and resamples of it."""
        is_boundary = self.test.is_boundary
        value = roc_auc(log_odds, is_boundary)
        if not self.units.has_interval:
            return value, np.full(self.bootstrap.n_resamples, math.nan)
        histograms = Histograms.of(Ranking.of(log_odds), self.units)
        return value, self.bootstrap.roc_auc(histograms, is_boundary)

    @cached_property
    def _axes(self) -> dict[str, Axis]:
        """Where signals may jump, at the fit and test gaps; labels have no part in it."""
        fit, test = self._fit_covariates.curves(), self.test.covariates.curves()
        return {name: Axis.of(np.concatenate([fit[name], test[name]])) for name in fit}

    def _added(
        self, fit_values: Num[np.ndarray, " n_drawn"], test_values: Num[np.ndarray, " n_test"]
    ) -> _Added:
        fit, test = self._fit_covariates.curves(), self.test.covariates.curves()
        both = np.concatenate([fit_values, test_values])
        at = {name: axis.step(both) for name, axis in self._axes.items()}
        on_fit, on_test = (
            np.stack([one[name] > place for name, place in at.items()], axis=1).astype(np.float64)
            for one in (fit, test)
        )
        curve = Spline.of(fit_values)
        return _Added((on_fit, on_test), (curve.columns(fit_values), curve.columns(test_values)))

    def _nested(self, base: _Base, added: _Added) -> dict[str, Any]:
        """Compare, on test, a baseline with the same and the signal's curve."""
        stepped = base.fit.with_shared(added.steps[0])
        small = fit_logit(stepped, self._is_boundary, base.model.widened(stepped.n_columns))
        large = small
        if added.curve[0].shape[1]:
            curved = stepped.with_shared(added.curve[0])
            large = fit_logit(curved, self._is_boundary, small.widened(curved.n_columns))
        base_log_odds = _log_odds(small, base.test, added.steps[1])
        log_odds = _log_odds(large, base.test, np.hstack([added.steps[1], added.curve[1]]))
        base_auc, base_resampled = self._auc(base_log_odds)
        auc, resampled = self._auc(log_odds)
        is_boundary = self.test.is_boundary
        gain = log_likelihood(log_odds, is_boundary) - log_likelihood(base_log_odds, is_boundary)
        bits = gain / math.log(2)
        auc_low, auc_high = interval(resampled - base_resampled)
        bits_low, bits_high = self._mean_interval(bits)
        return self._row(
            base.name,
            delta_auc=auc - base_auc,
            auc_low=auc_low,
            auc_high=auc_high,
            bits=float(bits.mean()),
            bits_low=bits_low,
            bits_high=bits_high,
            base_auc=base_auc,
            full_auc=auc,
            is_beyond=None if math.isnan(auc_low + bits_low) else auc_low > 0 and bits_low > 0,
        )

    def _mean_interval(self, amount: Float[np.ndarray, " n"]) -> tuple[float, float]:
        if not self.units.has_interval:
            return math.nan, math.nan
        n = self.bootstrap.total(self.units, np.ones(len(amount)))
        return interval(self.bootstrap.total(self.units, amount) / n)

    @cached_property
    def _bins(self) -> WithinBins:
        one = self.test.covariates
        return WithinBins(one.entropy, one.surprisal, self.test.is_boundary, self.units, self.seed)

    def _binned(self, values: Num[np.ndarray, " n_test"]) -> dict[str, Any]:
        """Test oriented values within joint bins of entropy and surprisal."""
        if len(values) < LEAST_BINNED:  # 200 bins of so few leave nothing of any signal
            return self._row("bins")
        left = self._bins.left_of(values)
        auc = self._bins.auc(left)
        if not self.units.has_interval:
            return self._row("bins", delta_auc=auc - 0.5)
        p = self._bins.p(left)
        return self._row("bins", delta_auc=auc - 0.5, p=p, is_beyond=p < LEVEL)

    def _row(self, baseline: str, **known: Any) -> dict[str, Any]:
        counts = {
            "n": len(self.test.is_boundary),
            "n_positive": int(self.test.is_boundary.sum()),
            "n_documents": self.units.n_documents,
        }
        unknown = dict.fromkeys(_ESTIMATES, math.nan) | {"is_beyond": None}
        row = {"baseline": baseline} | unknown | counts | known
        return {name: row[name] for name in BEYOND_COLUMNS}


def _log_odds(
    model: ClassLogit, grouped: Grouped, last: Float[np.ndarray, "n last"]
) -> Float[np.ndarray, " n"]:
    """Return a model's log-odds where its last columns are not in `grouped` but beside it."""
    narrow, slopes = model.parted(last.shape[1])
    return narrow.log_odds(grouped) + last @ slopes
