"""What trials say beside each other: layers against controls, p values of families, the surest errors."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from lrope_interp.probes.boundaries.harness import FALLBACK_STRATUM, Scorer, Trial
from lrope_interp.probes.statistics.bootstrap import interval
from lrope_interp.probes.statistics.nulls import family_wise, p_value

DIFFERENCE_COLUMNS = (
    *("signal", "layer", "head", "control", "control_layer", "control_head"),
    *("label", "stratum", "value", "ci_low", "ci_high"),
)
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
LEAST_PROBE_LOW = 0.55
N_ERRORS = 10
CONTEXT = 24
SHOWN_STRATA = (FALLBACK_STRATUM, "han")


@dataclass(frozen=True)
class _Control:
    """A control, or the mean over the seeds of one."""

    name: str
    layer: int | None
    head: int | None
    auc: float
    resampled: Float[np.ndarray, " resamples"] | None

    def is_beside(self, trial: Trial) -> bool:
        """Whether a layer is held against it: its own layer (and head), or none."""
        own = trial.column
        is_of_head = self.head is None or self.head == own.head
        return self.layer is None or own.layer is None or (self.layer == own.layer and is_of_head)


def difference_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return ROC-AUC of each layer minus that of each control, the resamples paired.

    A control with a value a layer is compared with its own layer only, one with several seeds by
    the mean of its seeds.
    """
    rows = []
    for (label, stratum), members in _cells(trials):
        groups: dict[tuple[str, int | None, int | None], list[Trial]] = defaultdict(list)
        for one in members:
            if one.column.signal.kind == "control":
                groups[one.column.signal.name, one.column.layer, one.column.head].append(one)
        controls = []
        for where, seeds in groups.items():
            known = [one.resampled for one in seeds if one.resampled is not None]
            resampled = np.mean(known, axis=0) if len(known) == len(seeds) else None
            controls.append(_Control(*where, float(np.mean([one.auc for one in seeds])), resampled))
        for trial in (one for one in members if one.column.signal.kind == "layer"):
            for control in (one for one in controls if one.is_beside(trial)):
                low, high = math.nan, math.nan
                if trial.resampled is not None and control.resampled is not None:
                    low, high = interval(trial.resampled - control.resampled)
                beside = {"control": control.name, "control_layer": control.layer}
                beside |= {"control_head": control.head, "label": label, "stratum": stratum}
                value = {"value": trial.auc - control.auc, "ci_low": low, "ci_high": high}
                rows.append(trial.column.place | beside | value)
    return rows


def share_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return how much of what a linear probe finds in the same state the increment tells.

    The share (AUC - 1/2) / (AUC of the probe - 1/2) is empty where the probe itself finds little:
    where the lower bound of its AUC is at most 0.55.
    """
    rows = []
    for (label, stratum), members in _cells(trials):
        probes = {one.column.layer: one for one in members if one.column.signal.kind == "ceiling"}
        for trial in (one for one in members if one.column.signal.kind == "layer"):
            probe = probes.get(trial.column.layer)
            if probe is None:
                continue
            low, high = (math.nan, math.nan) if probe.resampled is None else interval(probe.resampled)
            share, share_low, share_high = math.nan, math.nan, math.nan
            if low > LEAST_PROBE_LOW and trial.resampled is not None and probe.resampled is not None:
                share = (trial.auc - 0.5) / (probe.auc - 0.5)
                share_low, share_high = interval((trial.resampled - 0.5) / (probe.resampled - 0.5))
            found = {"label": label, "stratum": stratum, "probe_value": probe.auc}
            found |= {"probe_low": low, "probe_high": high}
            found |= {"share": share, "ci_low": share_low, "ci_high": share_high}
            rows.append(trial.column.place | found)
    return rows


def _cells(trials: Iterable[Trial]) -> Iterator[tuple[tuple[str, str], list[Trial]]]:
    cells: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        cells[trial.label, trial.stratum].append(trial)
    yield from cells.items()


def null_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return one row of `nulls.csv` for each trial that has draws under a null.

    Six layers are six chances to find something. The p value of a layer is therefore the probability
    that the *best* of all layers and heads would look as good if labels were shifted, or documents'
    signs flipped; the one of the layer alone stands beside it.
    """
    rows = []
    tested = [one for one in trials if one.shifted is not None or one.same_byte is not None]
    for (label, stratum), members in sorted(_cells(tested), key=lambda cell: cell[0]):
        names = [one.column.signal.name for one in members]
        by_shift = _p_values([(one.auc, one.shifted) for one in members], names)
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


def with_p_values(scores: Iterable[dict[str, Any]], nulls: Sequence[dict[str, Any]]) -> None:
    """Enter p values into the ROC-AUC rows that they belong to."""
    key = ("signal", "layer", "head", "label", "stratum")
    by_key = {tuple(row[name] for name in key): row for row in nulls}
    for row in scores:
        known = by_key.get(tuple(row[name] for name in key))
        if known is not None and row["metric"] == "roc_auc" and row["seed"] is None:
            row["p_shift"], row["p_same_byte"] = known["p_shift"], known["p_same_byte"]


def error_rows(scorer: Scorer, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the contexts of the ten most confident errors, for each label, of the layer that dev likes best.

    A score says how often; only the errors themselves say at what. Confidence is how many gaps lie between
    an error and the threshold, as a share of all gaps of its side; of several equally confident errors one a
    document comes first. A context has the 24 characters before a gap and after it, the one after it at
    offset 0.
    """
    rows: list[dict[str, Any]] = []
    gaps, characters = scorer.test, scorer.test.characters
    fields = {(one.stratum, label): one for one in scorer.test_fields for label in one.labels}
    usable = [
        one
        for one in trials
        if one.column.signal.name == "increments"
        and not math.isnan(one.choice.threshold)
        and not math.isnan(one.choice.dev_auc)
    ]
    for label, stratum in itertools.product(gaps.labels, SHOWN_STRATA):
        candidates = [one for one in usable if (one.label, one.stratum) == (label, stratum)]
        if not candidates:
            continue
        best = max(candidates, key=lambda one: one.choice.dev_auc)
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
    repeated = _how_many_before(document[wrong], confidence[wrong])
    return wrong[np.lexsort((wrong, repeated, -confidence[wrong]))[:most]]


def _how_many_before(
    document: Int64[np.ndarray, " n"], confidence: Float[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Number errors of one document and one confidence, so that other documents come before its second."""
    order = np.lexsort((confidence, document))
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(document[order]) != 0) | (np.diff(confidence[order]) != 0)
    starts = np.flatnonzero(fresh)
    number = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    out = np.empty(len(order), dtype=np.int64)
    out[order] = number
    return out
