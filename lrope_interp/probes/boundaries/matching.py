"""Which layer of one run does what which layer of another run does.

Layers swap roles between seeds, so "layer 3 marks words" is not a finding until another seed has a
layer that does the same. Layers (and heads) are matched by the assignment that maximises the sum of
|Spearman| between their increments on the same gaps (Hungarian method; Kuhn 1955).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from lrope_interp.probes.boundaries.harness import Scored
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.signals import SignalColumn

MATCH_COLUMNS = (
    *("layer", "head", "other_layer", "other_head", "spearman", "label", "stratum"),
    *("value", "ci_low", "ci_high", "other_value", "other_low", "other_high"),
)
CORRELATION_COLUMNS = ("layer", "head", "other_layer", "other_head", "spearman", "is_matched")


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


def correlation_rows(gaps: Gaps, own: Captured, other: Captured) -> list[dict[str, Any]]:
    """Return the correlation of every layer (and head) of one run with every one of the other.

    They are compared at the first byte of every scored character of the test documents. The sign
    matters as little as it does for boundaries: a layer may contract where another expands.
    """
    at = np.flatnonzero(gaps.strata["characters"])
    places = [_places(one) for one in (own, other)]
    rows = [one.increments[..., at].reshape(-1, len(at)) for one in (own, other)]
    correlation = spearman_matrix(*rows)
    matched = set(match_layers(correlation))
    return [
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


def match_rows(
    correlations: Sequence[dict[str, Any]], own: Sequence[Scored], other: Sequence[Scored]
) -> list[dict[str, Any]]:
    """Return each matched pair with both runs' ROC-AUC, for every label and stratum."""
    of_own, of_other = (_scores(one) for one in (own, other))
    rows = []
    for pair in (one for one in correlations if one["is_matched"]):
        where = {name: pair[name] for name in MATCH_COLUMNS[:5]}
        mine = of_own.get((pair["layer"], pair["head"]), {})
        theirs = of_other.get((pair["other_layer"], pair["other_head"]), {})
        for (label, stratum), (value, low, high) in mine.items():
            found = theirs.get((label, stratum), (np.nan, np.nan, np.nan))
            said = {"label": label, "stratum": stratum, "value": value, "ci_low": low, "ci_high": high}
            beside = zip(("other_value", "other_low", "other_high"), found, strict=True)
            rows.append(where | said | dict(beside))
    return rows


def matched_columns(columns: Sequence[SignalColumn]) -> list[SignalColumn]:
    """Return the columns of increments, which are what is matched."""
    return [one for one in columns if one.signal.name == "increments"]


def _places(captured: Captured) -> list[tuple[int, int | None]]:
    n_heads = captured.increments.shape[1]
    return [(layer, head if n_heads > 1 else None) for layer in captured.layers for head in range(n_heads)]


def _scores(
    scored: Sequence[Scored],
) -> dict[tuple[int, int | None], dict[tuple[str, str], tuple[float, float, float]]]:
    found: dict[tuple[int, int | None], dict[tuple[str, str], tuple[float, float, float]]] = {}
    for one in scored:
        for row in one.scores:
            if row["metric"] == "roc_auc" and row["signal"] == "increments":
                cell = found.setdefault((row["layer"], row["head"]), {})
                cell[row["label"], row["stratum"]] = (row["value"], row["ci_low"], row["ci_high"])
    return found
