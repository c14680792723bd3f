"""The one harness that every signal goes through, learned or not.

On dev it chooses, for each stratum and label, how the bytes of a character are read, which way the
signal points and where to cut it; on test it scores that choice, once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from lrope_interp.errors import LRopeError
from lrope_interp.probes.boundaries.choice import AlignedColumn, Choice, choose_on
from lrope_interp.probes.boundaries.estimates import NOTHING, Estimate, Estimator, Ranked
from lrope_interp.probes.boundaries.null_draws import Nulls
from lrope_interp.probes.boundaries.rows import METRICS, counts, score_row, who
from lrope_interp.probes.boundaries.words import Runs
from lrope_interp.probes.capture.gaps import ALIGNMENTS, Field, Gaps
from lrope_interp.probes.capture.signals import SignalColumn
from lrope_interp.probes.statistics.bootstrap import Bootstrap
from lrope_interp.probes.statistics.ranking import Curve, Ranking

FALLBACK_STRATUM = "characters"


@dataclass(frozen=True)
class Trial:
    """What one column did for one label in one stratum, as far as others are compared with it.

    Attributes:
        column: The column.
        label: The label.
        stratum: The stratum.
        choice: What dev chose.
        auc: The oriented ROC-AUC on test.
        resampled: The AUC of each resample; None where units are too few.
        shifted: The AUC under each circular shift; None where it was not computed.
        same_byte: The same-byte statistic, and its draws under the null.
    """

    column: SignalColumn
    label: str
    stratum: str
    choice: Choice
    auc: float
    resampled: Float[np.ndarray, " resamples"] | None = None
    shifted: Float[np.ndarray, " shifts"] | None = None
    same_byte: tuple[float, Float[np.ndarray, " flips"]] | None = None


@dataclass(frozen=True)
class Scored:
    """What one column scored: rows of the tables, trials to compare, and remarks."""

    scores: list[dict[str, Any]] = field(default_factory=list)
    roc: list[dict[str, Any]] = field(default_factory=list)
    precision_recall: list[dict[str, Any]] = field(default_factory=list)
    choices: list[dict[str, Any]] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scorer:
    """Scores columns on fixed gaps with fixed resamples.

    Attributes:
        dev: Where choices are made.
        test: Where they are scored.
        bootstrap: The resamples, shared by all signals.
        nulls: The shifts and sign flips, shared by all signals; None computes none.
        align: The only alignment to consider; None leaves it to dev.
    """

    dev: Gaps
    test: Gaps
    bootstrap: Bootstrap
    nulls: Nulls | None = None
    align: str | None = None

    @cached_property
    def test_fields(self) -> list[Field]:
        """The fields to score."""
        return self.test.fields()

    @cached_property
    def _dev_fields(self) -> dict[tuple[str, str], Field]:
        return {(one.stratum, label): one for one in self.dev.fields() for label in one.labels}

    @cached_property
    def _estimator(self) -> Estimator:
        gaps = self.test
        fields = [one for one in self.test_fields if one.stratum != "bytes"]
        runs = {id(one): Runs.of(gaps.document[one.gaps], gaps.character[one.gaps]) for one in fields}
        return Estimator(self.bootstrap, runs)

    def score(self, column: SignalColumn) -> Scored:
        """Choose on dev and score on test, in every stratum and for every label.

        Raises:
            LRopeError: A signal of the model has one value everywhere: it cannot point at anything, and
                0.5 would be a made-up number.
        """
        self.refuse_constant(column)
        out = Scored()
        on_dev = AlignedColumn(self.dev, column.values["dev"])
        for one in self.test_fields:
            if column.signal.name == "character_start" and one.stratum != "bytes":
                continue  # constant there, by definition
            ranked: dict[tuple[str, int], Ranked] = {}
            for label in one.labels:
                if not column.is_for(label, one.stratum):
                    continue
                choice = self.choose(column, on_dev, one, label)
                key = (choice.align, choice.sign)
                if key not in ranked:
                    ranked[key] = self._rank(column, one, choice)
                self._score_label(out, ranked[key], label, choice)
        out.scores.extend(self._unlabelled(column))
        return out

    def choose(
        self,
        column: SignalColumn,
        on_dev: AlignedColumn,
        one: Field,
        label: str,
        allowed: Sequence[str] = ALIGNMENTS,
    ) -> Choice:
        """Return what dev chooses of the alignments allowed; the signal as it comes where it cannot tell."""
        dev = self._dev_field(one, label)
        wanted = allowed if self.align is None or self.align not in allowed else [self.align]
        possible = one.alignments if len(one.alignments) == 1 else wanted
        alignments = column.alignments(possible)
        return Choice(alignments[0]) if dev is None else choose_on(dev, on_dev, label, alignments)

    def aligned(self, column: SignalColumn, one: Field, choice: Choice) -> np.ndarray:
        """Return the values of a column in a field of test, aligned and signed as dev chose."""
        return choice.sign * self.test.characters.align(column.values["test"], one.gaps, choice.align)

    def _unlabelled(self, column: SignalColumn) -> list[dict[str, Any]]:
        """Return empty rows for labels that no document of a stratum has, so that they are not overlooked."""
        known = {(one.stratum, label) for one in self.test_fields for label in one.labels}
        nothing = {"align": "", "n": 0, "n_positive": 0, "n_documents": 0}
        return [
            score_row(**who(column), label=label, stratum=stratum, metric=metric, **nothing)
            for stratum, mask in self.test.strata.items()
            for label in self.test.labels
            if column.only is None and mask.any() and (stratum, label) not in known
            for metric in METRICS
        ]

    def refuse_constant(self, column: SignalColumn) -> None:
        """Raise if a signal of the model has one value at every test gap; a control may have."""
        may_be = column.signal.is_rule or column.signal.kind != "layer"
        if not may_be and self._is_constant(column):
            values = column.values["test"][self.test.strata["bytes"]]
            raise LRopeError(
                f"the signal {column.name} is {float(values[0]):g} at every test gap, so it cannot tell "
                "gaps apart; train the model, or mend the signal"
            )

    def _is_constant(self, column: SignalColumn) -> bool:
        values = column.values["test"][self.test.strata["bytes"]]
        return len(values) > 0 and bool((values == values[0]).all())

    def choice_notes(self) -> list[str]:
        """Say which choices dev could not make where they are used."""
        notes = []
        for one in self.test_fields:
            for label, is_boundary in one.labels.items():
                dev = self._dev_field(one, label)
                if is_boundary.all() or not is_boundary.any():
                    continue  # not scored at all
                if dev is None:
                    notes.append(f"dev cannot orient {label} in {one.stratum}: signals as they come, no F1")
                elif dev.stratum != one.stratum:
                    notes.append(f"choices for {label} in {one.stratum} come from all characters of dev")
        return notes

    def _dev_field(self, one: Field, label: str) -> Field | None:
        """Return dev's gaps of the same stratum, or of all characters, that have boundaries and others."""
        for stratum in dict.fromkeys((one.stratum, FALLBACK_STRATUM)):
            dev = self._dev_fields.get((stratum, label))
            if dev is not None and 0 < dev.labels[label].sum() < len(dev.gaps):
                return dev
        return None

    def _rank(self, column: SignalColumn, one: Field, choice: Choice) -> Ranked:
        values = self.aligned(column, one, choice)
        if self._is_constant(column):  # summed over its bytes it would tell wide characters from narrow ones
            values = np.zeros_like(values)
        return Ranked(column, one, values, Ranking.of(values))

    def _score_label(self, out: Scored, ranked: Ranked, label: str, choice: Choice) -> None:
        column, one, is_boundary = ranked.column, ranked.one, ranked.one.labels[label]
        curve = Curve.of(ranked.values, is_boundary, ranked.ranking)
        if ranked.ranking.is_constant:
            out.notes.append(f"{column.name} is constant in {one.stratum}: no score there")
        is_scorable = curve.is_scorable and not ranked.ranking.is_constant
        values: dict[str, Estimate] = {}
        if is_scorable:
            resampled = self._estimator.resampled_auc(ranked, is_boundary)
            values = self._estimator.estimate(ranked, label, choice, curve, resampled)
            out.trials.append(self._trial(ranked, label, choice, curve.roc_auc(), resampled))
        for metric in [*METRICS, *(name for name in values if name not in METRICS)]:
            estimate = values.get(metric, NOTHING)
            out.scores.append(_score_row(ranked, label, choice, metric, estimate))
        where = {"signal": column.signal.name, "layer": column.layer, "head": column.head}
        where |= {"label": label, "stratum": one.stratum}
        out.choices.append(where | {"seed": column.signal.seed} | _chosen(choice))
        if is_scorable and has_curves(column):
            out.roc.extend(where | {"fpr": x, "tpr": y} for x, y in zip(*curve.roc(), strict=True))
            points = zip(*curve.precision_recall(), strict=True)
            out.precision_recall.extend(where | {"recall": x, "precision": y} for x, y in points)

    def _trial(
        self,
        ranked: Ranked,
        label: str,
        choice: Choice,
        auc: float,
        resampled: Float[np.ndarray, " resamples"] | None,
    ) -> Trial:
        column, one = ranked.column, ranked.one
        where = (column, label, one.stratum, choice, auc, resampled)
        if self.nulls is None or not has_nulls(column):
            return Trial(*where)
        shifted = self.nulls.shifted(one, label, ranked.ranking) if one.stratum != "bytes" else None
        return Trial(*where, shifted, self.nulls.same_byte(one, label, choice.align, ranked.ranking))


def has_nulls(column: SignalColumn) -> bool:
    """Whether a column gets p values: layers and signals of the whole model, not every layer of a control."""
    return column.signal.seed is None and (column.signal.kind == "layer" or column.layer is None)


def has_curves(column: SignalColumn) -> bool:
    """Whether curves are kept: of what has p values, of the byte table and of the ceiling."""
    return has_nulls(column) or column.signal.kind == "ceiling" or column.signal.name in _TABLES


_TABLES = ("byte_mean", "token_mean")


def _chosen(choice: Choice) -> dict[str, Any]:
    chosen = {"align": choice.align, "sign": choice.sign, "threshold": choice.threshold}
    return chosen | {"prevalence_threshold": choice.prevalence_threshold, "dev_roc_auc": choice.dev_auc}


def _score_row(ranked: Ranked, label: str, choice: Choice, metric: str, estimate: Estimate) -> dict[str, Any]:
    return score_row(
        **who(ranked.column),
        label=label,
        stratum=ranked.one.stratum,
        align=choice.align,
        sign=choice.sign,
        metric=metric,
        value=estimate.value,
        raw_value=estimate.raw,
        ci_low=estimate.ci[0],
        ci_high=estimate.ci[1],
        **counts(ranked.one, label),
    )


def check_align(align: str | None) -> str | None:
    """Return an alignment if it is one; None and "dev" leave it to dev."""
    if align in (None, "dev"):
        return None
    if align not in ALIGNMENTS:
        raise LRopeError(f"unknown alignment {align!r}; choose from: dev, {', '.join(ALIGNMENTS)}")
    return align


def trials_of(scored: Sequence[Scored]) -> list[Trial]:
    """Return all trials, in the order of their columns."""
    return [trial for one in scored for trial in one.trials if not math.isnan(trial.auc)]
