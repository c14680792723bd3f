"""What trials say beside each other: layers against controls and another run's, p values, the surest errors.

Layers swap roles between seeds, so "layer 3 marks words" is not a finding until another seed has a layer
that does the same. Layers (and heads) are matched by the assignment that maximises the sum of |Spearman|
between their increments on the same gaps (Hungarian method; Kuhn 1955).
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Int64
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from lrope_interp.probes.boundaries.combination import added_rows
from lrope_interp.probes.boundaries.harness import FALLBACK_STRATUM, Row, Scored, Scorer, Trial
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.signals import SIGNALS, SignalColumn, columns
from lrope_interp.probes.statistics.estimates import LEVEL, Estimate, holm, simultaneous
from lrope_interp.probes.statistics.nulls import family_wise, p_value
from lrope_interp.results import AS_GOOD, LOSES, TIES, WINS, table, verdict_on

DIFFERENCE_COLUMNS = (
    *("signal", "layer", "head", "control", "control_layer", "control_head"),
    *("label", "stratum", "value", "ci_low", "ci_high", "seed_low", "seed_high", "verdict"),
)
VERDICT_COLUMNS = (
    *("label", "stratum", "layer", "head", "value", "ci_low", "ci_high", "control", "control_layer"),
    *("control_head", "control_value", "difference", "difference_low", "difference_high", "seed_low"),
    *("seed_high", "p", "p_holm", "margin", "power", "verdict"),
)
WORD_DIFFERENCE_COLUMNS = ("metric", *DIFFERENCE_COLUMNS)
SHARE_COLUMNS = (
    *("signal", "layer", "head", "label", "stratum", "share", "ci_low", "ci_high"),
    *("probe_value", "probe_low", "probe_high"),
)
NULL_COLUMNS = (
    *("signal", "layer", "head", "label", "stratum", "null_low", "null_high"),
    *("p_shift_alone", "p_shift", "p_same_byte_alone", "p_same_byte", "n_shifts"),
)
ERROR_COLUMNS = (
    *("label", "stratum", "signal", "layer", "head", "rank", "error", "document", "character", "offset"),
    *("text", "value", "is_boundary"),
)
MATCH_COLUMNS = (
    *("layer", "head", "other_layer", "other_head", "spearman", "label", "stratum"),
    *("value", "ci_low", "ci_high", "other_value", "other_low", "other_high"),
)
CORRELATION_COLUMNS = ("layer", "head", "other_layer", "other_head", "spearman", "is_matched")
MARGIN = 0.02  # of ROC-AUC: what a layer may be worse than a control and still be as good
LEAST_PROBE_LOW = 0.55
N_ERRORS = 10
CONTEXT = 24
SHOWN_STRATA = (FALLBACK_STRATUM, "han")


@dataclass(frozen=True)
class Beside:
    """A control that layers are held against: the mean over its seeds, where it has several.

    Attributes:
        name: Of the signal.
        layer: None where it has no value of its own in every layer.
        head: The same.
        auc: On test.
        dev_roc_auc: On dev.
    """

    name: str
    layer: int | None
    head: int | None
    auc: Estimate
    dev_roc_auc: float

    def is_beside(self, column: SignalColumn) -> bool:
        """Whether a layer is compared with it: a control with a value a layer only with its own layer's."""
        is_own = self.layer == column.layer and self.head in (None, column.head)
        return self.layer is None or column.layer is None or is_own

    @property
    def place(self) -> Row:
        """Its columns in a table."""
        return {"control": self.name, "control_layer": self.layer, "control_head": self.head}


def _controls(members: Sequence[Trial]) -> list[Beside]:
    seeds: dict[tuple[str, int | None, int | None], list[Trial]] = defaultdict(list)
    for one in members:
        if one.column.signal.kind == "control":
            seeds[one.column.signal.name, one.column.layer, one.column.head].append(one)
    return [
        Beside(*where, Estimate.mean([one.auc for one in own]), _on_dev(own)) for where, own in seeds.items()
    ]


def _on_dev(trials: Sequence[Trial]) -> float:
    return float(np.mean([one.choice.dev_roc_auc for one in trials]))


def difference_rows(trials: Sequence[Trial]) -> list[Row]:
    """Return ROC-AUC of each layer minus that of each control, the resamples paired.

    A control with a value a layer is compared with its own layer (and head) only, one with several seeds
    by the mean of its seeds, whose spread is part of the interval. `seed_low` and `seed_high` say where
    the difference from one more seed would lie.
    """
    rows = []
    for (label, stratum), members in _cells(trials):
        controls = _controls(members)
        for trial in (one for one in members if one.column.signal.kind == "layer"):
            for control in (one for one in controls if one.is_beside(trial.column)):
                said = trial.column.place | control.place | {"label": label, "stratum": stratum}
                difference = trial.auc - control.auc
                low, high = difference.interval_of_one_seed
                said |= difference.row() | {"seed_low": low, "seed_high": high}
                rows.append(said | {"verdict": verdict_on(*difference.interval)})
    return rows


def word_difference_rows(trials: Sequence[Trial]) -> list[Row]:
    """Return F1 of decoded words, the resamples paired: of layers minus controls, and of what counts leave.

    The rows of the signal "model_and_counts" say whether the model adds to counting.
    """
    rows = []
    for metric in ("token_f1", "word_f1"):
        own = [replace(one, auc=one.words[metric]) for one in trials if metric in one.words]
        rows += [{"metric": metric} | row for row in difference_rows(own)]
        for both, counts in added_rows(own):
            beside = dict(
                zip(("control", "control_layer", "control_head"), counts.column.place.values(), strict=True)
            )
            difference = both.auc - counts.auc
            said = (
                both.column.place | beside | {"label": both.label, "stratum": both.stratum, "metric": metric}
            )
            low, high = difference.interval_of_one_seed
            said |= difference.row() | {"seed_low": low, "seed_high": high}
            rows.append(said | {"verdict": verdict_on(*difference.interval)})
    return rows


def verdict_rows(trials: Sequence[Trial]) -> list[Row]:
    """Return the answer for each label and stratum: the layer that dev likes best, against its best control.

    Layer and control are picked by their ROC-AUC on dev, so that the intervals, which are of test, are those
    of a choice made beforehand: of the best of six layers picked on test they would cover 89 %, not 95 %.
    `p_holm` counts the labels of the stratum, and the verdict goes by it. A layer is `as good` only where
    the interval lies above minus the margin; `power` is how likely it would if there were no difference.
    A label of which dev knows nothing has no row.
    """
    rows: list[Row] = []
    found: list[Estimate] = []
    for (label, stratum), members in _cells(trials):
        layers = [one for one in members if one.column.signal.name == "increments"]
        layers = [one for one in layers if not math.isnan(one.choice.dev_roc_auc)]
        if not layers:
            continue
        best = max(layers, key=lambda one: one.choice.dev_roc_auc)
        beside = [one for one in _controls(members) if one.is_beside(best.column)]
        beside = [one for one in beside if not math.isnan(one.dev_roc_auc)]
        if not beside:
            continue
        control = max(beside, key=lambda one: one.dev_roc_auc)
        difference = best.auc - control.auc
        low, high = difference.interval_of_one_seed
        row = {"label": label, "stratum": stratum, "layer": best.column.layer, "head": best.column.head}
        row |= best.auc.row() | control.place | {"control_value": control.auc.value, "p": difference.p}
        row |= difference.row("difference") | {"seed_low": low, "seed_high": high}
        rows.append(row | {"margin": MARGIN, "power": difference.power(MARGIN)})
        found.append(difference)
    for stratum in dict.fromkeys(row["stratum"] for row in rows):
        family = [at for at, row in enumerate(rows) if row["stratum"] == stratum]
        for at, p in zip(family, holm([rows[at]["p"] for at in family]), strict=True):
            rows[at] |= {"p_holm": p, "verdict": _verdict(found[at], p)}
    return rows


def _verdict(difference: Estimate, p: float) -> str:
    if math.isnan(p):
        return ""
    if p < 1 - LEVEL:
        return WINS if difference.value > 0 else LOSES
    return AS_GOOD if difference.interval[0] > -MARGIN else TIES


def with_bands(scores: Iterable[Row], trials: Sequence[Trial]) -> None:
    """Enter into ROC-AUC rows the intervals that hold all layers and heads of a signal at once."""
    bands: dict[tuple[Any, ...], tuple[float, float]] = {}
    for (label, stratum), members in _cells(trials):
        layers = [one for one in members if one.column.signal.kind == "layer"]
        for name in dict.fromkeys(one.column.signal.name for one in layers):
            family = [one for one in layers if one.column.signal.name == name]
            for one, band in zip(family, simultaneous([one.auc for one in family]), strict=True):
                bands[(*one.column.place.values(), label, stratum)] = band
    for row in scores:
        band = bands.get(tuple(row[name] for name in ("signal", "layer", "head", "label", "stratum")))
        if band is not None and row["metric"] == "roc_auc":
            row["band_low"], row["band_high"] = band


def share_rows(trials: Sequence[Trial]) -> list[Row]:
    """Return how much of what a linear probe finds in the same state the increment tells.

    The share (AUC - 1/2) / (AUC of the probe - 1/2) is empty where the probe itself finds little:
    where the lower bound of its AUC is at most 0.55.
    """
    rows = []
    for (label, stratum), members in _cells(trials):
        probes = {one.column.layer: one.auc for one in members if one.column.signal.kind == "ceiling"}
        for trial in (one for one in members if one.column.signal.kind == "layer"):
            probe, own = probes.get(trial.column.layer), trial.auc
            if probe is None:
                continue
            low, high = probe.interval
            share = Estimate(math.nan)
            if low > LEAST_PROBE_LOW and own.resampled is not None and probe.resampled is not None:
                above = (own.resampled - 0.5) / (probe.resampled - 0.5)
                share = Estimate((own.value - 0.5) / (probe.value - 0.5), above, own.n_units)
            found = {"label": label, "stratum": stratum, "probe_value": probe.value, **share.row()}
            found |= {"probe_low": low, "probe_high": high, "share": share.value}
            rows.append(trial.column.place | found)
    return rows


def _cells(trials: Iterable[Trial]) -> Iterator[tuple[tuple[str, str], list[Trial]]]:
    cells: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        cells[trial.label, trial.stratum].append(trial)
    yield from cells.items()


def null_rows(trials: Sequence[Trial]) -> list[Row]:
    """Return one row of `nulls.csv` for each trial that has draws under a null.

    Six layers are six chances to find something. The p value of a layer is therefore the probability
    that the *best* of all layers and heads would look as good if labels were shifted, or documents'
    signs flipped; the one of the layer alone stands beside it.
    """
    rows = []
    tested = [one for one in trials if one.shifted is not None or one.same_byte is not None]
    for (label, stratum), members in sorted(_cells(tested), key=lambda cell: cell[0]):
        names = [one.column.signal.name for one in members]
        by_shift = _p_values([(one.auc.value, one.shifted) for one in members], names)
        by_flip = _p_values([one.same_byte or (math.nan, None) for one in members], names)
        for trial, shift, flip in zip(members, by_shift, by_flip, strict=True):
            null, low, high = trial.shifted, math.nan, math.nan
            if null is not None:
                low, high = np.quantile(null, [0.025, 0.975]).tolist()
            found = {"label": label, "stratum": stratum, "null_low": low, "null_high": high}
            found |= {"p_shift_alone": shift[0], "p_shift": shift[1]}
            found |= {"p_same_byte_alone": flip[0], "p_same_byte": flip[1]}
            rows.append(trial.column.place | found | {"n_shifts": 0 if null is None else len(null)})
    return rows


def _p_values(
    drawn: Sequence[tuple[float, Float[np.ndarray, " draws"] | None]], names: Sequence[str]
) -> list[tuple[float, float]]:
    """Return each one's own p value and, where a signal has several layers or heads, the family-wise one."""
    alone = [math.nan if null is None else p_value(value, null) for value, null in drawn]
    found = list(alone)
    for name in dict.fromkeys(names):
        family = [at for at, (_, null) in enumerate(drawn) if names[at] == name and null is not None]
        if len(family) > 1:
            observed = np.array([drawn[at][0] for at in family], dtype=np.float64)
            nulls = np.stack([np.asarray(drawn[at][1], dtype=np.float64) for at in family])
            for at, p in zip(family, family_wise(observed, nulls).tolist(), strict=True):
                found[at] = p
    return list(zip(alone, found, strict=True))


def with_p_values(scores: Iterable[Row], nulls: Sequence[Row]) -> None:
    """Enter p values into the ROC-AUC rows that they belong to."""
    key = ("signal", "layer", "head", "label", "stratum")
    by_key = {tuple(row[name] for name in key): row for row in nulls}
    for row in scores:
        known = by_key.get(tuple(row[name] for name in key))
        if known is not None and row["metric"] == "roc_auc" and row["seed"] is None:
            row["p_shift"], row["p_same_byte"] = known["p_shift"], known["p_same_byte"]


def error_rows(scorer: Scorer, trials: Sequence[Trial]) -> list[Row]:
    """Return the contexts of the ten most confident errors, for each label, of the layer that dev likes best.

    A score says how often; only the errors themselves say at what. Confidence is how many gaps lie between
    an error and the threshold, as a share of all gaps of its side; of several equally confident errors one a
    document comes first. A context has the 24 characters before a gap and after it, the one after it at
    offset 0.
    """
    rows: list[Row] = []
    gaps, characters = scorer.test, scorer.test.characters
    fields = {(one.stratum, label): one for one in scorer.test_fields for label in one.labels}
    usable = [
        one
        for one in trials
        if one.column.signal.name == "increments"
        and not math.isnan(one.choice.threshold)
        and not math.isnan(one.choice.dev_roc_auc)
    ]
    for label, stratum in itertools.product(gaps.labels, SHOWN_STRATA):
        candidates = [one for one in usable if (one.label, one.stratum) == (label, stratum)]
        if not candidates:
            continue
        best = max(candidates, key=lambda one: one.choice.dev_roc_auc)
        column, choice, one = best.column, best.choice, fields[stratum, label]
        values, is_boundary = scorer.aligned(column, one, choice).astype(np.float64), one.labels[label]
        aligned = characters.align(column.values["test"], characters.first, choice.align)
        oriented = choice.sign * aligned.astype(np.float64)
        picked = confident_errors(values, is_boundary, choice.threshold, gaps.document[one.gaps])
        for rank, at in enumerate(picked.tolist(), start=1):
            gap = int(one.gaps[at])
            document, middle = gaps.documents[int(gaps.document[gap])], int(gaps.character[gap])
            first = int(characters.of_byte[gap]) - middle  # the document's first character among all
            said = {"label": label, "stratum": stratum, **column.place, "rank": rank}
            said |= {"error": "miss" if is_boundary[at] else "false alarm"}
            said |= {"document": document.name, "character": middle}
            rows += [
                said
                | {"offset": number - middle, "text": document.text[number]}
                | {"value": float(oriented[first + number])}
                | {"is_boundary": bool(gaps.labels[label].is_boundary[characters.first[first + number]])}
                for number in range(max(0, middle - CONTEXT), min(len(document.text), middle + CONTEXT + 1))
            ]
    return rows


def confident_errors(
    values: Float[np.ndarray, " n"],
    is_boundary: Bool[np.ndarray, " n"],
    threshold: float,
    document: Int64[np.ndarray, " n"],
    most: int = N_ERRORS,
) -> Int64[np.ndarray, " found"]:
    """Return the errors farthest from the threshold, in ranks of their own side of it."""
    called = values >= threshold
    confidence = np.zeros(len(values))
    for side in (called, ~called):
        distance = np.abs(values[side] - threshold)
        _, place, counts = np.unique(distance, return_inverse=True, return_counts=True)
        confidence[side] = (np.cumsum(counts) / max(len(distance), 1))[place]
    wrong = np.flatnonzero(called != is_boundary)
    # Errors of one document and one confidence are numbered, so that other documents come before its second.
    alike = pd.DataFrame({"document": document[wrong], "confidence": confidence[wrong]})
    repeated = alike.groupby(["document", "confidence"]).cumcount().to_numpy()
    return wrong[np.lexsort((wrong, repeated, -confidence[wrong]))[:most]]


def match_tables(
    scorer: Scorer, own: Captured, scored: Scored, other: Mapping[str, Captured]
) -> dict[str, pd.DataFrame]:
    """Match the layers (and heads) of a run with those of another, and hold their scores side by side.

    They are compared at the first byte of every scored character of the test documents. The sign
    matters as little as it does for boundaries: a layer may contract where another expands.

    Args:
        scorer: The other run's increments go through it too, on the same gaps.
        own: Of test, by the run that is tested.
        scored: What its signals scored.
        other: Of "dev" and "test", by the other run.

    Returns:
        `correlations`, every layer with every other; and `matches`, each matched pair with both runs'
        ROC-AUC for every label and stratum.
    """
    at = np.flatnonzero(scorer.test.strata["characters"])
    runs = (own, other["test"])
    correlation = spearman_matrix(*(one.increments[..., at].reshape(-1, len(at)) for one in runs))
    places = [
        [(layer, head if n > 1 else None) for layer in one.layers for head in range(n)]
        for one, n in ((run, run.increments.shape[1]) for run in runs)
    ]
    matched = set(match_layers(correlation))
    pairs = [
        {
            "layer": places[0][i][0],
            "head": places[0][i][1],
            "other_layer": places[1][j][0],
            "other_head": places[1][j][1],
            "spearman": float(correlation[i, j]),
            "is_matched": (i, j) in matched,
        }
        for i, j in np.ndindex(*correlation.shape)
    ]
    plain = replace(scorer, captured=None)  # without nulls
    beside = [plain.score(one) for one in columns(SIGNALS["increments"], other)]
    theirs = _scores([row for one in beside for row in one.rows["scores"]])
    ours, unknown = _scores(scored.rows["scores"]), (np.nan, np.nan, np.nan)
    rows = []
    for pair in (one for one in pairs if one["is_matched"]):
        found = theirs.get((pair["other_layer"], pair["other_head"]), {})
        for cell, (value, low, high) in ours.get((pair["layer"], pair["head"]), {}).items():
            beside = dict(zip(MATCH_COLUMNS[-3:], found.get(cell, unknown), strict=True))
            said = {"label": cell[0], "stratum": cell[1], "value": value, "ci_low": low, "ci_high": high}
            rows.append(pair | said | beside)
    return {"correlations": table(pairs, CORRELATION_COLUMNS), "matches": table(rows, MATCH_COLUMNS)}


def spearman_matrix(
    own: Float32[np.ndarray, "k n"], other: Float32[np.ndarray, "m n"]
) -> Float[np.ndarray, "k m"]:
    """Return Spearman's rank correlation of every row of `own` with every row of `other`; 0 for constants."""
    standard = [_standard_ranks(rows) for rows in (own, other)]
    return standard[0] @ standard[1].T


def _standard_ranks(rows: Float32[np.ndarray, "k n"]) -> Float[np.ndarray, "k n"]:
    ranks = rankdata(rows, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(ranks, axis=1, keepdims=True)
    return np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)


def match_layers(correlation: Float[np.ndarray, "k m"]) -> list[tuple[int, int]]:
    """Return the pairs (row, column) of the best assignment by absolute correlation."""
    rows, columns = linear_sum_assignment(np.abs(correlation), maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _scores(rows: Sequence[Row]) -> dict[tuple[Any, Any], dict[tuple[str, str], tuple[float, ...]]]:
    """Return ROC-AUC of increments with its interval: by layer and head, then by label and stratum."""
    found: dict[tuple[Any, Any], dict[tuple[str, str], tuple[float, ...]]] = {}
    for row in rows:
        if row["metric"] == "roc_auc" and row["signal"] == "increments":
            cell = found.setdefault((row["layer"], row["head"]), {})
            cell[row["label"], row["stratum"]] = (row["value"], row["ci_low"], row["ci_high"])
    return found
