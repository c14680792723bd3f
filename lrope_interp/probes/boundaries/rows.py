"""The rows of `scores.csv`: one signal, label, stratum and metric each."""

from __future__ import annotations

import math
from typing import Any

from lrope_interp.probes.capture.gaps import Field
from lrope_interp.probes.capture.signals import SignalColumn

SCORE_COLUMNS = (
    *("signal", "kind", "layer", "head", "label", "stratum", "align", "sign", "metric", "value", "raw_value"),
    *("ci_low", "ci_high", "p_shift", "p_same_byte", "n", "n_positive", "n_documents", "seed"),
)
METRICS = ("roc_auc", "average_precision", "f1", "mcc", "precision", "recall")
WORD_METRICS = ("token_f1", "pk", "windowdiff")
PREVALENCE = "prevalence"
_ESTIMATES = ("value", "raw_value", "ci_low", "ci_high", "p_shift", "p_same_byte")


def score_row(**known: Any) -> dict[str, Any]:
    """Return a row of `scores.csv` with every column; a number that is not known is NaN or None."""
    assert set(known) <= set(SCORE_COLUMNS), set(known) - set(SCORE_COLUMNS)
    return {name: known.get(name, math.nan if name in _ESTIMATES else None) for name in SCORE_COLUMNS}


def who(column: SignalColumn) -> dict[str, Any]:
    """Return what a row says about its signal."""
    signal = column.signal
    said = {"signal": signal.name, "kind": signal.kind, "seed": signal.seed}
    return said | {"layer": column.layer, "head": column.head}


def counts(one: Field, label: str) -> dict[str, int]:
    """Return what a row says about the gaps that were scored."""
    n_positive = int(one.labels[label].sum())
    return {"n": len(one.gaps), "n_positive": n_positive, "n_documents": one.units.n_documents}


def prevalence_rows(one: Field) -> list[dict[str, Any]]:
    """Score knowing nothing: precision is the prevalence, F1 that of calling every gap a boundary."""
    rows = []
    for label, is_boundary in one.labels.items():
        share = float(is_boundary.mean())
        values = {"roc_auc": math.nan, "average_precision": share, "f1": 2 * share / (1 + share)}
        values |= {"mcc": math.nan, "precision": share, "recall": share}
        said = {"label": label, "stratum": one.stratum, **counts(one, label)}
        said |= {"signal": PREVALENCE, "kind": "control", "align": ""}
        if 0 < share < 1:
            rows += [score_row(metric=metric, value=value, **said) for metric, value in values.items()]
    return rows
