"""What a row of an entity test shows, given the same row of every control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lrope_interp.probes.studies.entities.signals import INCREMENTS

SMALLER, LARGER = "smaller", "larger"
NOT_SHOWN, CONTROL, CONSTANT, NOT_MEASURED = "not shown", "control finds it too", "constant", "not measured"
_INTEGERS = (
    "layer",
    "head",
    "seed",
    "n",
    "n_names",
    "n_others",
    "n_others_capitalised",
    "n_kinds",
    "n_documents",
    "n_first_words",
)
_INTEGERS += ("n_matched", "training_count", "test_count")
_WORDS = ("signal", "context", "measure", "response", "model", "design", "language", "covariate", "verdict")
_WORDS += ("first", "second", "kind", "matched_with")
Row = dict[str, Any]


def with_verdicts(rows: Sequence[Row], keys: Sequence[str], value: str, null: float = 0.0) -> list[Row]:
    """Return rows with a verdict for the increments, and "" for the controls.

    The verdict of a row: "smaller" or "larger" where the 95 % interval leaves `null` out and no control gets
    as far as the interval; "control finds it too" where one does; "not shown" where the interval holds
    `null`; "constant" where nothing varies, as in layer 0 at a space; "not measured" without an interval.
    No verdict is corrected for the number of layers.

    Args:
        rows: Of one table, with `ci_low` and `ci_high`.
        keys: Columns that say which controls belong to which increments, layer and head among them.
        value: Name of the column that is judged.
        null: What it is without an effect.
    """
    controls: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["signal"] != INCREMENTS and not _is_constant(row, value):
            controls.setdefault(tuple(row[key] for key in keys), []).append(float(row[value]))
    return [
        row
        | {
            "verdict": _verdict(row, value, null, controls.get(tuple(row[key] for key in keys), []))
            if row["signal"] == INCREMENTS
            else ""
        }
        for row in rows
    ]


def _verdict(row: Row, value: str, null: float, controls: Sequence[float]) -> str:
    low, high = float(row["ci_low"]), float(row["ci_high"])
    if _is_constant(row, value):
        return CONSTANT
    if math.isnan(low) or math.isnan(high):
        return NOT_MEASURED
    if low <= null <= high:
        return NOT_SHOWN
    if any(one >= low if low > null else one <= high for one in controls):
        return CONTROL
    return (LARGER if low > null else SMALLER) if value != "share" else (SMALLER if low > null else LARGER)


def _is_constant(row: Row, value: str) -> bool:
    """Whether nothing varied: a difference of exactly 0, with an interval of no width where there is one."""
    if value == "share":
        return bool(row["difference"] == 0.0 and row["share"] == 0.0)
    bounds = (float(row["ci_low"]), float(row["ci_high"]))
    return bool(row[value] == 0.0) and all(math.isnan(one) or one == 0.0 for one in bounds)


def tidy(rows: Sequence[Row], names: Sequence[str]) -> pd.DataFrame:
    """Make a frame: whole numbers that may be missing, words, and otherwise floats."""
    frame = {}
    for name in names:
        dtype = "Int64" if name in _INTEGERS else "str" if name in _WORDS else "float64"
        frame[name] = pd.Series(
            [row[name] for row in rows], dtype="boolean" if name == "is_common" else dtype
        )
    return pd.DataFrame(frame)
