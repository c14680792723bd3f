"""The one harness that every signal goes through, learned or not.

On dev it chooses, for each stratum and label, how the bytes of a character are read, which way the
signal points and where to cut it; on test it scores that choice, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int64, Num

from lrope_interp.data.alignment import code_points
from lrope_interp.errors import LRopeError
from lrope_interp.probes.boundaries.words import Runs, pk_counts, token_counts, windowdiff_counts
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.gaps import ALIGNMENTS, Field, Gaps
from lrope_interp.probes.capture.signals import SignalColumn
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Histograms, interval
from lrope_interp.probes.statistics.nulls import SameByte, Shifts
from lrope_interp.probes.statistics.ranking import Confusion, Curve, Ranking

FALLBACK_STRATUM = "characters"
METRICS = ("roc_auc", "average_precision", "f1", "mcc", "precision", "recall")
WORD_METRICS = ("token_f1", "pk", "windowdiff")
WORD_LABELS = ("words", "words_merged", "despaced", "tokens")
SEGMENT_LABELS = (*WORD_LABELS, "sentences", "lines", "scopes")
SCORE_COLUMNS = (
    *("signal", "kind", "layer", "head", "label", "stratum", "align", "sign", "metric", "value", "raw_value"),
    *("ci_low", "ci_high", "p_shift", "p_same_byte", "n", "n_positive", "n_documents", "seed"),
)
PREVALENCE = "prevalence"
_ESTIMATES = ("value", "raw_value", "ci_low", "ci_high", "p_shift", "p_same_byte")
_TABLES = ("byte_mean", "token_mean")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Choice:
    """What dev decided for one signal, stratum and label.

    Attributes:
        align: "lead", "last" or "sum" over a character's bytes.
        sign: 1 where the signal rises at boundaries, -1 where it falls.
        threshold: Of the signed signal, for the best F1; NaN where dev could not tell.
        dev_auc: Of the signed signal on dev; NaN where dev could not tell.
        prevalence_threshold: At and above which dev calls as many gaps as it has boundaries.
    """

    align: str = ALIGNMENTS[0]
    sign: int = 1
    threshold: float = math.nan
    dev_auc: float = math.nan
    prevalence_threshold: float = math.nan


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
    """Scores columns on fixed gaps, all with the same resamples, shifts and sign flips.

    Attributes:
        dev: Where choices are made.
        test: Where they are scored.
        bootstrap: The resamples; its seed is that of shifts and flips too.
        captured: The tokens of test, for the nulls; None computes no null.
        align: The only alignment to consider; None leaves it to dev.
    """

    dev: Gaps
    test: Gaps
    bootstrap: Bootstrap
    captured: Captured | None = None
    align: str | None = None
    _made: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def test_fields(self) -> list[Field]:
        """The fields to score."""
        return self.test.fields()

    def score(self, column: SignalColumn) -> Scored:
        """Choose on dev and score on test, in every stratum and for every label.

        Raises:
            LRopeError: A signal of the model has one value everywhere: it cannot point at anything, and
                0.5 would be a made-up number.
        """
        self.refuse_constant(column)
        out = Scored()
        rankings: dict[tuple[int, str], tuple[np.ndarray, Ranking]] = {}
        for one in self.test_fields:
            if column.signal.name == "character_start" and one.stratum != "bytes":
                continue  # constant there, by definition
            ranked: dict[tuple[str, int], tuple[np.ndarray, Ranking, Histograms | None]] = {}
            for label in one.labels:
                if not column.is_for(label, one.stratum):
                    continue
                choice = self.choose(column, one, label, rankings=rankings)
                key = (choice.align, choice.sign)
                if key not in ranked:
                    values = self.aligned(column, one, choice)
                    if self._is_constant(column):  # summed it would tell wide characters from narrow ones
                        values = np.zeros_like(values)
                    ranking = Ranking.of(values)
                    has_interval = one.units.has_interval and not ranking.is_constant
                    ranked[key] = values, ranking, Histograms.of(ranking, one.units) if has_interval else None
                self._score_label(out, column, one, label, choice, *ranked[key])
        # Labels that no document of a stratum has get empty rows, so that they are not overlooked.
        known = {(one.stratum, label) for one in self.test_fields for label in one.labels}
        nothing = {"align": "", "n": 0, "n_positive": 0, "n_documents": 0}
        out.scores.extend(
            score_row(**_who(column), label=label, stratum=stratum, metric=metric, **nothing)
            for stratum, mask in self.test.strata.items()
            for label in self.test.labels
            if column.only is None and mask.any() and (stratum, label) not in known
            for metric in METRICS
        )
        return out

    def choose(
        self,
        column: SignalColumn,
        one: Field,
        label: str,
        allowed: Sequence[str] = ALIGNMENTS,
        rankings: dict[tuple[int, str], tuple[np.ndarray, Ranking]] | None = None,
    ) -> Choice:
        """Return what dev chooses: the alignment and sign of the best AUC, and the thresholds there.

        Args:
            column: The signal, layer and head.
            one: A field of test.
            label: What is to be told.
            allowed: Alignments to choose from. The signal is taken as it comes where dev cannot tell.
            rankings: Of the column in fields of dev, kept from one label to the next.
        """
        dev = self._dev_field(one, label)
        wanted = allowed if self.align is None or self.align not in allowed else [self.align]
        alignments = column.alignments(one.alignments if len(one.alignments) == 1 else wanted)
        if dev is None:
            return Choice(alignments[0])
        rankings = {} if rankings is None else rankings
        best, is_boundary = Choice(), dev.labels[label]
        for align in alignments:
            if (id(dev), align) not in rankings:
                aligned = self.dev.characters.align(column.values["dev"], dev.gaps, align)
                rankings[id(dev), align] = aligned, Ranking.of(aligned)
            values, ranking = rankings[id(dev), align]
            auc = Curve.of(values, is_boundary, ranking).roc_auc()
            if math.isnan(best.dev_auc) or max(auc, 1 - auc) > best.dev_auc:
                best = Choice(align, 1 if auc >= 0.5 else -1, math.nan, max(auc, 1 - auc))
        values, ranking = rankings[id(dev), best.align]
        if best.sign < 0:
            values, ranking = -values, ranking.reversed()
        curve = Curve.of(values, is_boundary, ranking)
        share = float(is_boundary.mean())
        return replace(
            best, threshold=curve.best_threshold(), prevalence_threshold=curve.prevalence_threshold(share)
        )

    def aligned(self, column: SignalColumn, one: Field, choice: Choice) -> Num[np.ndarray, " n"]:
        """Return the values of a column in a field of test, aligned and signed as dev chose."""
        return choice.sign * self.test.characters.align(column.values["test"], one.gaps, choice.align)

    def refuse_constant(self, column: SignalColumn) -> None:
        """Raise if a signal of the model has one value at every test gap; a control may have."""
        may_be = column.signal.is_rule or column.signal.kind != "layer"
        if not may_be and self._is_constant(column):
            values = column.values["test"][self.test.strata["bytes"]]
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

    @cached_property
    def _dev_fields(self) -> dict[tuple[str, str], Field]:
        return {(one.stratum, label): one for one in self.dev.fields() for label in one.labels}

    def _dev_field(self, one: Field, label: str) -> Field | None:
        """Return dev's gaps of the same stratum, or of all characters, that have boundaries and others."""
        for stratum in dict.fromkeys((one.stratum, FALLBACK_STRATUM)):
            dev = self._dev_fields.get((stratum, label))
            if dev is not None and 0 < dev.labels[label].sum() < len(dev.gaps):
                return dev
        return None

    def _is_constant(self, column: SignalColumn) -> bool:
        values = column.values["test"][self.test.strata["bytes"]]
        return len(values) > 0 and bool((values == values[0]).all())

    def _once(self, key: tuple[Any, ...], make: Callable[[], _Made]) -> _Made:
        """Make what all signals share, such as the shifts of a field, when the first needs it."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _score_label(
        self,
        out: Scored,
        column: SignalColumn,
        one: Field,
        label: str,
        choice: Choice,
        values: Num[np.ndarray, " n"],
        ranking: Ranking,
        histograms: Histograms | None,
    ) -> None:
        is_boundary = one.labels[label]
        curve = Curve.of(values, is_boundary, ranking)
        if ranking.is_constant:
            out.notes.append(f"{column.name} is constant in {one.stratum}: no score there")
        is_scorable = curve.is_scorable and not ranking.is_constant
        found: dict[str, dict[str, float]] = {}
        if is_scorable:
            resampled = None if histograms is None else self.bootstrap.roc_auc(histograms, is_boundary)
            # One of several seeds has no interval of its own.
            spread = None if column.signal.seed is not None else histograms
            found = self._metrics(one, label, choice, values, ranking, curve, spread, resampled)
            trial = Trial(column, label, one.stratum, choice, curve.roc_auc(), resampled)
            if self.captured is not None and has_nulls(column):
                trial = replace(
                    trial,
                    shifted=None if one.stratum == "bytes" else self._shifted(one, label, ranking),
                    same_byte=self._same_byte(self.captured, one, label, choice.align, ranking),
                )
            out.trials.append(trial)
        said = _who(column) | {"label": label, "stratum": one.stratum, **_counts(one, label)}
        for metric in [*METRICS, *(name for name in found if name not in METRICS)]:
            chosen = {"align": choice.align, "sign": choice.sign}
            out.scores.append(score_row(**said, **chosen, metric=metric, **found.get(metric, {})))
        where = column.place | {"label": label, "stratum": one.stratum}
        chosen = {"align": choice.align, "sign": choice.sign, "threshold": choice.threshold}
        chosen |= {"prevalence_threshold": choice.prevalence_threshold, "dev_roc_auc": choice.dev_auc}
        out.choices.append(where | {"seed": column.signal.seed} | chosen)
        # Curves are kept of what has p values, of the byte table and of the ceiling.
        has_curves = has_nulls(column) or column.signal.kind == "ceiling" or column.signal.name in _TABLES
        if is_scorable and has_curves:
            out.roc.extend(where | {"fpr": x, "tpr": y} for x, y in zip(*curve.roc(), strict=True))
            points = zip(*curve.precision_recall(), strict=True)
            out.precision_recall.extend(where | {"recall": x, "precision": y} for x, y in points)

    def _metrics(
        self,
        one: Field,
        label: str,
        choice: Choice,
        values: Num[np.ndarray, " n"],
        ranking: Ranking,
        curve: Curve,
        histograms: Histograms | None,
        resampled_auc: Float[np.ndarray, " resamples"] | None,
    ) -> dict[str, dict[str, float]]:
        """Return every metric: its value, the one before the signal was turned, and its interval.

        F1, MCC and words are those of the threshold of dev's best F1; precision and recall of that at which
        dev calls as many gaps as it has boundaries. Without `histograms` there is no interval.
        """
        boot, units, is_boundary = self.bootstrap, one.units, one.labels[label]

        def metric(value: float, resampled: np.ndarray | None, raw: float = math.nan) -> dict[str, float]:
            low, high = math.nan, math.nan
            if resampled is not None and not math.isnan(value):
                low, high = interval(resampled)
            return {"value": value, "raw_value": raw, "ci_low": low, "ci_high": high}

        auc, precision = curve.roc_auc(), curve.average_precision()
        raw_auc, raw_precision = auc, precision
        if choice.sign < 0:
            raw_auc = 1 - auc
            raw_precision = Curve.of(-values, is_boundary, ranking.reversed()).average_precision()
        resampled = None if histograms is None else boot.average_precision(histograms, is_boundary)
        found = {
            "roc_auc": metric(auc, None if histograms is None else resampled_auc, raw_auc),
            "average_precision": metric(precision, resampled, raw_precision),
        }
        if math.isnan(choice.threshold):
            return found
        called, likely = (values >= cut for cut in (choice.threshold, choice.prevalence_threshold))
        for names, is_called, cut in (
            (("f1", "mcc"), called, choice.threshold),
            (("precision", "recall"), likely, choice.prevalence_threshold),
        ):
            counts = Confusion.at(values, is_boundary, cut)
            spread = {} if histograms is None else boot.of_calls(units, is_called, is_boundary)
            found |= {name: metric(getattr(counts, name)(), spread.get(name)) for name in names}
        if label not in SEGMENT_LABELS or one.stratum == "bytes":
            return found
        document, character = self.test.document[one.gaps], self.test.character[one.gaps]
        runs = self._once(("runs", id(one)), lambda: Runs.of(document, character))
        ratios: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if label in WORD_LABELS:
            hits, n_called, n_true = token_counts(runs, called, is_boundary)
            ratios["token_f1"] = (2 * hits, n_called + n_true)
        ratios["pk"] = pk_counts(runs, called, is_boundary)
        ratios["windowdiff"] = windowdiff_counts(runs, called, is_boundary)
        for name, (part, whole) in ratios.items():
            total = float(whole.sum())
            value = float(part.sum()) / total if total else math.nan
            found[name] = metric(value, None if histograms is None else boot.ratio(units, part, whole))
        return found

    def _shifted(self, one: Field, label: str, ranking: Ranking) -> Float[np.ndarray, " shifts"]:
        """Return the ROC-AUC of ranked values under every circular shift of the label."""
        seed, document = self.bootstrap.seed, self.test.document[one.gaps]
        shifts = self._once(("shifts", id(one)), lambda: Shifts.of(document, seed))
        turned = self._once(("turned", id(one), label), lambda: shifts.turn(one.labels[label]))
        return turned.null_auc(ranking)

    def _same_byte(
        self, captured: Captured, one: Field, label: str, align: str, ranking: Ranking
    ) -> tuple[float, Float[np.ndarray, " flips"]]:
        """Return the same-byte statistic of ranked values, and its draws under the null."""

        def make() -> SameByte:
            codes = lexical_codes(captured, self.test, one.gaps, align)
            return SameByte.of(codes, one.units, self.bootstrap.seed)

        same = self._once(("same byte", id(one), align), make)
        return same.draw(same.scores(ranking), one.labels[label])


def has_nulls(column: SignalColumn) -> bool:
    """Whether a column gets p values: layers and signals of the whole model, not every layer of a control."""
    return column.signal.seed is None and (column.signal.kind == "layer" or column.layer is None)


def lexical_codes(
    captured: Captured, gaps: Gaps, at: Int64[np.ndarray, " n"], align: str
) -> Int64[np.ndarray, " n"]:
    """Number what a signal that knows only the text at the gap could have seen: strata of the same-byte test.

    Read at the first byte that is the byte (the token, where they are longer), read at the last
    byte that one, and summed over the bytes of a character the character. Among gaps of one number
    such a signal is constant.

    Args:
        captured: The tokens.
        gaps: The gaps of the same documents.
        at: Which of them.
        align: "lead", "last" or "sum".
    """
    first = captured.token[at].astype(np.int64)
    if align == "lead":
        return first
    character = gaps.characters.of_byte[at]
    last = captured.token[gaps.characters.last[character]].astype(np.int64)
    if align == "last":
        return last
    points = np.concatenate([code_points(document.text) for document in gaps.documents])
    points = points[character].astype(np.int64)
    return points if captured.has_byte_tokens else (points << 34) | (first << 17) | last


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
        values |= {"mcc": math.nan, "precision": share, "recall": share}
        said = {"label": label, "stratum": one.stratum, **_counts(one, label)}
        said |= {"signal": PREVALENCE, "kind": "control", "align": ""}
        if 0 < share < 1:
            rows += [score_row(metric=metric, value=value, **said) for metric, value in values.items()]
    return rows


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average rows that differ in their seed only: the mean over seeds, and their range as its interval."""
    same = ("signal", "kind", "layer", "head", "label", "stratum", "metric", "n", "n_positive", "n_documents")
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["seed"] is not None:
            groups.setdefault(tuple(row[name] for name in same), []).append(row)
    return [
        score_row(
            **dict(zip(same, key, strict=True)),
            align="",
            value=float(np.mean([row["value"] for row in group])),
            raw_value=float(np.mean([row["raw_value"] for row in group])),
            ci_low=float(np.min([row["value"] for row in group])),
            ci_high=float(np.max([row["value"] for row in group])),
        )
        for key, group in groups.items()
    ]


def _who(column: SignalColumn) -> dict[str, Any]:
    return column.place | {"kind": column.signal.kind, "seed": column.signal.seed}


def _counts(one: Field, label: str) -> dict[str, int]:
    n_positive = int(one.labels[label].sum())
    return {"n": len(one.gaps), "n_positive": n_positive, "n_documents": one.units.n_documents}
