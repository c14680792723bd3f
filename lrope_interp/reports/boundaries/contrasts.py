"""What stands against a layer: paired differences from its controls, and models of surprisal."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.boundaries.frames import auc_frame, best_layer, place, signal_name
from lrope_interp.reports.kit.frames import Column, Frame, Row, cell_of, numbers
from lrope_interp.results import Result, verdict_on

BASELINES = {
    "M0": "entropy, rise, surprisal, byte class and log-bigram",
    "M0_lexical": "those and the log-odds of the characters",
    "bins": "bins of entropy and surprisal (rank test)",
}


def differences_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return the best layer minus each of its controls, the strongest control first.

    Of a control with several places, the one that the layer does worst against.

    Returns:
        Columns `layer`, `head`, `control`, `control_layer`, `control_head`, `name` (of the control),
        `value` (ROC-AUC of the layer minus that of the control), `low`, `high` (95 %, the same
        resamples for both), `verdict`. Empty where the result has no differences.
    """
    columns = ["layer", "head", "control", "control_layer", "control_head", "name", "value", "low", "high"]
    columns.append("verdict")
    table, best = cell_of(result, "differences", label, stratum), _best(result, label, stratum)
    if table.empty or best is None:
        return pd.DataFrame(columns=columns)
    table = table[
        (table["signal"] == "increments")
        & (table["layer"] == best["layer"])
        & (table["head"] == best["head"])
    ]
    for name in ("control_layer", "control_head"):
        table[name] = numbers(table[name]).fillna(-1).astype(int)
    keys = zip(*(table[name].tolist() for name in ("control", "control_layer", "control_head")), strict=True)
    bounds = {"value": "value", "low": "ci_low", "high": "ci_high"}
    frame = table.assign(
        name=[signal_name(*key) for key in keys],
        **{name: numbers(table[key]) for name, key in bounds.items()},
    )
    if "verdict" not in table:  # a result of an earlier version
        frame["verdict"] = [verdict_on(*one) for one in zip(frame["low"], frame["high"], strict=True)]
    frame = frame[frame["value"].notna() & (frame["control"] != "ceiling")]
    frame = frame.sort_values("value", kind="stable").drop_duplicates("control")
    return frame[columns].reset_index(drop=True)


def share_of(result: Result, label: str, stratum: str) -> Row | None:
    """Return the best layer's line of `shares`, None where there is none."""
    table, best = cell_of(result, "shares", label, stratum), _best(result, label, stratum)
    if table.empty or best is None:
        return None
    own = table[
        (table["signal"] == "increments")
        & (table["layer"] == best["layer"])
        & (table["head"] == best["head"])
    ]
    return None if own.empty else own.iloc[0]


def beyond_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return what each layer tells beyond surprisal, one line a layer and baseline.

    Returns:
        Columns `signal`, `layer`, `head`, `name`, `baseline` ("M0", "M0_lexical", "bins"),
        `delta_auc`, `auc_low`, `auc_high`, `bits`, `bits_low`, `bits_high`, `base_auc`, `full_auc`,
        `p`, `is_beyond` (a nullable boolean), `n`. Empty where the result has none.
    """
    measured = [
        "delta_auc",
        "auc_low",
        "auc_high",
        "bits",
        "bits_low",
        "bits_high",
        "base_auc",
        "full_auc",
        "p",
        "n",
    ]
    columns = ["signal", "layer", "head", "name", "baseline", *measured, "is_beyond"]
    table = cell_of(result, "beyond", label, stratum)
    if table.empty:
        return pd.DataFrame(columns=columns)
    keys = zip(*(table[name].tolist() for name in ("signal", "layer", "head")), strict=True)
    frame = table.assign(
        name=[signal_name(*key) for key in keys],
        is_beyond=_truths(table["is_beyond"]),
        **{name: numbers(table[name]) for name in measured},
    )
    return frame.sort_values(["layer", "head"], kind="stable")[columns].reset_index(drop=True)


def beyond_places(frame: Frame) -> tuple[list[str], list[str]]:
    """Return the places that pass every test they had, and those that pass some of several."""
    layers = frame[(frame["signal"] == "increments") & frame["is_beyond"].notna()]
    passed: list[str] = []
    torn: list[str] = []
    for (layer, head), own in layers.groupby(["layer", "head"]):
        found = own["is_beyond"].astype(bool)
        if found.all():
            passed.append(place(layer, head))
        elif found.any():
            torn.append(place(layer, head))
    return passed, torn


def _best(result: Result, label: str, stratum: str) -> Row | None:
    return best_layer(auc_frame(result, label, stratum))


def _truths(column: Column) -> Column:
    """Return a column of booleans, however it was kept, with NA for what nobody knows."""
    known = {"True": True, "False": False}
    return column.map(lambda value: known.get(str(value), pd.NA)).astype("boolean")
