"""The one harness that every signal goes through, learned or not.

On dev it chooses, for each stratum and label, how the bytes of a character are read, which way the
signal points and where to cut it; on test it scores that choice, once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Num

from lrope_interp.errors import LRopeError
from lrope_interp.probes.bootstrap import Bootstrap, Histograms, interval
from lrope_interp.probes.choice import AlignedColumn, Choice, choose_on
from lrope_interp.probes.gaps import Field, Gaps
from lrope_interp.probes.signals import Column
from lrope_interp.probes.statistics import Confusion, Curve, Ranking

METRICS = ("roc_auc", "average_precision", "f1")
FALLBACK_STRATUM = "characters"
_UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class _Ranked:
    """One column in one field, aligned and signed, and sorted once for all labels."""

    column: Column
    values: Num[np.ndarray, " n"]
    ranking: Ranking
    histograms: Histograms


@dataclass(frozen=True)
class _Value:
    value: float = math.nan
    raw: float = math.nan
    ci: tuple[float, float] = _UNKNOWN


_NOTHING = _Value()


@dataclass(frozen=True)
class Scored:
    """What one column scored: rows of the tables `scores`, `roc` and `choices`, and remarks."""

    scores: list[dict[str, Any]] = field(default_factory=list)
    roc: list[dict[str, Any]] = field(default_factory=list)
    choices: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scorer:
    """Scores columns on fixed gaps with fixed resamples.

    Attributes:
        dev: Where choices are made.
        test: Where they are scored.
        bootstrap: The resamples, shared by all signals.
    """

    dev: Gaps
    test: Gaps
    bootstrap: Bootstrap

    @cached_property
    def test_fields(self) -> list[Field]:
        """The fields to score."""
        return self.test.fields()

    @cached_property
    def _dev_fields(self) -> dict[tuple[str, str], Field]:
        return {(one.stratum, label): one for one in self.dev.fields() for label in one.labels}

    def score(self, column: Column) -> Scored:
        """Choose on dev and score on test, in every stratum and for every label.

        Raises:
            LRopeError: A signal that is no rule has one value everywhere: it cannot point at
                anything, and 0.5 would be a made-up number.
        """
        self._refuse_constant(column)
        out = Scored()
        on_dev = AlignedColumn(self.dev, column.values["dev"])
        for one in self.test_fields:
            if column.signal.name == "character_start" and one.stratum != "bytes":
                continue  # constant there, by definition
            ranked: dict[tuple[str, int], _Ranked] = {}
            for label in one.labels:
                choice = self._choose(on_dev, one, label)
                key = (choice.align, choice.sign)
                if key not in ranked:
                    ranked[key] = self._rank(column, one, choice)
                self._score_label(out, ranked[key], one, label, choice)
        out.scores.extend(self._unlabelled(column))
        return out

    def _unlabelled(self, column: Column) -> list[dict[str, Any]]:
        """Return empty rows for labels that no document of a stratum has, so that they are not overlooked."""
        known = {(one.stratum, label) for one in self.test_fields for label in one.labels}
        return [
            score_row(
                **_who(column),
                label=label,
                stratum=stratum,
                align="",
                metric=metric,
                n=0,
                n_positive=0,
                n_documents=0,
            )
            for stratum, mask in self.test.strata.items()
            for label in self.test.labels
            if mask.any() and (stratum, label) not in known
            for metric in METRICS
        ]

    def _refuse_constant(self, column: Column) -> None:
        values = column.values["test"][self.test.strata["bytes"]]
        if not column.signal.is_rule and len(values) and (values == values[0]).all():
            raise LRopeError(
                f"the signal {column.name} is {float(values[0]):g} at every test gap, so it cannot tell "
                "gaps apart; train the model, or mend the signal"
            )

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

    def _choose(self, on_dev: AlignedColumn, one: Field, label: str) -> Choice:
        dev = self._dev_field(one, label)
        return Choice() if dev is None else choose_on(dev, on_dev, label, one.alignments)

    def _rank(self, column: Column, one: Field, choice: Choice) -> _Ranked:
        aligned = self.test.characters.align(column.values["test"], one.gaps, choice.align)
        values = choice.sign * aligned
        ranking = Ranking.of(values)
        return _Ranked(column, values, ranking, Histograms.of(ranking, one.units))

    def _score_label(self, out: Scored, ranked: _Ranked, one: Field, label: str, choice: Choice) -> None:
        column, is_boundary = ranked.column, one.labels[label]
        curve = Curve.of(ranked.values, is_boundary, ranked.ranking)
        if ranked.ranking.is_constant:
            out.notes.append(f"{column.name} is constant in {one.stratum}: no score there")
        is_scorable = curve.is_scorable and not ranked.ranking.is_constant
        values = self._values(ranked, one, is_boundary, choice, curve) if is_scorable else {}
        for metric in METRICS:
            out.scores.append(_score_row(column, one, label, choice, metric, values.get(metric, _NOTHING)))
        where = {"signal": column.signal.name, "layer": column.layer, "head": column.head}
        where |= {"label": label, "stratum": one.stratum}
        chosen = {"align": choice.align, "sign": choice.sign, "threshold": choice.threshold}
        out.choices.append(where | {"seed": column.signal.seed} | chosen | {"dev_roc_auc": choice.dev_auc})
        if is_scorable and column.signal.seed is None:
            out.roc.extend(where | {"fpr": x, "tpr": y} for x, y in zip(*curve.roc(), strict=True))

    def _values(
        self, ranked: _Ranked, one: Field, is_boundary: Bool[np.ndarray, " n"], choice: Choice, curve: Curve
    ) -> dict[str, _Value]:
        """Estimate every metric with its interval."""
        boot, with_interval = self.bootstrap, one.units.has_interval
        auc, precision = curve.roc_auc(), curve.average_precision()
        raw = precision if choice.sign > 0 else _raw_precision(ranked, is_boundary)
        is_called = ranked.values >= choice.threshold
        f1 = math.nan
        if not math.isnan(choice.threshold):
            f1 = Confusion.at(ranked.values, is_boundary, choice.threshold).f1()
        with_f1 = with_interval and not math.isnan(f1)
        return {
            "roc_auc": _Value(
                auc,
                auc if choice.sign > 0 else 1 - auc,
                interval(boot.roc_auc(ranked.histograms, is_boundary)) if with_interval else _UNKNOWN,
            ),
            "average_precision": _Value(
                precision,
                raw,
                interval(boot.average_precision(ranked.histograms, is_boundary))
                if with_interval
                else _UNKNOWN,
            ),
            "f1": _Value(
                f1, math.nan, interval(boot.f1(one.units, is_called, is_boundary)) if with_f1 else _UNKNOWN
            ),
        }


def _raw_precision(ranked: _Ranked, is_boundary: Bool[np.ndarray, " n"]) -> float:
    """Average precision of a signal that was negated, as it was before."""
    return Curve.of(-ranked.values, is_boundary, ranked.ranking.reversed()).average_precision()


def _score_row(
    column: Column, one: Field, label: str, choice: Choice, metric: str, value: _Value
) -> dict[str, Any]:
    return score_row(
        **_who(column),
        label=label,
        stratum=one.stratum,
        align=choice.align,
        sign=choice.sign,
        metric=metric,
        value=value.value,
        raw_value=value.raw,
        ci_low=value.ci[0],
        ci_high=value.ci[1],
        n=len(one.gaps),
        n_positive=int(one.labels[label].sum()),
        n_documents=one.units.n_documents,
    )


def _who(column: Column) -> dict[str, Any]:
    """Return what a row says about its signal."""
    signal = column.signal
    who = {"signal": signal.name, "kind": signal.kind, "seed": signal.seed}
    return who | {"layer": column.layer, "head": column.head}


SCORE_COLUMNS = (
    *("signal", "kind", "layer", "head", "label", "stratum", "align", "sign", "metric", "value", "raw_value"),
    *("ci_low", "ci_high", "p_shift", "p_same_byte", "n", "n_positive", "n_documents", "seed"),
)
_ESTIMATES = ("value", "raw_value", "ci_low", "ci_high", "p_shift", "p_same_byte")


def score_row(**known: Any) -> dict[str, Any]:
    """Return a row of `scores.csv` with every column; a number that is not known is NaN or None."""
    assert set(known) <= set(SCORE_COLUMNS), set(known) - set(SCORE_COLUMNS)
    return {name: known.get(name, math.nan if name in _ESTIMATES else None) for name in SCORE_COLUMNS}


def prevalence_rows(one: Field) -> list[dict[str, Any]]:
    """Score knowing nothing: precision is the prevalence, F1 that of calling every gap a boundary."""
    rows = []
    for label, is_boundary in one.labels.items():
        share = float(is_boundary.mean())
        values = {"roc_auc": math.nan, "average_precision": share, "f1": 2 * share / (1 + share)}
        known = {"label": label, "stratum": one.stratum, "n": len(one.gaps)}
        known |= {"n_positive": int(is_boundary.sum()), "n_documents": one.units.n_documents}
        rows += [
            score_row(
                signal="prevalence", kind="control", align="", metric=metric, value=values[metric], **known
            )
            for metric in METRICS
            if 0 < share < 1
        ]
    return rows
