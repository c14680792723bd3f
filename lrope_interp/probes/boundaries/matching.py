"""Which layer of one run does what which layer of another run does.

Layers swap roles between seeds, so "layer 3 marks words" is not a finding until another seed has a
layer that does the same. Layers (and heads) are matched by the assignment that maximises the sum of
|Spearman| between their increments on the same gaps (Hungarian method; Kuhn 1955).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from lrope_interp.probes.boundaries.harness import Scored, Scorer
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.signals import SIGNALS, columns
from lrope_interp.results import table

MATCH_COLUMNS = (
    *("layer", "head", "other_layer", "other_head", "spearman", "label", "stratum"),
    *("value", "ci_low", "ci_high", "other_value", "other_low", "other_high"),
)
CORRELATION_COLUMNS = ("layer", "head", "other_layer", "other_head", "spearman", "is_matched")


def match_tables(
    scorer: Scorer, own: Captured, scored: Sequence[Scored], other: Mapping[str, Captured]
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
    plain = Scorer(scorer.dev, scorer.test, scorer.bootstrap, align=scorer.align)  # without nulls
    theirs = _scores([plain.score(one) for one in columns(SIGNALS["increments"], other)])
    ours, unknown = _scores(scored), (np.nan, np.nan, np.nan)
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


def _scores(scored: Sequence[Scored]) -> dict[tuple[Any, Any], dict[tuple[str, str], tuple[float, ...]]]:
    """Return ROC-AUC of increments with its interval: by layer and head, then by label and stratum."""
    found: dict[tuple[Any, Any], dict[tuple[str, str], tuple[float, ...]]] = {}
    for row in (row for one in scored for row in one.scores):
        if row["metric"] == "roc_auc" and row["signal"] == "increments":
            cell = found.setdefault((row["layer"], row["head"]), {})
            cell[row["label"], row["stratum"]] = (row["value"], row["ci_low"], row["ci_high"])
    return found
