"""The most confident errors of a layer, each with the text around it.

A score says how often; only the errors themselves say at what.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from lrope_interp.probes.boundaries.harness import FALLBACK_STRATUM, Scorer, Trial
from lrope_interp.probes.capture.gaps import Field, Gaps

ERROR_COLUMNS = (
    *("label", "stratum", "signal", "layer", "head", "rank", "error", "document", "character", "offset"),
    *("text", "value", "is_boundary"),
)
N_ERRORS = 10
CONTEXT = 24
SHOWN_STRATA = (FALLBACK_STRATUM, "han")


def error_rows(scorer: Scorer, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the contexts of the ten most confident errors, for each label, of the layer that dev likes best.

    Confidence is how many gaps lie between an error and the threshold, as a share of all gaps of
    its side; of several equally confident errors one a document comes first.
    """
    rows = []
    fields = {(one.stratum, label): one for one in scorer.test_fields for label in one.labels}
    for label in scorer.test.labels:
        for stratum in SHOWN_STRATA:
            best = _best([one for one in trials if (one.label, one.stratum) == (label, stratum)])
            if best is not None:
                rows += _rows(scorer, fields[stratum, label], best)
    return rows


def _best(trials: Sequence[Trial]) -> Trial | None:
    usable = [
        one
        for one in trials
        if one.column.signal.name == "increments"
        and not math.isnan(one.choice.threshold)
        and not math.isnan(one.choice.dev_auc)
    ]
    return max(usable, key=lambda one: one.choice.dev_auc) if usable else None


def _rows(scorer: Scorer, one: Field, trial: Trial) -> list[dict[str, Any]]:
    values = scorer.aligned(trial.column, one, trial.choice).astype(np.float64)
    is_boundary = one.labels[trial.label]
    oriented = _by_character(scorer, trial)
    column = trial.column
    where = {"label": trial.label, "stratum": trial.stratum, "signal": column.signal.name}
    where |= {"layer": column.layer, "head": column.head}
    picked = confident_errors(values, is_boundary, trial.choice.threshold, scorer.test.document[one.gaps])
    rows = []
    for rank, at in enumerate(picked.tolist(), start=1):
        said = where | {"rank": rank, "error": "miss" if is_boundary[at] else "false alarm"}
        rows += _context(scorer.test, int(one.gaps[at]), trial.label, oriented, said)
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


def _by_character(scorer: Scorer, trial: Trial) -> Float[np.ndarray, " characters"]:
    """Return the oriented signal of every character of the test text."""
    characters = scorer.test.characters
    aligned = characters.align(trial.column.values["test"], characters.first, trial.choice.align)
    return trial.choice.sign * aligned.astype(np.float64)


def _context(
    gaps: Gaps, gap: int, label: str, oriented: Float[np.ndarray, " characters"], said: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the characters around a gap, the one after it at offset 0."""
    document = gaps.documents[int(gaps.document[gap])]
    middle = int(gaps.character[gap])
    first = int(gaps.characters.of_byte[gap]) - middle  # the document's first character among all
    starts = gaps.characters.first
    found = gaps.labels[label].is_boundary
    return [
        said
        | {"document": document.name, "character": middle, "offset": number - middle}
        | {"text": document.text[number], "value": float(oriented[first + number])}
        | {"is_boundary": bool(found[starts[first + number]])}
        for number in range(max(0, middle - CONTEXT), min(len(document.text), middle + CONTEXT + 1))
    ]
