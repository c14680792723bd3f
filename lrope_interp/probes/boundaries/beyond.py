"""Does a signal say more about boundaries than the model's own surprise does?

Boundaries are where text is hard to predict, so whatever follows entropy "finds" them. Two tests ask
what is left: nested logistic models, which hold byte class, entropy, its rise, surprisal and bigram
frequency fixed by curves, and ranks within bins of equal entropy and surprisal, which assume no model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from lrope_interp.data import Document, byte_class
from lrope_interp.probes.boundaries.harness import FALLBACK_STRATUM, Scorer
from lrope_interp.probes.boundaries.label_odds import LabelOdds, cross_fitted
from lrope_interp.probes.boundaries.text_controls import TextTables
from lrope_interp.probes.capture.capture import Progress, counted
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.gaps import Field, Gaps
from lrope_interp.probes.capture.signals import SignalColumn, rise, user_signals
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units, draw_gaps, hold_out
from lrope_interp.probes.statistics.curves import (
    Axis,
    ClassLogit,
    Grouped,
    Spline,
    fit_logit,
    log_likelihood,
)
from lrope_interp.probes.statistics.estimates import Scoring
from lrope_interp.probes.statistics.ranking import Ranking, ranks_within
from lrope_interp.probes.statistics.strata import WithinBins

LEVEL = 0.05
LEAST_BINNED = 6_000
CURVES = ("entropy", "rise", "surprisal", "log_bigram")
BEYOND_COLUMNS = (
    *("baseline", "delta_auc", "auc_low", "auc_high", "bits", "bits_low", "bits_high"),
    *("base_auc", "full_auc", "p", "is_beyond", "n", "n_positive", "n_documents"),
)
BEYOND_TABLE = ("signal", "layer", "head", "label", "stratum", "align", *BEYOND_COLUMNS)
STRATA = (FALLBACK_STRATUM, "han")


@dataclass(frozen=True)
class LabelledGaps:
    """Gaps of one split: what is held fixed, all of it finite, the label, and the document.

    Attributes:
        byte_class: The class of the byte after each gap, as a number.
        curves: What is held fixed by a curve, by name, the same for both samples: the entropy of the
            model's prediction of that byte (nats), its rise from the byte before, the surprisal of the
            byte that came, and the log frequency, in training text, of that byte after the one before.
        is_boundary: The label.
        document: The number of the document of each.
        log_odds: Log-odds of a boundary by character unigram and bigram, from training text.
    """

    byte_class: Int[np.ndarray, " n"]
    curves: Mapping[str, Float[np.ndarray, " n"]]
    is_boundary: Bool[np.ndarray, " n"]
    document: Int[np.ndarray, " n"]
    log_odds: Float[np.ndarray, "n 2"] | None = None

    def taken(self, at: Int[np.ndarray, " kept"]) -> LabelledGaps:
        """Return some of them."""
        curves = {name: values[at] for name, values in self.curves.items()}
        log_odds = None if self.log_odds is None else self.log_odds[at]
        return LabelledGaps(self.byte_class[at], curves, self.is_boundary[at], self.document[at], log_odds)

    @property
    def columns(self) -> Float[np.ndarray, "n columns"]:
        """Class and curves side by side."""
        return np.column_stack([self.byte_class.astype(np.float64), *self.curves.values()])

    @property
    def is_of_both_kinds(self) -> bool:
        """True with a boundary and another gap."""
        return bool(self.is_boundary.any() and not self.is_boundary.all())


@dataclass(frozen=True)
class BeyondTest:
    """Tests of any number of signals for one label in one stratum; baselines are fitted once.

    Attributes:
        fit: Where models are fitted, on at most 50,000 gaps.
        test: Where they are compared.
        units: What is resampled, of the test gaps.
        bootstrap: The resamples, shared by both models: differences are paired.
        seed: Of the draw of fit gaps and of the flips.
        grown: What trees say of a signal, kept from one label to the next.
    """

    fit: LabelledGaps
    test: LabelledGaps
    units: Units
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    seed: int = 0
    grown: dict[bytes, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)

    def of_signal(
        self, fit_values: Num[np.ndarray, " n_fit"], test_values: Num[np.ndarray, " n_test"]
    ) -> list[dict[str, Any]]:
        """Return one row a baseline: "M0", "M0_lexical" where log-odds are given, and "bins".

        `bits` is the mean gain in log2-likelihood a gap, `delta_auc` that in ROC-AUC. A signal is beyond
        a model where the intervals of both lie above 0: either alone can be, by a better calibration
        that ranks nothing better, or by ranks that no probability supports. Of "bins" it is where
        p < 0.05; `delta_auc` is there the AUC within bins minus 1/2. Which way a signal points within bins is
        chosen on fit: a relation may reverse once entropy is held fixed, and then the way it points
        across all gaps would be the wrong one.

        `is_beyond` does not say how much: read `bits`. Bins hold neither byte class nor frequency fixed, so
        that a signal of the byte alone may pass them.

        Args:
            fit_values: The signal at the fit gaps, finite.
            test_values: The signal at the test gaps, finite.

        Returns:
            Rows with `BEYOND_COLUMNS`. Numbers are NaN and `is_beyond` None where a split has gaps of
            one kind only, or too few units for an interval; of "bins" below 6,000 gaps as well.
        """
        if not (self.fit.is_of_both_kinds and self.test.is_of_both_kinds):
            has_odds = self.fit.log_odds is not None and self.test.log_odds is not None
            names = ("M0", "M0_lexical", "bins") if has_odds else ("M0", "bins")
            return [self._row(name) for name in names]
        fit_values = fit_values[self._drawn]
        # The baseline gets a step of each number held fixed, where the signal jumps along it. No smooth
        # curve follows a jump, and where boundaries jump at the same entropy, a signal that is a step of
        # entropy was declared "beyond entropy" in 83 % of made-up data sets.
        both = np.concatenate([fit_values, test_values])
        places = {name: axis.step(both) for name, axis in self._axes.items()}
        steps_on_fit, steps_on_test = (
            np.stack([numbers[name] > at for name, at in places.items()], axis=1).astype(np.float64)
            for numbers in (self._fitted.curves, self.test.curves)
        )
        # And a curve of what the numbers held fixed say jointly of the signal. Trees that learn the label
        # alone know a joint function of them too badly: the function itself was "beyond" in 20 of 20.
        ranks = ranks_within(np.zeros(len(fit_values), dtype=np.int64), Ranking.of(fit_values))
        fit, test = self._fitted, self.test
        # What they say of it is the same whatever the label: trees are grown once for the same numbers.
        known = (fit.columns, ranks, fit.document, test.columns)
        key = hashlib.sha256(b"".join(one.tobytes() for one in known)).digest()
        if key not in self.grown:
            self.grown[key] = by_trees(*known, self.seed)
        expected = self.grown[key]
        curve, spline = Spline.of(expected[0]), Spline.of(fit_values)
        on_fit, on_test = (
            (np.hstack([steps, curve.columns(guess)]), spline.columns(values))
            for steps, guess, values in zip(
                (steps_on_fit, steps_on_test), expected, (fit_values, test_values), strict=True
            )
        )
        nested = [self._nested(*baseline, on_fit, on_test) for baseline in self._baselines]
        return [*nested, self._binned(fit_values, test_values)]

    @cached_property
    def _drawn(self) -> Int[np.ndarray, " drawn"]:
        return draw_gaps(self.fit.document, self.fit.byte_class, self.seed)

    @cached_property
    def _fitted(self) -> LabelledGaps:
        return self.fit.taken(self._drawn)

    @cached_property
    def _axes(self) -> dict[str, Axis]:
        """Where signals may jump, at the fit and test gaps; labels have no part in it."""
        fit, test = self._fitted.curves, self.test.curves
        return {name: Axis.of(np.concatenate([fit[name], test[name]])) for name in fit}

    @cached_property
    def _baselines(self) -> list[tuple[str, Grouped, Grouped, ClassLogit]]:
        """Each with its name, its columns at the fit and at the test gaps, and what was fitted."""
        fit, test = self._fitted, self.test
        classes = np.unique(np.concatenate([fit.byte_class, test.byte_class]))
        curves = {name: Spline.of(values) for name, values in fit.curves.items()}
        plain_fit, plain_test = (
            Grouped.of(
                np.searchsorted(classes, one.byte_class),
                len(classes),
                np.hstack([curves[name].columns(values) for name, values in one.curves.items()]),
            )
            for one in (fit, test)
        )
        plain = fit_logit(plain_fit, fit.is_boundary)
        extras = {"M0": [np.zeros((len(one.is_boundary), 0)) for one in (fit, test)]}
        if fit.log_odds is not None and test.log_odds is not None:
            extras["M0_lexical"] = [fit.log_odds, test.log_odds]
        found = []
        for name, extra in extras.items():
            known = [
                np.column_stack([one.columns, more]) for one, more in zip((fit, test), extra, strict=True)
            ]
            joint = by_trees(known[0], fit.is_boundary, fit.document, known[1], self.seed)
            numbers = [np.column_stack(both) for both in zip(extra, joint, strict=True)]
            odds = [Spline.of(column) for column in numbers[0].T]
            more_fit, more_test = (
                np.hstack([curve.columns(x[:, k]) for k, curve in enumerate(odds)]) for x in numbers
            )
            wider = plain_fit.with_shared(more_fit)
            model = fit_logit(wider, fit.is_boundary, plain.widened(wider.n_columns))
            found.append((name, wider, plain_test.with_shared(more_test), model))
        return found

    def _nested(
        self,
        name: str,
        fit: Grouped,
        test: Grouped,
        model: ClassLogit,
        on_fit: tuple[np.ndarray, np.ndarray],
        on_test: tuple[np.ndarray, np.ndarray],
    ) -> dict[str, Any]:
        """Compare, on test, a baseline that has the signal's steps with one that has its curve too."""
        was_boundary, is_boundary = self._fitted.is_boundary, self.test.is_boundary
        stepped = fit.with_shared(on_fit[0])
        small = fit_logit(stepped, was_boundary, model.widened(stepped.n_columns))
        large = small
        if on_fit[1].shape[1]:
            curved = stepped.with_shared(on_fit[1])
            large = fit_logit(curved, was_boundary, small.widened(curved.n_columns))
        base_log_odds = _log_odds(small, test, on_test[0])
        log_odds = _log_odds(large, test, np.hstack(on_test))
        scoring = Scoring(self.units, self.bootstrap)
        base_auc, auc = (scoring.roc_auc(scoring.rank(one), is_boundary) for one in (base_log_odds, log_odds))
        gain = log_likelihood(log_odds, is_boundary) - log_likelihood(base_log_odds, is_boundary)
        found = scoring.mean(gain / math.log(2)).row("bits") | (auc - base_auc).row("auc")
        lows = found["auc_low"], found["bits_low"]
        return self._row(
            name,
            **found | {"delta_auc": found.pop("auc")},
            base_auc=base_auc.value,
            full_auc=auc.value,
            is_beyond=None if math.isnan(sum(lows)) else min(lows) > 0,
        )

    @cached_property
    def _bins(self) -> tuple[WithinBins, WithinBins]:
        """The bins of fit and those of test."""
        units = {"fit": Units.of(self._fitted.document), "test": self.units}
        fit, test = (
            WithinBins(
                one.curves["entropy"], one.curves["surprisal"], one.is_boundary, units[name], self.seed
            )
            for name, one in (("fit", self._fitted), ("test", self.test))
        )
        return fit, test

    def _binned(
        self, fit_values: Num[np.ndarray, " drawn"], values: Num[np.ndarray, " n_test"]
    ) -> dict[str, Any]:
        """Test values within joint bins of entropy and surprisal, in the direction that fit chooses."""
        if len(values) < LEAST_BINNED:  # 200 bins of so few leave nothing of any signal
            return self._row("bins")
        before, bins = self._bins
        left = before.sign(before.left_of(fit_values)) * bins.left_of(values)
        auc = bins.auc(left)
        if not self.units.has_interval:
            return self._row("bins", delta_auc=auc - 0.5)
        p = bins.p(left)
        return self._row("bins", delta_auc=auc - 0.5, p=p, is_beyond=p < LEVEL)

    def _row(self, baseline: str, **known: Any) -> dict[str, Any]:
        row = dict.fromkeys(BEYOND_COLUMNS, math.nan) | {
            "baseline": baseline,
            "is_beyond": None,
            "n": len(self.test.is_boundary),
            "n_positive": int(self.test.is_boundary.sum()),
            "n_documents": self.units.n_documents,
        }
        return row | known


def by_trees(
    known: Float[np.ndarray, "n_fit columns"],
    wanted: Bool[np.ndarray, " n_fit"] | Float[np.ndarray, " n_fit"],
    document: Int[np.ndarray, " n_fit"],
    elsewhere: Float[np.ndarray, "n_test columns"],
    seed: int = 0,
) -> tuple[Float[np.ndarray, " n_fit"], Float[np.ndarray, " n_test"]]:
    """Return log-odds of a label, or the mean of a number, by gradient-boosted trees on all columns together.

    Curves of one number each add up and know nothing of that: a joint function of entropy and surprisal was
    found "beyond" both in 8 of 8 made-up data sets. Fit is cross-fitted by halves of its documents; elsewhere
    the mean of both halves' trees stands.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    is_held = hold_out(document, known[:, 0], seed, share=0.5)
    on_fit, on_test = np.zeros(len(known)), np.zeros(len(elsewhere))
    options: dict[str, Any] = {"max_iter": 100, "max_leaf_nodes": 15, "early_stopping": False}
    options |= {"min_samples_leaf": 50, "random_state": 0}
    for half in (is_held, ~is_held):
        own = wanted[~half]
        if not (half.any() and len(own)) or own.min() == own.max():
            continue  # a single document, or a half of one kind, tells nothing
        if wanted.dtype == bool:
            say = HistGradientBoostingClassifier(**options).fit(known[~half], own).decision_function
        else:
            say = HistGradientBoostingRegressor(**options).fit(known[~half], own).predict
        on_fit[half] = say(known[half])
        on_test += say(elsewhere) / 2
    return on_fit, on_test


def _log_odds(
    model: ClassLogit, grouped: Grouped, last: Float[np.ndarray, "n last"]
) -> Float[np.ndarray, " n"]:
    """Return a model's log-odds where its last columns are not in `grouped` but beside it."""
    narrow, slopes = model.parted(last.shape[1])
    return narrow.log_odds(grouped) + last @ slopes


def beyond_rows(
    scorer: Scorer,
    fit_gaps: Gaps,
    captured: Mapping[str, Captured],
    columns: Sequence[SignalColumn],
    tables: TextTables | None,
    training: Sequence[Document] | None,
    on_progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Test every layer (and every signal of the user's) for every label that fit and test know.

    Args:
        scorer: Knows the gaps of dev and test, and what dev chooses.
        fit_gaps: The gaps of fit, where models are fitted.
        captured: Of "fit" and "test".
        columns: All signals; those that are tested have values for "fit" too.
        tables: Counts of the training text; None where it could not be loaded.
        training: The training text itself.
        on_progress: Told about every label and stratum.
    """
    rows: list[dict[str, Any]] = []
    gaps = {"fit": fit_gaps, "test": scorer.test}
    numbers = {split: _numbers(captured[split], tables) for split in gaps}
    tested = [one for one in columns if one.signal.kind == "layer" or one.signal.name in user_signals()]
    fields = {
        split: {(one.stratum, label): one for one in found for label in one.labels}
        for split, found in (("fit", fit_gaps.fields()), ("test", scorer.test_fields))
    }
    cells = [
        (label, stratum)
        for label in scorer.test.labels
        for stratum in STRATA
        if all(_has_both(fields[split].get((stratum, label)), label) for split in gaps)
    ]
    odds: dict[str, dict[str, Float[np.ndarray, "n_bytes 2"]]] = {}
    grown: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for label, stratum in counted(cells, "beyond surprisal", on_progress):
        if label not in odds:
            odds[label] = _odds_at_bytes(label, gaps, training)
        own = {split: fields[split][stratum, label] for split in gaps}
        has_wide = any(len(one.alignments) > 1 for one in own.values())
        at_gaps = {split: values[own[split].gaps] for split, values in odds[label].items()}
        if at_gaps and "fit" not in at_gaps:  # counted in fit itself: for each document from the others
            at = own["fit"].gaps
            is_boundary = fit_gaps.labels[label].is_boundary[at]
            at_gaps["fit"] = cross_fitted(fit_gaps.documents, is_boundary, at)
        tests: dict[str, BeyondTest] = {}
        for column in tested:
            # The first byte or the last, each one state of the model. A sum over bytes is left out: no
            # covariate of one byte holds a function of a sum fixed.
            choice = scorer.choose(column, own["test"], label, ("lead", "last"))
            if choice.align not in tests:
                samples = {}
                for split, one in own.items():
                    samples[split] = LabelledGaps(
                        *_held_fixed(gaps[split], one, numbers[split], choice.align, has_wide),
                        one.labels[label],
                        gaps[split].document[one.gaps],
                        at_gaps.get(split),
                    )
                how = {"bootstrap": scorer.bootstrap, "seed": scorer.bootstrap.seed, "grown": grown}
                tests[choice.align] = BeyondTest(**samples, units=own["test"].units, **how)
            on_fit, on_test = (
                gaps[split].characters.align(column.values[split], own[split].gaps, choice.align)
                for split in ("fit", "test")
            )
            where = column.place | {"label": label, "stratum": stratum, "align": choice.align}
            rows += [where | row for row in tests[choice.align].of_signal(on_fit, on_test)]
    return rows


def _has_both(one: Field | None, label: str) -> bool:
    return one is not None and bool(0 < one.labels[label].sum() < len(one.gaps))


def _numbers(captured: Captured, tables: TextTables | None) -> dict[str, Num[np.ndarray, " n_bytes"]]:
    """Return what is held fixed, at every byte."""
    kinds = [byte_class(document.text) for document in captured.documents]
    flat = np.zeros(captured.n_bytes)
    return {
        "byte_class": np.concatenate(kinds).astype(np.int64),
        "entropy": captured.entropy,
        "rise": rise(captured),
        "surprisal": captured.surprisal,
        "log_bigram": flat if tables is None else tables.log_bigram(captured.documents),
    }


def _held_fixed(
    gaps: Gaps,
    one: Field,
    numbers: Mapping[str, Num[np.ndarray, " n_bytes"]],
    align: str,
    has_wide: bool,
) -> tuple[Int[np.ndarray, " n"], dict[str, Float[np.ndarray, " n"]]]:
    """Return classes of bytes, and what the model's predictions and the bytes say at the byte that is read.

    Read at a last byte, the entropy before the character and the surprisal of all of it are
    held fixed besides, since the state there has seen them. `has_wide`: whether any character
    of fit or test has several bytes.
    """

    def at(name: str, how: str) -> Float[np.ndarray, " n"]:
        return gaps.characters.align(numbers[name], one.gaps, how).astype(np.float64)

    curves = {name: at(name, align) for name in CURVES}
    if has_wide:
        curves["surprisal_sum"] = at("surprisal", "sum")
    if has_wide and align == "last":
        curves |= {f"{name}_lead": at(name, "lead") for name in ("entropy", "rise")}
    return gaps.characters.align(numbers["byte_class"], one.gaps, "lead"), curves


def _odds_at_bytes(
    label: str, gaps: Mapping[str, Gaps], training: Sequence[Document] | None
) -> dict[str, Float[np.ndarray, "n_bytes 2"]]:
    """Return log-odds by character for fit and test, from training text where it knows the label.

    Else they come from fit, and are those of test alone. Empty where nobody knows the label.
    """
    known = LabelOdds.of(training, label) if training else None
    if known is not None:
        return {split: known.of_documents(one.documents) for split, one in gaps.items()}
    own = LabelOdds.of(gaps["fit"].documents, label)
    return {} if own is None else {"test": own.of_documents(gaps["test"].documents)}
