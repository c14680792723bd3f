"""Every score of a label and stratum as a table of strings."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lrope_interp.reports.boundaries.frames import KEYS, auc_frame
from lrope_interp.reports.kit.frames import Frame, cell_of
from lrope_interp.reports.kit.wording import NOTHING, interval, is_number, number
from lrope_interp.results import Result

_METRICS = {
    "average_precision": "Av. precision", "f1": "F1", "mcc": "MCC", "precision": "Precision",
    "recall": "Recall", "token_f1": "Token F1", "pk": "Pk", "windowdiff": "WindowDiff",
}  # fmt: skip
_ALWAYS = ("average_precision", "f1")


def table_frame(result: Result, label: str, stratum: str) -> tuple[Frame, list[str]]:
    """Return every score as strings, best first, and each line's style (layer, control or ceiling).

    A metric that no line has is left out.
    """
    scores = auc_frame(result, label, stratum).sort_values("value", ascending=False, kind="stable")
    keys = list(scores[KEYS].itertuples(index=False, name=None))
    table = pd.DataFrame(
        {
            "Signal": scores["name"],
            "ROC-AUC": [number(value, 3) for value in scores["value"]],
            "95 % interval, or range": [
                _spread(*row) for row in zip(scores["low"], scores["high"], scores["spread"], strict=True)
            ],
            "Sign": [_sign(value) for value in scores["sign"]],
            "Alignment": [align or NOTHING for align in scores["align"]],
            "Prevalence": [_ratio(p, n) for p, n in zip(scores["n_positive"], scores["n"], strict=True)],
        }
    )
    for column, heading in (("p_shift", "p (shift)"), ("p_same_byte", "p (same byte)")):
        if scores[column].notna().any():
            table[heading] = [number(value, 3) for value in scores[column]]
    known = set(cell_of(result, "scores", label, stratum)["metric"])
    for metric, heading in _METRICS.items():
        if metric not in known and metric not in _ALWAYS:
            continue
        values = auc_frame(result, label, stratum, metric).set_index(KEYS)["value"]
        if metric in _ALWAYS or values.notna().any():
            table[heading] = [number(values.get(key), 3) for key in keys]
    return table, list(scores["kind"])


def has_word_metrics(frame: Frame) -> bool:
    """Say whether a table has metrics of which less is better."""
    return "Pk" in frame or "WindowDiff" in frame


def _spread(low: object, high: object, spread: str) -> str:
    if spread == "range":
        return f"{number(low, 3)} to {number(high, 3)}"
    return interval(low, high) or NOTHING


def _sign(value: Any) -> str:
    if not is_number(value):
        return NOTHING
    return "+" if float(value) > 0 else "−"


def _ratio(part: Any, whole: Any) -> str:
    if not (is_number(part) and is_number(whole)) or not float(whole):
        return NOTHING
    return number(float(part) / float(whole), 3)
