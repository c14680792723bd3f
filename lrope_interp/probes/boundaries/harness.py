"""The one harness that every signal goes through, learned or not.

On dev it chooses, for each stratum and label, how the bytes of a character are read, which way the
signal points and where to cut it; on test it scores that choice, once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int64, Num

from lrope_interp.data.alignment import code_points
from lrope_interp.errors import LRopeError
from lrope_interp.probes.boundaries.segmentation import Prior, WholeText, WordTask
from lrope_interp.probes.boundaries.words import Runs, best_token_threshold, window_errors
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.gaps import ALIGNMENTS, Field, Gaps
from lrope_interp.probes.capture.signals import Signal, SignalColumn
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Ranked
from lrope_interp.probes.statistics.estimates import Estimate, Scoring, over_seeds
from lrope_interp.probes.statistics.nulls import SameByte, Shifts
from lrope_interp.probes.statistics.ranking import Curve, Ranking

FALLBACK_STRATUM = "characters"
METRICS = ("roc_auc", "average_precision", "f1", "mcc", "precision", "recall")
WORD_METRICS = ("token_f1", "token_f1_cut", "token_f1_unsupervised", "word_f1", "pk", "windowdiff")
WORD_LABELS = ("words", "words_merged", "despaced", "tokens")
SEGMENT_LABELS = (*WORD_LABELS, "sentences", "lines", "scopes")
SCORE_COLUMNS = (
    *("signal", "kind", "layer", "head", "label", "stratum", "align", "sign", "metric", "value", "raw_value"),
    *("ci_low", "ci_high", "band_low", "band_high", "p_shift", "p_same_byte", "n", "n_positive"),
    *("n_documents", "seed"),
)
PREVALENCE = "prevalence"
EVERYTHING, LENGTH_PRIOR = "everything", "length_prior"
_ESTIMATES = ("value", "raw_value", "ci_low", "ci_high", "band_low", "band_high", "p_shift", "p_same_byte")
_TABLES = ("byte_mean", "token_mean")
_Made = TypeVar("_Made")

Row = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What dev decided for one signal, stratum and label.

    Attributes:
        align: "lead", "last" or "sum" over a character's bytes.
        sign: 1 where the signal rises at boundaries, -1 where it falls.
        threshold: Of the signed signal, for the best F1; NaN where dev could not tell.
        dev_roc_auc: Of the signed signal on dev; NaN where dev could not tell.
        prevalence_threshold: At and above which dev calls as many gaps as it has boundaries.
        token_threshold: For the best F1 of dev's word tokens; NaN for labels that mark no words.
    """

    align: str = ALIGNMENTS[0]
    sign: int = 1
    threshold: float = math.nan
    dev_roc_auc: float = math.nan
    prevalence_threshold: float = math.nan
    token_threshold: float = math.nan


@dataclass(frozen=True)
class Trial:
    """What one column did for one label in one stratum, as far as others are compared with it.

    Attributes:
        column: The column.
        label: The label.
        stratum: The stratum.
        choice: What dev chose.
        auc: The oriented ROC-AUC on test.
        shifted: The AUC under each circular shift; None where it was not computed.
        same_byte: The same-byte statistic, and its draws under the null.
        words: F1 of words by metric, where the label marks words.
    """

    column: SignalColumn
    label: str
    stratum: str
    choice: Choice
    auc: Estimate
    shifted: Float[np.ndarray, " shifts"] | None = None
    same_byte: tuple[float, Float[np.ndarray, " flips"]] | None = None
    words: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """What columns scored: rows of "scores", "choices", "roc" and "precision_recall", trials, and remarks."""

    rows: defaultdict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Scored) -> None:
        """Append what another column scored."""
        for name, rows in other.rows.items():
            self.rows[name] += rows
        self.trials.extend(other.trials)
        self.notes.extend(other.notes)


@dataclass(frozen=True)
class Scorer:
    """Scores columns on fixed gaps, all with the same resamples, shifts and sign flips.

    Attributes:
        dev: Where choices are made.
        test: Where they are scored.
        bootstrap: The resamples; its seed is that of shifts and flips too.
        captured: The tokens of test, for the nulls; None computes no null.
        align: The only alignment to consider; None leaves it to dev.
        unlabelled: Where words begin in dev by a segmentation that saw no label; None decodes none without.
    """

    dev: Gaps
    test: Gaps
    bootstrap: Bootstrap
    captured: Captured | None = None
    align: str | None = None
    unlabelled: Num[np.ndarray, " n_bytes"] | None = None
    _made: dict[tuple[Any, ...], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        rankings: dict[tuple[int, str], Ranking] = {}
        for one in self.test_fields:
            if column.signal.name == "character_start" and one.stratum != "bytes":
                continue  # constant there, by definition
            ranked: dict[tuple[str, int], Ranked] = {}
            for label in one.labels:
                if not column.is_for(label, one.stratum):
                    continue
                choice = self.choose(column, one, label, rankings=rankings)
                key = (choice.align, choice.sign)
                if key not in ranked:
                    values = self.aligned(column, one, choice)
                    if self._is_constant(column):  # summed it would tell wide characters from narrow ones
                        values = np.zeros_like(values)
                    ranked[key] = Scoring(one.units, self.bootstrap).rank(values)
                self._score_label(out, column, one, label, choice, ranked[key])
        # Labels that no document of a stratum has get empty rows, so that they are not overlooked.
        known = {(one.stratum, label) for one in self.test_fields for label in one.labels}
        nothing = {"align": "", "n": 0, "n_positive": 0, "n_documents": 0}
        out.rows["scores"] += [
            score_row(**_who(column), label=label, stratum=stratum, metric=metric, **nothing)
            for stratum, mask in self.test.strata.items()
            for label in self.test.labels
            if column.only is None and mask.any() and (stratum, label) not in known
            for metric in METRICS
        ]
        return out

    def choose(
        self,
        column: SignalColumn,
        one: Field,
        label: str,
        allowed: Sequence[str] = ALIGNMENTS,
        rankings: dict[tuple[int, str], Ranking] | None = None,
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
                rankings[id(dev), align] = Ranking.of(aligned)
            auc = Curve.of(rankings[id(dev), align], is_boundary).roc_auc()
            if math.isnan(best.dev_roc_auc) or max(auc, 1 - auc) > best.dev_roc_auc:
                best = Choice(align, 1 if auc >= 0.5 else -1, math.nan, max(auc, 1 - auc))
        ranking = rankings[id(dev), best.align]
        curve = Curve.of(ranking if best.sign > 0 else ranking.reversed(), is_boundary)
        share = float(is_boundary.mean())
        best = replace(
            best, threshold=curve.best_threshold(), prevalence_threshold=curve.prevalence_threshold(share)
        )
        if label not in WORD_LABELS or one.stratum == "bytes":
            return best
        values = best.sign * ranking.values
        return replace(best, token_threshold=best_token_threshold(self._dev_runs(dev), values, is_boundary))

    def baseline_trials(self) -> list[Trial]:
        """Return what it costs nothing to know of words: to call every gap, and how long words are."""
        found = []
        for one, label in ((each, label) for each in self.test_fields for label in each.labels):
            if label in WORD_LABELS and one.stratum != "bytes":
                task = self._word_task(one, label)
                every = task.of_calls(self.bootstrap, np.ones(len(one.gaps), dtype=bool))
                lengths = task.estimates(self.bootstrap, None, None, math.nan)
                for name, words in ((EVERYTHING, every), (LENGTH_PRIOR, lengths)):
                    column = SignalColumn(Signal(name, lambda _: np.zeros(0)), None, None, {})
                    trial = Trial(column, label, one.stratum, Choice(""), Estimate(math.nan), words=words)
                    found += [trial] if words else []
        return found

    def baseline_rows(self, trials: Sequence[Trial]) -> list[Row]:
        """Return the rows of `scores` of such trials."""
        fields = {(one.stratum, label): one for one in self.test_fields for label in one.labels}
        return [
            score_row(
                **_who(one.column) | {"label": one.label, "stratum": one.stratum, "align": ""},
                **_counts(fields[one.stratum, one.label], one.label) | {"metric": metric} | words.row(),
            )
            for one in trials
            for metric, words in one.words.items()
        ]

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

    def _dev_runs(self, dev: Field) -> Runs:
        at = dev.gaps
        return self._once(
            ("dev runs", id(dev)), lambda: Runs.of(self.dev.document[at], self.dev.character[at])
        )

    def _runs(self, one: Field) -> Runs:
        at = one.gaps
        return self._once(("runs", id(one)), lambda: Runs.of(self.test.document[at], self.test.character[at]))

    def _word_task(self, one: Field, label: str) -> WordTask:
        def make() -> WordTask:
            dev, prior, unlabelled = self._dev_field(one, label), None, None
            if dev is not None:
                prior = Prior.of(self._dev_runs(dev), dev.labels[label])
                if self.unlabelled is not None:
                    unlabelled = Prior.of(self._dev_runs(dev), self.unlabelled[dev.gaps] > 0)
            whole = WholeText.of(self.test, one, label)
            return WordTask(self._runs(one), one.labels[label], one.units, whole, prior, unlabelled)

        return self._once(("words", id(one), label), make)

    def _words(
        self, column: SignalColumn, one: Field, label: str, choice: Choice, values: Num[np.ndarray, " n"]
    ) -> dict[str, Estimate]:
        """Return F1 of words, in all the ways in which they are found; nothing where dev could not tell."""
        dev = self._dev_field(one, label)
        if dev is None or label not in WORD_LABELS or one.stratum == "bytes":
            return {}
        dev_values = choice.sign * self.dev.characters.align(column.values["dev"], dev.gaps, choice.align)
        return self._word_task(one, label).estimates(
            self.bootstrap,
            dev_values,
            values,
            choice.token_threshold,
            is_segmentation=column.signal.is_segmentation,
        )

    def _once(self, key: tuple[Any, ...], make: Callable[[], _Made]) -> _Made:
        """Make what all signals share, such as the shifts of a field, when the first needs it."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _score_label(
        self, out: Scored, column: SignalColumn, one: Field, label: str, choice: Choice, ranked: Ranked
    ) -> None:
        """Append what a column scores for one label: rows of every table, and the trial."""
        is_boundary, ranking = one.labels[label], ranked.ranking
        curve = Curve.of(ranking, is_boundary)
        if ranking.is_constant:
            out.notes.append(f"{column.name} is constant in {one.stratum}: no score there")
        is_scorable = curve.is_scorable and not ranking.is_constant
        found: dict[str, Row] = {}
        if is_scorable:
            auc = Scoring(one.units, self.bootstrap).roc_auc(ranked, is_boundary, curve)
            found = self._metrics(column, one, label, choice, ranked, curve)
            # One of several seeds has no interval of its own.
            found["roc_auc"] |= (auc if column.signal.seed is None else Estimate(auc.value)).row()
            words = self._words(column, one, label, choice, ranking.values)
            for name, f1 in words.items():
                found[name] = (f1 if column.signal.seed is None else Estimate(f1.value)).row()
            trial = Trial(column, label, one.stratum, choice, auc, words=words)
            if self.captured is not None and has_nulls(column):
                trial = replace(trial, **self._nulls(self.captured, one, label, choice.align, ranking))
            out.trials.append(trial)
        said = _who(column) | {"label": label, "stratum": one.stratum, **_counts(one, label)}
        said |= {"align": choice.align, "sign": choice.sign}
        out.rows["scores"] += [
            score_row(**said, metric=metric, **found.get(metric, {}))
            for metric in dict.fromkeys([*METRICS, *found])
        ]
        where = column.place | {"label": label, "stratum": one.stratum}
        out.rows["choices"].append(where | {"seed": column.signal.seed} | vars(choice))
        # Curves are kept of what has p values, of the byte table and of the ceiling.
        has_curves = has_nulls(column) or column.signal.kind == "ceiling" or column.signal.name in _TABLES
        if is_scorable and has_curves:
            points = zip(*curve.roc(), strict=True)
            out.rows["roc"] += [where | {"fpr": x, "tpr": y} for x, y in points]
            points = zip(*curve.precision_recall(), strict=True)
            out.rows["precision_recall"] += [where | {"recall": x, "precision": y} for x, y in points]

    def _metrics(
        self, column: SignalColumn, one: Field, label: str, choice: Choice, ranked: Ranked, curve: Curve
    ) -> dict[str, Row]:
        """Return value and interval of every metric; of curves also the value before the signal was turned.

        F1, MCC, Pk and WindowDiff are those of the threshold of dev's best F1; precision and recall of that
        at which dev calls as many gaps as it has boundaries.
        """
        is_boundary, values = one.labels[label], ranked.ranking.values
        scoring = Scoring(one.units, self.bootstrap if column.signal.seed is None else None)
        precision = scoring.average_precision(ranked, is_boundary, curve)
        raw_auc, raw_precision = curve.roc_auc(), precision.value
        if choice.sign < 0:
            raw_auc = 1 - raw_auc
            raw_precision = Curve.of(ranked.ranking.reversed(), is_boundary).average_precision()
        found: dict[str, Row] = {
            "roc_auc": {"raw_value": raw_auc},
            "average_precision": precision.row() | {"raw_value": raw_precision},
        }
        if math.isnan(choice.threshold):
            return found
        called, likely = (values >= cut for cut in (choice.threshold, choice.prevalence_threshold))
        at_best, at_prevalence = (scoring.calls(calls, is_boundary) for calls in (called, likely))
        found |= {name: at_best[name].row() for name in ("f1", "mcc")}
        found |= {name: at_prevalence[name].row() for name in ("precision", "recall")}
        if label not in SEGMENT_LABELS or one.stratum == "bytes":
            return found
        pk, windowdiff, windows = window_errors(self._runs(one), called, is_boundary)
        found["pk"], found["windowdiff"] = (scoring.ratio(one, windows).row() for one in (pk, windowdiff))
        return found

    def _nulls(
        self, captured: Captured, one: Field, label: str, align: str, ranking: Ranking
    ) -> dict[str, Any]:
        """Return ROC-AUC under every shift of the label, and the same-byte statistic with its draws."""
        seed, is_boundary, shifted = self.bootstrap.seed, one.labels[label], None
        if one.stratum != "bytes":
            document = self.test.document[one.gaps]
            shifts = self._once(("shifts", id(one)), lambda: Shifts.of(document, seed))
            shifted = self._once(("turned", id(one), label), lambda: shifts.turn(is_boundary)).null_auc(
                ranking
            )

        def make() -> SameByte:
            return SameByte.of(lexical_codes(captured, self.test, one.gaps, align), one.units, seed)

        same = self._once(("same byte", id(one), align), make)
        return {"shifted": shifted, "same_byte": same.draw(ranking, is_boundary)}


def has_nulls(column: SignalColumn) -> bool:
    """Whether a column gets p values: layers and signals of the whole model, not every layer of a control."""
    is_whole = column.layer is None and column.signal.kind != "combination"
    return column.signal.seed is None and (column.signal.kind == "layer" or is_whole)


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


def score_row(**known: Any) -> Row:
    """Return a row of `scores.csv` with every column; a number that is not known is NaN or None."""
    assert set(known) <= set(SCORE_COLUMNS), set(known) - set(SCORE_COLUMNS)
    return {name: known.get(name, math.nan if name in _ESTIMATES else None) for name in SCORE_COLUMNS}


def prevalence_rows(one: Field) -> list[Row]:
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


def seed_means(rows: Sequence[Row]) -> list[Row]:
    """Average rows that differ in their seed only: the mean over seeds, and their range as its interval."""
    same = ("signal", "kind", "layer", "head", "label", "stratum", "metric", "n", "n_positive", "n_documents")
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["seed"] is not None:
            groups[tuple(row[name] for name in same)].append(row)
    return [
        score_row(
            **dict(zip(same, key, strict=True)),
            **over_seeds([Estimate(row["value"]) for row in group]),
            **{name: _agreed([row[name] for row in group]) for name in ("align", "sign")},
            raw_value=float(np.mean([row["raw_value"] for row in group])),
        )
        for key, group in groups.items()
    ]


def _agreed(said: Sequence[Any]) -> Any:
    """Return what all seeds have alike; "" or None where they differ."""
    return said[0] if len(set(said)) == 1 else "" if isinstance(said[0], str) else None


def _who(column: SignalColumn) -> Row:
    return column.place | {"kind": column.signal.kind, "seed": column.signal.seed}


def _counts(one: Field, label: str) -> dict[str, int]:
    n_positive = int(one.labels[label].sum())
    return {"n": len(one.gaps), "n_positive": n_positive, "n_documents": one.units.n_documents}
